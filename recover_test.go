package musen_test

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/testnet"
)

func firstRoot(t *testing.T, h *testnet.Home) cid.Cid {
	t.Helper()
	for c, err := range h.Rows.Roots(t.Context()) {
		must(t, err)
		return c
	}
	t.Fatal("no segment")
	return cid.Undef
}

// testCID names nothing that anybody has.
func testCID(t testing.TB) cid.Cid {
	t.Helper()
	mh, err := multihash.Sum([]byte("nobody has this"), multihash.SHA2_256, -1)
	must(t, err)
	return cid.NewCidV1(cid.Raw, mh)
}

func steps(names string) map[string]bool {
	m := map[string]bool{}
	for _, n := range strings.Fields(names) {
		m[n] = true
	}
	return m
}

// H66 in small: whatever step of an add fails, and whatever of its undoing,
// Recover makes catalogue and pins agree, and nothing of it is left. A step of
// after failed although it happened.
func TestFailureAtEachStep(t *testing.T) {
	h := testnet.New(t)
	must(t, h.Origin().Recover(t.Context()))
	station(t, h.Origin(), "jazz")
	source := wav(1, 600<<10)
	kept := add(t, h.Origin(), "jazz", wav(2, 600<<10))
	blocks := blockFiles(t, h)
	for _, c := range []struct {
		before, after string
		undone        bool // at once, without Recover
	}{
		{"NewDataKey", "", true},
		{"", "NewDataKey", true},
		{"Begin", "", true},
		{"", "Begin", false},
		{"Add", "", true},
		{"Commit", "", true},
		{"Add Abort", "", false},
		{"Commit Abort", "", false},
		{"Commit Unpin", "", false},
		{"Commit", "Unpin", false},
		{"Commit", "Abort", false},
		{"Commit Abort Unpin", "", false},
	} {
		t.Run(c.before+" / "+c.after, func(t *testing.T) {
			f := &faults{before: steps(c.before), after: steps(c.after)}
			_, _, err := f.put(h.Origin()).Add(t.Context(), musen.AddRequest{Station: "jazz"}, bytes.NewReader(source))
			wantErr(t, err, errFault)
			if c.undone {
				nothingLeft(t, h, blocks, f.wrapped...)
			}
			must(t, h.Origin().Recover(t.Context()))
			nothingLeft(t, h, blocks, f.wrapped...)
		})
	}
	wantAudio(t, h.Edge(t), kept.CID, wav(2, 600<<10))
}

// A commit that happened although it seemed to fail is not half undone: the
// segment is live, pinned and sounds.
func TestCommitThatSeemedToFail(t *testing.T) {
	h := testnet.New(t)
	station(t, h.Origin(), "jazz")
	source := wav(1, 600<<10)
	f := &faults{after: steps("Commit")}
	_, _, err := f.put(h.Origin()).Add(t.Context(), musen.AddRequest{Station: "jazz"}, bytes.NewReader(source))
	wantErr(t, err, errFault)
	for range 2 {
		inAgreement(t, h)
		_, _, err = h.Node.GC(t.Context())
		must(t, err)
		wantAudio(t, h.Edge(t), firstRoot(t, h), source)
		must(t, h.Origin().Recover(t.Context()))
	}
}

func TestRecover(t *testing.T) {
	h := testnet.New(t)
	f := &faults{}
	o := f.put(h.Origin())
	station(t, o, "jazz")
	source := wav(1, 600<<10)
	kept := add(t, o, "jazz", source)
	blocks := blockFiles(t, h)

	must(t, o.Recover(t.Context()))
	if f.calls["GC"] != 0 {
		t.Error("garbage was collected where there can be none")
	}

	// A stop in the middle of two adds, with pins that no segment owns, and one
	// that went missing.
	f.before = steps("Commit Abort Unpin")
	for seed := range byte(2) {
		_, _, err := o.Add(t.Context(), musen.AddRequest{Station: "jazz"}, bytes.NewReader(wav(2+seed, 600<<10)))
		wantErr(t, err, errFault)
	}
	f.before = nil
	must(t, h.Node.Remove(t.Context(), kept.CID))
	h.Reopen(t)
	o = f.put(h.Origin())
	must(t, o.Recover(t.Context()))
	if f.calls["GC"] != 1 {
		t.Errorf("%d collections", f.calls["GC"])
	}
	if got := blockFiles(t, h); !slices.Equal(got, blocks) {
		t.Errorf("%d blocks are on the disk, want %d", len(got), len(blocks))
	}
	nothingLeft(t, h, blocks, f.wrapped[1:]...)
	wantAudio(t, h.Edge(t), kept.CID, source)

	must(t, o.Recover(t.Context()))
	if f.calls["GC"] != 1 {
		t.Error("a second recovery found something")
	}
}

