package remote

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What a token file must not be is said when a service is added, and without
// the token; and whenever it is read.
func TestTokenFiles(t *testing.T) {
	f := newFixture(t, nil)
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("good", secret, 0o600)
	link, fifo := filepath.Join(dir, "link"), filepath.Join(dir, "fifo")
	if err := errors.Join(os.Symlink(good, link), syscall.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	for path, why := range map[string]string{
		write("empty", "", 0o600):                             "empty",
		write("blank", "\n", 0o600):                           "empty",
		write("lines", secret+"\n"+secret+"\n", 0o600):        "more than one line",
		write("gap", secret+"\n\n", 0o600):                    "more than one line",
		write("words", "Bearer "+secret, 0o600):               "not printable ASCII",
		write("tab", secret+"\t", 0o600):                      "not printable ASCII",
		write("escape", secret+"\x1b[2J", 0o600):              "not printable ASCII",
		write("nul", secret+"\x00", 0o600):                    "not printable ASCII",
		write("letters", secret+"é", 0o600):                   "not printable ASCII",
		write("long", strings.Repeat("x", maxToken+1), 0o600): "longer than 4096 bytes",
		write("group", secret, 0o640):                         "its mode 0640 lets others in: run chmod 0600",
		write("others", secret, 0o604):                        "its mode 0604 lets others in",
		write("writable", secret, 0o602):                      "its mode 0602 lets others in",
		link:                                                  "symbolic link",
		fifo:                                                  "no regular file",
		dir:                                                   "no regular file",
		filepath.Join(dir, "absent"):                          "no such file",
	} {
		err := f.Add(t.Context(), Service{Name: "a", Endpoint: "https://example.org", TokenFile: path})
		if !errors.Is(err, ErrToken) || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", filepath.Base(path), err)
		}
	}
	if len(f.List()) != 0 {
		t.Errorf("added %+v", f.List())
	}
	for _, path := range []string{good, write("newline", secret+"\n", 0o600), write("windows", secret+"\r\n", 0o400)} {
		if token, err := readToken(path); err != nil || token != secret {
			t.Errorf("%s: %v", filepath.Base(path), err)
		}
	}
}

// A token file that goes bad later is the service's problem.
func TestTokenFileGoesBad(t *testing.T) {
	v := newServer(t)
	f := newFixture(t, v)
	f.add(v, "first")
	if err := os.Chmod(f.token, 0o644); err != nil {
		t.Fatal(err)
	}
	f.Keep(seg(1), "")
	f.until("refused", f.is(seg(1), Failed))
	if l := f.List()[0]; !strings.Contains(l.Reason, "lets others in") || l.Next.IsZero() {
		t.Errorf("%+v", l)
	}
	if err := os.Chmod(f.token, 0o600); err != nil {
		t.Fatal(err)
	}
	f.until("pinned", f.is(seg(1), Pinned))
}

// A service with trouble says why, and when the next try is; one without says
// neither.
func TestTroubleIsListed(t *testing.T) {
	v := newServer(t)
	f := newFixture(t, v, func(o *Options) { o.Timing.Retry = 10 * time.Minute })
	f.add(v, "first")
	f.Keep(seg(1), "")
	f.until("pinned", f.is(seg(1), Pinned))
	if l := f.List()[0]; l.Reason != "" || !l.Next.IsZero() {
		t.Errorf("without trouble: %q, %s", l.Reason, l.Next)
	}
	ahead := func(l Status) bool { d := time.Until(l.Next); return d > 5*time.Minute && d < 15*time.Minute }
	v.set(func() { v.fails = 1 })
	f.Keep(seg(2), "")
	f.until("failed", f.is(seg(2), Failed))
	if l := f.List()[0]; l.Error != "" || !strings.HasPrefix(l.Reason, "the service failed: cannot find it") || !ahead(l) {
		t.Errorf("a pin failed: %q, %s", l.Reason, l.Next)
	}
	v.set(func() { v.status = http.StatusInternalServerError })
	f.Drop(seg(2))
	f.until("not removed", func() bool { return strings.Contains(f.List()[0].Reason, "answered 500") })
	if l := f.List()[0]; !ahead(l) || l.Copies[Removing] != 1 {
		t.Errorf("a deletion failed: %q, %s", l.Reason, l.Next)
	}
	v.set(func() { v.after = "3600" })
	f.Keep(seg(3), "")
	f.until("told to wait", func() bool { return time.Until(f.List()[0].Next) > 50*time.Minute })
}
