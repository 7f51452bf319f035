package policy_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/musenai/musen/policy"
)

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// mutate changes a credential in one of the ways that strangers do.
func mutate(t *rapid.T, raw, other string) string {
	at := func(s, label string) int { return rapid.IntRange(0, len(s)-1).Draw(t, label) }
	switch rapid.IntRange(0, 8).Draw(t, "way") {
	case 0: // another letter
		i := at(raw, "at")
		return raw[:i] + string(letters[at(letters, "letter")]) + raw[i+1:]
	case 1: // any byte
		i := at(raw, "at")
		return raw[:i] + string([]byte{rapid.Byte().Draw(t, "byte")}) + raw[i+1:]
	case 2: // one more
		i := at(raw, "at")
		return raw[:i] + string(rapid.Rune().Draw(t, "rune")) + raw[i:]
	case 3: // a piece less
		i := at(raw, "from")
		return raw[:i] + raw[min(len(raw), i+rapid.IntRange(1, 40).Draw(t, "length")):]
	case 4: // cut
		return raw[:at(raw, "end")]
	case 5: // a piece twice
		i := at(raw, "from")
		return raw[:i] + raw[i:min(len(raw), i+8)] + raw[i:]
	case 6: // two letters swapped
		b := []byte(raw)
		i, j := at(raw, "one"), at(raw, "two")
		b[i], b[j] = b[j], b[i]
		return string(b)
	case 7: // parts of two credentials
		return raw[:at(raw, "end")] + other[at(other, "from"):]
	}
	return flip(t, raw)
}

// flip changes bits under the base64 of one part.
func flip(t *rapid.T, raw string) string {
	parts := strings.Split(raw, ".")
	i := rapid.IntRange(0, len(parts)-1).Draw(t, "part")
	b, err := base64.RawURLEncoding.DecodeString(parts[i])
	if err != nil {
		t.Fatal(err)
	}
	b[rapid.IntRange(0, len(b)-1).Draw(t, "byte")] ^= rapid.ByteRange(1, 255).Draw(t, "bits")
	parts[i] = base64.RawURLEncoding.EncodeToString(b)
	return strings.Join(parts, ".")
}

// H1 to H8: of 20,000 mutants and more of good credentials none is accepted, before or
// after the good ones were remembered.
func TestMutants(t *testing.T) {
	w := newWorld(t)
	token, second := w.token(t, "alice", jazz, policy.Listen), w.token(t, "bob", "", policy.Manage)
	link, secondLink := w.link(t, nil), w.link(t, func(r *policy.LinkRequest) { r.Download = true })
	good := map[string]bool{token: true, second: true, link: true, secondLink: true}
	mutants := 0
	try := func(t *rapid.T) {
		for range 300 {
			for _, m := range []string{mutate(t, token, second), mutate(t, link, secondLink)} {
				if good[m] {
					continue
				}
				mutants++
				if _, err := w.verifier.Token(m); err == nil {
					t.Fatalf("accepted as a token: %q", m)
				}
				if _, err := w.verifier.Link(m, "GET", listenPath); err == nil {
					t.Fatalf("accepted as a link: %q", m)
				}
			}
		}
	}
	rapid.Check(t, try)
	_, err := w.verifier.Token(token)
	must(t, err)
	_, err = w.verifier.Link(link, "GET", listenPath)
	must(t, err)
	rapid.Check(t, try)
	if mutants < 20_000 {
		t.Errorf("only %d mutants were tried", mutants)
	}
}

// FuzzToken: whatever a stranger sends, a token is accepted only if it is one
// that was issued.
func FuzzToken(f *testing.F) {
	w := newWorld(f)
	good := w.token(f, "alice", jazz, policy.Listen)
	f.Add(good)
	f.Add(w.forge([]byte(`{"alg":"none"}`), []byte(`{}`)))
	f.Add(strings.Repeat(".", 100))
	f.Add(b64([]byte(strings.Repeat(`{"a":`, 20))) + ".e30.e30")
	f.Fuzz(func(t *testing.T, raw string) {
		g, err := w.verifier.Token(raw)
		if err == nil && raw != good {
			t.Errorf("accepted: %q", raw)
		}
		if err != nil && (g.Has(policy.Listen) || g.Kind() != "") {
			t.Error("a refusal comes with a grant")
		}
	})
}

// FuzzTokenContents reads headers and claims as if they were signed.
func FuzzTokenContents(f *testing.F) {
	w := newWorld(f)
	f.Add(toJSON(w.header()), toJSON(w.claims()))
	f.Add([]byte(`{"alg":"EdDSA","kid":"token-1","typ":"at+jwt"}`), []byte(`{"iss":1e999,"aud":[[]]}`))
	f.Fuzz(func(t *testing.T, header, payload []byte) {
		g, err := w.verifier.Token(w.forge(header, payload))
		if err != nil {
			return
		}
		if g.ID() == "" || g.Subject() == "" || !g.Expires().After(w.now) || g.Issued().After(w.now) {
			t.Errorf("accepted: %q %q", header, payload)
		}
	})
}

// FuzzLink: a link is accepted only if it is one that was issued, and on its
// own path.
func FuzzLink(f *testing.F) {
	w := newWorld(f)
	good := w.link(f, nil)
	f.Add(good, "GET", listenPath)
	f.Add(good, "GET", listenPath+"/../x")
	f.Add("0YRDoQEFoQRGbGluay0xQKA", "HEAD", "/")
	f.Fuzz(func(t *testing.T, raw, method, path string) {
		_, err := w.verifier.Link(raw, method, path)
		if err == nil && (raw != good || path != listenPath || method != "GET" && method != "HEAD") {
			t.Errorf("accepted: %q for %q %q", raw, method, path)
		}
	})
}