// One segment whose blocks are damaged does not keep the node from starting.
func TestRecoverWithADamagedSegment(t *testing.T) {
	h := testnet.New(t)
	station(t, h.Origin(), "jazz")
	source := wav(1, 600<<10)
	damaged, sound := add(t, h.Origin(), "jazz", wav(2, 600<<10)), add(t, h.Origin(), "jazz", source)
	must(t, os.Remove(h.BlockFile(damaged.CID)))
	f := &faults{before: steps("Commit Abort")}
	_, _, err := f.put(h.Origin()).Add(t.Context(), musen.AddRequest{Station: "jazz"}, bytes.NewReader(wav(3, 600<<10)))
	wantErr(t, err, errFault)
	must(t, h.Origin().Recover(t.Context()))
	inAgreement(t, h)
	wantAudio(t, h.Edge(t), sound.CID, source)
	wantAudio(t, h.Edge(t), damaged.CID, wav(2, 600<<10)) // its leaves are there
}

func TestStations(t *testing.T) {
	h := testnet.New(t)
	f := &faults{}
	o := f.put(h.Origin())
	st, err := o.CreateStation(t.Context(), musen.Station{Name: "jazz", Description: "All night", Downloads: true})
	must(t, err)
	if kept, err := h.Rows.Station(t.Context(), "jazz"); err != nil || kept != st || st.Epoch != 1 || !musen.IsID(st.ID) {
		t.Errorf("%+v, kept %+v, %v", st, kept, err)
	}
	_, err = o.CreateStation(t.Context(), musen.Station{Name: "jazz"})
	wantErr(t, err, musen.ErrExists)
	_, err = o.CreateStation(t.Context(), musen.Station{Name: "No Such Name"})
	wantErr(t, err, musen.ErrInvalid)

	// Without a durable key there is no station, and the name stays free.
	for _, step := range []string{"AddStation", "CreateStation"} {
		f.before = steps(step)
		_, err = o.CreateStation(t.Context(), musen.Station{Name: "blues"})
		wantErr(t, err, errFault)
		_, err = h.Rows.Station(t.Context(), "blues")
		wantErr(t, err, musen.ErrNotFound)
	}
	f.before = nil
	station(t, o, "blues")

	// One that is there although that seemed to fail has its key.
	f.after = steps("CreateStation")
	_, err = o.CreateStation(t.Context(), musen.Station{Name: "folk"})
	wantErr(t, err, errFault)
	f.after = nil
	wantAudio(t, h.Edge(t), add(t, o, "folk", wav(1, 1000)).CID, wav(1, 1000))

	s := add(t, o, "jazz", wav(1, 1000))
	wantErr(t, o.RemoveStation(t.Context(), st.ID), musen.ErrInvalid) // it has a segment
	wantAudio(t, h.Edge(t), s.CID, wav(1, 1000))
	must(t, o.Remove(t.Context(), s.CID))

	// Keys that could not be destroyed at once are by the next try.
	f.before = steps("RemoveStationKey")
	wantErr(t, o.RemoveStation(t.Context(), st.ID), errFault)
	f.before = nil
	if err := o.RemoveStation(t.Context(), st.ID); err != nil && !errors.Is(err, musen.ErrNotFound) {
		t.Errorf("again: %v", err)
	}
	if _, _, err := h.Keys.NewDataKey(st.ID, st.ID); err == nil {
		t.Error("the keys of a removed station are there")
	}
	wantErr(t, o.RemoveStation(t.Context(), st.ID), musen.ErrNotFound)
	_, _, err = o.Add(t.Context(), musen.AddRequest{Station: "jazz"}, bytes.NewReader(wav(1, 1000)))
	wantErr(t, err, musen.ErrNotFound)
	if again := station(t, o, "jazz"); again.ID == st.ID {
		t.Error("an id came back")
	}
}
