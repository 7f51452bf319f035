package catalog_test

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog"
)

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

func options(key [32]byte, now func() time.Time) catalog.Options {
	aead, err := subtle.NewAESGCM(key[:])
	if err != nil {
		panic(err)
	}
	mac := func(data []byte) []byte {
		h := hmac.New(sha256.New, key[:])
		h.Write(data)
		return h.Sum(nil)
	}
	return catalog.Options{Cipher: aead, LookupMAC: mac, Now: now}
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
	return musen.Station{
		ID: newID(), Name: name, Description: "about " + name, Label: newID()[:16], Epoch: 1,
		Created: time.UnixMicro(1900000000123456).UTC(), Replication: musen.Replication{Min: 2, Max: 3, Spread: true, Community: 5},
	}
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
