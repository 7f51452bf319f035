package catalog_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

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
		"station refusals":      testStationRefusals,
		"life of a segment":     testLife,
		"equal audio":           testEqualAudio,
		"refused commits":       testRefusedCommits,
		"aborts":                testAbort,
		"removal":               testRemove,
		"blocks":                testBlocks,
		"pages":                 testPages,
		"roots":                 testRoots,
		"tokens":                testTokens,
		"revoked tokens":        testRevokeToken,
		"revoked subjects":      testRevokeSubject,
		"idempotency":           testIdempotency,
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

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// fixture is one store under test.
type fixture struct {
	*catalog.Catalog
	t         testing.TB
	openStore func(catalog.Options) *catalog.Catalog
	clock     *clock
	key       [32]byte
}

func newFixture(t testing.TB, make factory) *fixture {
	return &fixture{
		t: t, openStore: make(t), key: [32]byte{1},
		clock: &clock{now: time.Date(2031, 5, 6, 7, 8, 9, 123456000, time.UTC)},
	}
}

func (f *fixture) open() {
	f.t.Helper()
	f.Catalog = f.openStore(options(f.key, f.clock.Now))
	f.t.Cleanup(func() { f.Close() })
}

func (f *fixture) reopen() {
	f.t.Helper()
	noErr(f.t, f.Close())
	f.open()
}

// gcm is a real AEAD with a random nonce before the ciphertext.
type gcm struct{ cipher.AEAD }

func (g gcm) Encrypt(plain, ad []byte) ([]byte, error) {
	nonce := make([]byte, g.NonceSize())
	rand.Read(nonce)
	return g.Seal(nonce, nonce, plain, ad), nil
}

func (g gcm) Decrypt(sealed, ad []byte) ([]byte, error) {
	if len(sealed) < g.NonceSize() {
		return nil, errors.New("too short")
	}
	return g.Open(nil, sealed[:g.NonceSize()], sealed[g.NonceSize():], ad)
}

func options(key [32]byte, now func() time.Time) catalog.Options {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	mac := func(data []byte) []byte {
		h := hmac.New(sha256.New, key[:])
		h.Write(data)
		return h.Sum(nil)
	}
	return catalog.Options{Cipher: gcm{aead}, LookupMAC: mac, Now: now}
}

func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

