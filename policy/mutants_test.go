package policy_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"iter"
	"math/big"
	"strings"
	"testing"

	"github.com/musenai/musen/internal/mutant"
	"github.com/musenai/musen/policy"
)

// enough is how many mutants of each credential must have been refused.
const enough = 20_000

// herd gathers mutants of one credential, each once.
type herd map[string]string

func (h herd) add(all ...iter.Seq[mutant.Mutant]) {
	for _, seq := range all {
		for m := range seq {
			h[m.Text] = m.Way
		}
	}
}

// H1 to H8: no mutant of a good token is accepted, neither before nor after the
// good one was remembered.
func TestMutantsOfAToken(t *testing.T) {
	w := newWorld(t)
	good, other := w.token(t, "alice", jazz, policy.Listen), w.token(t, "bob", "", policy.Manage)
	h := herd{}
	h.add(mutant.Edits(good), mutant.Bytes(good), mutant.Mixes(1, 8000, good, other), w.rewritten(good, other))
	delete(h, other)
	refuseAll(t, w, h)
	_, err := w.verifier.Token(good)
	must(t, err)
	refuseAll(t, w, h)
}

// H1 to H8: the same of a link.
func TestMutantsOfALink(t *testing.T) {
	w := newWorld(t)
	good, other := w.link(t, nil), w.link(t, func(r *policy.LinkRequest) { r.Download = true })
	h := herd{}
	h.add(mutant.Edits(good), mutant.Bytes(good), mutant.Mixes(2, 4000, good, other), relabelled(t, good, other, linkKid))
	refuseAll(t, w, h)
	_, err := w.verifier.Link(good, "GET", listenPath)
	must(t, err)
	refuseAll(t, w, h)
}

// H76: the same of the cookie of a share, which is no link, and of a link that
// was minted with it, which is no cookie.
func TestMutantsOfASession(t *testing.T) {
	w := newWorld(t)
	good, other := w.session(t, nil), w.session(t, func(r *policy.SessionRequest) { r.Download = true })
	minted, _ := w.linkFor(t, w.sessionGrant(t, nil), policy.LinkRequest{Station: jazz, Epoch: 3})
	h := herd{}
	h.add(mutant.Edits(good), mutant.Bytes(good), mutant.Mixes(3, 4000, good, minted), relabelled(t, good, other, sessionKid))
	refuseAll(t, w, h)
	_, err := w.verifier.Session(good)
	must(t, err)
	refuseAll(t, w, h)
	h = herd{}
	h.add(mutant.Edits(minted), mutant.Bytes(minted), mutant.Mixes(4, 4000, minted, good), relabelled(t, minted, good, linkKid))
	refuseAll(t, w, h)
}

// H1 to H8: the same of a token of a foreign issuer. One signature of RSA is one
// number: to add the modulus to it makes no other.
func TestMutantsOfAForeignToken(t *testing.T) {
	p := newPlatforms(t, nil)
	good, stranger := p.signed(t, acme, rs256(), p.foreign(acme)), p.signed(t, other, rs256(), p.foreign(other))
	h := herd{}
	h.add(mutant.Edits(good), mutant.Bytes(good), mutant.Mixes(5, 4000, good, stranger))
	cut := strings.LastIndexByte(good, '.') + 1
	sig, err := base64.RawURLEncoding.DecodeString(good[cut:])
	must(t, err)
	modulus := p.acme.held[tokenKid].Key.(*rsa.PublicKey).N
	h[good[:cut]+b64(new(big.Int).Add(new(big.Int).SetBytes(sig), modulus).Bytes())] = "signature and modulus"
	h[good[:cut]+b64(append([]byte{0}, sig...))] = "signature after a zero"
	refuseAll(t, p.world, h)
}

