package musen_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/testnet"
	"github.com/musenai/musen/node"
)

// P5: audio that is added again mends what rotted of it: a sound segment takes
// the place of the damaged one, which is removed.
func TestAddMendsDamagedAudio(t *testing.T) {
	for what, damage := range map[string]func(path string) error{
		"flipped": func(path string) error {
			b, err := os.ReadFile(path)
			must(t, err)
			b[len(b)/2] ^= 1
			return os.WriteFile(path, b, 0o600)
		},
		"cut":  func(path string) error { return os.Truncate(path, 10) },
		"gone": os.Remove,
	} {
		t.Run(what, func(t *testing.T) {
			h := testnet.New(t, testnet.Uncached)
			f := &faults{}
			o := f.put(h.Origin())
			station(t, o, "jazz")
			source := wav(1, 600<<10)
			bad := add(t, o, "jazz", source)
			must(t, damage(h.BlockFile(bad.Leaves[1])))
			fresh := add(t, o, "jazz", source) // which is not said to exist
			if fresh.CID.Equals(bad.CID) {
				t.Fatal("it is the same segment")
			}
			wantAudio(t, h.Edge(t), fresh.CID, source)
			tomb, err := h.Rows.Segment(t.Context(), bad.CID.Hash())
			if err != nil || tomb.State != musen.Removed {
				t.Errorf("the damaged segment: %+v, %v", tomb.State, err)
			}
			same, existing, err := o.Add(t.Context(), musen.AddRequest{Station: "jazz"}, bytes.NewReader(source))
			if err != nil || !existing || same.ID != fresh.ID {
				t.Errorf("once more: existing %v, %v", existing, err)
			}
			sound := blockFiles(t, h)
			_, _, err = h.Node.GC(t.Context())
			must(t, err)
			nothingLeft(t, h, blockFiles(t, h), f.wrapped[0], f.wrapped[2])
			if len(sound) <= len(blockFiles(t, h)) {
				t.Error("the damaged blocks are still there")
			}
			wantAudio(t, h.Edge(t), fresh.CID, source)
		})
	}
}

// faultyReplace makes Replace fail too.
type faultyReplace struct {
	musen.Records
	f *faults
}

func (r faultyReplace) Replace(ctx context.Context, old string, s musen.Segment, fp []byte, inner []cid.Cid) error {
	return r.f.step("Replace", func() error { return r.Records.Replace(ctx, old, s, fp, inner) })
}

// Whatever step of mending fails, there is one segment, and no loss of what
// was there.
func TestMendingThatFails(t *testing.T) {
	for _, c := range []struct{ before, after string }{
		{"Replace", ""}, {"", "Replace"}, {"Unpin", ""}, {"Replace Abort Unpin", ""},
	} {
		t.Run(c.before+" / "+c.after, func(t *testing.T) {
			h := testnet.New(t, testnet.Uncached)
			station(t, h.Origin(), "jazz")
			source := wav(1, 600<<10)
			bad := add(t, h.Origin(), "jazz", source)
			must(t, os.Truncate(h.BlockFile(bad.Leaves[2]), 5))
			f := &faults{before: steps(c.before), after: steps(c.after)}
			o := f.put(h.Origin())
			o.Records = faultyReplace{o.Records, f}
			_, _, _ = o.Add(t.Context(), musen.AddRequest{Station: "jazz"}, bytes.NewReader(source))
			must(t, h.Origin().Recover(t.Context()))
			inAgreement(t, h)
			if n, err := h.Rows.Count(t.Context()); err != nil || n != 1 {
				t.Errorf("%d segments, %v", n, err)
			}
			_, _, err := h.Origin().Add(t.Context(), musen.AddRequest{Station: "jazz"}, bytes.NewReader(source))
			must(t, err)
			must(t, h.Origin().Recover(t.Context()))
			inAgreement(t, h)
			wantAudio(t, h.Edge(t), firstRoot(t, h), source)
		})
	}
}

func TestMendingAtTheSameTime(t *testing.T) {
	h := testnet.New(t, testnet.Uncached)
	o := h.Origin()
	station(t, o, "jazz")
	source := wav(1, 600<<10)
	must(t, os.Truncate(h.BlockFile(add(t, o, "jazz", source).Leaves[0]), 5))
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if _, _, err := o.Add(t.Context(), musen.AddRequest{Station: "jazz"}, bytes.NewReader(source)); err != nil && !errors.Is(err, musen.ErrUnavailable) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	inAgreement(t, h)
	if n, err := h.Rows.Count(t.Context()); err != nil || n != 1 {
		t.Errorf("%d segments, %v", n, err)
	}
	wantAudio(t, h.Edge(t), firstRoot(t, h), source)
}

// fullNode says of a full node what the program does.
type fullNode struct{ musen.Blocks }

func (b fullNode) Add(ctx context.Context, r io.Reader) (root cid.Cid, leaves, inner []cid.Cid, err error) {
	root, leaves, inner, err = b.Blocks.Add(ctx, r)
	if errors.Is(err, node.ErrNoSpace) {
		err = errors.Join(musen.ErrNoSpace, err)
	}
	return root, leaves, inner, err
}

// H69: an add that finds no space leaves none of its blocks, so that a smaller
// one finds some, and no operator is needed.
func TestNoSpaceMakesRoom(t *testing.T) {
	h := testnet.New(t, func(o *node.Options) { o.StorageMax = 8 << 20 })
	f := &faults{}
	o := f.put(h.Origin())
	o.Blocks = fullNode{o.Blocks}
	station(t, o, "jazz")
	kept := add(t, o, "jazz", wav(1, 600<<10))
	blocks := blockFiles(t, h)
	for seed := range byte(3) {
		_, _, err := o.Add(t.Context(), musen.AddRequest{Station: "jazz"}, bytes.NewReader(wav(2+seed, 10<<20)))
		wantErr(t, err, musen.ErrNoSpace)
		if got := blockFiles(t, h); len(got) != len(blocks) {
			t.Errorf("%d blocks are on the disk, not %d", len(got), len(blocks))
		}
		add(t, o, "jazz", wav(10+seed, 1000))
		blocks = blockFiles(t, h)
	}
	if f.calls["GC"] != 3 {
		t.Errorf("%d collections", f.calls["GC"])
	}

	// Adds that fail at the same time leave nothing either.
	var wg sync.WaitGroup
	for seed := range byte(4) {
		wg.Go(func() {
			_, _, err := o.Add(t.Context(), musen.AddRequest{Station: "jazz"}, bytes.NewReader(wav(20+seed, 10<<20)))
			if !errors.Is(err, musen.ErrNoSpace) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := blockFiles(t, h); len(got) != len(blocks) {
		t.Errorf("%d blocks are on the disk, not %d", len(got), len(blocks))
	}
	inAgreement(t, h)
	wantAudio(t, h.Edge(t), kept.CID, wav(1, 600<<10))
}
