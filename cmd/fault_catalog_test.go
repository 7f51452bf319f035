package cmd_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// H70: with a catalogue that is not as it must be the node does not start,
// says why, and touches no audio: with the file put back all plays again.
func TestFaultCatalogueDamage(t *testing.T) {
	t.Parallel()
	h := newFaultHome(t)
	kept := map[string]string{"a": h.add("a", leaves(2)).CID, "b": h.add("b", leaves(2)).CID}
	h.stop()
	path := filepath.Join(h.dir, "catalogue.db")
	for what, damage := range map[string]func(b []byte) error{
		"missing": func([]byte) error { return os.Remove(path) },
		"empty":   func([]byte) error { return os.Truncate(path, 0) },
		"half":    func(b []byte) error { return os.Truncate(path, int64(len(b)/2)) },
		"a page":  func(b []byte) error { return os.Truncate(path, 4096) },
		"no head": func(b []byte) error { clear(b[:4096]); return os.WriteFile(path, b, 0o600) },
		"noise":   func(b []byte) error { clear(b[4096:]); return os.WriteFile(path, b, 0o600) },
	} {
		t.Run(what, func(t *testing.T) {
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(bytes.Clone(whole)); err != nil {
				t.Fatal(err)
			}
			blocks := h.sums("catalogue.db", "ipfs/datastore", "ipfs/repo.lock")
			_, stderr := h.run(7, "serve", "--public", "127.0.0.1:0")
			if !strings.Contains(stderr, "[catalogue]") || !strings.Contains(stderr, "restore") || strings.Contains(stderr, "panic") {
				t.Errorf("it says %q", stderr)
			}
			if after := h.sums("catalogue.db", "ipfs/datastore", "ipfs/repo.lock"); after != blocks {
				t.Errorf("the refused start changed the home:\n%s\n%s", blocks, after)
			}
			if _, err := os.Stat(path); what == "missing" && err == nil {
				t.Error("it made a catalogue")
			}
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
	h.start()
	h.allPlay(kept, leaves(2))
	h.stop()
}

// H70: a catalogue that is older than the audio costs none of it: when the
// newer one is back, all plays.
func TestFaultCatalogueOfYesterday(t *testing.T) {
	t.Parallel()
	h := newFaultHome(t)
	kept := map[string]string{"a": h.add("a", leaves(2)).CID}
	h.stop()
	path := filepath.Join(h.dir, "catalogue.db")
	older, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h.start()
	kept["b"], kept["c"] = h.add("b", leaves(2)).CID, h.add("c", leaves(1)/2).CID
	h.stop()
	newer, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, older, 0o600); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.allPlay(map[string]string{"a": kept["a"]}, leaves(2))
	if log := h.node.log.String(); !strings.Contains(log, "older") {
		t.Errorf("the log says nothing of it:\n%s", log)
	}
	if _, err := h.admin.GC(t.Context()); err != nil {
		t.Error(err)
	}
	h.stop()
	if err := os.WriteFile(path, newer, 0o600); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.plays(kept["a"], "a", leaves(2))
	h.plays(kept["b"], "b", leaves(2))
	h.plays(kept["c"], "c", leaves(1)/2)
	h.stop()
}
