package catalog_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog"
)

// factory makes a fresh, empty store. open opens the same one again, after
// the last was closed.
type factory func(t testing.TB) (open func(o catalog.Options) *catalog.Catalog)

// suite is what every store must pass.
func suite(t *testing.T, make factory) {
	for name, test := range map[string]func(*testing.T, *fixture){
		"stations":              testStations,
		"replication":           testReplication,
		"live segments":         testLive,
		"owners of blocks":      testSegmentOfBlock,
		"station refusals":      testStationRefusals,
		"life of a segment":     testLife,
		"equal audio":           testEqualAudio,
		"replacing":             testReplace,
		"refused commits":       testRefusedCommits,
		"aborts":                testAbort,
		"removal":               testRemove,
		"blocks":                testBlocks,
		"pages":                 testPages,
		"roots":                 testRoots,
		"tokens":                testTokens,
		"tokens of an issuer":   testTokensOfAnIssuer,
		"revoked tokens":        testRevokeToken,
		"revoked keys":          testRevokeKey,
		"revoked subjects":      testRevokeSubject,
		"states of subjects":    testSubjects,
		"takedowns":             testTakedown,
		"lifted takedowns":      testLift,
		"shredding takedowns":   testShred,
		"foreign takedowns":     testForeignTakedown,
		"pages of takedowns":    testTakedownPages,
		"a lost takedown":       testUnrecordedTakedown,
		"a takedown again":      testTakedownTriedAgain,
		"takedowns apart":       testTakedownsOutliveTheCatalogue,
		"roles":                 testRoles,
		"approvals":             testApprovals,
		"uses":                  testUses,
		"many uses":             testManyUses,
		"concurrent uses":       testConcurrentUses,
		"reviews":               testReviews,
		"heads of audit logs":   testAuditHeads,
		"a lost suspension":     testUnrecordedSuspension,
		"pruning":               testPruning,
		"idempotency":           testIdempotency,
		"shares":                testShares,
		"refused shares":        testShareRefusals,
		"uses of a share":       testUseShare,
		"a revoked share":       testRevokeShare,
		"a share's password":    testSharePassword,
		"regenerating":          testRegenerate,
		"regenerated password":  testRegenerateKeepsPassword,
		"old shares":            testOldShares,
		"reports":               testReports,
		"what is reported":      testReportTargets,
		"reports of a crowd":    testReportCrowd,
		"timers of reports":     testReportTimers,
		"room for reports":      testReportRoom,
		"concurrent writers":    testConcurrentWriters,
		"a caller who left":     testCancelled,
		"closed":                testClosed,
		"a wrong key":           testWrongKey,
		"any spelling of a CID": testSpellings,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, make)
			f.open()
			test(t, f)
		})
	}
}

func testStations(t *testing.T, f *fixture) {
	ctx := t.Context()
	jazz, blues := f.station("jazz"), f.station("blues")
	for range 2 {
		for _, s := range []musen.Station{jazz, blues} {
			for _, key := range []string{s.Name, s.ID} {
				got, err := f.Station(ctx, key)
				noErr(t, err)
				if got != s {
					t.Fatalf("station %q is %+v, want %+v", key, got, s)
				}
			}
		}
		all, err := f.Stations(ctx)
		noErr(t, err)
		if !slices.Equal(all, []musen.Station{blues, jazz}) {
			t.Fatalf("stations are %+v", all)
		}
		f.reopen()
	}

	changed := jazz
	changed.Name, changed.Downloads, changed.Epoch, changed.Created = "bebop", true, 2, time.Time{}
	noErr(t, f.UpdateStation(ctx, changed))
	changed.Created = jazz.Created // is what it was
	for range 2 {
		if got, err := f.Station(ctx, "bebop"); err != nil || got != changed {
			t.Fatalf("after the change: %+v, %v", got, err)
		}
		_, err := f.Station(ctx, "jazz")
		wantErr(t, err, musen.ErrNotFound)
		if epoch, ok := f.Epoch(jazz.ID); !ok || epoch != 2 {
			t.Fatalf("epoch is %d, %v", epoch, ok)
		}
		f.reopen()
	}

	noErr(t, f.RemoveStation(ctx, jazz.ID))
	for range 2 {
		for _, key := range []string{"bebop", jazz.ID} {
			_, err := f.Station(ctx, key)
			wantErr(t, err, musen.ErrNotFound)
		}
		if _, ok := f.Epoch(jazz.ID); ok {
			t.Fatal("a removed station has an epoch")
		}
		f.reopen()
	}
	f.station("bebop") // the name is free again
}

