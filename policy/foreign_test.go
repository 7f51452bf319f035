package policy_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/musenai/musen/policy"
)

// keys is a KeySource that is as a test has it.
type keys struct {
	held  map[string]policy.PublicKey
	gone  bool // as if they could not be had
	asked int
}

func (k *keys) Key(kid string, ask bool) (policy.PublicKey, error) {
	if ask {
		k.asked++
	}
	if k.gone {
		return policy.PublicKey{}, policy.ErrNoKeys
	}
	key, ok := k.held[kid]
	if !ok {
		return policy.PublicKey{}, errors.New("no such key")
	}
	return key, nil
}

const (
	acme  = "https://login.acme.example/"
	other = "https://login.other.example/"
)

// platforms are two foreign issuers whose keys have the same kid, and so has
// the key of the node itself.
type platforms struct {
	*world
	acme, other *keys
	private     map[string]crypto.Signer // by iss
	names       map[string]string        // of stations: ids
}

func newPlatforms(t testing.TB, change func(*policy.ForeignIssuer)) *platforms {
	t.Helper()
	p := &platforms{world: newWorld(t), private: map[string]crypto.Signer{}, names: map[string]string{"jazz": jazz, "blues": blues, jazz: jazz, blues: blues}}
	source := func(iss string) *keys {
		rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
		must(t, err)
		p.private[iss] = rsaKey
		return &keys{held: map[string]policy.PublicKey{tokenKid: {ID: tokenKid, Key: &rsaKey.PublicKey, Algorithms: []string{"RS256"}}}}
	}
	p.acme, p.other = source(acme), source(other)
	f := policy.ForeignIssuer{
		Name: "acme", Issuer: acme, Audience: "radio", Keys: p.acme, Algorithms: []string{"RS256"}, Types: []string{"at+jwt", "JWT", ""},
		MaxTTL: 24 * time.Hour, Leeway: 30 * time.Second,
		Claims: policy.ClaimMapping{Stations: "stations", Actions: "scope", Allowed: []policy.Action{policy.Listen, policy.Download}},
	}
	o := f
	o.Name, o.Issuer, o.Keys = "other", other, p.other
	if change != nil {
		change(&f)
	}
	p.options.Issuers = []policy.ForeignIssuer{f, o}
	p.options.Stations = func(n string) (string, bool) { id, ok := p.names[n]; return id, ok }
	var err error
	p.verifier, err = policy.NewVerifier(p.options)
	must(t, err)
	return p
}

// foreign are the claims of a good token of an issuer.
func (p *platforms) foreign(iss string) map[string]any {
	return map[string]any{
		"iss": iss, "aud": []string{"radio", iss + "userinfo"}, "sub": "auth0|7", "jti": "t-1",
		"iat": p.now.Unix(), "exp": p.now.Unix() + 3600, "scope": "openid listen manage", "stations": []string{"jazz"}, "email": "a@example.org",
	}
}

// signed is a token with the signature of an issuer's RSA key.
func (p *platforms) signed(t testing.TB, iss string, header, claims map[string]any) string {
	t.Helper()
	input := b64(toJSON(header)) + "." + b64(toJSON(claims))
	sum := sha256.Sum256([]byte(input))
	sig, err := p.private[iss].Sign(rand.Reader, sum[:], crypto.SHA256)
	must(t, err)
	return input + "." + b64(sig)
}

func rs256() map[string]any { return map[string]any{"alg": "RS256", "kid": tokenKid, "typ": "JWT"} }

// P27, P48: a token of a platform grants what its mapping says and no more, and
// nothing but a subject and an id is kept of it.
func TestForeignToken(t *testing.T) {
	p := newPlatforms(t, nil)
	g, err := p.verifier.Token(p.signed(t, acme, rs256(), p.foreign(acme)))
	must(t, err)
	if g.Subject() != "acme|auth0|7" || g.ID() != "acme|t-1" || g.Issuer() != "acme" || g.Kind() != "token" {
		t.Errorf("it is %q %q %q %q", g.Subject(), g.ID(), g.Issuer(), g.Kind())
	}
	if !g.Covers(jazz) || g.Covers(blues) || g.Covers("") || !g.Has(policy.Listen) || g.Has(policy.Manage) || g.Has(policy.Download) {
		t.Error("it grants other than it should")
	}
	if !p.engine.Decide(g, policy.Listen, policy.Resource{Station: jazz, Segment: "s"}).Allowed() {
		t.Error("denied")
	}
	// The same of the other issuer: another subject, another id.
	h, err := p.verifier.Token(p.signed(t, other, rs256(), p.foreign(other)))
	must(t, err)
	if h.Subject() != "other|auth0|7" || h.ID() != "other|t-1" {
		t.Errorf("it is %q %q", h.Subject(), h.ID())
	}
	// The node's own tokens are as before.
	own, err := p.verifier.Token(p.token(t, "alice", jazz, policy.Listen))
	must(t, err)
	if own.Issuer() != "" || own.Subject() != "alice" {
		t.Errorf("an own token is of %q, %q", own.Issuer(), own.Subject())
	}
}

