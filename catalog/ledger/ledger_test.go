package ledger

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func open(t *testing.T, path string) *Ledger {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func put(t *testing.T, l *Ledger, records ...Record) {
	t.Helper()
	if err := l.Put(records...); err != nil {
		t.Fatal(err)
	}
}

// read is all that a ledger holds.
func read(t *testing.T, l *Ledger) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := l.Each(func(r Record) error {
		if _, twice := all[r.Name]; twice || r.Generation != 3 && r.Generation != 1 {
			t.Errorf("%q came twice, or as generation %d", r.Name, r.Generation)
		}
		all[r.Name] = string(r.Sealed)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// H50: the newest record of each name is there after each restart.
func TestNewestCounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "takedowns")
	l := open(t, path)
	a, b := "\x12\x20 a\n", "b"
	put(t, l, Record{a, 1, []byte("first")}, Record{b, 1, []byte("only")})
	put(t, l)
	put(t, l, Record{a, 3, []byte("newest")}, Record{a, 2, []byte("late")})
	put(t, l, Record{a, 3, []byte("other")}, Record{b, 1, []byte("again")})
	for range 2 {
		if all := read(t, l); len(all) != 2 || all[a] != "newest" || all[b] != "only" {
			t.Fatalf("%q", all)
		}
		if l.Generation(a) != 3 || l.Generation(b) != 1 || l.Generation("c") != 0 {
			t.Error("other generations")
		}
		l = open(t, path)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// H66: what a kill leaves of a write is cut off, wherever it was cut; nothing
// that was acknowledged is lost.
func TestCutShort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "takedowns")
	l := open(t, path)
	put(t, l, Record{"a", 1, []byte("kept")})
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	put(t, l, Record{"b", 1, []byte("cut")})
	more, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := len(whole); n < len(more); n++ {
		if err := os.WriteFile(path, more[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		l := open(t, path)
		if all := read(t, l); len(all) != 1 || all["a"] != "kept" {
			t.Fatalf("cut at %d: %q", n, all)
		}
		put(t, l, Record{"b", 3, []byte("once more")})
		if all := read(t, open(t, path)); len(all) != 2 || all["b"] != "once more" {
			t.Fatalf("cut at %d, then written: %q", n, all)
		}
	}
	for n := range len(head) {
		if err := os.WriteFile(path, more[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if all := read(t, open(t, path)); len(all) != 0 {
			t.Fatalf("%q", all)
		}
	}
}

// H70: a file that is damaged is refused, and left as it is.
func TestDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "takedowns")
	for _, text := range []string{
		"something else\n", head + "\n", head + "YQ 1\n", head + "YQ 0 YQ\n", head + "YQ x YQ\n", head + "Y! 1 YQ\n", head + "YQ 1 Y!\n", head + " 1 YQ\n",
		head + "YQ 1 YQ YQ\n", head + "YQ 99999999999999999999 YQ\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); !errors.Is(err, ErrDamaged) {
			t.Errorf("%q: %v", text, err)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != text {
			t.Errorf("%q became %q, %v", text, after, err)
		}
	}
}

// H69: a record that could not be written is no record, and the next one is.
func TestNoSpace(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "takedowns"))
	put(t, l, Record{"a", 1, []byte("kept")})
	sound := l.file
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	l.file = full
	if err := l.Put(Record{"b", 1, []byte("lost")}); err == nil {
		t.Fatal("a full disk took it")
	}
	if l.Generation("b") != 0 {
		t.Error("it counts as kept")
	}
	if l.Put(Record{"b", 1, []byte("lost")}) == nil {
		t.Error("after a write that could not be undone, more is written")
	}
	l.file, l.broken = sound, nil
	put(t, l, Record{"b", 1, []byte("there")})
	if all := read(t, l); len(all) != 2 || all["b"] != "there" {
		t.Errorf("%q", all)
	}
}
