package policy_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/musenai/musen/policy"
)

// refused fails unless neither as a token nor as a link raw is accepted.
func refused(t *testing.T, v *policy.Verifier, name, raw string) {
	t.Helper()
	if g, err := v.Token(raw); err == nil || g.Has(policy.Listen) {
		t.Errorf("%s: accepted as a token", name)
	}
	if g, err := v.Link(raw, "GET", listenPath); err == nil || g.Has(policy.Listen) {
		t.Errorf("%s: accepted as a link", name)
	}
}

// caseVariants of a word: every mix of upper and lower case.
func caseVariants(word string) []string {
	var all []string
	for mask := range 1 << len(word) {
		b := []byte(strings.ToLower(word))
		for i := range b {
			if mask&(1<<i) != 0 {
				b[i] -= 'a' - 'A'
			}
		}
		all = append(all, string(b))
	}
	return all
}

// H1
func TestForgedAlgNone(t *testing.T) {
	w := newWorld(t)
	algs := []any{"", nil, 0, false, []string{"none"}, []string{"EdDSA", "none"}, "none ", " none", "none\x00", "EDDSA", "eddsa", "Ed25519"}
	for _, v := range caseVariants("none") {
		algs = append(algs, v)
	}
	good := strings.Split(w.token(t, "alice", jazz, policy.Listen), ".")
	for _, alg := range algs {
		header := with(w.header(), map[string]any{"alg": alg})
		signed := w.forge(toJSON(header), toJSON(w.claims()))
		cut := signed[:strings.LastIndexByte(signed, '.')+1]
		name := fmt.Sprintf("alg %v", alg)
		refused(t, w.verifier, name, signed)
		refused(t, w.verifier, name+", no signature", cut)
		refused(t, w.verifier, name+", no last part", strings.TrimSuffix(cut, "."))
		refused(t, w.verifier, name+", other signature", cut+good[2])
		refused(t, w.verifier, name+", no kid", w.forge(toJSON(with(header, map[string]any{"kid": nil})), toJSON(w.claims())))
	}
	for i := range good {
		parts := append([]string(nil), good...)
		parts[i] = ""
		refused(t, w.verifier, fmt.Sprintf("part %d dropped", i), strings.Join(parts, "."))
	}
}

// H2: what everybody can know of a public key is no secret.
func TestForgedWithPublicKeyAsSecret(t *testing.T) {
	w := newWorld(t)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	w.options.Keys = append(w.options.Keys, policy.PublicKey{ID: "ec-1", Key: &ec.PublicKey})
	v, err := policy.NewVerifier(w.options)
	must(t, err)
	for kid, key := range map[string]any{tokenKid: w.public, "ec-1": &ec.PublicKey} {
		der, err := x509.MarshalPKIXPublicKey(key)
		must(t, err)
		text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		jwk, err := (&jose.JSONWebKey{Key: key, KeyID: kid}).MarshalJSON()
		must(t, err)
		secrets := [][]byte{
			der, text, bytes.TrimSpace(text), bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")),
			jwk, w.public, nil, []byte("secret"), []byte(base64.StdEncoding.EncodeToString(der)),
		}
		for i, secret := range secrets {
			for _, alg := range []string{"HS256", "HS384", "HS512", "hs256", "EdDSA", "ES256"} {
				input := b64(toJSON(map[string]any{"alg": alg, "kid": kid, "typ": "at+jwt"})) + "." + b64(toJSON(w.claims()))
				mac := hmac.New(sha256.New, secret)
				mac.Write([]byte(input))
				refused(t, v, fmt.Sprintf("%s under secret %d of %s", alg, i, kid), input+"."+b64(mac.Sum(nil)))
			}
		}
	}
}

// H3: a key that comes with a token is not used, and no address is asked.
func TestForgedEmbeddedKey(t *testing.T) {
	w := newWorld(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var connections atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			c.Close()
		}
	}()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	jwk := map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64(public), "kid": tokenKid}
	address := "http://" + listener.Addr().String() + "/keys"
	for name, value := range map[string]any{
		"jwk": jwk, "jku": address, "x5u": address, "x5c": []string{base64.StdEncoding.EncodeToString(public)},
		"x5t": "AAAA", "jwks_uri": address, "iss": address,
	} {
		for _, kid := range []any{tokenKid, "attacker", address, nil} {
			header := with(w.header(), map[string]any{name: value, "kid": kid})
			input := b64(toJSON(header)) + "." + b64(toJSON(w.claims()))
			refused(t, w.verifier, name+" with its own key", input+"."+b64(ed25519.Sign(private, []byte(input))))
			refused(t, w.verifier, name+" with our key", w.forge(toJSON(header), toJSON(w.claims())))
		}
	}
	listener.Close()
	<-done
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