func testStationRefusals(t *testing.T, f *fixture) {
	ctx := t.Context()
	jazz, blues := f.station("jazz"), f.station("blues")
	wantErr(t, f.CreateStation(ctx, newStation("jazz")), musen.ErrExists)
	wantErr(t, f.CreateStation(ctx, renamed(jazz, "other")), musen.ErrExists)
	wantErr(t, f.CreateStation(ctx, newStation("Not A Name")), musen.ErrInvalid)
	wantErr(t, f.CreateStation(ctx, musen.Station{ID: "x", Name: "x"}), musen.ErrInvalid)
	wantErr(t, f.UpdateStation(ctx, newStation("ghost")), musen.ErrNotFound)
	wantErr(t, f.RemoveStation(ctx, newID()), musen.ErrNotFound)

	taken := blues
	taken.Name = "jazz"
	wantErr(t, f.UpdateStation(ctx, taken), musen.ErrExists)
	back := blues
	back.Epoch = 0
	wantErr(t, f.UpdateStation(ctx, back), musen.ErrInvalid) // H11: links would come alive again
	if got, _ := f.Station(ctx, "blues"); got != blues {
		t.Fatalf("a refused change changed the station: %+v", got)
	}

	s := newSegment(jazz.ID, 1, f.clock.Now())
	noErr(t, f.Begin(ctx, s))
	wantErr(t, f.RemoveStation(ctx, jazz.ID), musen.ErrInvalid)
	noErr(t, f.Commit(ctx, s, nil, nil))
	wantErr(t, f.RemoveStation(ctx, jazz.ID), musen.ErrInvalid)
	noErr(t, f.Remove(ctx, s.ID))
	noErr(t, f.RemoveStation(ctx, jazz.ID))
	wantErr(t, f.RemoveStation(ctx, jazz.ID), musen.ErrNotFound)
	wantErr(t, f.Begin(ctx, newSegment(jazz.ID, 1, f.clock.Now())), musen.ErrNotFound)
	wantErr(t, f.CreateStation(ctx, renamed(jazz, "again")), musen.ErrExists)
	if got, err := f.Segment(ctx, s.CID.Hash()); err != nil || got.State != musen.Removed {
		t.Fatalf("the tombstone of a removed station's segment: %+v, %v", got, err)
	}
}

func testLife(t *testing.T, f *fixture) {
	ctx := t.Context()
	st := f.station("jazz")
	s := newSegment(st.ID, 3, f.clock.Now())
	noErr(t, f.Begin(ctx, s))
	for range 2 {
		ids, err := f.Pending(ctx)
		noErr(t, err)
		if !slices.Equal(ids, []string{s.ID}) {
			t.Fatalf("pending: %q", ids)
		}
		_, err = f.Segment(ctx, s.CID.Hash())
		wantErr(t, err, musen.ErrNotFound)
		f.reopen()
	}
	noErr(t, f.Commit(ctx, s, []byte("fp"), nil))
	for range 2 {
		ids, err := f.Pending(ctx)
		noErr(t, err)
		if len(ids) != 0 {
			t.Fatalf("pending after commit: %q", ids)
		}
		got, err := f.Segment(ctx, s.CID.Hash())
		noErr(t, err)
		equalSegment(t, got, s)
		got, err = f.SegmentByFingerprint(ctx, st.ID, []byte("fp"))
		noErr(t, err)
		equalSegment(t, got, s)
		f.reopen()
	}
	_, err := f.SegmentByFingerprint(ctx, st.ID, []byte("other"))
	wantErr(t, err, musen.ErrNotFound)
	_, err = f.Segment(ctx, nil)
	wantErr(t, err, musen.ErrNotFound)
}

