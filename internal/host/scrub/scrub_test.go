package scrub

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
)

// disk is a disk in memory, with segments on it and a peer that has what good
// holds.
type disk struct {
	blocks   map[cid.Cid][]byte
	good     map[cid.Cid][]byte
	segments map[cid.Cid][]cid.Cid // root: leaves
	order    []cid.Cid
	lost     []string
	read     int64
	broken   func() error // of listing blocks; nil: none
}

func newDisk() *disk {
	return &disk{blocks: map[cid.Cid][]byte{}, good: map[cid.Cid][]byte{}, segments: map[cid.Cid][]cid.Cid{}}
}

func (d *disk) put(b []byte) cid.Cid {
	sum := sha256.Sum256(b)
	mh, err := multihash.Encode(sum[:], multihash.SHA2_256)
	if err != nil {
		panic(err) // unreachable: the hash has its length
	}
	c := cid.NewCidV1(cid.Raw, mh)
	d.blocks[c], d.good[c] = b, b
	d.order = append(d.order, c)
	return c
}

// hold makes a segment of n leaves of size bytes.
func (d *disk) hold(name string, n, size int) (root cid.Cid) {
	var leaves []cid.Cid
	for i := range n {
		leaves = append(leaves, d.put([]byte(fmt.Sprintf("%s %d %s", name, i, strings.Repeat("x", size)))))
	}
	root = d.put([]byte(name))
	d.segments[root] = leaves
	return root
}

func (d *disk) Blocks(context.Context) iter.Seq2[cid.Cid, error] {
	return func(yield func(cid.Cid, error) bool) {
		if d.broken != nil {
			if err := d.broken(); err != nil {
				yield(cid.Undef, err)
				return
			}
		}
		for _, c := range d.order {
			if _, ok := d.blocks[c]; ok && !yield(c, nil) {
				return
			}
		}
	}
}

func (d *disk) Size(_ context.Context, c cid.Cid) (int64, error) {
	b, ok := d.blocks[c]
	if !ok {
		return 0, ErrMissing
	}
	return int64(len(b)), nil
}

func (d *disk) Verify(_ context.Context, c cid.Cid) error {
	b, ok := d.blocks[c]
	if !ok {
		return ErrMissing
	}
	d.read += int64(len(b))
	if sum := sha256.Sum256(b); !strings.HasSuffix(string(c.Hash()), string(sum[:])) {
		return fmt.Errorf("block %s: %w", c, ErrRotten)
	}
	return nil
}

func (d *disk) Roots(context.Context) iter.Seq2[cid.Cid, error] {
	return func(yield func(cid.Cid, error) bool) {
		for root := range d.segments {
			if !yield(root, nil) {
				return
			}
		}
	}
}

func (d *disk) Leaves(ctx context.Context, root cid.Cid) ([]cid.Cid, error) {
	if err := d.Verify(ctx, root); err != nil {
		return nil, err
	}
	return d.segments[root], nil
}

func (d *disk) Heal(_ context.Context, c cid.Cid) error {
	b, ok := d.good[c]
	if !ok {
		return errors.New("no peer has it")
	}
	d.blocks[c] = b
	return nil
}

func (d *disk) Lost(_ context.Context, root cid.Cid, reason string) {
	d.lost = append(d.lost, root.String())
	if reason == "" {
		panic("lost for no reason")
	}
}

func (d *disk) scrubber(rate int64) *Scrubber {
	return New(Options{Disk: d, Segments: d, Mender: d, Rate: rate, Every: 7 * 24 * time.Hour, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
}

func TestRotIsReplaced(t *testing.T) {
	d := newDisk()
	a, b, c := d.hold("a", 3, 100), d.hold("b", 3, 100), d.hold("c", 2, 100)
	d.blocks[d.segments[a][1]] = []byte("rot")                   // replaced
	delete(d.blocks, d.segments[b][0])                           // fetched
	d.blocks[b] = []byte("rot")                                  // so is a root
	d.blocks[d.segments[c][1]] = []byte("rot that nobody mends") // lost
	delete(d.good, d.segments[c][1])
	r, err := d.scrubber(1 << 30).Pass(t.Context())
	if err != nil || r.Healed != 3 || r.Lost != 1 || !slices.Equal(d.lost, []string{c.String()}) {
		t.Errorf("got %+v, %v; lost %v", r, err, d.lost)
	}
	for root, leaves := range d.segments {
		for _, block := range append(leaves, root) {
			if err := d.Verify(t.Context(), block); (err != nil) != (block == d.segments[c][1]) {
				t.Errorf("%s: %v", block, err)
			}
		}
	}
	if string(d.blocks[d.segments[c][1]]) == "" {
		t.Error("what could not be replaced was taken away")
	}
}

// A root that is gone, with nobody to give another, is a lost segment; so is
// one that lost a leaf.
func TestWhatIsGoneIsTold(t *testing.T) {
	d := newDisk()
	a, b, whole := d.hold("a", 2, 10), d.hold("b", 2, 10), d.hold("whole", 2, 10)
	for _, c := range []cid.Cid{a, d.segments[b][1]} {
		delete(d.blocks, c)
		delete(d.good, c)
	}
	r, err := d.scrubber(1 << 30).Pass(t.Context())
	if err != nil || r.Lost != 2 || slices.Contains(d.lost, whole.String()) {
		t.Errorf("got %+v, %v; lost %v", r, err, d.lost)
	}
}

// No more is read in a second than may be.
func TestRateHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		d.hold("a", 100, 10_000)
		start := time.Now()
		r, err := d.scrubber(100_000).Pass(t.Context())
		if took := time.Since(start); err != nil || took < 9*time.Second || took > 11*time.Second {
			t.Errorf("read %d bytes in %s, %v", r.Bytes, took, err)
		}
		if r.Blocks != 101 || r.Bytes != d.read-4 && r.Bytes < 1_000_000 {
			t.Errorf("got %+v", r)
		}
	})
}

// A pass comes once a week, also over restarts, and once more soon after one
// that failed.
func TestRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		d.hold("a", 1, 10)
		var began []time.Duration
		start := time.Now()
		s := d.scrubber(1 << 20)
		s.o.Last = start.Add(-6 * 24 * time.Hour)
		s.o.Done = func(r Result) { began = append(began, r.Began.Sub(start).Round(time.Hour)) }
		ctx, cancel := context.WithTimeout(t.Context(), 18*24*time.Hour)
		defer cancel()
		d.broken = func() error {
			if at := time.Since(start); at > 7*24*time.Hour && at < 8*24*time.Hour+90*time.Minute {
				return errors.New("the disk is away")
			}
			return nil
		}
		s.Run(ctx)
		day := 24 * time.Hour
		if want := []time.Duration{day, 8*day + 2*time.Hour, 15*day + 2*time.Hour}; !slices.Equal(began, want) {
			t.Errorf("passes began after %v, want %v", began, want)
		}
	})
}

func TestPassEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		d.hold("a", 100, 10_000)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if _, err := d.scrubber(100_000).Pass(ctx); err == nil || len(d.lost) > 0 {
			t.Errorf("got %v, lost %v", err, d.lost)
		}
	})
}