// H4: a kid is looked up in memory and nothing else.
func TestForgedKid(t *testing.T) {
	w := newWorld(t)
	for _, kid := range []any{
		"../../../../dev/null", "/dev/null", "file:///dev/null", "' OR '1'='1", "token-1' --", "token-1\x00", "\x00",
		"token-1 ", " token-1", "TOKEN-1", "", nil, 1, []string{tokenKid}, map[string]any{"kid": tokenKid},
		strings.Repeat("k", 700), strings.Repeat("k", 64<<10), "$(id)", "%2e%2e%2f", "token-1/../token-1", linkKid,
	} {
		header := with(w.header(), map[string]any{"kid": kid})
		refused(t, w.verifier, fmt.Sprintf("kid %.40v", kid), w.forge(toJSON(header), toJSON(w.claims())))
	}
	for _, header := range []string{
		`{"alg":"EdDSA","typ":"at+jwt","kid":"token-1","kid":"token-1"}`,
		`{"alg":"EdDSA","typ":"at+jwt","kid":"x","kid":"token-1"}`,
		`{"alg":"none","alg":"EdDSA","typ":"at+jwt","kid":"token-1"}`,
		`{"alg":"EdDSA","typ":"at+jwt","kid":"token-1","\u006bid":"token-1"}`,
		`{"alg":"EdDSA","typ":"at+jwt","Kid":"token-1"}`,
		`{"Alg":"EdDSA","typ":"at+jwt","kid":"token-1"}`,
	} {
		refused(t, w.verifier, header, w.forge([]byte(header), toJSON(w.claims())))
	}
}

// P37, H5: a verifier or an issuer does not start with a secret that can be
// guessed, or that an example published, and does not print it either.
func TestWeakSecretsRefused(t *testing.T) {
	w := newWorld(t)
	counted := make([]byte, 32)
	for i := range counted {
		counted[i] = byte(i)
	}
	for _, secret := range [][]byte{
		nil, {}, []byte("secret"), []byte("your-256-bit-secret"), w.secret[:31], make([]byte, 32), make([]byte, 64),
		bytes.Repeat([]byte("secret"), 10), bytes.Repeat([]byte{1, 2, 3, 4}, 8), counted,
		[]byte("a-string-secret-at-least-256-bits-long"),
		[]byte("0123456789abcdef0123456789abcdef"), []byte("abcdefghijklmnopqrstuvwxyz012345"),
		[]byte("403697de87af64611c1d32a05dab0fe1fcb715a86ab435f1ec99192d79569388"),
		[]byte("qwertyuiopasdfghjklzxcvbnm123456"), []byte("changeme-changeme-1234567890-xyz"),
	} {
		o := w.options
		o.LinkKeys = []policy.LinkKey{{ID: linkKid, Secret: secret}}
		if _, err := policy.NewVerifier(o); err == nil {
			t.Errorf("verifier made with secret %q", secret)
		} else if len(secret) > 8 && strings.Contains(err.Error(), string(secret)) {
			t.Errorf("the error holds the secret: %v", err)
		}
		_, err := policy.NewIssuer(policy.IssuerOptions{
			Issuer: issuerName, Audience: audience, KeyID: tokenKid, Key: w.private,
			LinkKeyID: linkKid, LinkSecret: secret, Now: w.options.Now, Rand: rand.Reader,
		})
		if err == nil {
			t.Errorf("issuer made with secret %q", secret)
		}
	}
}

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// H6: hostile input costs little, whatever its size.
func TestHostileInputIsCheap(t *testing.T) {
	w := newWorld(t)
	deep := strings.Repeat(`{"a":`, 50) + "1" + strings.Repeat("}", 50)
	deepest := strings.Repeat("[", 700)
	many := `{"alg":"EdDSA"` + strings.Repeat(`,"a":1`, 100) + "}"
	hostile := map[string]string{
		"dots":             strings.Repeat(".", 1<<20),
		"dots, short":      strings.Repeat(".", 8<<10),
		"segments":         strings.Repeat("a.", 10_000),
		"letters":          strings.Repeat("A", 1<<20),
		"two dots, long":   strings.Repeat("A", 1<<20) + "." + strings.Repeat("A", 1<<20) + ".AAAA",
		"two dots, fits":   strings.Repeat("A", 2700) + "." + strings.Repeat("A", 2700) + "." + strings.Repeat("A", 2700),
		"deep header":      b64([]byte(deep)) + "." + b64([]byte(deep)) + ".AAAA",
		"deepest header":   b64([]byte(deepest)) + "." + b64([]byte(deepest)) + ".AAAA",
		"object of arrays": b64([]byte(`{"a":`+deepest)) + ".AAAA.AAAA",
		"many members":     b64([]byte(many)) + ".AAAA.AAAA",
		"empty":            "",
		"spaces":           strings.Repeat(" ", 1<<20),
		"CBOR depth":       b64([]byte("\xd1" + strings.Repeat("\x81", 900))),
		"CBOR tags":        b64([]byte(strings.Repeat("\xd1", 1000))),
		"CBOR huge array":  b64([]byte("\xd1\x9a\xff\xff\xff\xff")),
		"CBOR huge bytes":  b64([]byte("\xd1\x84\x5b\x7f\xff\xff\xff\xff\xff\xff\xff")),
		"CBOR endless":     b64([]byte("\xd1\x9f\x40\xa0\x40\x40\xff")),
	}
	for name, raw := range hostile {
		t.Run(name, func(t *testing.T) {
			refused(t, w.verifier, name, raw)
			n := allocated(func() {
				w.verifier.Token(raw)
				w.verifier.Link(raw, "GET", listenPath)
			})
			if limit := uint64(2*len(raw) + 16<<10); n > limit || n > 64<<10 {
				t.Errorf("%d bytes allocated for an input of %d", n, len(raw))
			}
		})
	}
}

