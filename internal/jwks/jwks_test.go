package jwks_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/musenai/musen/internal/jwks"
	"github.com/musenai/musen/internal/outbound"
	"github.com/musenai/musen/policy"
)

// provider is an OpenID provider: discovery and a key set, over TLS.
type provider struct {
	*httptest.Server
	mu       sync.Mutex
	keys     []jose.JSONWebKey
	requests map[string]int // by path
	raw      http.HandlerFunc
}

func newProvider(t testing.TB) *provider {
	t.Helper()
	p := &provider{requests: map[string]int{}}
	p.Server = httptest.NewTLSServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.requests[r.URL.Path]++
	raw, keys := p.raw, slices.Clone(p.keys)
	p.mu.Unlock()
	switch {
	case raw != nil:
		raw(w, r)
	case r.URL.Path == "/.well-known/openid-configuration":
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q,"authorization_endpoint":"https://x.example/"}`, p.URL, p.URL+"/keys")
	case r.URL.Path == "/keys":
		if err := json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: keys}); err != nil {
			panic(http.ErrAbortHandler)
		}
	default:
		http.NotFound(w, r)
	}
}

func (p *provider) publish(ids ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = nil
	for _, id := range ids {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		p.keys = append(p.keys, jose.JSONWebKey{Key: &key.PublicKey, KeyID: id, Use: "sig", Algorithm: "ES256"})
	}
}

func (p *provider) answer(h http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.raw = h
}

func (p *provider) asked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests["/keys"]
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func source(t testing.TB, p *provider, change func(*jwks.Options)) (*jwks.Source, *clock) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(p.Certificate())
	c := &clock{now: time.Unix(1_800_000_000, 0)}
	o := jwks.Options{
		Issuer: p.URL, Algorithms: []string{"ES256"}, Now: c.Now, Log: slog.New(slog.DiscardHandler), Wait: 20 * time.Second,
		Client: outbound.New(outbound.Options{Hosts: []string{"127.0.0.1"}, Roots: roots, Limit: 20 * time.Second}),
	}
	if change != nil {
		change(&o)
	}
	s, err := jwks.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

func has(t testing.TB, s *jwks.Source, kid string, want bool) {
	t.Helper()
	k, err := s.Key(kid, true)
	if (err == nil) != want || err == nil && (k.ID != kid || !slices.Equal(k.Algorithms, []string{"ES256"})) {
		t.Errorf("key %q: %+v, %v", kid, k, err)
	}
}

// P27: keys are found by discovery or by their URL, when they are needed.
func TestKeysAreFound(t *testing.T) {
	p := newProvider(t)
	p.publish("a", "b")
	for _, url := range []string{"", p.URL + "/keys"} {
		s, _ := source(t, p, func(o *jwks.Options) { o.URL = url })
		if _, err := s.Key("a", false); !errors.Is(err, policy.ErrNoKeys) {
			t.Errorf("before any was fetched: %v", err)
		}
		has(t, s, "a", true)
		has(t, s, "b", true)
		has(t, s, "c", false)
		if st := s.Status(); st.Error != "" || !slices.Equal(st.Keys, []string{"a", "b"}) || st.Fetched.IsZero() {
			t.Errorf("status %+v", st)
		}
	}
}

// A key that is rolled over is found at once after the interval, and the one
// that is withdrawn is gone with it.
func TestRollover(t *testing.T) {
	p := newProvider(t)
	p.publish("old")
	s, c := source(t, p, nil)
	has(t, s, "old", true)
	p.publish("new")
	has(t, s, "new", false) // asked a moment ago
	c.forward(time.Minute)
	has(t, s, "new", true)
	has(t, s, "old", false)
}

// A flood of unknown keys asks the issuer once in an interval, however many ask
// at a time.
func TestFloodOfUnknownKeys(t *testing.T) {
	p := newProvider(t)
	p.publish("a")
	s, c := source(t, p, func(o *jwks.Options) { o.URL = p.URL + "/keys" })
	for round := 1; round <= 3; round++ {
		var wg sync.WaitGroup
		for i := range 500 {
			wg.Go(func() {
				if _, err := s.Key(fmt.Sprintf("forged-%d", i), true); err == nil {
					t.Error("a key that nobody has")
				}
			})
		}
		wg.Wait()
		has(t, s, "a", true)
		if n := p.asked(); n != round {
			t.Fatalf("%d requests in %d intervals", n, round)
		}
		c.forward(time.Minute)
	}
}

// What was fetched last stays while the issuer cannot be reached or talks
// nonsense, and no longer than a day.
func TestLastGoodIsKept(t *testing.T) {
	p := newProvider(t)
	p.publish("a")
	s, c := source(t, p, func(o *jwks.Options) { o.URL = p.URL + "/keys" })
	has(t, s, "a", true)
	for what, raw := range map[string]string{
		"nothing": "", "no JSON": "<html>", "no keys": `{"keys":[]}`, "keys of none": `{"keys":[{"kty":"oct","k":"AAAA","kid":"a"}]}`,
		"huge": `{"keys":[],"x":"` + strings.Repeat("x", 1<<20) + `"}`, "many": `{"keys":[` + strings.Repeat(`{},`, 64) + `{}]}`,
		"a list": `[]`, "another type": `{"keys":{}}`,
	} {
		p.answer(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, raw) })
		c.forward(time.Minute)
		has(t, s, "unknown", false)
		has(t, s, "a", true)
		if s.Status().Error == "" {
			t.Errorf("%s: no error", what)
		}
	}
	p.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	c.forward(24*time.Hour - 10*time.Minute)
	has(t, s, "a", true)
	c.forward(10 * time.Minute)
	if _, err := s.Key("a", true); !errors.Is(err, policy.ErrNoKeys) {
		t.Errorf("after a day: %v", err)
	}
	p.answer(nil)
	c.forward(time.Minute)
	has(t, s, "a", true)
}

// An issuer that cannot be reached at the start is no obstacle, and is found as
// soon as it is there.
func TestUnreachableAtStart(t *testing.T) {
	p := newProvider(t)
	p.publish("a")
	p.answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	s, c := source(t, p, nil)
	s.Warm()
	if _, err := s.Key("a", true); !errors.Is(err, policy.ErrNoKeys) {
		t.Errorf("unreachable: %v", err)
	}
	p.answer(nil)
	c.forward(time.Minute)
	has(t, s, "a", true)
}

// Who needs a key waits for a slow issuer no longer than is said, and finds the
// key once it came.
func TestSlowIssuer(t *testing.T) {
	p := newProvider(t)
	p.publish("a")
	release, came := make(chan struct{}), make(chan struct{})
	p.answer(func(w http.ResponseWriter, r *http.Request) {
		close(came)
		<-release
		p.answer(nil)
		p.ServeHTTP(w, r)
	})
	s, _ := source(t, p, func(o *jwks.Options) { o.URL, o.Wait = p.URL+"/keys", time.Millisecond })
	if _, err := s.Key("a", true); !errors.Is(err, policy.ErrNoKeys) {
		t.Errorf("while the issuer is slow: %v", err)
	}
	<-came
	close(release)
	for deadline := time.Now().Add(time.Minute); ; {
		if _, err := s.Key("a", true); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the key did not come")
		}
	}
}

// A description of another issuer, or one that leads to where nobody may
// connect, is no use.
func TestDiscoveryIsChecked(t *testing.T) {
	p := newProvider(t)
	p.publish("a")
	trap := newProvider(t)
	trapAddress := strings.TrimPrefix(trap.URL, "https://127.0.0.1")
	for what, body := range map[string]string{
		"another issuer":   fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, p.URL+"/", p.URL+"/keys"),
		"no issuer":        fmt.Sprintf(`{"jwks_uri":%q}`, p.URL+"/keys"),
		"no key set":       fmt.Sprintf(`{"issuer":%q}`, p.URL),
		"http":             fmt.Sprintf(`{"issuer":%q,"jwks_uri":"http://127.0.0.1%s/keys"}`, p.URL, trapAddress),
		"another name":     fmt.Sprintf(`{"issuer":%q,"jwks_uri":"https://localhost%s/keys"}`, p.URL, trapAddress),
		"IPv6 loopback":    fmt.Sprintf(`{"issuer":%q,"jwks_uri":"https://[::1]%s/keys"}`, p.URL, trapAddress),
		"a file":           fmt.Sprintf(`{"issuer":%q,"jwks_uri":"file:///etc/passwd"}`, p.URL),
		"a user in it":     fmt.Sprintf(`{"issuer":%q,"jwks_uri":"https://u:p@127.0.0.1%s/keys"}`, p.URL, trapAddress),
		"a cloud's secret": fmt.Sprintf(`{"issuer":%q,"jwks_uri":"https://169.254.169.254/keys"}`, p.URL),
	} {
		p.answer(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) })
		s, _ := source(t, p, nil)
		if _, err := s.Key("a", true); !errors.Is(err, policy.ErrNoKeys) || s.Status().Error == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := trap.asked(); n != 0 {
		t.Errorf("%d requests where none may go", n)
	}
	p.answer(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, trap.URL+r.URL.Path, http.StatusFound)
	})
	s, _ := source(t, p, func(o *jwks.Options) { o.URL = p.URL + "/keys" })
	has(t, s, "a", false)
	if n := trap.asked(); n != 0 {
		t.Errorf("%d requests by a redirect", n)
	}
}

// H57: without leave nobody on this machine is asked, whatever the URL says.
func TestNoPrivateAddress(t *testing.T) {
	p := newProvider(t)
	p.publish("a")
	_, port, err := net.SplitHostPort(p.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "127.1", "2130706433", "0.0.0.0"} {
		s, _ := source(t, p, func(o *jwks.Options) {
			o.URL, o.Client = "https://"+host+":"+port+"/keys", outbound.New(outbound.Options{Limit: 2 * time.Second})
		})
		has(t, s, "a", false)
	}
	if p.asked() != 0 {
		t.Error("it was asked")
	}
}

func set(t testing.TB, keys ...any) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// jwk is a key as JSON with members changed; nil removes one.
func jwk(t testing.TB, key any, change map[string]any) map[string]any {
	t.Helper()
	b, err := (&jose.JSONWebKey{Key: key, KeyID: "k"}).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]any{}
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	for name, v := range change {
		if m[name] = v; v == nil {
			delete(m, name)
		}
	}
	return m
}

func TestParse(t *testing.T) {
	type m = map[string]any
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	strong, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ed, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{"EdDSA", "ES256", "RS256", "PS256"}
	small := *strong
	small.E = 3
	for _, c := range []struct {
		name  string
		keys  []any
		allow []string
		want  []string // algorithms of k; nil: no key
	}{
		{"P-256", []any{jwk(t, &ec.PublicKey, nil)}, all, []string{"ES256"}},
		{"Ed25519", []any{jwk(t, ed, m{"alg": "EdDSA", "use": "sig", "key_ops": []string{"verify"}})}, all, []string{"EdDSA"}},
		{"Ed25519 by its new name", []any{jwk(t, ed, m{"alg": "Ed25519"})}, all, []string{"EdDSA"}},
		{"RSA", []any{jwk(t, &strong.PublicKey, nil)}, all, []string{"RS256", "PS256"}},
		{"RSA for one algorithm", []any{jwk(t, &strong.PublicKey, m{"alg": "PS256"})}, all, []string{"PS256"}},
		{"RSA where none is allowed", []any{jwk(t, &strong.PublicKey, nil)}, []string{"EdDSA", "ES256"}, nil},
		{"an algorithm that is not allowed", []any{jwk(t, &strong.PublicKey, m{"alg": "RS512"})}, all, nil},
		{"one that does not fit", []any{jwk(t, &ec.PublicKey, m{"alg": "RS256"})}, all, nil},
		{"RSA of 1024 bits", []any{jwk(t, &weak.PublicKey, nil)}, all, nil},
		{"RSA with exponent 3", []any{jwk(t, &small.PublicKey, nil)}, all, nil},
		{"P-384", []any{jwk(t, &p384.PublicKey, nil)}, all, nil},
		{"a private key", []any{jwk(t, ec, nil)}, all, nil},
		{"a private Ed25519 key", []any{jwk(t, private, nil)}, all, nil},
		{"a symmetric key", []any{m{"kty": "oct", "kid": "k", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "alg": "HS256"}}, append(all, "HS256"), nil},
		{"for encryption", []any{jwk(t, &ec.PublicKey, m{"use": "enc"})}, all, nil},
		{"for signing, not verifying", []any{jwk(t, &ec.PublicKey, m{"key_ops": []string{"sign"}})}, all, nil},
		{"operations that are no list", []any{jwk(t, &ec.PublicKey, m{"key_ops": "verify"})}, all, nil},
		{"no id", []any{jwk(t, &ec.PublicKey, m{"kid": nil})}, all, nil},
		{"a long id", []any{jwk(t, &ec.PublicKey, m{"kid": strings.Repeat("k", 129)})}, all, nil},
		{"one id twice", []any{jwk(t, &ec.PublicKey, nil), jwk(t, ed, nil), jwk(t, ed, m{"kid": "other"})}, all, nil},
		{"not on the curve", []any{jwk(t, &ec.PublicKey, m{"x": "AAAA"})}, all, nil},
		{"unknown kinds beside it", []any{m{"kty": "AKP", "kid": "pq"}, "text", nil, 7, jwk(t, ed, nil)}, all, []string{"EdDSA"}},
	} {
		keys, err := jwks.Parse(set(t, c.keys...), c.allow)
		k, ok := keys["k"]
		if ok != (c.want != nil) || !slices.Equal(k.Algorithms, c.want) || ok && err != nil {
			t.Errorf("%s: %v %v, %v", c.name, ok, k.Algorithms, err)
		}
	}
}

// FuzzParse: whatever an issuer publishes, only public keys come of it, that
// verify an algorithm which is allowed.
func FuzzParse(f *testing.F) {
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(set(f, jwk(f, ed, nil)))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"x","x5c":["AAAA"],"x5u":"https://127.0.0.1/"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA","kid":"x"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := jwks.Parse(b, []string{"EdDSA", "ES256", "RS256"})
		if (err == nil) == (len(keys) == 0) {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		for id, k := range keys {
			_, private := k.Key.(crypto.Signer)
			if id == "" || k.ID != id || private || len(k.Algorithms) == 0 || slices.Contains(k.Algorithms, "PS256") {
				t.Fatalf("%q: %+v", id, k)
			}
		}
	})
}
