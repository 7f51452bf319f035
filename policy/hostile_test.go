package policy_test

import (
	"strings"
	"testing"

	"github.com/musenai/musen/policy"
)

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