// H6: what was signed by a careless issuer is read no more loosely.
func TestSignedButNotStrictJSON(t *testing.T) {
	w := newWorld(t)
	good := string(toJSON(w.claims()))
	for name, payload := range map[string]string{
		"duplicate":          `{"sub":"mallory",` + good[1:],
		"duplicate, escaped": `{"\u0073ub":"mallory",` + good[1:],
		"duplicate, deep":    `{"x":{"a":1,"a":2},` + good[1:],
		"too deep":           `{"x":` + strings.Repeat("[", 9) + "1" + strings.Repeat("]", 9) + "," + good[1:],
		"two objects":        good + good,
		"left over":          good + "x",
		"cut":                good[:len(good)-1],
		"in an array":        "[" + good + "]",
		"trailing comma":     good[:len(good)-1] + ",}",
		"not UTF-8":          `{"x":"` + "\xff" + `",` + good[1:],
		"comment":            "/**/" + good,
		"byte order mark":    "\ufeff" + good,
		"null":               "null",
		"empty":              "",
		"NaN":                `{"x":NaN,` + good[1:],
	} {
		refused(t, w.verifier, name, w.forge(toJSON(w.header()), []byte(payload)))
	}
	// Names differ in case: these are other claims than sub and exp.
	g, err := w.verifier.Token(w.forge(toJSON(w.header()), []byte(`{"Sub":"mallory","EXP":1,`+good[1:])))
	must(t, err)
	if g.Subject() != "alice" {
		t.Errorf("subject is %q", g.Subject())
	}
}

