package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
)

// Purge unpins root and deletes its blocks, those of them that are here, from
// the disk and from memory. On return that is durable. It must not share
// blocks with another root. A Fetch or Mend of it that runs is ended first. The
// empty block stays: every node has it. If a block above the leaves cannot be
// read, a GC takes what is below it. To purge what is not here is no error.
func (n *Node) Purge(ctx context.Context, root cid.Cid) error {
	ctx, leave, err := n.enter(ctx)
	if err == nil {
		defer leave()
		n.pulls.stop(fetchOf(root), errPurged)
		n.pulls.stop(mendOf(root), errPurged)
		err = n.purge(ctx, root)
	}
	if err != nil {
		return fmt.Errorf("purge %s: %w", root, err)
	}
	return nil
}

func (n *Node) purge(ctx context.Context, root cid.Cid) error {
	d, ok := digestOf(root)
	if !ok {
		return nil // no such block is kept here
	}
	pinned, err := n.Pinned(ctx, root)
	if err != nil {
		return err
	}
	all := []digest{d}
	_, unseen := n.localLeaves(ctx, root, func(c cid.Cid) {
		if d, ok := digestOf(c); ok {
			all = append(all, d)
		}
	})
	if unseen != nil && !errors.Is(unseen, ErrNotFound) && !errors.Is(unseen, ErrRotten) {
		return unseen
	}
	if err := n.Remove(ctx, root); err != nil {
		return err
	}
	for _, d := range all {
		if err := n.discardUnless(d, 0); err != nil {
			return err
		}
	}
	if err := n.syncRemoval(ctx, all); err != nil {
		return err
	}
	if pinned && unseen != nil && root.Type() == cid.DagProtobuf {
		_, _, err = n.GC(ctx)
	}
	return err
}

// discardUnless deletes a block unless more than own Adds and Fetches have it
// in flight, or every node has it.
func (n *Node) discardUnless(d digest, own int) error {
	for _, b := range seeds() {
		if s, _ := digestOf(b.Cid()); s == d {
			return nil
		}
	}
	n.flight.mu.Lock()
	defer n.flight.mu.Unlock()
	if n.flight.busy(d) > own {
		return nil
	}
	return n.discard(d)
}

// discard deletes a block, whoever is at work on it, and counts what that
// gives back.
func (n *Node) discard(d digest) error {
	size, there := n.files.size(d)
	if there {
		if err := n.kubo.Blockstore.DeleteBlock(context.Background(), d.cid()); err != nil {
			return fmt.Errorf("delete block %s: %w", d.cid(), err)
		}
		n.space.removed(size)
	}
	n.hot.forget(d)
	return nil
}

// syncRemoval makes durable that blocks were deleted and their root unpinned.
func (n *Node) syncRemoval(ctx context.Context, removed []digest) error {
	synced := map[string]bool{}
	for _, d := range removed {
		folder := n.files.folder(d)
		if synced[folder] {
			continue
		}
		if err := syncPath(folder); err != nil {
			return err
		}
		synced[folder] = true
	}
	return n.Store().Sync(ctx, ds.NewKey("/pins"))
}
