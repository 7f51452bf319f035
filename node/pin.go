package node

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/ipfs/boxo/blockstore"
	pinner "github.com/ipfs/boxo/pinning/pinner"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/kubo/core/corerepo"
	"github.com/ipfs/kubo/gc"
)

// Pin keeps root and all below it from GC. Nothing is fetched: blocks that are
// not here are not missed until the next GC, which then refuses to run.
func (n *Node) Pin(ctx context.Context, root cid.Cid) error {
	ctx, leave, err := n.enter(ctx)
	if err != nil {
		return fmt.Errorf("pin %s: %w", root, err)
	}
	defer leave()
	n.gcMu.Lock() // a GC that runs has decided what to take
	defer n.gcMu.Unlock()
	return n.pin(ctx, root)
}

// pin leaves a pin that is there alone: the pinner would remove it first, and
// might then fail to make it anew.
func (n *Node) pin(ctx context.Context, root cid.Cid) error {
	_, pinned, err := n.kubo.Pinning.IsPinnedWithType(ctx, root, pinner.Recursive)
	if err == nil && !pinned {
		err = n.kubo.Pinning.PinWithMode(ctx, root, pinner.Recursive, "")
	}
	if err != nil {
		return fmt.Errorf("pin %s: %w", root, noSpace(err))
	}
	return nil
}

// Remove unpins root. Its blocks stay until the next GC, and longer if another
// pin needs them. To remove what is not pinned is no error.
func (n *Node) Remove(ctx context.Context, root cid.Cid) error {
	ctx, leave, err := n.enter(ctx)
	if err != nil {
		return fmt.Errorf("unpin %s: %w", root, err)
	}
	defer leave()
	err = n.kubo.Pinning.Unpin(ctx, root, true)
	if err != nil && !errors.Is(err, pinner.ErrNotPinned) {
		return fmt.Errorf("unpin %s: %w", root, noSpace(err))
	}
	return nil
}

// Pinned tells whether root is pinned.
func (n *Node) Pinned(ctx context.Context, root cid.Cid) (bool, error) {
	ctx, leave, err := n.enter(ctx)
	if err == nil {
		defer leave()
		var pinned bool
		if _, pinned, err = n.kubo.Pinning.IsPinnedWithType(ctx, root, pinner.Recursive); err == nil {
			return pinned, nil
		}
	}
	return false, fmt.Errorf("look up pin %s: %w", root, err)
}

// Pins lists the roots that are pinned, in no order.
func (n *Node) Pins(ctx context.Context) iter.Seq2[cid.Cid, error] {
	return func(yield func(cid.Cid, error) bool) {
		ctx, leave, err := n.enter(ctx)
		if err != nil {
			yield(cid.Undef, fmt.Errorf("list pins: %w", err))
			return
		}
		defer leave()
		for p := range n.kubo.Pinning.RecursiveKeys(ctx, false) {
			if p.Err != nil {
				yield(cid.Undef, fmt.Errorf("list pins: %w", p.Err))
				return
			}
			if !yield(p.Pin.Key, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(cid.Undef, fmt.Errorf("list pins: %w", err))
		}
	}
}

// GC removes the blocks that no pin needs and no Add or Fetch has in flight, and says
// how many and how many bytes. Adds go on while it runs. If a block above the
// leaves of a pinned root cannot be read, nothing is removed.
func (n *Node) GC(ctx context.Context) (removed int, freed int64, err error) {
	ctx, leave, err := n.enter(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("collect garbage: %w", err)
	}
	defer leave()
	n.gcMu.Lock()
	defer n.gcMu.Unlock()
	keep, err := corerepo.BestEffortRoots(n.kubo.FilesRoot)
	if err != nil {
		return 0, 0, fmt.Errorf("collect garbage: %w", err)
	}
	keep = append(keep, emptyBlock().Cid())

	n.flight.beginGC()
	defer n.flight.endGC()
	s := &sweeper{GCBlockstore: n.kubo.Blockstore, node: n}
	var errs []error
	for res := range gc.GC(ctx, s, n.kubo.Repo.Datastore(), n.kubo.Pinning, keep) {
		if res.Error != nil {
			errs = append(errs, res.Error)
		}
	}
	if err := errors.Join(append(errs, ctx.Err(), n.measureSpace(ctx))...); err != nil {
		return s.removed, s.freed, fmt.Errorf("collect garbage: %w", err)
	}
	return s.removed, s.freed, nil
}

// sweeper is the blockstore that a GC deletes from: it spares what is in
// flight, and counts.
type sweeper struct {
	blockstore.GCBlockstore
	node    *Node
	removed int
	freed   int64
}

// DeleteBlock deletes a block unless an Add or a Fetch put it, or is about to,
// since the GC began.
func (s *sweeper) DeleteBlock(ctx context.Context, c cid.Cid) error {
	d, ok := digestOf(c)
	if !ok {
		return s.GCBlockstore.DeleteBlock(ctx, c)
	}
	f := &s.node.flight
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held[d] > 0 {
		return nil
	}
	size, err := s.GetSize(ctx, c)
	if err != nil {
		return err
	}
	if err := s.GCBlockstore.DeleteBlock(ctx, c); err != nil {
		return err
	}
	s.node.hot.forget(d)
	s.node.space.removed(int64(size))
	s.removed++
	s.freed += int64(size)
	return nil
}

// flight knows the blocks that Adds and Fetches have written, or are about to, and not
// pinned yet.
type flight struct {
	mu   sync.Mutex
	held map[digest]int
	// A GC marks before it sweeps, so it does not see a pin of meanwhile: what
	// is released while it runs stays held until it ends.
	collecting bool
	late       map[digest]int // released while it runs
}

func (f *flight) hold(d digest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held[d]++
}

func (f *flight) release(ds []digest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range ds {
		if f.collecting {
			f.late[d]++
		} else {
			f.drop(d, 1)
		}
	}
}

func (f *flight) drop(d digest, n int) {
	if f.held[d] -= n; f.held[d] == 0 {
		delete(f.held, d)
	}
}

// busy is how many are at work on a block. The lock is held.
func (f *flight) busy(d digest) int { return f.held[d] - f.late[d] }

func (f *flight) beginGC() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.collecting, f.late = true, map[digest]int{}
}

func (f *flight) endGC() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.collecting = false
	for d, n := range f.late {
		f.drop(d, n)
	}
	f.late = nil
}
