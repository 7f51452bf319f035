package catalog_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog"
)

func renamed(s musen.Station, name string) musen.Station {
	s.Name = name
	return s
}

func testReplication(t *testing.T, f *fixture) {
	ctx := t.Context()
	jazz := f.station("jazz")
	changed := jazz
	changed.Replication = musen.Replication{Min: 1, Max: 32, Community: 64}
	changed.Label = "aaaaaaaaaaaaaaaa"
	noErr(t, f.UpdateStation(ctx, changed))
	changed.Label = jazz.Label // never changes: copies elsewhere go by it
	for range 2 {
		if got, err := f.Station(ctx, "jazz"); err != nil || got != changed {
			t.Fatalf("after the change: %+v, %v", got, err)
		}
		f.reopen()
	}
	for _, r := range []musen.Replication{
		{}, {Min: 0, Max: 1}, {Min: 2, Max: 1}, {Min: 1, Max: 33}, {Min: 1, Max: 1, Community: -1}, {Min: 1, Max: 1, Community: 65},
	} {
		spoilt := changed
		spoilt.Replication = r
		wantErr(t, f.UpdateStation(ctx, spoilt), musen.ErrInvalid)
	}
	for _, label := range []string{"", "short", "AAAAAAAAAAAAAAAA", "aaaaaaaaaaaaaaa1", "aaaaaaaaaaaaaaaa\n", jazz.ID} {
		spoilt := newStation("blues")
		spoilt.Label = label
		wantErr(t, f.CreateStation(ctx, spoilt), musen.ErrInvalid)
	}
}

func testLive(t *testing.T, f *fixture) {
	ctx := t.Context()
	jazz, blues := f.station("jazz"), f.station("blues")
	want := map[string]musen.Segment{}
	for i := range 5 {
		s := f.add([]string{jazz.ID, blues.ID}[i%2], 1+i%3, nil)
		want[s.ID] = s
	}
	gone := f.add(jazz.ID, 1, nil)
	noErr(t, f.Remove(ctx, gone.ID))
	noErr(t, f.Begin(ctx, newSegment(jazz.ID, 1, f.clock.Now())))
	n := 0
	for got, err := range f.Live(ctx) {
		noErr(t, err)
		s := want[got.ID]
		equalSegment(t, got, musen.Segment{ID: s.ID, Station: s.Station, CID: s.CID, SealedSize: s.SealedSize})
		n++
	}
	if n != len(want) {
		t.Fatalf("%d live segments, want %d", n, len(want))
	}
	for range f.Live(ctx) {
		break // is allowed to stop
	}
}

func testSegmentOfBlock(t *testing.T, f *fixture) {
	ctx := t.Context()
	st, inner := f.station("jazz"), randomCID(cid.DagProtobuf)
	big, small := f.add(st.ID, 40, nil, inner), f.add(st.ID, 1, nil)
	owned := func(block cid.Cid, by musen.Segment, state musen.State) {
		t.Helper()
		got, err := f.SegmentOfBlock(ctx, block.Hash())
		noErr(t, err)
		equalSegment(t, got, musen.Segment{ID: by.ID, Station: st.ID, CID: by.CID, SealedSize: by.SealedSize, State: state})
	}
	for _, block := range append([]cid.Cid{big.CID, inner}, big.Leaves...) {
		owned(block, big, musen.Live)
	}
	owned(small.CID, small, musen.Live)
	_, err := f.SegmentOfBlock(ctx, randomCID(cid.Raw).Hash())
	wantErr(t, err, musen.ErrNotFound)
	_, err = f.SegmentOfBlock(ctx, nil)
	wantErr(t, err, musen.ErrNotFound)

	// A block of two segments is that of the one that lives.
	other := newSegment(st.ID, 2, f.clock.Now())
	other.Leaves[1] = big.Leaves[7]
	noErr(t, f.Begin(ctx, other))
	noErr(t, f.Commit(ctx, other, nil, nil))
	noErr(t, f.Remove(ctx, big.ID))
	owned(big.Leaves[7], other, musen.Live)
	owned(big.CID, big, musen.Removed)
	for _, block := range []cid.Cid{inner, big.Leaves[0]} {
		_, err = f.SegmentOfBlock(ctx, block.Hash())
		wantErr(t, err, musen.ErrNotFound)
	}
}

// firstVersion makes a catalogue as the first program did, with the stations of
// another.
func firstVersion(t *testing.T, of string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "catalogue.db")
	schema, err := os.ReadFile("migrations/00001_first.sql")
	noErr(t, err)
	execOn(t, path, "PRAGMA application_id = 1836413806; PRAGMA user_version = 1", string(schema),
		"ATTACH '"+of+"' AS fresh",
		"CREATE TABLE goose_db_version (id INTEGER PRIMARY KEY AUTOINCREMENT, version_id INTEGER NOT NULL, is_applied INTEGER NOT NULL, tstamp TIMESTAMP DEFAULT (datetime('now')))",
		"INSERT INTO goose_db_version SELECT * FROM fresh.goose_db_version WHERE version_id <= 1",
		"INSERT INTO stations SELECT id, name, name_mac, description, downloads, epoch, created FROM fresh.stations")
	return path
}

// A catalogue of before stations had labels and replication opens: each gets a
// label that it keeps, and one copy.
func TestStationsFromBeforeReplication(t *testing.T) {
	fresh := filepath.Join(t.TempDir(), "catalogue.db")
	f := newFixture(t, sqliteFile(fresh))
	f.open()
	jazz, blues := f.station("jazz"), f.station("blues")
	noErr(t, f.Close())
	path := firstVersion(t, fresh)
	f.openStore = sqliteFile(path)(t)
	f.open()
	old, err := f.Station(t.Context(), "jazz")
	noErr(t, err)
	if err := musen.CheckLabel(old.Label); err != nil || old.Replication != musen.NoReplication() {
		t.Errorf("an old station is %+v, %v", old, err)
	}
	if other, err := f.Station(t.Context(), "blues"); err != nil || other.Label == old.Label || other.ID != blues.ID {
		t.Errorf("two old stations are %+v and %+v, %v", old, other, err)
	}
	changed := old
	changed.Replication = jazz.Replication
	noErr(t, f.UpdateStation(t.Context(), changed))
	f.reopen()
	if got, err := f.Station(t.Context(), jazz.ID); err != nil || got != changed {
		t.Errorf("after the change %+v, want %+v, %v", got, changed, err)
	}

	noErr(t, f.Close())
	execOn(t, path, "UPDATE stations SET max_replicas = 0")
	if c, err := catalog.Open(t.Context(), path, options(f.key, f.clock.Now)); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a station of no copies opened: %v, %v", c, err)
	}
}
