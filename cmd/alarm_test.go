package cmd

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog"
	"github.com/musenai/musen/config"
	"github.com/musenai/musen/internal/alert"
	"github.com/musenai/musen/internal/audit"
	"github.com/musenai/musen/internal/watch"
	"github.com/musenai/musen/policy"
)

// plain is a cipher that hides nothing.
type plain struct{}

func (plain) Encrypt(text, _ []byte) ([]byte, error)   { return append([]byte{1}, text...), nil }
func (plain) Decrypt(sealed, _ []byte) ([]byte, error) { return sealed[1:], nil }

func newRows(t *testing.T) *catalog.Catalog {
	t.Helper()
	rows, err := catalog.Create(t.Context(), filepath.Join(t.TempDir(), "catalogue.db"), catalog.Options{
		Cipher: plain{}, Now: time.Now,
		LookupMAC: func(b []byte) []byte { sum := sha256.Sum256(b); return sum[:] },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rows.Close() })
	return rows
}

// newReceiver starts a system of an operator's own, which tells what it is
// called about, and what calls it.
func newReceiver(t *testing.T, log *slog.Logger) (*alert.Sender, <-chan map[string]any) {
	t.Helper()
	told := make(chan map[string]any, 10)
	ops := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var call struct{ Data map[string]any }
		_ = json.NewDecoder(r.Body).Decode(&call)
		told <- call.Data
	}))
	t.Cleanup(ops.Close)
	dir := t.TempDir()
	ca, secret := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "secret")
	for path, text := range map[string]string{
		ca:     string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ops.Certificate().Raw})),
		secret: "whsec_" + base64.StdEncoding.EncodeToString([]byte("QuS2xTn5zjVbY8oKcE1mWpL0rGdHa9fI")),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sender, err := newSender(config.Alerts{URL: ops.URL, SecretFile: secret, CAFile: ca, AllowPrivate: []string{"127.0.0.1"}}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sender.Close() })
	return sender, told
}

// P39, P61, P62: whoever breaks a rule that suspends is suspended, with the
// reason; of a share it is the one session. The operator's own system hears of
// it, and the log does not say who it was.
func TestWhatIsDoneAboutAnAlert(t *testing.T) {
	var text strings.Builder
	log := slog.New(slog.NewTextHandler(&text, nil))
	sender, told := newReceiver(t, log)
	rows := newRows(t)
	recorded := map[string]int{}
	a := &alarm{suspend: []string{"scraping"}, rows: rows, sender: sender, log: log, record: func(r audit.Record) { recorded[r.Event]++ }}
	broken := func(rule watch.Rule, b watch.Bearer) watch.Alert {
		return watch.Alert{Rule: rule, At: time.Now(), Bearer: b, Count: 25, Threshold: 24, Window: rule.Window()}
	}
	for _, c := range []struct {
		alert     watch.Alert
		suspended bool
		state     policy.SubjectState
	}{
		{broken(watch.Denied, watch.Bearer{Credential: "1", Subject: "ann"}), false, policy.SubjectActive},
		{broken(watch.Scraping, watch.Bearer{Credential: "1", Subject: "ann"}), true, policy.SubjectSuspended},
		{broken(watch.Scraping, watch.Bearer{Credential: "2", Subject: "ann"}), false, policy.SubjectSuspended}, // was already
		{broken(watch.Scraping, watch.Bearer{Credential: "3", Subject: "share:x", Session: true}), true, policy.SubjectActive},
		{broken(watch.Scraping, watch.Bearer{Credential: "4"}), false, policy.SubjectActive},
	} {
		a.handle(t.Context(), c.alert)
		got := <-told
		if got["suspended"] != c.suspended || got["rule"] != string(c.alert.Rule) || got["count"] != 25.0 {
			t.Errorf("%+v: told %v", c.alert, got)
		}
		if state := rows.SubjectState(c.alert.Bearer.Subject); state != c.state {
			t.Errorf("%+v: the subject is %s", c.alert, state)
		}
	}
	if !rows.Revoked("3", "", time.Now()) || rows.Revoked("1", "", time.Now()) {
		t.Error("another credential than the session was ended")
	}
	if recorded["alarm.raised"] != 5 || recorded["subject.suspended"] != 2 {
		t.Errorf("recorded %v", recorded)
	}
	s, err := rows.Subject(context.Background(), "ann")
	if err != nil || s.Actor != "rule scraping" || s.Reason != "25 in 1h0m0s, more than 24" {
		t.Errorf("record %+v, %v", s, err)
	}
	if strings.Contains(text.String(), "ann") || !strings.Contains(text.String(), "rule=scraping") {
		t.Errorf("log: %s", text.String())
	}
}

