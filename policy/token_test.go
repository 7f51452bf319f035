package policy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen/policy"
)

func TestTokenGrantsWhatItSays(t *testing.T) {
	w := newWorld(t)
	raw, jti, expires, err := w.issuer.Token(policy.TokenRequest{
		Subject: "alice", Stations: []string{jazz}, TTL: time.Hour,
		Actions: []policy.Action{policy.Listen, policy.Download},
	})
	must(t, err)
	g, err := w.verifier.Token(raw)
	must(t, err)
	if g.ID() != jti || g.Subject() != "alice" || g.Kind() != "token" ||
		!g.Expires().Equal(expires) || !g.Issued().Equal(w.now) || g.Epoch() != 0 {
		t.Errorf("grant says %q %q %q %v %v", g.ID(), g.Subject(), g.Kind(), g.Issued(), g.Expires())
	}
	if !g.Covers(jazz) || g.Covers(blues) || g.Covers("") {
		t.Error("a token for one station covers others, or not that one")
	}
	if !g.Has(policy.Listen) || !g.Has(policy.Download) || g.Has(policy.Manage) || g.Has("fly") {
		t.Error("a token grants other actions than it names")
	}
	if strings.Contains(raw, "=") || len(raw) > 600 {
		t.Errorf("a token of %d characters", len(raw))
	}
}

func TestTokenForAllStations(t *testing.T) {
	w := newWorld(t)
	g := w.grant(t, "root", "", policy.Manage)
	if !g.Covers(jazz) || !g.Covers("cccccccccccccccccccccccccc") || !g.Covers("") {
		t.Error("a token for all stations does not cover some, or the node")
	}
}

func TestZeroGrantGrantsNothing(t *testing.T) {
	w := newWorld(t)
	var g policy.Grant
	if g.Covers(jazz) || g.Covers("") || g.Has(policy.Listen) || g.Kind() != "" || g.ID() != "" {
		t.Error("the zero grant grants something")
	}
	wantCode(t, w.verifier.Live(g, jazz), "credential_scope")
	if w.engine.Decide(g, policy.Listen, policy.Resource{Station: jazz}).Allowed() {
		t.Error("the zero grant is allowed to listen")
	}
}

func TestTokenChecks(t *testing.T) {
	w := newWorld(t)
	now := w.now.Unix()
	long := strings.Repeat("x", 300)
	type m = map[string]any
	cases := []struct {
		name           string
		header, claims m
		code           string
	}{
		{"good", nil, nil, ""},
		{"good media type", m{"typ": "application/at+jwt"}, nil, ""},
		{"plain JWT", m{"typ": "JWT"}, nil, "credential_malformed"},
		{"no type", m{"typ": nil}, nil, "credential_malformed"},
		{"another spelling of the type", m{"typ": "AT+JWT"}, nil, "credential_malformed"},
		{"critical header", m{"crit": []string{"exp"}, "exp": 1}, nil, "credential_malformed"},
		{"payload not in base64", m{"b64": false, "crit": []string{"b64"}}, nil, "credential_malformed"},
		{"unknown header", m{"x": 1}, nil, "credential_malformed"},
		{"other issuer", nil, m{"iss": "https://evil.example"}, "credential_issuer"},
		{"issuer missing", nil, m{"iss": nil}, "credential_issuer"},
		{"issuer in a list", nil, m{"iss": []string{issuerName}}, "credential_issuer"},
		{"issuer with a slash", nil, m{"iss": issuerName + "/"}, "credential_issuer"},
		{"other audience", nil, m{"aud": "other"}, "credential_audience"},
		{"audience missing", nil, m{"aud": nil}, "credential_audience"},
		{"audience among others", nil, m{"aud": []string{"other", audience}}, ""},
		{"audience of numbers", nil, m{"aud": []any{audience, 1}}, "credential_audience"},
		{"audience as an object", nil, m{"aud": m{audience: true}}, "credential_audience"},
		{"expired", nil, m{"iat": now - 100, "nbf": now - 100, "exp": now}, "credential_expired"},
		{"last second", nil, m{"iat": now - 100, "nbf": now - 100, "exp": now + 1}, ""},
		{"expiry missing", nil, m{"exp": nil}, "credential_malformed"},
		{"expiry as text", nil, m{"exp": "1900000000"}, "credential_malformed"},
		{"expiry as a fraction", nil, m{"exp": float64(now) + 10.5}, "credential_malformed"},
		{"expiry negative", nil, m{"exp": -1}, "credential_malformed"},
		{"expiry beyond all", nil, m{"exp": uint64(1 << 63)}, "credential_malformed"},
		{"not yet valid", nil, m{"nbf": now + 1}, "credential_not_yet_valid"},
		{"nbf missing", nil, m{"nbf": nil}, ""},
		{"nbf as text", nil, m{"nbf": "0"}, "credential_malformed"},
		{"issued later", nil, m{"iat": now + 1, "nbf": now}, "credential_not_yet_valid"},
		{"iat missing", nil, m{"iat": nil}, "credential_malformed"},
		{"lives 366 days", nil, m{"exp": now + 366*86400}, ""},
		{"lives longer", nil, m{"exp": now + 366*86400 + 1}, "credential_malformed"},
		{"ends before it begins", nil, m{"iat": now, "exp": now - 1}, "credential_malformed"},
		{"no jti", nil, m{"jti": nil}, "credential_malformed"},
		{"empty jti", nil, m{"jti": ""}, "credential_malformed"},
		{"long jti", nil, m{"jti": long}, "credential_malformed"},
		{"no subject", nil, m{"sub": nil}, "credential_malformed"},
		{"subject of a number", nil, m{"sub": 7}, "credential_malformed"},
		{"long subject", nil, m{"sub": long}, "credential_malformed"},
		{"stations as text", nil, m{"stations": "*"}, "credential_malformed"},
		{"stations of numbers", nil, m{"stations": []int{1}}, "credential_malformed"},
		{"scope in a list", nil, m{"scope": []string{"listen"}}, "credential_malformed"},
		{"unknown claim", nil, m{"name": "Alice"}, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			raw := w.forge(toJSON(with(w.header(), c.header)), toJSON(with(w.claims(), c.claims)))
			_, err := w.verifier.Token(raw)
			wantCode(t, err, c.code)
		})
	}
}