// H1, H2, H3, H4, against foreign issuers.
func TestForeignForgeries(t *testing.T) {
	p := newPlatforms(t, nil)
	type m = map[string]any
	public := p.acme.held[tokenKid].Key
	der, err := x509.MarshalPKIXPublicKey(public)
	must(t, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	claims := p.foreign(acme)
	unsigned := func(header m) string { return b64(toJSON(header)) + "." + b64(toJSON(claims)) + "." }
	mac := func(secret []byte) string {
		input := b64(toJSON(with(rs256(), m{"alg": "HS256"}))) + "." + b64(toJSON(claims))
		h := hmac.New(sha256.New, secret)
		h.Write([]byte(input))
		return input + "." + b64(h.Sum(nil))
	}
	good := p.signed(t, acme, rs256(), claims)
	cases := map[string]string{
		"HS256 with the public key, PEM": mac(text), "HS256 with the public key, DER": mac(der), "HS256 with nothing": mac(nil),
		"signed by the other issuer":  p.signed(t, other, rs256(), claims),
		"signed by the node itself":   p.forge(toJSON(p.header()), toJSON(claims)),
		"the other's claims":          p.signed(t, acme, rs256(), p.foreign(other)),
		"the node's claims":           p.signed(t, acme, rs256(), p.claims()),
		"PS256 by the name alone":     p.signed(t, acme, with(rs256(), m{"alg": "PS256"}), claims),
		"RS512":                       p.signed(t, acme, with(rs256(), m{"alg": "RS512"}), claims),
		"EdDSA":                       p.signed(t, acme, with(rs256(), m{"alg": "EdDSA"}), claims),
		"another kid":                 p.signed(t, acme, with(rs256(), m{"kid": "x"}), claims),
		"a kid that is a path":        p.signed(t, acme, with(rs256(), m{"kid": "../../dev/null"}), claims),
		"no kid":                      p.signed(t, acme, with(rs256(), m{"kid": nil}), claims),
		"jku":                         p.signed(t, acme, with(rs256(), m{"jku": "https://127.0.0.1/"}), claims),
		"x5u":                         p.signed(t, acme, with(rs256(), m{"x5u": "https://127.0.0.1/"}), claims),
		"x5c":                         p.signed(t, acme, with(rs256(), m{"x5c": []string{b64(der)}}), claims),
		"jwk":                         p.signed(t, acme, with(rs256(), m{"jwk": m{"kty": "RSA"}}), claims),
		"crit":                        p.signed(t, acme, with(rs256(), m{"crit": []string{"exp"}}), claims),
		"b64":                         p.signed(t, acme, with(rs256(), m{"b64": "false"}), claims),
		"another typ":                 p.signed(t, acme, with(rs256(), m{"typ": "logout+jwt"}), claims),
		"typ of another case":         p.signed(t, acme, with(rs256(), m{"typ": "jwt"}), claims),
		"iss with no slash":           p.signed(t, acme, rs256(), with(claims, m{"iss": acme[:len(acme)-1]})),
		"iss in a list":               p.signed(t, acme, rs256(), with(claims, m{"iss": []string{acme}})),
		"no iss":                      p.signed(t, acme, rs256(), with(claims, m{"iss": nil})),
		"another aud":                 p.signed(t, acme, rs256(), with(claims, m{"aud": "radio2"})),
		"aud of the node":             p.signed(t, acme, rs256(), with(claims, m{"aud": audience})),
		"no aud":                      p.signed(t, acme, rs256(), with(claims, m{"aud": nil})),
		"lives too long":              p.signed(t, acme, rs256(), with(claims, m{"exp": p.now.Unix() + 86401})),
		"no exp":                      p.signed(t, acme, rs256(), with(claims, m{"exp": nil})),
		"expired":                     p.signed(t, acme, rs256(), with(claims, m{"iat": p.now.Unix() - 100, "exp": p.now.Unix() - 31})),
		"issued in a minute":          p.signed(t, acme, rs256(), with(claims, m{"iat": p.now.Unix() + 60})),
		"no sub":                      p.signed(t, acme, rs256(), with(claims, m{"sub": nil})),
		"jti of a number":             p.signed(t, acme, rs256(), with(claims, m{"jti": 7})),
		"an ID token":                 p.signed(t, acme, rs256(), with(claims, m{"nonce": "x"})),
		"stations of numbers":         p.signed(t, acme, rs256(), with(claims, m{"stations": []int{1}})),
		"scope of an object":          p.signed(t, acme, rs256(), with(claims, m{"scope": m{"listen": true}})),
		"one bit of the signature":    good[:len(good)-10] + flip(good[len(good)-10:]),
		"an own token of its subject": p.forge(toJSON(p.header()), toJSON(with(p.claims(), m{"sub": "acme|auth0|7"}))),
	}
	for _, alg := range []string{"none", "None", "nOnE", ""} {
		cases["alg "+alg] = unsigned(with(rs256(), m{"alg": alg}))
		cases["alg "+alg+", signed"] = p.signed(t, acme, with(rs256(), m{"alg": alg}), claims)
	}
	for what, raw := range cases {
		_, err := p.verifier.Token(raw)
		var refused *policy.CredentialError
		if !errors.As(err, &refused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	must(t, errOf(p.verifier.Token(good)))
}

func errOf(_ policy.Grant, err error) error { return err }

// flip changes the first character of a text of base64url.
func flip(s string) string {
	if s[0] == 'A' {
		return "B" + s[1:]
	}
	return "A" + s[1:]
}

// What providers spell differently is accepted where the operator allows it.
func TestForeignSpellings(t *testing.T) {
	type m = map[string]any
	p := newPlatforms(t, nil)
	for what, raw := range map[string]string{
		"at+jwt":              p.signed(t, acme, with(rs256(), m{"typ": "at+jwt"}), p.foreign(acme)),
		"no typ":              p.signed(t, acme, with(rs256(), m{"typ": nil}), p.foreign(acme)),
		"x5t":                 p.signed(t, acme, with(rs256(), m{"x5t": "abc", "x5t#S256": "def"}), p.foreign(acme)),
		"aud as text":         p.signed(t, acme, rs256(), with(p.foreign(acme), m{"aud": "radio"})),
		"scope as list":       p.signed(t, acme, rs256(), with(p.foreign(acme), m{"scope": []string{"listen"}})),
		"station as text":     p.signed(t, acme, rs256(), with(p.foreign(acme), m{"stations": "jazz"})),
		"station by id":       p.signed(t, acme, rs256(), with(p.foreign(acme), m{"stations": jazz})),
		"clock 30 s ahead":    p.signed(t, acme, rs256(), with(p.foreign(acme), m{"iat": p.now.Unix() + 30})),
		"expired 29 s before": p.signed(t, acme, rs256(), with(p.foreign(acme), m{"iat": p.now.Unix() - 60, "exp": p.now.Unix() - 29})),
	} {
		g, err := p.verifier.Token(raw)
		if err != nil || !g.Covers(jazz) || g.Covers(blues) || !g.Has(policy.Listen) {
			t.Errorf("%s: %v", what, err)
		}
	}
	strict := newPlatforms(t, func(f *policy.ForeignIssuer) { f.Types, f.IDTokens = []string{"at+jwt"}, true })
	for _, typ := range []any{"JWT", nil} {
		_, err := strict.verifier.Token(strict.signed(t, acme, with(rs256(), m{"typ": typ}), strict.foreign(acme)))
		wantCode(t, err, "credential_malformed")
	}
	id := strict.signed(t, acme, with(rs256(), m{"typ": "at+jwt"}), with(strict.foreign(acme), m{"nonce": "x"}))
	must(t, errOf(strict.verifier.Token(id)))
}

func TestClaimMapping(t *testing.T) {
	type m = map[string]any
	p := newPlatforms(t, nil)
	ceiling := []policy.Action{policy.Listen, policy.Download, policy.Add}
	for _, c := range []struct {
		name     string
		mapping  policy.ClaimMapping
		claims   m
		stations []string
		actions  []policy.Action
	}{
		{"nothing mapped", policy.ClaimMapping{Allowed: ceiling}, m{}, nil, nil},
		{"defaults", policy.ClaimMapping{DefaultStations: []string{"jazz"}, DefaultActions: []policy.Action{policy.Listen, policy.Manage}, Allowed: ceiling}, m{}, []string{jazz}, []policy.Action{policy.Listen}},
		{"defaults are for what is missing", policy.ClaimMapping{Stations: "stations", DefaultStations: []string{"jazz"}, Actions: "scope", DefaultActions: []policy.Action{policy.Listen}, Allowed: ceiling}, m{"stations": []string{}, "scope": ""}, nil, nil},
		{"null is missing", policy.ClaimMapping{Stations: "/a/b", DefaultStations: []string{"jazz"}, Allowed: ceiling}, m{"a": m{"b": nil}}, []string{jazz}, nil},
		{"a template", policy.ClaimMapping{Stations: "tenant", StationTemplate: "{}zz", Allowed: ceiling}, m{"tenant": "ja"}, []string{jazz}, nil},
		{"a template that leads elsewhere", policy.ClaimMapping{Stations: "tenant", StationTemplate: "acme-{}", Allowed: ceiling}, m{"tenant": "jazz"}, nil, nil},
		{"a pointer", policy.ClaimMapping{Stations: "/realm~1access/roles", Actions: "/ra/a~0b", Allowed: ceiling}, m{"realm/access": m{"roles": []string{"blues", "x"}}, "ra": m{"a~b": "add listen"}}, []string{blues}, []policy.Action{policy.Listen, policy.Add}},
		{"a name with dots and slashes", policy.ClaimMapping{Stations: "https://x.example/stations", Allowed: ceiling}, m{"https://x.example/stations": []string{"jazz"}}, []string{jazz}, nil},
		{"a prefix", policy.ClaimMapping{Actions: "scope", ActionPrefix: "radio:", Allowed: ceiling}, m{"scope": "radio:listen download radio:manage radio:radio:add"}, nil, []policy.Action{policy.Listen}},
		{"all stations, not allowed", policy.ClaimMapping{Stations: "stations", Allowed: ceiling}, m{"stations": []string{"*", "jazz"}}, []string{jazz}, nil},
		{"all stations by a template", policy.ClaimMapping{Stations: "stations", StationTemplate: "{}", Allowed: ceiling}, m{"stations": "*"}, nil, nil},
		{"all stations", policy.ClaimMapping{Stations: "stations", AllStations: true, Allowed: ceiling}, m{"stations": "*"}, []string{jazz, blues, ""}, nil},
	} {
		p.options.Issuers[0].Claims = c.mapping
		var err error
		p.verifier, err = policy.NewVerifier(p.options)
		must(t, err)
		claims := with(p.foreign(acme), m{"stations": nil, "scope": nil})
		maps.Copy(claims, c.claims)
		g, err := p.verifier.Token(p.signed(t, acme, rs256(), claims))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, s := range []string{jazz, blues, ""} {
			if g.Covers(s) != slices.Contains(c.stations, s) {
				t.Errorf("%s: covers %q is %v", c.name, s, g.Covers(s))
			}
		}
		for _, a := range everyAction() {
			if g.Has(a) != slices.Contains(c.actions, a) {
				t.Errorf("%s: has %s is %v", c.name, a, g.Has(a))
			}
		}
	}
}

// A station that takes over the name of another is not covered by what was
// verified, and decided, for that one; nor is the other any more.
func TestForeignStationsAreLookedUpAtEachUse(t *testing.T) {
	p := newPlatforms(t, nil)
	raw := p.signed(t, acme, rs256(), p.foreign(acme))
	for range 2 {
		for name, id := range map[string]string{"jazz": jazz, "blues": blues} {
			p.names["jazz"] = id
			g, err := p.verifier.Token(raw)
			must(t, err)
			for _, station := range []string{jazz, blues} {
				d := p.engine.Decide(g, policy.Listen, policy.Resource{Station: station, Segment: "s"})
				if want := station == id; g.Covers(station) != want || d.Allowed() != want {
					t.Errorf("%s leads to %s: %s is %v, %v", name, id, station, g.Covers(station), d.Allowed())
				}
			}
		}
	}
	delete(p.names, "jazz")
	g, err := p.verifier.Token(raw)
	must(t, err)
	if g.Covers(jazz) || g.Covers("") {
		t.Error("covers a station that is not there")
	}
}

// P18, P35: what an issuer withdraws, or the operator revokes, is refused at
// once, also in the middle of a song.
func TestForeignTokenEnds(t *testing.T) {
	p := newPlatforms(t, nil)
	raw, twin := p.signed(t, acme, rs256(), p.foreign(acme)), p.signed(t, other, rs256(), p.foreign(other))
	g, err := p.verifier.Token(raw)
	must(t, err)
	must(t, errOf(p.verifier.Token(twin)))
	ended := func(what, code string) {
		t.Helper()
		_, err := p.verifier.Token(raw)
		wantCode(t, err, code)
		wantCode(t, p.verifier.Live(g, jazz), code)
		must(t, errOf(p.verifier.Token(twin)))
	}
	good := p.acme.held[tokenKid]
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	for what, c := range map[string]struct {
		end, mend func()
		code      string
	}{
		"jti":       {func() { p.registry.ids["acme|t-1"] = true }, func() { delete(p.registry.ids, "acme|t-1") }, "credential_revoked"},
		"subject":   {func() { p.registry.subjects["acme|auth0|7"] = p.now }, func() { delete(p.registry.subjects, "acme|auth0|7") }, "credential_revoked"},
		"key":       {func() { p.registry.keys["acme|"+tokenKid] = true }, func() { delete(p.registry.keys, "acme|"+tokenKid) }, "credential_revoked"},
		"withdrawn": {func() { delete(p.acme.held, tokenKid) }, func() { p.acme.held[tokenKid] = good }, "credential_revoked"},
		"replaced": {func() {
			p.acme.held[tokenKid] = policy.PublicKey{ID: tokenKid, Key: &stranger.PublicKey, Algorithms: []string{"RS256"}}
		}, func() { p.acme.held[tokenKid] = good }, "credential_revoked"},
		"not had": {func() { p.acme.gone = true }, func() { p.acme.gone = false }, "credential_unverifiable"},
	} {
		c.end()
		ended(what, c.code)
		c.mend()
		must(t, errOf(p.verifier.Token(raw)))
		must(t, p.verifier.Live(g, jazz))
	}
	p.registry.ids["t-1"], p.registry.subjects["auth0|7"], p.registry.keys[tokenKid] = true, p.now, true
	must(t, errOf(p.verifier.Token(raw))) // those were of the node itself
}

// A token without a jti has an id that only its issuer can change.
func TestForeignTokenWithoutID(t *testing.T) {
	p := newPlatforms(t, nil)
	claims := with(p.foreign(acme), map[string]any{"jti": nil})
	g, err := p.verifier.Token(p.signed(t, acme, rs256(), claims))
	must(t, err)
	if g.ID() != "acme|"+policy.UnnamedID(toJSON(claims)) {
		t.Errorf("its id is %q", g.ID())
	}
}

// P75: the node's own keys change while it runs; what was signed before is good
// for as long as its key is held.
func TestOwnKeysRotate(t *testing.T) {
	w := newWorld(t)
	token, link := w.token(t, "alice", jazz, policy.Listen), w.link(t, nil)
	g, err := w.verifier.Token(token)
	must(t, err)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	secret := make([]byte, 32)
	rand.Read(secret)
	oldKey, newKey := policy.PublicKey{ID: tokenKid, Key: w.public}, policy.PublicKey{ID: "token-2", Key: public}
	oldLink, newLink := policy.LinkKey{ID: linkKid, Secret: w.secret}, policy.LinkKey{ID: "link-2", Secret: secret}
	must(t, w.verifier.SetKeys([]policy.PublicKey{oldKey, newKey}, []policy.LinkKey{oldLink, newLink}, nil))
	must(t, w.issuer.SignWith("token-2", private, newLink, policy.LinkKey{}))
	for _, raw := range []string{token, w.token(t, "bob", jazz, policy.Listen)} {
		must(t, errOf(w.verifier.Token(raw)))
	}
	for _, raw := range []string{link, w.link(t, nil)} {
		must(t, errOf(w.verifier.Link(raw, "GET", listenPath)))
	}
	w.registry.keys[linkKid] = true
	_, err = w.verifier.Link(link, "GET", listenPath)
	wantCode(t, err, "credential_revoked")
	must(t, w.verifier.SetKeys([]policy.PublicKey{newKey}, []policy.LinkKey{newLink}, nil))
	_, err = w.verifier.Token(token)
	wantCode(t, err, "credential_revoked")
	wantCode(t, w.verifier.Live(g, jazz), "credential_revoked")
	if err := w.verifier.SetKeys([]policy.PublicKey{oldKey, oldKey}, nil, nil); err == nil {
		t.Error("took two keys of one id")
	}
	must(t, errOf(w.verifier.Token(w.token(t, "bob", jazz, policy.Listen))))
	if err := w.issuer.SignWith("x", private[:31], newLink, policy.LinkKey{}); err == nil {
		t.Error("signs with half a key")
	}
}

func TestNewVerifierRefusesIssuers(t *testing.T) {
	p := newPlatforms(t, nil)
	for what, change := range map[string]func(*policy.ForeignIssuer){
		"a name with a bar": func(f *policy.ForeignIssuer) { f.Name = "a|b" },
		"no name":           func(f *policy.ForeignIssuer) { f.Name = "" },
		"a name twice":      func(f *policy.ForeignIssuer) { f.Name = "other" },
		"an issuer twice":   func(f *policy.ForeignIssuer) { f.Issuer = other },
		"the node itself":   func(f *policy.ForeignIssuer) { f.Issuer = issuerName },
		"no audience":       func(f *policy.ForeignIssuer) { f.Audience = "" },
		"no keys":           func(f *policy.ForeignIssuer) { f.Keys = nil },
		"HS256":             func(f *policy.ForeignIssuer) { f.Algorithms = []string{"HS256"} },
		"none":              func(f *policy.ForeignIssuer) { f.Algorithms = []string{"none"} },
		"no algorithm":      func(f *policy.ForeignIssuer) { f.Algorithms = nil },
		"no type":           func(f *policy.ForeignIssuer) { f.Types = nil },
		"no end":            func(f *policy.ForeignIssuer) { f.MaxTTL = 0 },
		"leeway":            func(f *policy.ForeignIssuer) { f.Leeway = time.Hour },
		"an unknown action": func(f *policy.ForeignIssuer) { f.Claims.Allowed = []policy.Action{"fly"} },
	} {
		o := p.options
		o.Issuers = slices.Clone(o.Issuers)
		change(&o.Issuers[0])
		if _, err := policy.NewVerifier(o); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

// An own issuer names nobody whom another one names.
func TestIssuerNamesNoForeignSubject(t *testing.T) {
	p := newPlatforms(t, nil)
	i, err := policy.NewIssuer(policy.IssuerOptions{
		Issuer: issuerName, Audience: audience, KeyID: tokenKid, Key: p.world.private, LinkKeyID: linkKid, LinkSecret: p.secret,
		Now: p.options.Now, Rand: rand.Reader, Foreign: []string{"acme"},
	})
	must(t, err)
	for subject, ok := range map[string]bool{"acme|auth0|7": false, "acme|": false, "acme": true, "auth0|7": true, "acme2|x": true} {
		_, _, _, err := i.Token(policy.TokenRequest{Subject: subject, Actions: []policy.Action{policy.Listen}, TTL: time.Hour})
		if (err == nil) != ok {
			t.Errorf("%q: %v", subject, err)
		}
	}
}

// FuzzClaimMapping reads claims of a platform as if they were signed: nothing
// is granted that the operator did not allow.
func FuzzClaimMapping(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(f, err)
	p := newPlatforms(f, func(i *policy.ForeignIssuer) {
		i.Algorithms, i.Claims.Stations, i.Claims.Actions = []string{"ES256"}, "/a/stations", "/a/scope"
	})
	p.acme.held["ec"] = policy.PublicKey{ID: "ec", Key: &key.PublicKey, Algorithms: []string{"ES256"}}
	header := b64([]byte(`{"alg":"ES256","kid":"ec","typ":"JWT"}`))
	claims := with(p.foreign(acme), map[string]any{"a": map[string]any{"stations": []string{"jazz", "*"}, "scope": "listen manage"}})
	f.Add(toJSON(claims))
	f.Add([]byte(`{"iss":"` + acme + `","aud":"radio","sub":"x","iat":1800000000,"exp":1800000001,"a":[]}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		input := header + "." + b64(payload)
		sum := sha256.Sum256([]byte(input))
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		must(t, err)
		var sig [64]byte
		r.FillBytes(sig[:32])
		s.FillBytes(sig[32:])
		g, err := p.verifier.Token(input + "." + b64(sig[:]))
		if err != nil {
			return
		}
		if g.Covers("") || g.Has(policy.Manage) || g.Has(policy.Audit) || g.Issuer() != "acme" || len(g.Subject()) < 6 || g.Subject()[:5] != "acme|" || g.ID()[:5] != "acme|" {
			t.Errorf("%q grants too much: %q %q", payload, g.Subject(), g.ID())
		}
	})
}