// ill is a catalogue that may fail to record.
type ill struct {
	*catalog.Catalog
	is bool
}

func (c *ill) ctx(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	if c.is {
		cancel()
	}
	context.AfterFunc(ctx, cancel)
	return ctx
}

func (c *ill) SetSubject(ctx context.Context, s musen.Subject) error {
	return c.Catalog.SetSubject(c.ctx(ctx), s)
}

func (c *ill) RevokeToken(ctx context.Context, id string) error {
	return c.Catalog.RevokeToken(c.ctx(ctx), id)
}

// P39, P61: no suspension is lost, however many come at once, and however long
// the catalogue fails; what an operator lifts in the meantime stays lifted.
func TestNoSuspensionIsLost(t *testing.T) {
	rows := &ill{Catalog: newRows(t), is: true}
	a := &alarm{
		suspend: []string{"scraping"}, rows: rows, log: slog.New(slog.NewTextHandler(io.Discard, nil)), record: func(audit.Record) {},
		queue: make(chan watch.Alert, 1), wake: make(chan struct{}, 1),
	}
	const many = 200
	name := func(i int) string { return fmt.Sprint("subject ", i) }
	for i := range many {
		a.tell(watch.Alert{Rule: watch.Networks, At: time.Now(), Window: time.Hour}) // a queue that is full
		a.tell(watch.Alert{Rule: watch.Scraping, At: time.Now(), Bearer: watch.Bearer{Credential: "x", Subject: name(i)}, Window: time.Hour})
	}
	a.tell(watch.Alert{Rule: watch.Scraping, At: time.Now(), Bearer: watch.Bearer{Credential: "session", Session: true}, Window: time.Hour})
	for _, again := range []bool{false, true, false} {
		a.settle(t.Context(), again)
		if all, err := rows.Subjects(t.Context()); err != nil || len(all) != 0 || rows.SubjectState(name(many-1)) != policy.SubjectSuspended || !rows.Revoked("session", "", time.Now()) {
			t.Fatalf("%d recorded, %v; the last is %s here", len(all), err, rows.SubjectState(name(many-1)))
		}
	}
	rows.is = false
	if err := rows.SetSubject(t.Context(), musen.Subject{Name: name(0), State: policy.SubjectActive, Reason: "a mistake", Actor: "local", Changed: time.Now()}); err != nil {
		t.Fatal(err)
	}
	a.settle(t.Context(), true)
	all, err := rows.Subjects(t.Context())
	if err != nil || len(all) != many || len(a.owed) != 0 {
		t.Errorf("%d recorded, %d owed, %v", len(all), len(a.owed), err)
	}
	for _, s := range all {
		if (s.State == policy.SubjectActive) != (s.Name == name(0)) {
			t.Errorf("%+v", s)
		}
	}
}

func TestSecretsThatOthersMayRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("whsec_x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readSecret(path); err == nil {
		t.Error("read")
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := readSecret(path); err != nil || s != "whsec_x" {
		t.Errorf("%q, %v", s, err)
	}
	if _, err := newSender(config.Alerts{URL: "https://x.example", SecretFile: path}, slog.New(slog.NewTextHandler(io.Discard, nil))); err == nil {
		t.Error("a secret that is none was taken")
	}
}