func refuseAll(t *testing.T, w *world, h herd) {
	t.Helper()
	if len(h) < enough {
		t.Errorf("only %d mutants", len(h))
	}
	for text, way := range h {
		if g, err := w.verifier.Token(text); err == nil || g.Kind() != "" {
			t.Errorf("%s: accepted as a token: %q", way, text)
		}
		if g, err := w.verifier.Link(text, "GET", listenPath); err == nil || g.Kind() != "" {
			t.Errorf("%s: accepted as a link: %q", way, text)
		}
		if g, err := w.verifier.Session(text); err == nil || g.Kind() != "" {
			t.Errorf("%s: accepted as a session: %q", way, text)
		}
	}
}

// rewritten are tokens with other headers and claims than were signed, under
// signatures of good ones, of none and of another key.
func (w *world) rewritten(good, other string) iter.Seq[mutant.Mutant] {
	g, o := strings.Split(good, "."), strings.Split(other, ".")
	header, err := base64.RawURLEncoding.DecodeString(g[0])
	claims, err2 := base64.RawURLEncoding.DecodeString(g[1])
	_, stranger, err3 := ed25519.GenerateKey(rand.Reader)
	return func(yield func(mutant.Mutant) bool) {
		if err != nil || err2 != nil || err3 != nil {
			return
		}
		sign := func(h, c []byte) []string {
			input := b64(h) + "." + b64(c)
			foreign := b64(ed25519.Sign(stranger, []byte(input)))
			return []string{input + "." + g[2], input + "." + o[2], input + ".", input, input + "." + foreign}
		}
		for _, change := range changes() {
			h := bytes.Replace(header, []byte(change[0]), []byte(change[1]), 1)
			c := bytes.Replace(claims, []byte(change[0]), []byte(change[1]), 1)
			for _, text := range sign(h, c) {
				if text != good && !yield(mutant.Mutant{Way: change[0] + " for " + change[1], Text: text}) {
					return
				}
			}
		}
		for i := range 3 * 3 * 3 { // parts of one and of the other, in any place
			all := append(append([]string(nil), g...), o...)
			text := all[i%3] + "." + all[3+i/3%3] + "." + all[i/9]
			if text != good && !yield(mutant.Mutant{Way: "parts mixed", Text: text}) {
				return
			}
		}
	}
}

// changes of the JSON of a token.
func changes() [][2]string {
	return [][2]string{
		{"EdDSA", "none"}, {"EdDSA", "ES256"}, {"EdDSA", "HS256"}, {"EdDSA", "eddsa"}, {tokenKid, linkKid}, {tokenKid, ""},
		{"at+jwt", "JWT"}, {`"kid"`, `"jku":"http://127.0.0.1/","kid"`}, {"listen", "listen manage"}, {"listen", "manage"},
		{jazz, blues}, {jazz, "*"}, {"alice", "local"}, {"alice", "bob"}, {audience, "x"}, {issuerName, "x"}, {`"exp":1`, `"exp":2`},
		{`"nbf":1`, `"nbf":0`}, {`"jti":"`, `"jti":"0`}, {"{", `{"x":1,`}, {"{", "{ "}, {"}", `,"scope":"manage"}`}, {`"iat"`, `"IAT"`},
	}
}