// spellings of a credential that a careless base64 reader takes for the same.
func spellings(raw string) map[string]string {
	parts := strings.Split(raw, ".")
	all := map[string]string{
		"space before": " " + raw, "space after": raw + " ", "newline": raw + "\n", "tab": "\t" + raw, "NUL": raw + "\x00",
		"padding": raw + "=", "more padding": raw + "==", "dot": raw + ".", "dot before": "." + raw,
		"upper": strings.ToUpper(raw), "Bearer": "Bearer " + raw, "percent": strings.Replace(raw, "A", "%41", 1),
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for i, part := range parts {
		put := func(name, changed string) {
			p := append([]string(nil), parts...)
			p[i] = changed
			if changed != part {
				all[fmt.Sprintf("part %d: %s", i, name)] = strings.Join(p, ".")
			}
		}
		put("padding", part+strings.Repeat("=", (4-len(part)%4)%4))
		put("too much padding", part+"====")
		put("newline inside", part[:4]+"\n"+part[4:])
		put("carriage return inside", part[:4]+"\r\n"+part[4:])
		put("standard alphabet", strings.NewReplacer("-", "+", "_", "/").Replace(part))
		put("one more", part+"A")
		for _, c := range alphabet { // left-over bits
			put("last "+string(c), part[:len(part)-1]+string(c))
		}
	}
	return all
}

// H7: a credential is accepted in exactly one spelling.
func TestMalleability(t *testing.T) {
	w := newWorld(t)
	token, link := w.token(t, "alice", jazz, policy.Listen), w.link(t, nil)
	for _, raw := range []string{token, link} {
		for name, spelling := range spellings(raw) {
			refused(t, w.verifier, name, spelling)
		}
	}
	_, err := w.verifier.Token(token)
	must(t, err)
	_, err = w.verifier.Link(link, "GET", listenPath)
	must(t, err)
}

// H7: S + L is the same number modulo the order of Ed25519.
func TestMalleableEd25519(t *testing.T) {
	w := newWorld(t)
	token := w.token(t, "alice", jazz, policy.Listen)
	cut := strings.LastIndexByte(token, '.') + 1
	sig, err := base64.RawURLEncoding.DecodeString(token[cut:])
	must(t, err)
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	s := new(big.Int).SetBytes(reversed(sig[32:]))
	for range 15 {
		s.Add(s, order)
		if s.BitLen() > 256 {
			break
		}
		forged := append(append([]byte(nil), sig[:32]...), reversed(s.FillBytes(make([]byte, 32)))...)
		refused(t, w.verifier, "S + L", token[:cut]+b64(forged))
	}
	refused(t, w.verifier, "zero signature", token[:cut]+b64(make([]byte, 64)))
	refused(t, w.verifier, "short signature", token[:cut]+b64(sig[:63]))
	refused(t, w.verifier, "long signature", token[:cut]+b64(append(sig, 0)))
}

func reversed(b []byte) []byte {
	r := make([]byte, len(b))
	for i := range b {
		r[len(b)-1-i] = b[i]
	}
	return r
}

// H7: what a link's tag does not cover cannot be changed either.
func TestMalleableLink(t *testing.T) {
	w := newWorld(t)
	raw, err := base64.RawURLEncoding.DecodeString(w.link(t, nil))
	must(t, err)
	untagged := raw[2:]
	kid := append([]byte{0xa1, 0x04, 0x46}, linkKid...)
	for name, b := range map[string][]byte{
		"no CWT tag":           untagged,
		"two CWT tags":         append([]byte{0xd8, 61}, raw...),
		"no tag":               untagged[1:],
		"COSE_Sign1":           append([]byte{0xd8, 61, 0xd2}, untagged[1:]...),
		"long tag":             append([]byte{0xd9, 0, 61}, untagged...),
		"long array":           append([]byte{0xd8, 61, 0xd1, 0x98, 4}, untagged[2:]...),
		"left over":            append(append([]byte(nil), raw...), 0),
		"another header":       bytes.Replace(raw, kid, append([]byte{0xa2, 0x03, 0x00, 0x04, 0x46}, linkKid...), 1),
		"kid twice":            bytes.Replace(raw, kid, append(append([]byte{0xa2}, kid[1:]...), kid[1:]...), 1),
		"kid as text":          bytes.Replace(raw, kid, append([]byte{0xa1, 0x04, 0x66}, linkKid...), 1),
		"kid of a long length": bytes.Replace(raw, kid, append([]byte{0xa1, 0x04, 0x58, 0x06}, linkKid...), 1),
		"kid's long label":     bytes.Replace(raw, kid, append([]byte{0xa1, 0x18, 0x04, 0x46}, linkKid...), 1),
		"no kid":               bytes.Replace(raw, kid, []byte{0xa0}, 1),
		"short tag":            append(append(append([]byte(nil), raw[:len(raw)-34]...), 0x48), raw[len(raw)-32:len(raw)-24]...),
	} {
		if bytes.Equal(b, raw) {
			t.Fatalf("%s: not changed", name)
		}
		refused(t, w.verifier, name, b64(b))
	}
}
