package cmd_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An origin whose records were damaged, so that LevelDB opens without what was
// written last, does not start with a ledger that lost its peers: it says so,
// changes nothing that matters, and starts with what is left when it is told to.
func TestFaultLedgerDamage(t *testing.T) {
	t.Parallel()
	for what, damage := range map[string]func(store string) error{
		"journal emptied": func(store string) error { return journals(store, func([]byte) []byte { return nil }) },
		"journal damaged": func(store string) error {
			return journals(store, func(b []byte) []byte {
				for i := 8; i < len(b); i += 1000 {
					b[i] ^= 0x55
				}
				return b
			})
		},
		"store removed": os.RemoveAll,
	} {
		t.Run(what, func(t *testing.T) {
			h := newFaultHome(t)
			h.run(0, "peer", "admit", "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN", "--name", "reader")
			if err := h.node.kill(); err != nil {
				t.Fatal(err)
			}
			h.node = nil
			mark := filepath.Join(h.dir, "ipfs", "ledger.json")
			noted, err := os.ReadFile(mark)
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(filepath.Join(h.dir, "ipfs", "datastore")); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				_, stderr := h.run(7, "serve", "--public", "127.0.0.1:0")
				for _, want := range []string{"[damaged_home]", "ledger is damaged", "ledger.json", "from the backup"} {
					if !strings.Contains(stderr, want) {
						t.Errorf("%q is missing in %q", want, stderr)
					}
				}
			}
			if b, err := os.ReadFile(mark); err != nil || !bytes.Equal(b, noted) {
				t.Errorf("the note is %s, %v; was %s", b, err, noted)
			}
			if err := os.Remove(mark); err != nil {
				t.Fatal(err)
			}
			h.start()
			h.stop()
			h.start() // and it is noted again
			h.stop()
		})
	}
}

// journals changes the journals of a LevelDB.
func journals(store string, change func([]byte) []byte) error {
	files, err := filepath.Glob(filepath.Join(store, "*.log"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if err := os.WriteFile(f, change(b), 0o600); err != nil {
			return err
		}
	}
	return err
}

// A backup that is put back whole starts: the note is as old as the ledger.
func TestFaultLedgerRestored(t *testing.T) {
	t.Parallel()
	h := newFaultHome(t)
	h.stop()
	backup := filepath.Join(t.TempDir(), "ipfs")
	if err := os.CopyFS(backup, os.DirFS(filepath.Join(h.dir, "ipfs"))); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.run(0, "peer", "admit", "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN", "--name", "reader")
	h.stop()
	if err := os.RemoveAll(filepath.Join(h.dir, "ipfs")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(h.dir, "ipfs"), os.DirFS(backup)); err != nil {
		t.Fatal(err)
	}
	h.start()
	if out, _ := h.run(0, "peer", "list"); strings.Contains(out, "reader") {
		t.Errorf("it is not the backup: %s", out)
	}
	h.stop()
}
