package cmd_test

import (
	"bytes"
	"crypto/rsa"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/time/rate"
)

// P33: what the platform withdraws ends in the middle of a song, and so does
// what it no longer answers for; a yes that is renewed does not.
func TestConsentEndsInTheMiddleOfASong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := &scriptPlatform{keys: map[string]*rsa.PrivateKey{}}
	p.Server = httptest.NewTLSServer(p)
	defer p.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})
	for name, b := range map[string][]byte{"ca.pem": ca, "secret": []byte(platformSecret)} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := startRadio(t, "MUSEN_WEBHOOK_URL="+p.URL+"/consent", "MUSEN_WEBHOOK_SECRET_FILE="+filepath.Join(dir, "secret"),
		"MUSEN_WEBHOOK_CA_FILE="+filepath.Join(dir, "ca.pem"), "MUSEN_WEBHOOK_ALLOW_PRIVATE=127.0.0.1")
	song := r.add(longSong(t))
	source, err := os.ReadFile(song.source)
	if err != nil {
		t.Fatal(err)
	}
	says := func(answer string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.says = answer
	}
	for what, answer := range map[string]string{"refused": `{"allow":false,"ttl":1}`, "no answer": ""} {
		says(`{"allow":true,"ttl":1}`)
		resp := tuneIn(t, r.node.ready.Public+"/listen/"+song.CID, r.token("ann"))
		body := paced{resp.Body, rate.NewLimiter(songRate, 64<<10)}
		heard := make([]byte, 5<<20) // longer than the first yes lasts
		if _, err := io.ReadFull(body, heard); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: status %s, %v", what, resp.Status, err)
		}
		says(answer)
		rest, err := io.ReadAll(body)
		if heard = append(heard, rest...); err == nil || len(heard) >= len(source) || !bytes.HasPrefix(source, heard) {
			t.Errorf("%s: it plays on: %d of %d bytes, %v", what, len(heard), len(source), err)
		}
		t.Logf("%s: cut %d bytes later", what, len(rest))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault != "" || p.asked < 4 {
		t.Errorf("asked %d times: %s", p.asked, p.fault)
	}
}
