package policy_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musenai/musen/policy"
)

const (
	issuerName = "https://radio.example"
	audience   = "musen"
	tokenKid   = "token-1"
	linkKid    = "link-1"
	jazz       = "aaaaaaaaaaaaaaaaaaaaaaaaaa"
	blues      = "bbbbbbbbbbbbbbbbbbbbbbbbba"
	listenPath = "/listen/bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
)

// registry is the smallest thing that can revoke.
type registry struct {
	mu       sync.Mutex
	ids      map[string]bool
	subjects map[string]time.Time
	epochs   map[string]uint64
	shares   map[string]uint64 // to the generation of their password
	keys     map[string]bool
}

func (r *registry) KeyRevoked(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys[key]
}

var (
	_ policy.Revocations = (*registry)(nil)
	_ policy.Shares      = (*registry)(nil)
)

func (r *registry) Revoked(id, subject string, issued time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	until, ok := r.subjects[subject]
	return r.ids[id] || ok && !issued.After(until)
}

func (r *registry) Epoch(station string) (uint64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	epoch, ok := r.epochs[station]
	return epoch, ok
}

func (r *registry) Generation(share string) (uint64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	generation, ok := r.shares[share]
	return generation, ok
}

// world is an issuer and a verifier of one realm under one clock.
type world struct {
	now           time.Time
	public        ed25519.PublicKey
	private       ed25519.PrivateKey
	secret        []byte
	sessionSecret []byte
	registry      *registry
	issuer        *policy.Issuer
	options       policy.VerifierOptions
	verifier      *policy.Verifier
	engine        *policy.Engine
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{now: time.Unix(1_800_000_000, 0), secret: make([]byte, 32), sessionSecret: make([]byte, 32)}
	w.registry = &registry{
		ids: map[string]bool{}, subjects: map[string]time.Time{},
		epochs: map[string]uint64{jazz: 3, blues: 1}, shares: map[string]uint64{shareID: 2}, keys: map[string]bool{},
	}
	var err error
	w.public, w.private, err = ed25519.GenerateKey(rand.Reader)
	must(t, err)
	rand.Read(w.secret)
	rand.Read(w.sessionSecret)
	clock := func() time.Time { return w.now }
	w.issuer, err = policy.NewIssuer(policy.IssuerOptions{
		Issuer: issuerName, Audience: audience, KeyID: tokenKid, Key: w.private,
		LinkKeyID: linkKid, LinkSecret: w.secret, Now: clock,
		SessionKey: policy.LinkKey{ID: sessionKid, Secret: w.sessionSecret}, Rand: rand.Reader,
	})
	must(t, err)
	w.options = policy.VerifierOptions{
		Issuer: issuerName, Audience: audience,
		Keys:        []policy.PublicKey{{ID: tokenKid, Key: w.public}},
		LinkKeys:    []policy.LinkKey{{ID: linkKid, Secret: w.secret}},
		SessionKeys: []policy.LinkKey{{ID: sessionKid, Secret: w.sessionSecret}},
		Revocations: w.registry, Shares: w.registry, Now: clock,
	}
	w.verifier, err = policy.NewVerifier(w.options)
	must(t, err)
	w.engine, err = policy.NewEngine(policy.EngineOptions{Now: clock})
	must(t, err)
	return w
}

// token issues one to subject for actions on station, or all if it is empty.
func (w *world) token(t testing.TB, subject, station string, actions ...policy.Action) string {
	t.Helper()
	r := policy.TokenRequest{Subject: subject, Actions: actions, TTL: time.Hour}
	if station != "" {
		r.Stations = []string{station}
	}
	raw, _, _, err := w.issuer.Token(r)
	must(t, err)
	return raw
}

// grant verifies a token of its own making.
func (w *world) grant(t testing.TB, subject, station string, actions ...policy.Action) policy.Grant {
	t.Helper()
	g, err := w.verifier.Token(w.token(t, subject, station, actions...))
	must(t, err)
	return g
}

// link issues one to listenPath.
func (w *world) link(t testing.TB, change func(*policy.LinkRequest)) string {
	t.Helper()
	r := policy.LinkRequest{Station: jazz, Epoch: 3, Path: listenPath}
	if change != nil {
		change(&r)
	}
	raw, _, err := w.issuer.Link(r)
	must(t, err)
	return raw
}

func (w *world) linkGrant(t testing.TB, change func(*policy.LinkRequest)) policy.Grant {
	t.Helper()
	g, err := w.verifier.Link(w.link(t, change), "GET", listenPath)
	must(t, err)
	return g
}

// header and claims of a good token, to be spoilt.
func (w *world) header() map[string]any {
	return map[string]any{"alg": "EdDSA", "kid": tokenKid, "typ": "at+jwt"}
}

func (w *world) claims() map[string]any {
	return map[string]any{
		"iss": issuerName, "aud": audience, "sub": "alice", "jti": "id-1",
		"iat": w.now.Unix(), "nbf": w.now.Unix(), "exp": w.now.Unix() + 3600,
		"scope": "listen", "stations": []string{jazz},
	}
}

// forge signs any header and payload with the realm's own key.
func (w *world) forge(header, payload []byte) string {
	input := b64(header) + "." + b64(payload)
	return input + "." + b64(ed25519.Sign(w.private, []byte(input)))
}

// with gives a copy of m with some members changed; nil removes one.
func with(m map[string]any, changes map[string]any) map[string]any {
	m = maps.Clone(m)
	for k, v := range changes {
		if v == nil {
			delete(m, k)
		} else {
			m[k] = v
		}
	}
	return m
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func toJSON(v any) []byte {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(v); err != nil {
		panic(err) // only maps of texts and numbers come here
	}
	return bytes.TrimSpace(b.Bytes())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantCode fails unless err is a refusal with that code, or nil for "".
func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	if code == "" {
		must(t, err)
		return
	}
	var refused *policy.CredentialError
	if !errors.As(err, &refused) {
		t.Fatalf("got %v, want a refusal with %s", err, code)
	}
	if refused.Code != code || !strings.Contains(err.Error(), code) {
		t.Fatalf("got %v, want %s", err, code)
	}
}
