package catalog_test

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog/ledger"
)

const why = "the label has shown that it is theirs"

// takeDown takes down what a CID belongs to.
func (f *fixture) takeDown(c cid.Cid, shred bool) musen.Takedown {
	f.t.Helper()
	got, err := f.TakeDown(f.t.Context(), f.order(c), shred)
	noErr(f.t, err)
	return got
}

func (f *fixture) order(c cid.Cid) musen.Takedown {
	return musen.Takedown{CID: c, Category: "copyright", Reason: why, Actor: "mia", Created: f.clock.Now()}
}

// wantDenied checks what is said of all blocks of a segment.
func (f *fixture) wantDenied(want bool, s musen.Segment, inner ...cid.Cid) {
	f.t.Helper()
	for _, c := range append(append([]cid.Cid{s.CID}, s.Leaves...), inner...) {
		for _, spelled := range []cid.Cid{c, cid.NewCidV1(cid.Raw, c.Hash()), cid.NewCidV0(c.Hash())} {
			if got := f.Denied(spelled.Hash()); got != want {
				f.t.Fatalf("denied is %t for block %s, want %t", got, c, want)
			}
		}
		if there, err := f.HasBlock(f.t.Context(), c.Hash()); err != nil || there == want {
			f.t.Fatalf("block %s may be had: %t, %v", c, there, err)
		}
	}
}

// wantRefused checks what is said of a segment to those who play it.
func (f *fixture) wantRefused(s musen.Segment, state musen.State, category string) musen.Segment {
	f.t.Helper()
	got, err := f.Segment(f.t.Context(), s.CID.Hash())
	if err != nil || got.State != state || got.Takedown != category {
		f.t.Fatalf("the segment is %d, taken down as %q, %v; want %d, %q", got.State, got.Takedown, err, state, category)
	}
	return got
}

// H50, H25, P92, P93: a takedown is known by the multihash of the root and of
// every block below, leaves the key for an appeal, says who did it and why, and
// outlives a restart.
func testTakedown(t *testing.T, f *fixture) {
	ctx := t.Context()
	jazz := f.station("jazz")
	inner := randomCID(cid.DagProtobuf)
	bad, good := f.add(jazz.ID, 3, []byte("same"), inner), f.add(jazz.ID, 3, nil)
	before := f.Version()

	down := f.takeDown(bad.Leaves[1], false) // whichever of its blocks is named
	if !down.CID.Equals(bad.CID) || down.Segment != bad.ID || down.Station != jazz.ID || len(down.Blocks) != 4 || down.State() != "in_force" {
		t.Fatalf("taken down: %+v", down)
	}
	if f.Version() == before {
		t.Error("nobody looks again")
	}
	_, err := f.TakeDown(ctx, f.order(bad.CID), false)
	wantErr(t, err, musen.ErrExists)
	for range 2 {
		f.wantDenied(true, bad, inner)
		f.wantDenied(false, good)
		if s := f.wantRefused(bad, musen.TakenDown, "copyright"); !bytes.Equal(s.Key.Ciphertext, bad.Key.Ciphertext) || s.Title != bad.Title {
			t.Fatalf("what an appeal needs is gone: %+v", s)
		}
		got, err := f.Takedown(ctx, bad.Leaves[2].Hash())
		if err != nil || !got.CID.Equals(bad.CID) || got.Reason != why || got.Actor != "mia" || got.Category != "copyright" || !got.Created.Equal(down.Created) {
			t.Fatalf("%+v, %v", got, err)
		}
		if page, _, err := f.Segments(ctx, jazz.ID, "", 10); err != nil || len(page) != 1 || page[0].ID != good.ID {
			t.Fatalf("the station lists %+v, %v", page, err)
		}
		kept := map[string]bool{}
		for c, err := range f.Roots(ctx) {
			noErr(t, err)
			kept[c.String()] = true
		}
		if len(kept) != 2 || !kept[bad.CID.String()] {
			t.Fatalf("blocks are kept of %v", kept)
		}
		f.reopen()
	}
	again := f.add(jazz.ID, 3, []byte("same")) // the platform's screening decides on that
	f.wantRefused(again, musen.Live, "")

	row, err := f.Query(ctx, `SELECT CAST(COUNT(*) AS TEXT) FROM takedowns`)
	if err != nil || row != "1" {
		t.Fatalf("%s rows, %v", row, err)
	}
}

