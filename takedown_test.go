package musen_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/testnet"
	"github.com/musenai/musen/policy"
)

// takeDown takes a segment down, as the admin API does.
func takeDown(t testing.TB, h *testnet.Home, c cid.Cid, shred bool) {
	t.Helper()
	down, err := h.Rows.TakeDown(context.Background(), musen.Takedown{CID: c, Category: "copyright", Reason: "theirs", Actor: "mia", Created: h.Clock.Now()}, shred)
	must(t, err)
	must(t, h.Origin().Enforce(context.Background(), down))
}

// H25, H31, H50, P92: what is taken down is never heard, by whatever CID, also
// not by a stream that plays or was opened before, nor after a restart. Who could
// have heard it is told that it was taken down and why, and nobody else anything.
func TestTakenDownIsSilent(t *testing.T) {
	h := testnet.New(t)
	o := h.Origin()
	jazz, blues := station(t, o, "jazz"), station(t, o, "blues")
	source := wav(1, 600<<10)
	s, other := add(t, o, "jazz", source), add(t, o, "jazz", wav(2, 600<<10))
	e, operator := h.Edge(t), policy.LocalOperator()
	opened := allowed(t, e, operator, policy.Listen, s.CID)
	heard := &onWrite{before: func() { takeDown(t, h, s.CID, false) }}
	n, err := allowed(t, e, operator, policy.Listen, s.CID).WriteRange(t.Context(), heard, 0, s.Size)
	wantErr(t, err, musen.ErrTakenDown)
	if errors.Is(err, musen.ErrUnavailable) || n > 65536 || !bytes.HasPrefix(source, heard.Bytes()) {
		t.Errorf("%d bytes after the takedown, %v", n, err)
	}
	heard = &onWrite{}
	_, err = opened.WriteRange(t.Context(), heard, 0, s.Size)
	wantErr(t, err, musen.ErrTakenDown)
	if heard.Len() != 0 {
		t.Errorf("%d bytes of what was taken down", heard.Len())
	}
	_, unknown := e.Open(t.Context(), listen(t, h, jazz.ID), policy.Listen, testCID(t))
	for range 2 {
		for _, c := range spellings(s.CID) {
			for _, a := range []policy.Action{policy.Listen, policy.Download, policy.ReleaseKey, policy.Audit} {
				if _, err := e.Open(t.Context(), operator, a, c); musen.TakedownCategory(err) != "copyright" {
					t.Errorf("%s %s: %v", a, c, err)
				}
			}
			if _, err := e.Open(t.Context(), listen(t, h, blues.ID), policy.Listen, c); err == nil || err.Error() != unknown.Error() {
				t.Errorf("a stranger is told %v, and of an unknown one %v", err, unknown)
			}
		}
		wantAudio(t, e, other.CID, wav(2, 600<<10))
		h.Reopen(t)
		must(t, h.Origin().Recover(t.Context()))
		e = h.Edge(t)
	}

	if _, _, err := h.Node.GC(t.Context()); err != nil { // kept for an appeal
		t.Fatal(err)
	}
	lifted, err := h.Rows.Lift(t.Context(), s.CID.Hash(), "it was a cover", "sam")
	must(t, err)
	must(t, h.Origin().Enforce(t.Context(), lifted))
	wantAudio(t, e, s.CID, source)
	inAgreement(t, h)
}

// A takedown that shreds leaves neither key nor blocks.
func TestShreddedTakedown(t *testing.T) {
	h := testnet.New(t)
	o := h.Origin()
	station(t, o, "jazz")
	s := add(t, o, "jazz", wav(1, 600<<10))
	before := len(blockFiles(t, h))
	takeDown(t, h, s.CID, false)
	takeDown(t, h, s.CID, true)
	_, _, err := h.Node.GC(t.Context())
	must(t, err)
	if after := len(blockFiles(t, h)); before-after < len(s.Leaves) {
		t.Errorf("%d blocks before, %d after", before, after)
	}
	refused(t, h.Edge(t), policy.LocalOperator(), policy.Listen, s.CID, musen.ErrTakenDown)
	inAgreement(t, h)

	gone := add(t, o, "jazz", wav(2, 600<<10))
	takeDown(t, h, gone.CID, false)
	must(t, o.Remove(t.Context(), gone.CID)) // instead of lifting it
	inAgreement(t, h)
	refused(t, h.Edge(t), policy.LocalOperator(), policy.Listen, gone.CID, musen.ErrTakenDown)
}

// H50, H70, H79: an older catalogue that is put back does not bring back what was
// taken down or shredded since, whether or not it knows the segment.
func TestTakedownOutlivesAnOlderCatalogue(t *testing.T) {
	h := testnet.New(t)
	o := h.Origin()
	station(t, o, "jazz")
	down, shredded := add(t, o, "jazz", wav(1, 600<<10)), add(t, o, "jazz", wav(2, 600<<10))
	path := filepath.Join(h.Dir, "catalogue.db")
	must(t, h.Rows.Close())
	older, err := os.ReadFile(path)
	must(t, err)
	h.Reopen(t)
	later := add(t, h.Origin(), "jazz", wav(3, 600<<10))
	takeDown(t, h, down.CID, false)
	takeDown(t, h, shredded.CID, true)
	takeDown(t, h, later.CID, false)
	must(t, h.Rows.Close())
	must(t, os.WriteFile(path, older, 0o600))
	h.Reopen(t)
	must(t, h.Origin().Recover(t.Context()))
	e, operator := h.Edge(t), policy.LocalOperator()
	refused(t, e, operator, policy.Listen, down.CID, musen.ErrTakenDown)
	refused(t, e, operator, policy.Listen, shredded.CID, musen.ErrTakenDown)
	refused(t, e, operator, policy.Listen, later.CID, musen.ErrNotFound)
	for _, s := range []musen.Segment{down, shredded, later} {
		for _, c := range append(s.Leaves, s.CID) {
			if there, err := h.Rows.HasBlock(t.Context(), c.Hash()); err != nil || there || !h.Rows.Denied(c.Hash()) {
				t.Errorf("block %s may be had: %t, %v", c, there, err)
			}
		}
	}
	if s, err := h.Rows.Segment(t.Context(), shredded.CID.Hash()); err != nil || len(s.Key.Ciphertext) > 0 {
		t.Errorf("the key came back: %v", err)
	}
}
