package musen_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/testnet"
)

// H70: what the catalogue cannot explain stays, whatever else there is to
// recover: it may be an older copy, and the newer one comes back.
func TestRecoverWithAnOlderCatalogue(t *testing.T) {
	h := testnet.New(t)
	station(t, h.Origin(), "jazz")
	first := add(t, h.Origin(), "jazz", wav(1, 600<<10))
	removed := add(t, h.Origin(), "jazz", wav(2, 600<<10))
	must(t, h.Origin().Remove(t.Context(), removed.CID))
	f := &faults{before: steps("Commit Abort Unpin")}
	_, _, err := f.put(h.Origin()).Add(t.Context(), musen.AddRequest{Station: "jazz"}, bytes.NewReader(wav(3, 600<<10)))
	wantErr(t, err, errFault)
	path := filepath.Join(h.Dir, "catalogue.db")
	must(t, h.Rows.Close())
	older, err := os.ReadFile(path)
	must(t, err)
	h.Reopen(t)

	f.before = nil
	var later []musen.Segment
	for seed := range byte(2) {
		later = append(later, add(t, h.Origin(), "jazz", wav(4+seed, 600<<10)))
	}
	must(t, h.Node.Pin(t.Context(), removed.CID)) // as if that unpin was lost
	blocks := blockFiles(t, h)
	must(t, h.Rows.Close())
	newer, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, older, 0o600))
	h.Reopen(t)
	for range 2 {
		must(t, f.put(h.Origin()).Recover(t.Context()))
		if got := blockFiles(t, h); !slices.Equal(got, blocks) || f.calls["GC"] != 0 {
			t.Errorf("%d blocks are on the disk, not %d, after %d collections", len(got), len(blocks), f.calls["GC"])
		}
	}
	_, _, err = h.Node.GC(t.Context())
	must(t, err)
	for c, err := range h.Node.Pins(t.Context()) {
		must(t, err)
		if c.Equals(removed.CID) {
			t.Error("a removed segment is pinned")
		}
	}
	wantAudio(t, h.Edge(t), first.CID, wav(1, 600<<10))

	must(t, h.Rows.Close())
	must(t, os.WriteFile(path, newer, 0o600))
	h.Reopen(t)
	must(t, h.Origin().Recover(t.Context()))
	inAgreement(t, h)
	for i, s := range append(later, first) {
		wantAudio(t, h.Edge(t), s.CID, wav([]byte{4, 5, 1}[i], 600<<10))
	}
}

// A pin that went missing is no reason to collect garbage.
func TestRecoverAPinCollectsNothing(t *testing.T) {
	h := testnet.New(t)
	station(t, h.Origin(), "jazz")
	s := add(t, h.Origin(), "jazz", wav(1, 600<<10))
	must(t, h.Node.Remove(t.Context(), s.CID))
	f := &faults{}
	must(t, f.put(h.Origin()).Recover(t.Context()))
	inAgreement(t, h)
	if f.calls["GC"] != 0 {
		t.Error("garbage was collected")
	}
}