// A takedown that is lifted leaves the segment as it was.
func testLift(t *testing.T, f *fixture) {
	ctx := t.Context()
	jazz := f.station("jazz")
	s := f.add(jazz.ID, 3, []byte("same"))
	_, err := f.Lift(ctx, s.CID.Hash(), "mistake", "mia")
	wantErr(t, err, musen.ErrNotFound)
	f.takeDown(s.CID, false)
	f.clock.forward(time.Hour)
	_, err = f.Lift(ctx, s.CID.Hash(), "", "mia")
	wantErr(t, err, musen.ErrInvalid)
	lifted, err := f.Lift(ctx, s.Leaves[0].Hash(), "mistake", "sam")
	if err != nil || lifted.State() != "lifted" || lifted.LiftedBy != "sam" || lifted.LiftReason != "mistake" || lifted.Reason != why {
		t.Fatalf("%+v, %v", lifted, err)
	}
	for range 2 {
		f.wantDenied(false, s)
		if got := f.wantRefused(s, musen.Live, ""); !got.Lifted {
			t.Fatal("nobody knows that it was taken down")
		}
		if got, err := f.SegmentByFingerprint(ctx, jazz.ID, []byte("same")); err != nil || got.ID != s.ID {
			t.Fatalf("equal audio is not recognised: %+v, %v", got, err)
		}
		for got, err := range f.Live(ctx) {
			if err != nil || !got.Lifted {
				t.Fatalf("%+v, %v", got, err)
			}
		}
		f.reopen()
	}
	_, err = f.Lift(ctx, s.CID.Hash(), "mistake", "sam")
	wantErr(t, err, musen.ErrNotFound)

	f.takeDown(s.CID, false) // a mistake to have lifted it
	f.add(jazz.ID, 1, []byte("same"))
	_, err = f.Lift(ctx, s.CID.Hash(), "after all", "sam")
	noErr(t, err)
	f.wantRefused(s, musen.Live, "")
}

// A takedown that shreds, or a removal of what is taken down, is for good.
func testShred(t *testing.T, f *fixture) {
	ctx := t.Context()
	jazz := f.station("jazz")
	at, later, removal := f.add(jazz.ID, 2, nil), f.add(jazz.ID, 2, nil), f.add(jazz.ID, 2, nil)
	f.takeDown(at.CID, true)
	f.takeDown(later.CID, false)
	f.clock.forward(time.Minute)
	f.takeDown(later.CID, true)
	f.takeDown(removal.CID, false)
	noErr(t, f.Remove(ctx, removal.ID))
	gone := f.add(jazz.ID, 2, nil)
	noErr(t, f.Remove(ctx, gone.ID))
	f.takeDown(gone.CID, false)
	for range 2 {
		for _, s := range []musen.Segment{at, later, removal} {
			f.wantDenied(true, s)
		}
		for _, s := range []musen.Segment{at, later, removal, gone} {
			if got := f.wantRefused(s, musen.Removed, "copyright"); len(got.Key.Ciphertext) > 0 {
				t.Fatal("the key is still there")
			}
			if got, err := f.Takedown(ctx, s.CID.Hash()); err != nil || got.State() != "shredded" {
				t.Fatalf("%+v, %v", got, err)
			}
			_, err := f.Lift(ctx, s.CID.Hash(), "mistake", "mia")
			wantErr(t, err, musen.ErrGone)
			_, err = f.TakeDown(ctx, f.order(s.CID), true)
			wantErr(t, err, musen.ErrExists)
		}
		f.reopen()
	}
}

