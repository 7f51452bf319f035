package cmd_test

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startOps runs an operator's own system until the test ends: told are the calls
// that it gets, env has a node call it.
func startOps(t *testing.T) (told chan string, env []string) {
	t.Helper()
	told = make(chan string, 100)
	ops := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		told <- string(body)
	}))
	t.Cleanup(ops.Close)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ops.Certificate().Raw})))
	secret := write("secret", "whsec_"+base64.StdEncoding.EncodeToString([]byte("QuS2xTn5zjVbY8oKcE1mWpL0rGdHa9fI")))
	return told, []string{
		"MUSEN_ALERTS_URL=" + ops.URL, "MUSEN_ALERTS_CA_FILE=" + ca, "MUSEN_ALERTS_SECRET_FILE=" + secret, "MUSEN_ALERTS_ALLOW_PRIVATE=127.0.0.1",
	}
}

// awaitCall waits for a call of a type, and returns what it tells.
func awaitCall(t *testing.T, told chan string, kind string) (data struct {
	Log, Checkpoint, Key string
	Faults, Warnings     []string
}) {
	t.Helper()
	for limit := time.After(awaitLimit); ; {
		select {
		case body := <-told:
			call := struct {
				Type string
				Data any
			}{Data: &data}
			if err := json.Unmarshal([]byte(body), &call); err != nil {
				t.Fatal(err)
			}
			if call.Type == kind {
				return data
			}
		case <-limit:
			t.Fatalf("no call of type %s", kind)
		}
	}
}

// H55, P62, P63, P64: somebody on another machine has a checkpoint of the log,
// which shows that all that is on this one, the catalogue too, was put back to
// an older state; the node tells by itself what it finds, and what is due.
func TestAuditLogIsKnownElsewhere(t *testing.T) {
	told, env := startOps(t)
	env = append(env, "MUSEN_AUDIT_CHECK_EVERY=1s", "MUSEN_AUDIT_REVIEW_EVERY=1s")
	home := filepath.Join(t.TempDir(), "home")
	run(t, "", "musen", "--home", home, "init")
	node, err := serve(home, append(os.Environ(), env...), nil)
	if err != nil {
		t.Fatal(err)
	}
	if first := awaitCall(t, told, "musen.audit_checkpoint"); first.Checkpoint == "" || !strings.HasPrefix(first.Log, "musen/audit/") {
		t.Fatalf("%+v", first)
	}
	if w := awaitCall(t, told, "musen.warnings"); !strings.Contains(strings.Join(w.Warnings, "\n"), "a review of the audit log is due") {
		t.Errorf("%+v", w)
	}
	if err := node.stop(); err != nil {
		t.Fatal(err)
	}
	older := filepath.Join(t.TempDir(), "older")
	run(t, "", "cp", "-a", home, older)
	if node, err = serve(home, append(os.Environ(), env...), nil); err != nil {
		t.Fatal(err)
	}
	for len(told) > 0 {
		<-told
	}
	run(t, "", "musen", "--home", home, "station", "create", "jazz")
	awaitCall(t, told, "musen.audit_checkpoint") // may be from before
	last := awaitCall(t, told, "musen.audit_checkpoint")
	if err := node.stop(); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(t.TempDir(), "kept")
	if err := os.WriteFile(kept, []byte(last.Checkpoint), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run(t, "", "musen", "--home", home, "audit", "verify", "--checkpoint", kept, "--key", last.Key); !strings.Contains(out, "as they were written") {
		t.Error(out)
	}
	if out := run(t, "", "musen", "--home", older, "audit", "verify"); !strings.Contains(out, "as they were written") {
		t.Errorf("nothing on this machine tells: %s", out)
	}
	out, stderr, err := try("", "musen", "--home", older, "audit", "verify", "--checkpoint", kept)
	if err == nil || !strings.Contains(out, "kept knows") {
		t.Errorf("%s%s, %v", out, stderr, err)
	}
}