func testEqualAudio(t *testing.T, f *fixture) {
	ctx := t.Context()
	jazz, blues := f.station("jazz"), f.station("blues")
	first := f.add(jazz.ID, 1, []byte("fp"))
	second := newSegment(jazz.ID, 1, f.clock.Now())
	noErr(t, f.Begin(ctx, second))
	wantErr(t, f.Commit(ctx, second, []byte("fp"), nil), musen.ErrExists)
	noErr(t, f.Abort(ctx, second.ID))
	f.add(jazz.ID, 1, nil)           // --again
	f.add(blues.ID, 1, []byte("fp")) // another station
	got, err := f.SegmentByFingerprint(ctx, jazz.ID, []byte("fp"))
	noErr(t, err)
	equalSegment(t, got, first)
	noErr(t, f.Remove(ctx, first.ID))
	_, err = f.SegmentByFingerprint(ctx, jazz.ID, []byte("fp"))
	wantErr(t, err, musen.ErrNotFound)
	f.add(jazz.ID, 1, []byte("fp")) // what was removed may come again
}

// A segment takes the place of another whole or not at all.
func testReplace(t *testing.T, f *fixture) {
	ctx, fp := t.Context(), []byte("fp")
	st := f.station("jazz")
	old := f.add(st.ID, 3, fp)
	fresh := newSegment(st.ID, 3, f.clock.Now())
	noErr(t, f.Begin(ctx, fresh))
	unborn := newSegment(st.ID, 3, f.clock.Now())
	if err := f.Replace(ctx, old.ID, unborn, fp, nil); err == nil {
		t.Fatal("a segment that was never begun took a place")
	}
	got, err := f.SegmentByFingerprint(ctx, st.ID, fp)
	noErr(t, err)
	equalSegment(t, got, old)
	version := f.Version()
	noErr(t, f.Replace(ctx, old.ID, fresh, fp, nil))
	if f.Version() == version {
		t.Error("nobody is told")
	}
	again := newSegment(st.ID, 3, f.clock.Now())
	noErr(t, f.Begin(ctx, again))
	wantErr(t, f.Replace(ctx, old.ID, again, fp, nil), musen.ErrNotFound)
	f.reopen()
	got, err = f.SegmentByFingerprint(ctx, st.ID, fp)
	noErr(t, err)
	equalSegment(t, got, fresh)
	got, err = f.Segment(ctx, old.CID.Hash())
	if err != nil || got.State != musen.Removed || len(got.Key.Ciphertext) != 0 {
		t.Errorf("the old one is %+v, %v", got, err)
	}
}

