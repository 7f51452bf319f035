package policy_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/musenai/musen/policy"
)

func TestIssuerRefuses(t *testing.T) {
	w := newWorld(t)
	many := make([]string, 500)
	for i := range many {
		many[i] = fmt.Sprintf("%026d", i)
	}
	good := policy.TokenRequest{Subject: "alice", Actions: []policy.Action{policy.Listen}, TTL: time.Hour}
	for name, change := range map[string]func(*policy.TokenRequest){
		"no subject":      func(r *policy.TokenRequest) { r.Subject = "" },
		"long subject":    func(r *policy.TokenRequest) { r.Subject = strings.Repeat("x", 257) },
		"local":           func(r *policy.TokenRequest) { r.Subject = "local" },
		"no action":       func(r *policy.TokenRequest) { r.Actions = nil },
		"unknown action":  func(r *policy.TokenRequest) { r.Actions = []policy.Action{"fly"} },
		"no life":         func(r *policy.TokenRequest) { r.TTL = 0 },
		"lives too long":  func(r *policy.TokenRequest) { r.TTL = 367 * 24 * time.Hour },
		"longest life":    func(r *policy.TokenRequest) { r.TTL = 1<<63 - 1 },
		"empty station":   func(r *policy.TokenRequest) { r.Stations = []string{jazz, ""} },
		"all and another": func(r *policy.TokenRequest) { r.Stations = []string{jazz, "*"} },
		"too many":        func(r *policy.TokenRequest) { r.Stations = many },
	} {
		r := good
		change(&r)
		raw, _, _, err := w.issuer.Token(r)
		if _, ok := errors.AsType[*policy.RequestError](err); !ok || raw != "" {
			t.Errorf("token, %s: %v", name, err)
		}
	}
	link := policy.LinkRequest{Station: jazz, Path: listenPath}
	for name, change := range map[string]func(*policy.LinkRequest){
		"no station":     func(r *policy.LinkRequest) { r.Station = "" },
		"no path":        func(r *policy.LinkRequest) { r.Path = "" },
		"path climbs":    func(r *policy.LinkRequest) { r.Path = "/listen/../x" },
		"path escaped":   func(r *policy.LinkRequest) { r.Path = "/listen/%41" },
		"long path":      func(r *policy.LinkRequest) { r.Path = "/" + strings.Repeat("x", 1024) },
		"epoch":          func(r *policy.LinkRequest) { r.Epoch = 1 << 63 },
		"negative life":  func(r *policy.LinkRequest) { r.TTL = -1 },
		"lives too long": func(r *policy.LinkRequest) { r.TTL = 8 * 24 * time.Hour },
		"long subject":   func(r *policy.LinkRequest) { r.Subject = strings.Repeat("x", 257) },
		"local":          func(r *policy.LinkRequest) { r.Subject = "local" },
	} {
		r := link
		change(&r)
		if raw, _, err := w.issuer.Link(r); err == nil || raw != "" {
			t.Errorf("link, %s: issued", name)
		}
	}
}

// Without randomness nothing is issued: an id would not be unique.
func TestIssuerWithoutRandomness(t *testing.T) {
	w := newWorld(t)
	broken := errors.New("no randomness")
	i, err := policy.NewIssuer(policy.IssuerOptions{
		Issuer: issuerName, Audience: audience, KeyID: tokenKid, Key: w.private,
		LinkKeyID: linkKid, LinkSecret: w.secret, Now: w.options.Now, Rand: iotest.ErrReader(broken),
	})
	must(t, err)
	_, _, _, err = i.Token(policy.TokenRequest{Subject: "alice", Actions: []policy.Action{policy.Listen}, TTL: time.Hour})
	if !errors.Is(err, broken) {
		t.Errorf("token: %v", err)
	}
	if _, _, err = i.Link(policy.LinkRequest{Station: jazz, Path: listenPath}); !errors.Is(err, broken) {
		t.Errorf("link: %v", err)
	}
}

// Every action can be issued and is read back.
func TestIssuedTokenIsPlain(t *testing.T) {
	w := newWorld(t)
	raw := w.token(t, "alice", jazz, everyAction()...)
	parts := strings.Split(raw, ".")
	header, err := base64.RawURLEncoding.DecodeString(parts[0])
	must(t, err)
	var h map[string]string
	must(t, json.Unmarshal(header, &h))
	if len(h) != 3 || h["alg"] != "EdDSA" || h["typ"] != "at+jwt" || h["kid"] != tokenKid {
		t.Errorf("header %s", header)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	must(t, err)
	if !bytes.Contains(payload, []byte(`"scope":"listen download releaseKey add manage moderate audit host"`)) {
		t.Errorf("claims %s", payload)
	}
	g, err := w.verifier.Token(raw)
	must(t, err)
	for _, a := range everyAction() {
		if !g.Has(a) {
			t.Errorf("%s is not granted", a)
		}
	}
}

// The algorithm of ES256 gives every signature a twin, s and n - s, and signers
// use both: either is taken, says the same, and is revoked by the same jti.
func TestES256TwinIsTheSameGrant(t *testing.T) {
	w := newWorld(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	w.options.Keys = []policy.PublicKey{{ID: "ec-1", Key: &key.PublicKey}}
	v, err := policy.NewVerifier(w.options)
	must(t, err)
	input := b64([]byte(`{"alg":"ES256","kid":"ec-1","typ":"at+jwt"}`)) + "." + b64(toJSON(w.claims()))
	sum := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	must(t, err)
	for _, s := range []*big.Int{s, new(big.Int).Sub(elliptic.P256().Params().N, s)} {
		var sig [64]byte
		r.FillBytes(sig[:32])
		s.FillBytes(sig[32:])
		raw := input + "." + b64(sig[:])
		g, err := v.Token(raw)
		must(t, err)
		w.registry.ids[g.ID()] = true
		_, err = v.Token(raw)
		wantCode(t, err, "credential_revoked")
		clear(w.registry.ids)
	}
}

// What is remembered of credentials is bounded by bytes, not by how many come.
func TestMemoryOfCredentialsIsBounded(t *testing.T) {
	w := newWorld(t)
	w.options.CacheBytes = 64 << 10
	v, err := policy.NewVerifier(w.options)
	must(t, err)
	before := heap()
	for range 4000 {
		_, err := v.Link(w.link(t, nil), "GET", listenPath)
		must(t, err)
	}
	if grown := heap() - before; grown > 1<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	runtime.KeepAlive(v)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A verifier and an engine serve many requests at once.
func TestConcurrentUse(t *testing.T) {
	w := newWorld(t)
	token, link := w.token(t, "alice", jazz, policy.Listen), w.link(t, nil)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for i := range 200 {
				g, err := w.verifier.Token(token)
				if i%2 == 0 {
					g, err = w.verifier.Link(link, "GET", listenPath)
				}
				r := policy.Resource{Station: jazz, Epoch: 3, Segment: "s"}
				if err != nil || !w.engine.Decide(g, policy.Listen, r).Allowed() || w.verifier.Live(g, jazz) != nil {
					t.Errorf("refused: %v", err)
				}
			}
		})
	}
	group.Wait()
}