// Bytes that the catalogue has never had are neither served nor accepted.
func testForeignTakedown(t *testing.T, f *fixture) {
	ctx := t.Context()
	jazz := f.station("jazz")
	s := newSegment(jazz.ID, 2, f.clock.Now())
	down := f.takeDown(s.CID, false)
	if down.Segment != "" || down.Station != "" {
		t.Fatalf("%+v", down)
	}
	noErr(t, f.Begin(ctx, s))
	wantErr(t, f.Commit(ctx, s, nil, nil), musen.ErrTakenDown)
	if !f.Denied(s.CID.Hash()) {
		t.Error("not denied")
	}
	_, err := f.Lift(ctx, s.CID.Hash(), "mistake", "mia")
	noErr(t, err)
	noErr(t, f.Commit(ctx, s, nil, nil))
	if _, err := f.Takedown(ctx, randomCID(cid.Raw).Hash()); err == nil {
		t.Error("a takedown of nothing")
	}
	for _, bad := range []musen.Takedown{
		{}, {CID: s.CID, Category: "copyright", Created: f.clock.Now()}, {CID: s.CID, Category: "whim", Reason: "x", Created: f.clock.Now()},
		{CID: s.CID, Category: "copyright", Reason: strings.Repeat("x", 1001), Created: f.clock.Now()}, {CID: s.CID, Category: "copyright", Reason: "x"},
	} {
		_, err := f.TakeDown(ctx, bad, false)
		wantErr(t, err, musen.ErrInvalid)
	}
}

func testTakedownPages(t *testing.T, f *fixture) {
	ctx := t.Context()
	var want []string
	for range 5 {
		f.clock.forward(time.Second)
		want = append([]string{f.takeDown(randomCID(cid.Raw), false).CID.String()}, want...)
	}
	var got []string
	for cursor, pages := "", 0; pages == 0 || cursor != ""; pages++ {
		page, next, err := f.Takedowns(ctx, cursor, 2)
		noErr(t, err)
		for _, d := range page {
			got = append(got, d.CID.String())
		}
		cursor = next
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Fatalf("listed %v, want %v", got, want)
	}
	for _, cursor := range []string{"x", "AAAA", strings.Repeat("A", 100)} {
		_, _, err := f.Takedowns(ctx, cursor, 2)
		wantErr(t, err, musen.ErrInvalid)
	}
	_, _, err := f.Takedowns(ctx, "", 0)
	wantErr(t, err, musen.ErrInvalid)
}

// A takedown that the database did not take holds all the same, and outlives a
// restart by the ledger.
func testUnrecordedTakedown(t *testing.T, f *fixture) {
	path := filepath.Join(t.TempDir(), "takedowns")
	f.keep(t, path)
	jazz := f.station("jazz")
	s := f.add(jazz.ID, 2, nil)
	noErr(t, f.Close())
	_, err := f.TakeDown(t.Context(), f.order(s.CID), false)
	wantErr(t, err, musen.ErrUnavailable)
	if !f.Denied(s.CID.Hash()) {
		t.Fatal("not denied")
	}
	f.keep(t, path)
	f.wantDenied(true, s)
	f.wantRefused(s, musen.TakenDown, "copyright")
}

// A takedown that the database did not take is of the whole segment, whichever
// block of it was named, and what comes of it later counts: that it is recorded
// after all, and that it is lifted.
func testTakedownTriedAgain(t *testing.T, f *fixture) {
	path := filepath.Join(t.TempDir(), "takedowns")
	jazz := f.station("jazz")
	inner := randomCID(cid.DagProtobuf)
	s := f.add(jazz.ID, 3, nil, inner)
	again := func() {
		t.Helper()
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		down, err := f.TakeDown(gone, f.order(s.Leaves[1]), false)
		wantErr(t, err, context.Canceled)
		if !down.CID.Equals(s.CID) || down.Segment != s.ID {
			t.Fatalf("in force: %+v", down)
		}
		f.wantDenied(true, s, inner)
		f.takeDown(s.Leaves[1], false)
		f.wantDenied(true, s, inner)
		_, err = f.Lift(t.Context(), s.CID.Hash(), "mistake", "mia")
		noErr(t, err)
	}
	again() // where no ledger has it, as on a full disk
	f.wantDenied(false, s, inner)
	f.keep(t, path)
	again()
	for range 2 {
		f.wantDenied(false, s, inner)
		f.wantRefused(s, musen.Live, "")
		f.keep(t, path)
	}
}

