package audit

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// rot13 is a cipher that hides names well enough for tests, and checks its
// associated data.
type rot13 struct{}

func (rot13) Encrypt(plain, ad []byte) ([]byte, error) {
	return append(append([]byte{byte(len(ad))}, ad...), turn(plain)...), nil
}

func (rot13) Decrypt(sealed, ad []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(sealed, append([]byte{byte(len(ad))}, ad...))
	if !ok {
		return nil, errors.New("not sealed here")
	}
	return turn(rest), nil
}

func turn(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		out[i] = c ^ 0x55
	}
	return out
}

var _ Cipher = rot13{}

const origin = "musen/audit/test/peer"

func options(dir string) Options {
	return Options{
		Dir: dir, Origin: origin, Cipher: rot13{}, Key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)),
		Now: time.Now,
	}
}

// open opens a log of small files, until the test ends.
func open(t *testing.T, dir string) *Log {
	t.Helper()
	o := options(dir)
	o.FileSize = 1500
	l, err := Open(o)
	noErr(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

func noErr(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func add(t *testing.T, l *Log, n int) {
	t.Helper()
	for range n {
		noErr(t, l.Append(Record{Event: "subject.set", Outcome: Done, By: "local", Actor: "local", Object: "ann@example.org", Request: "r1"}))
	}
}

// tampered makes a log of 10 records in a few files, has f change the files,
// and returns what Verify says then.
func tampered(t *testing.T, f func(names []string), known ...Known) Report {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "audit")
	l := open(t, dir)
	add(t, l, 9)
	noErr(t, l.Close())
	names, err := files(dir)
	noErr(t, err)
	if len(names) < 3 {
		t.Fatalf("%d files", len(names))
	}
	for i := range names {
		names[i] = filepath.Join(dir, names[i])
	}
	if r, err := Verify(dir); err != nil || len(r.Faults) > 0 || r.Head != l.Head() || r.Head.Size != 10 {
		t.Fatalf("before: %+v, %v", r, err)
	}
	f(names)
	r, err := Verify(dir, known...)
	noErr(t, err)
	return r
}

func lines(t *testing.T, path string) [][]byte {
	t.Helper()
	b, err := os.ReadFile(path)
	noErr(t, err)
	l := bytes.SplitAfter(b, []byte("\n"))
	return l[:len(l)-1]
}

func write(t *testing.T, path string, b ...[]byte) {
	t.Helper()
	noErr(t, os.WriteFile(path, bytes.Join(b, nil), 0o600))
}