func TestTokenScopesAndStations(t *testing.T) {
	w := newWorld(t)
	get := func(changes map[string]any) policy.Grant {
		t.Helper()
		g, err := w.verifier.Token(w.forge(toJSON(w.header()), toJSON(with(w.claims(), changes))))
		must(t, err)
		return g
	}
	if g := get(map[string]any{"stations": nil}); g.Covers(jazz) || g.Covers("") {
		t.Error("a token without stations covers one")
	}
	if g := get(map[string]any{"stations": []string{}}); g.Covers(jazz) || g.Covers("") {
		t.Error("a token with no station covers one")
	}
	if g := get(map[string]any{"stations": []string{"*"}}); !g.Covers(jazz) || !g.Covers("") {
		t.Error("a token with * does not cover all")
	}
	if g := get(map[string]any{"stations": []string{""}}); g.Covers("") {
		t.Error("a token with an empty station covers the node")
	}
	if g := get(map[string]any{"scope": nil}); g.Has(policy.Listen) {
		t.Error("a token without scope grants an action")
	}
	if g := get(map[string]any{"scope": "openid Listen listen2 download"}); g.Has(policy.Listen) || !g.Has(policy.Download) {
		t.Error("scope is not read word by word")
	}
}

func TestTokenLeeway(t *testing.T) {
	w := newWorld(t)
	w.options.Leeway = 30 * time.Second
	v, err := policy.NewVerifier(w.options)
	must(t, err)
	raw := w.token(t, "alice", jazz, policy.Listen)
	start := w.now
	for _, c := range []struct {
		at   time.Duration
		code string
	}{
		{-31 * time.Second, "credential_not_yet_valid"},
		{-30 * time.Second, ""},
		{time.Hour + 29*time.Second, ""},
		{time.Hour + 30*time.Second, "credential_expired"},
	} {
		w.now = start.Add(c.at)
		_, err := v.Token(raw)
		wantCode(t, err, c.code)
	}
}