// keep opens the catalogue anew, with a ledger.
func (f *fixture) keep(t *testing.T, path string) {
	t.Helper()
	noErr(t, f.Close())
	l, err := ledger.Open(path)
	noErr(t, err)
	t.Cleanup(func() { l.Close() })
	o := options(f.key, f.clock.Now)
	o.Ledger = l
	f.Catalog = f.openStore(o)
	t.Cleanup(func() { f.Close() })
}

// H50, H79: what was taken down, lifted or shredded stays so when the catalogue
// does not know of it any more, as one that was put back from a backup.
func testTakedownsOutliveTheCatalogue(t *testing.T, f *fixture) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "takedowns")
	jazz := f.station("jazz")
	down, shredded, lifted := f.add(jazz.ID, 2, nil), f.add(jazz.ID, 2, nil), f.add(jazz.ID, 2, nil)
	early := f.add(jazz.ID, 2, nil)
	f.takeDown(lifted.CID, false)
	f.takeDown(early.CID, false)
	f.keep(t, path) // what the catalogue knows, the ledger learns
	f.backUp()
	unknown := f.add(jazz.ID, 2, nil)
	f.takeDown(down.CID, false)
	f.takeDown(shredded.CID, true)
	f.takeDown(unknown.CID, false)
	_, err := f.Lift(ctx, lifted.CID.Hash(), "mistake", "mia")
	noErr(t, err)
	_, err = f.Lift(ctx, early.CID.Hash(), "mistake", "mia")
	noErr(t, err)

	f.restore()
	f.keep(t, path)
	for range 2 {
		f.wantDenied(true, down)
		f.wantRefused(down, musen.TakenDown, "copyright")
		f.wantDenied(true, shredded)
		if got := f.wantRefused(shredded, musen.Removed, "copyright"); len(got.Key.Ciphertext) > 0 {
			t.Fatal("the key came back")
		}
		for _, s := range []musen.Segment{lifted, early} {
			f.wantDenied(false, s)
			f.wantRefused(s, musen.Live, "")
		}
		for _, mh := range []multihash.Multihash{unknown.CID.Hash(), unknown.Leaves[1].Hash()} {
			if !f.Denied(mh) {
				t.Fatal("what the catalogue does not know is not denied")
			}
		}
		if got, err := f.Takedown(ctx, down.CID.Hash()); err != nil || got.Reason != why {
			t.Fatalf("%+v, %v", got, err)
		}
		f.keep(t, path)
	}
}

// copied are the tables that a backup of segments has, those that others refer
// to first.
func copied() []string { return []string{"segments", "wrapped_keys", "blocks", "takedowns"} }

// backUp copies them.
func (f *fixture) backUp() {
	f.t.Helper()
	for _, table := range copied() {
		noErr(f.t, f.Exec(f.t.Context(), "CREATE TABLE old_"+table+" AS SELECT * FROM "+table))
	}
}

// restore puts the copy back.
func (f *fixture) restore() {
	f.t.Helper()
	tables := copied()
	for i := range tables {
		noErr(f.t, f.Exec(f.t.Context(), "DELETE FROM "+tables[len(tables)-1-i]))
	}
	for _, table := range tables {
		noErr(f.t, f.Exec(f.t.Context(), "INSERT INTO "+table+" SELECT * FROM old_"+table))
	}
}