func noErr(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func newStation(name string) musen.Station {
	return musen.Station{ID: newID(), Name: name, Description: "about " + name, Epoch: 1, Created: time.UnixMicro(1900000000123456).UTC()}
}

func (f *fixture) station(name string) musen.Station {
	f.t.Helper()
	s := newStation(name)
	noErr(f.t, f.CreateStation(f.t.Context(), s))
	return s
}

func randomCID(codec uint64) cid.Cid {
	b := make([]byte, 32)
	rand.Read(b)
	return cidOf(codec, b)
}

func cidOf(codec uint64, block []byte) cid.Cid {
	mh, err := multihash.Sum(block, multihash.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return cid.NewCidV1(codec, mh)
}

// newSegment makes a segment of that many leaves.
func newSegment(station string, leaves int, created time.Time) musen.Segment {
	key := make([]byte, 64)
	rand.Read(key)
	s := musen.Segment{
		ID: newID(), Station: station, Title: "Blue in Green", Artist: "an AI trio", MediaType: "audio/mpeg",
		Duration: 327*time.Second + 5*time.Millisecond, SealedSize: int64(leaves-1)*musen.LeafSize + 1000,
		Size: int64(leaves-1)*musen.LeafSize + 900, AIGenerated: true, Created: created,
		ExpiresAt: created.Add(time.Hour), Key: musen.WrappedKey{Generation: 3, Ciphertext: key},
	}
	for range leaves {
		s.Leaves = append(s.Leaves, randomCID(cid.Raw))
	}
	if s.CID = s.Leaves[0]; leaves > 1 {
		s.CID = randomCID(cid.DagProtobuf)
	}
	return s
}

// add takes a new segment through its life up to live.
func (f *fixture) add(station string, leaves int, fingerprint []byte, inner ...cid.Cid) musen.Segment {
	f.t.Helper()
	s := newSegment(station, leaves, f.clock.Now())
	noErr(f.t, f.Begin(f.t.Context(), s))
	noErr(f.t, f.Commit(f.t.Context(), s, fingerprint, inner))
	return s
}

func equalSegment(t *testing.T, got, want musen.Segment) {
	t.Helper()
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
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
	wantErr(t, f.CreateStation(ctx, musen.Station{ID: jazz.ID, Name: "other"}), musen.ErrExists)
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
	wantErr(t, f.CreateStation(ctx, musen.Station{ID: jazz.ID, Name: "again"}), musen.ErrExists)
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

// inParallel does do for each segment from eight goroutines.
func (f *fixture) inParallel(all []musen.Segment, do func(musen.Segment) error) {
	f.t.Helper()
	queue, errs := make(chan musen.Segment), make(chan error, 8)
	for range 8 {
		go func() {
			var err error
			for s := range queue {
				err = errors.Join(err, do(s))
			}
			errs <- err
		}()
	}
	for _, s := range all {
		queue <- s
	}
	close(queue)
	for range 8 {
		noErr(f.t, <-errs)
	}
}

func testTokens(t *testing.T, f *fixture) {
	ctx := t.Context()
	a := musen.Token{ID: "a", Subject: "listener@example.org", Stations: []string{newID(), newID()}, Actions: []string{"listen", "download"},
		Issued: f.clock.Now(), Expires: f.clock.Now().Add(time.Hour)}
	b := musen.Token{ID: "b", Subject: "service", Actions: []string{"add"}, Issued: f.clock.Now().Add(time.Second), Expires: f.clock.Now().Add(time.Hour)}
	noErr(t, f.PutToken(ctx, a))
	noErr(t, f.PutToken(ctx, b))
	wantErr(t, f.PutToken(ctx, a), musen.ErrExists)
	wantErr(t, f.PutToken(ctx, musen.Token{}), musen.ErrInvalid)
	wantErr(t, f.PutToken(ctx, musen.Token{ID: strings.Repeat("x", 1<<16)}), musen.ErrInvalid)
	for range 2 {
		all, err := f.Tokens(ctx)
		noErr(t, err)
		if got, want := fmt.Sprintf("%+v", all), fmt.Sprintf("%+v", []musen.Token{b, a}); got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
		f.reopen()
	}
}

func testRevokeToken(t *testing.T, f *fixture) {
	ctx := t.Context()
	issued := f.clock.Now()
	noErr(t, f.PutToken(ctx, musen.Token{ID: "a", Subject: "s", Issued: issued, Expires: issued.Add(time.Hour)}))
	f.clock.forward(time.Minute)
	noErr(t, f.RevokeToken(ctx, "a"))
	noErr(t, f.RevokeToken(ctx, "a"))
	noErr(t, f.RevokeToken(ctx, "of another issuer"))
	wantErr(t, f.RevokeToken(ctx, ""), musen.ErrInvalid)
	for range 2 {
		for id, want := range map[string]bool{"a": true, "of another issuer": true, "b": false, "": false} {
			if f.Revoked(id, "s", issued) != want {
				t.Fatalf("revoked %q is not %v", id, want)
			}
		}
		all, err := f.Tokens(ctx)
		noErr(t, err)
		if !all[0].Revoked.Equal(f.clock.Now()) {
			t.Fatalf("revoked at %s", all[0].Revoked)
		}
		f.reopen()
	}
}

func testRevokeSubject(t *testing.T, f *fixture) {
	ctx := t.Context()
	now := f.clock.Now()
	noErr(t, f.PutToken(ctx, musen.Token{ID: "a", Subject: "s", Issued: now, Expires: now.Add(time.Hour)}))
	noErr(t, f.RevokeSubject(ctx, "s"))
	wantErr(t, f.RevokeSubject(ctx, ""), musen.ErrInvalid)
	for range 2 {
		for issued, want := range map[time.Time]bool{
			now.Add(-time.Hour): true, now: true, now.Truncate(time.Second): true,
			now.Truncate(time.Second).Add(999 * time.Millisecond): true, // tokens tell whole seconds
			now.Truncate(time.Second).Add(time.Second):            false,
		} {
			if f.Revoked("any", "s", issued) != want {
				t.Fatalf("issued %s: revoked is not %v", issued, want)
			}
			if f.Revoked("any", "another", issued) || f.Revoked("", "", issued) {
				t.Fatal("another subject is revoked")
			}
		}
		all, err := f.Tokens(ctx)
		noErr(t, err)
		if !all[0].Revoked.Equal(now) {
			t.Fatalf("revoked at %s", all[0].Revoked)
		}
		f.reopen()
	}
	f.clock.forward(time.Minute)
	noErr(t, f.RevokeSubject(ctx, "s")) // once more, for what came since
	if !f.Revoked("any", "s", now.Add(30*time.Second)) {
		t.Fatal("the second revocation has no effect")
	}
}

func testIdempotency(t *testing.T, f *fixture) {
	ctx := t.Context()
	_, found, err := f.Idempotent(ctx, "k", []byte("digest"))
	if err != nil || found {
		t.Fatalf("before: %v, %v", found, err)
	}
	noErr(t, f.PutIdempotent(ctx, "k", []byte("digest"), []byte("answer"), f.clock.Now().Add(time.Hour)))
	wantErr(t, f.PutIdempotent(ctx, "k", []byte("digest"), []byte("late"), f.clock.Now().Add(time.Hour)), musen.ErrExists)
	for range 2 {
		got, found, err := f.Idempotent(ctx, "k", []byte("digest"))
		if err != nil || !found || !bytes.Equal(got, []byte("answer")) {
			t.Fatalf("got %q, %v, %v", got, found, err)
		}
		_, _, err = f.Idempotent(ctx, "k", []byte("other"))
		wantErr(t, err, musen.ErrInvalid)
		f.reopen()
	}
	f.clock.forward(time.Hour)
	if _, found, err := f.Idempotent(ctx, "k", []byte("other")); err != nil || found {
		t.Fatalf("after it expired: %v, %v", found, err)
	}
	noErr(t, f.PutIdempotent(ctx, "k", []byte("other"), nil, f.clock.Now().Add(time.Hour)))
}

func testConcurrentWriters(t *testing.T, f *fixture) {
	ctx := t.Context()
	st := f.station("jazz")
	var all []musen.Segment
	for range 200 {
		all = append(all, newSegment(st.ID, 2, f.clock.Now()))
	}
	// A quarter of them is refused, each in the same transactions as others.
	f.inParallel(all, func(s musen.Segment) error {
		if err := f.Begin(ctx, s); err != nil {
			return err
		}
		if s.ID[0] < 'i' {
			if err := f.Commit(ctx, s, []byte(s.ID), nil); err != nil {
				return err
			}
			again := newSegment(st.ID, 1, s.Created)
			if err := f.Begin(ctx, again); err != nil {
				return err
			}
			if err := f.Commit(ctx, again, []byte(s.ID), nil); !errors.Is(err, musen.ErrExists) {
				return fmt.Errorf("equal audio was not refused: %w", err)
			}
			return f.Abort(ctx, again.ID)
		}
		return f.Commit(ctx, s, nil, nil)
	})
	for _, s := range all {
		got, err := f.Segment(ctx, s.CID.Hash())
		noErr(t, err)
		equalSegment(t, got, s)
	}
	if ids, err := f.Pending(ctx); err != nil || len(ids) != 0 {
		t.Fatalf("pending: %d, %v", len(ids), err)
	}
}

func testCancelled(t *testing.T, f *fixture) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, f.CreateStation(ctx, newStation("jazz")), context.Canceled)
	_, err := f.Station(t.Context(), "jazz")
	wantErr(t, err, musen.ErrNotFound)
	f.station("jazz")

	// Whoever gives up at any moment knows whether it happened.
	for i := range 50 {
		s := newStation(fmt.Sprintf("s%d", i))
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		err := f.CreateStation(ctx, s)
		_, there := f.Station(t.Context(), s.ID)
		if (err == nil) != (there == nil) {
			t.Fatalf("create says %v, the look-up says %v", err, there)
		}
	}
}

func testClosed(t *testing.T, f *fixture) {
	noErr(t, f.Close())
	wantErr(t, f.CreateStation(t.Context(), newStation("jazz")), musen.ErrUnavailable)
	if _, err := f.Pending(t.Context()); err == nil {
		t.Fatal("a closed catalogue answers")
	}
}

// H23: the key of another home opens nothing, and nothing is shown.
func testWrongKey(t *testing.T, f *fixture) {
	ctx := t.Context()
	now := f.clock.Now()
	noErr(t, f.PutToken(ctx, musen.Token{ID: "a", Subject: "s", Issued: now, Expires: now.Add(time.Hour)}))
	f.key = [32]byte{2}
	f.reopen()
	if all, err := f.Tokens(ctx); err == nil {
		t.Fatalf("a wrong key opens %+v", all)
	}
}

// H25: a segment answers to its multihash, whatever the spelling of the CID.
func testSpellings(t *testing.T, f *fixture) {
	ctx := t.Context()
	s := f.add(f.station("jazz").ID, 2, nil)
	for _, c := range []cid.Cid{cid.NewCidV0(s.CID.Hash()), cid.NewCidV1(cid.Raw, s.CID.Hash()), s.CID} {
		got, err := f.Segment(ctx, c.Hash())
		noErr(t, err)
		equalSegment(t, got, s)
		if has, err := f.HasBlock(ctx, c.Hash()); err != nil || !has {
			t.Fatalf("has block %s: %v, %v", c, has, err)
		}
	}
}