// A token that was verified before is asked the clock and revocations again.
func TestRememberedTokenEnds(t *testing.T) {
	w := newWorld(t)
	raw, jti, expires, err := w.issuer.Token(policy.TokenRequest{
		Subject: "alice", Actions: []policy.Action{policy.Listen}, TTL: time.Hour,
	})
	must(t, err)
	g, err := w.verifier.Token(raw)
	must(t, err)
	must(t, w.verifier.Live(g, jazz))

	w.registry.ids[jti] = true
	_, err = w.verifier.Token(raw)
	wantCode(t, err, "credential_revoked")
	wantCode(t, w.verifier.Live(g, jazz), "credential_revoked")
	delete(w.registry.ids, jti)

	w.registry.subjects["alice"] = w.now
	_, err = w.verifier.Token(raw)
	wantCode(t, err, "credential_revoked")
	delete(w.registry.subjects, "alice")

	w.now = expires
	_, err = w.verifier.Token(raw)
	wantCode(t, err, "credential_expired")
	must(t, w.verifier.Live(g, jazz)) // expiry does not break a segment that plays
	wantCode(t, w.verifier.Live(w.grant(t, "bob", jazz, policy.Listen), blues), "credential_scope")
}

func TestLocalOperatorIsAlwaysLive(t *testing.T) {
	w := newWorld(t)
	g := policy.LocalOperator()
	must(t, w.verifier.Live(g, jazz))
	if g.Kind() != "local" || g.ID() != "" || !g.Covers("") || !g.Has(policy.Manage) {
		t.Error("the local operator lacks something")
	}
}

// Tokens of a platform's own issuer may be signed with ES256.
func TestTokenES256(t *testing.T) {
	w := newWorld(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	w.options.Keys = append(w.options.Keys, policy.PublicKey{ID: "ec-1", Key: &key.PublicKey})
	v, err := policy.NewVerifier(w.options)
	must(t, err)
	sign := func(header map[string]any) string {
		input := b64(toJSON(header)) + "." + b64(toJSON(w.claims()))
		sum := sha256.Sum256([]byte(input))
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		must(t, err)
		var sig [64]byte
		r.FillBytes(sig[:32])
		s.FillBytes(sig[32:])
		return input + "." + b64(sig[:])
	}
	_, err = v.Token(sign(map[string]any{"alg": "ES256", "kid": "ec-1", "typ": "at+jwt"}))
	must(t, err)
	for _, header := range []map[string]any{
		{"alg": "ES256", "kid": tokenKid, "typ": "at+jwt"},
		{"alg": "EdDSA", "kid": "ec-1", "typ": "at+jwt"},
		{"alg": "ES384", "kid": "ec-1", "typ": "at+jwt"},
	} {
		_, err = v.Token(sign(header))
		wantCode(t, err, "credential_signature")
	}
}

func TestNewVerifierRefuses(t *testing.T) {
	w := newWorld(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	good := policy.PublicKey{ID: "k", Key: w.public}
	cases := map[string]func(*policy.VerifierOptions){
		"no issuer":       func(o *policy.VerifierOptions) { o.Issuer = "" },
		"no audience":     func(o *policy.VerifierOptions) { o.Audience = "" },
		"no revocations":  func(o *policy.VerifierOptions) { o.Revocations = nil },
		"no clock":        func(o *policy.VerifierOptions) { o.Now = nil },
		"leeway":          func(o *policy.VerifierOptions) { o.Leeway = time.Hour },
		"negative life":   func(o *policy.VerifierOptions) { o.MaxTTL = -1 },
		"P-384":           func(o *policy.VerifierOptions) { o.Keys = []policy.PublicKey{{ID: "k", Key: &p384.PublicKey}} },
		"RSA":             func(o *policy.VerifierOptions) { o.Keys = []policy.PublicKey{{ID: "k", Key: &rsaKey.PublicKey}} },
		"secret as key":   func(o *policy.VerifierOptions) { o.Keys = []policy.PublicKey{{ID: "k", Key: w.secret}} },
		"short Ed25519":   func(o *policy.VerifierOptions) { o.Keys = []policy.PublicKey{{ID: "k", Key: w.public[:31]}} },
		"not on curve":    func(o *policy.VerifierOptions) { o.Keys = []policy.PublicKey{{ID: "k", Key: &ecdsa.PublicKey{}}} },
		"key without id":  func(o *policy.VerifierOptions) { o.Keys = []policy.PublicKey{{Key: w.public}} },
		"key id twice":    func(o *policy.VerifierOptions) { o.Keys = []policy.PublicKey{good, good} },
		"link without id": func(o *policy.VerifierOptions) { o.LinkKeys[0].ID = "" },
		"link id twice":   func(o *policy.VerifierOptions) { o.LinkKeys = append(o.LinkKeys, o.LinkKeys[0]) },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			o := newWorld(t).options
			change(&o)
			if _, err := policy.NewVerifier(o); err == nil {
				t.Error("accepted")
			}
		})
	}
}