func testRefusedCommits(t *testing.T, f *fixture) {
	ctx := t.Context()
	st, other := f.station("jazz"), f.station("blues")
	wantErr(t, f.Commit(ctx, newSegment(st.ID, 1, f.clock.Now()), nil, nil), musen.ErrNotFound)
	there := f.add(st.ID, 1, nil)
	wantErr(t, f.Begin(ctx, there), musen.ErrExists)
	wantErr(t, f.Commit(ctx, there, nil, nil), musen.ErrNotFound)

	for name, c := range map[string]struct {
		want  error
		spoil func(*musen.Segment)
	}{
		"no CID":            {musen.ErrInvalid, func(s *musen.Segment) { s.CID = cid.Undef }},
		"no leaves":         {musen.ErrInvalid, func(s *musen.Segment) { s.Leaves = nil }},
		"too few leaves":    {musen.ErrInvalid, func(s *musen.Segment) { s.Leaves = s.Leaves[1:] }},
		"too many leaves":   {musen.ErrInvalid, func(s *musen.Segment) { s.Leaves = append(s.Leaves, s.Leaves[0]) }},
		"no sealed bytes":   {musen.ErrInvalid, func(s *musen.Segment) { s.SealedSize = 0 }},
		"negative size":     {musen.ErrInvalid, func(s *musen.Segment) { s.Size = -1 }},
		"inner as leaf":     {musen.ErrInvalid, func(s *musen.Segment) { s.Leaves[1] = randomCID(cid.DagProtobuf) }},
		"no station":        {musen.ErrNotFound, func(s *musen.Segment) { s.Station = newID() }},
		"another station":   {musen.ErrNotFound, func(s *musen.Segment) { s.Station = other.ID }},
		"another time":      {musen.ErrNotFound, func(s *musen.Segment) { s.Created = s.Created.Add(time.Second) }},
		"sealed bytes seen": {musen.ErrExists, func(s *musen.Segment) { s.CID = there.CID }},
	} {
		s := newSegment(st.ID, 2, f.clock.Now())
		noErr(t, f.Begin(ctx, s))
		c.spoil(&s)
		if err := f.Commit(ctx, s, nil, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		noErr(t, f.Abort(ctx, s.ID))
	}
	keyless := newSegment(st.ID, 1, f.clock.Now())
	keyless.Key = musen.WrappedKey{}
	wantErr(t, f.Begin(ctx, keyless), musen.ErrInvalid)
}

func testAbort(t *testing.T, f *fixture) {
	ctx := t.Context()
	st := f.station("jazz")
	s := newSegment(st.ID, 1, f.clock.Now())
	noErr(t, f.Begin(ctx, s))
	noErr(t, f.Abort(ctx, s.ID))
	noErr(t, f.Abort(ctx, s.ID)) // once more is no harm
	if ids, err := f.Pending(ctx); err != nil || len(ids) != 0 {
		t.Fatalf("pending after abort: %q, %v", ids, err)
	}
	wantErr(t, f.Commit(ctx, s, nil, nil), musen.ErrNotFound)
	kept := f.add(st.ID, 1, nil)
	wantErr(t, f.Abort(ctx, kept.ID), musen.ErrExists)
	got, err := f.Segment(ctx, kept.CID.Hash())
	noErr(t, err)
	equalSegment(t, got, kept)
}

func testRemove(t *testing.T, f *fixture) {
	ctx := t.Context()
	st := f.station("jazz")
	s, other := f.add(st.ID, 2, []byte("fp")), f.add(st.ID, 2, nil)
	before := f.Version()
	noErr(t, f.Remove(ctx, s.ID))
	if f.Version() == before {
		t.Fatal("a removal did not change the version")
	}
	for range 2 {
		got, err := f.Segment(ctx, s.CID.Hash())
		noErr(t, err)
		if got.State != musen.Removed || got.ID != s.ID || got.Station != st.ID || !got.CID.Equals(s.CID) {
			t.Fatalf("tombstone: %+v", got)
		}
		if got.Title != "" || got.Artist != "" || len(got.Key.Ciphertext) != 0 {
			t.Fatalf("the tombstone tells too much: %+v", got)
		}
		got, err = f.Segment(ctx, other.CID.Hash())
		noErr(t, err)
		equalSegment(t, got, other)
		f.reopen()
	}
	wantErr(t, f.Remove(ctx, s.ID), musen.ErrNotFound)
	wantErr(t, f.Remove(ctx, newID()), musen.ErrNotFound)
	intent := newSegment(st.ID, 1, f.clock.Now())
	noErr(t, f.Begin(ctx, intent))
	wantErr(t, f.Remove(ctx, intent.ID), musen.ErrNotFound)
	wantErr(t, f.Abort(ctx, s.ID), musen.ErrExists)
}

func testBlocks(t *testing.T, f *fixture) {
	ctx := t.Context()
	st := f.station("jazz")
	inner := []cid.Cid{randomCID(cid.DagProtobuf), randomCID(cid.DagProtobuf)}
	big, small := f.add(st.ID, 1100, nil, inner...), f.add(st.ID, 1, nil)
	has := func(c cid.Cid, want bool) {
		t.Helper()
		if got, err := f.HasBlock(ctx, c.Hash()); err != nil || got != want {
			t.Fatalf("has block %s: %v, %v", c, got, err)
		}
	}
	blocks := append(append([]cid.Cid{big.CID}, big.Leaves...), inner...)
	for _, c := range blocks {
		has(c, true)
	}
	has(small.CID, true)
	has(randomCID(cid.Raw), false)
	noErr(t, f.Remove(ctx, big.ID))
	for _, c := range blocks {
		has(c, false)
	}
	noErr(t, f.Remove(ctx, small.ID))
	has(small.CID, false)
	intent := newSegment(st.ID, 1, f.clock.Now())
	noErr(t, f.Begin(ctx, intent))
	has(intent.CID, false)

	// H73: a block that two segments share lasts as long as one of them.
	one, two := newSegment(st.ID, 2, f.clock.Now()), newSegment(st.ID, 2, f.clock.Now())
	two.Leaves[0] = one.Leaves[0]
	for _, s := range []musen.Segment{one, two} {
		noErr(t, f.Begin(ctx, s))
		noErr(t, f.Commit(ctx, s, nil, nil))
	}
	noErr(t, f.Remove(ctx, one.ID))
	has(one.Leaves[0], true)
	noErr(t, f.Remove(ctx, two.ID))
	has(one.Leaves[0], false)
}

func testPages(t *testing.T, f *fixture) {
	ctx := t.Context()
	st, other := f.station("jazz"), f.station("blues")
	var want []musen.Segment
	for i := range 23 {
		if i%3 == 0 {
			f.clock.forward(time.Second) // three at a time were created at once
		}
		want = append(want, f.add(st.ID, 1, nil))
		f.add(other.ID, 1, nil)
	}
	slices.SortFunc(want, func(a, b musen.Segment) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	for _, limit := range []int{1, 7, 23, 100} {
		var got []musen.Segment
		for cursor := ""; ; {
			page, next, err := f.Segments(ctx, st.ID, cursor, limit)
			noErr(t, err)
			if got = append(got, page...); next == "" {
				break
			}
			if len(page) != limit {
				t.Fatalf("a page of %d, not %d", len(page), limit)
			}
			cursor = next
		}
		if len(got) != len(want) {
			t.Fatalf("pages of %d hold %d segments, want %d", limit, len(got), len(want))
		}
		for i := range got {
			equalSegment(t, got[i], want[i])
		}
	}

	page, next, err := f.Segments(ctx, st.ID, "", 10)
	noErr(t, err)
	noErr(t, f.Remove(ctx, page[9].ID)) // the one that the cursor stands on
	noErr(t, f.Remove(ctx, want[11].ID))
	page, _, err = f.Segments(ctx, st.ID, next, 2)
	noErr(t, err)
	equalSegment(t, page[0], want[10])
	equalSegment(t, page[1], want[12])

	for _, cursor := range []string{"x", "AQ", next + "A", next[:len(next)-1], strings.Repeat("A", 1<<16), "' OR 1=1"} {
		_, _, err := f.Segments(ctx, st.ID, cursor, 1)
		wantErr(t, err, musen.ErrInvalid)
	}
	_, _, err = f.Segments(ctx, st.ID, "", 0)
	wantErr(t, err, musen.ErrInvalid)
	if page, next, err := f.Segments(ctx, newID(), "", 5); err != nil || len(page) != 0 || next != "" {
		t.Fatalf("segments of no station: %v, %q, %v", page, next, err)
	}
}

func testRoots(t *testing.T, f *fixture) {
	ctx := t.Context()
	st := f.station("jazz")
	want := map[string]bool{}
	var all []musen.Segment
	for range 1003 {
		all = append(all, newSegment(st.ID, 1, f.clock.Now()))
	}
	f.inParallel(all, func(s musen.Segment) error {
		return errors.Join(f.Begin(ctx, s), f.Commit(ctx, s, nil, nil))
	})
	for _, s := range all {
		want[s.CID.String()] = true
	}
	noErr(t, f.Remove(ctx, all[7].ID))
	delete(want, all[7].CID.String())
	noErr(t, f.Begin(ctx, newSegment(st.ID, 1, f.clock.Now())))
	if n, err := f.Count(ctx); err != nil || n != len(want) {
		t.Fatalf("count is %d, %v, want %d", n, err, len(want))
	}
	for c, err := range f.Roots(ctx) {
		noErr(t, err)
		if !want[c.String()] {
			t.Fatalf("root %s is not live or came twice", c)
		}
		delete(want, c.String())
	}
	if len(want) != 0 {
		t.Fatalf("%d roots are missing", len(want))
	}
	for range f.Roots(ctx) {
		break
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	for _, err := range f.Roots(cancelled) {
		wantErr(t, err, context.Canceled)
	}
}