// relabelled are links with other COSE headers, tags and lengths around the
// claims that were authenticated.
func relabelled(t *testing.T, good, other, id string) iter.Seq[mutant.Mutant] {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(good)
	must(t, err)
	o, err := base64.RawURLEncoding.DecodeString(other)
	must(t, err)
	length := string([]byte{0x40 + byte(len(id))})
	kid := "\xa1\x04" + length + id
	protected := "\x43\xa1\x01\x05"
	return func(yield func(mutant.Mutant) bool) {
		for _, c := range [][2]string{
			{"\xd8\x3d\xd1", "\xd1"}, {"\xd8\x3d\xd1", "\xd8\x3d\xd8\x3d\xd1"}, {"\xd8\x3d\xd1", "\xd1\xd8\x3d"}, {"\xd8\x3d\xd1", "\xd8\x3d\xd1\xd1"},
			{"\xd8\x3d\xd1", "\xd8\x3d\xd2"}, {"\xd8\x3d\xd1", "\xd8\x3d"}, {"\xd8\x3d\xd1", ""}, {"\xd8\x3d\xd1", "\xd9\xd9\xf7\xd8\x3d\xd1"},
			{"\xd8\x3d\xd1", "\xda\x00\x00\x00\x3d\xd1"}, {"\xd1\x84", "\xd1\x85"}, {"\xd1\x84", "\xd1\x9f"}, {"\xd1\x84", "\xd1\x98\x04"},
			{protected, "\x40"}, {protected, "\x41\xa0"}, {protected, "\x43\xa1\x01\x04"}, {protected, "\x43\xa1\x01\x26"},
			{protected, "\x45\xa2\x01\x05\x01\x05"}, {protected, "\x44\xa1\x01\x18\x05"}, {protected, "\x58\x03\xa1\x01\x05"}, {protected, "\xa1\x01\x05"},
			{protected, "\x46\xa2\x01\x05\x02\x81\x04"}, {kid, "\xa0"}, {kid, "\xa2\x01\x05\x04" + length + id}, {kid, "\xa1\x04" + length + "x" + id[1:]},
			{kid, "\xa1\x04" + string([]byte{length[0] + 0x20}) + id}, {kid, "\xa1\x04\x58" + string([]byte{byte(len(id))}) + id}, {kid, "\xa1\x18\x04" + length + id}, {kid, "\xa1\x04\xa1\x04" + length + id},
			{kid, "\xa2\x04" + length + id + "\x04" + length + id}, {kid, "\xa1\x04" + length + strings.ToUpper(id)}, {kid, "\xbf\x04" + length + id + "\xff"},
		} {
			text := b64(bytes.Replace(b, []byte(c[0]), []byte(c[1]), 1))
			if text == good {
				t.Errorf("%q is not in a link", c[0])
			}
			if !yield(mutant.Mutant{Way: "COSE", Text: text}) {
				return
			}
		}
		for i := 1; i < min(len(b), len(o)); i++ { // the head of one, the tail of the other
			text := b64(append(b[:i:i], o[i:]...))
			if text != good && text != other && !yield(mutant.Mutant{Way: "halves", Text: text}) {
				return
			}
		}
	}
}

// Every ECDSA signature has a twin, (r, n-s), that anybody can compute and that
// standards allow, so an ES256 token has two spellings: both say the same, and
// revoking its jti ends both.
func TestTwinOfES256EndsWithIt(t *testing.T) {
	w := newWorld(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	w.options.Keys = append(w.options.Keys, policy.PublicKey{ID: "ec-1", Key: &key.PublicKey})
	v, err := policy.NewVerifier(w.options)
	must(t, err)
	input := b64(toJSON(with(w.header(), map[string]any{"alg": "ES256", "kid": "ec-1"}))) + "." + b64(toJSON(w.claims()))
	sum := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	must(t, err)
	spell := func(s *big.Int) string {
		return input + "." + b64(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
	}
	twins := []string{spell(s), spell(new(big.Int).Sub(elliptic.P256().Params().N, s))}
	for _, raw := range twins {
		g, err := v.Token(raw)
		must(t, err)
		if g.ID() != "id-1" || g.Subject() != "alice" {
			t.Errorf("a twin says %q of %q", g.ID(), g.Subject())
		}
	}
	w.registry.ids["id-1"] = true
	for _, raw := range twins {
		_, err := v.Token(raw)
		wantCode(t, err, "credential_revoked")
	}
	for _, s := range []*big.Int{new(big.Int), new(big.Int).Add(s, elliptic.P256().Params().N)} {
		if s.BitLen() > 256 {
			continue
		}
		refused(t, v, "s out of range", spell(s))
	}
}
