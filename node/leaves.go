package node

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
)

// A Leaf is a block that holds bytes of a segment, and how many.
type Leaf struct {
	CID  cid.Cid
	Size int64
}

// Leaves lists the leaves of root in the order of their bytes, from blocks of
// this machine alone. Those above the leaves are checked; the leaves are not
// read, and may be missing or rotten, but for a root that is its own leaf and
// must be here. ErrNotFound and ErrRotten are about the blocks that are read.
func (n *Node) Leaves(ctx context.Context, root cid.Cid) ([]Leaf, error) {
	ctx, leave, err := n.enter(ctx)
	var leaves []Leaf
	if err == nil {
		defer leave()
		leaves, err = n.localLeaves(ctx, root, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("list leaves of %s: %w", root, err)
	}
	return leaves, nil
}

// localLeaves does what Leaves does and calls visit, unless it is nil, for all
// blocks below root that it learns of. It goes on after an error, of which it
// returns the first.
func (n *Node) localLeaves(ctx context.Context, root cid.Cid, visit func(cid.Cid)) ([]Leaf, error) {
	if visit == nil {
		visit = func(cid.Cid) {}
	}
	w := &localWalk{node: n, visit: visit}
	if root.Type() == cid.DagProtobuf {
		w.branch(ctx, root, 0)
		return w.leaves, w.err
	}
	d, ok := digestOf(root)
	size, there := n.files.size(d)
	if !ok || !there {
		return nil, ErrNotFound
	}
	return []Leaf{{root, size}}, nil
}

// localWalk goes through the blocks of one root that are here.
type localWalk struct {
	node   *Node
	visit  func(cid.Cid)
	leaves []Leaf
	blocks int
	err    error
}

func (w *localWalk) fail(c cid.Cid, err error) {
	if w.err == nil {
		w.err = fmt.Errorf("inner block %s: %w", c, err)
	}
}

func (w *localWalk) branch(ctx context.Context, c cid.Cid, depth int) {
	b, err := w.node.verified(ctx, c)
	if err != nil {
		w.fail(c, err)
		return
	}
	inner, err := merkledag.DecodeProtobuf(b.RawData())
	if err != nil {
		w.fail(c, fmt.Errorf("%w: %w", ErrRotten, err))
		return
	}
	file, err := unixfs.FSNodeFromBytes(inner.Data())
	switch {
	case err != nil:
	case file.NumChildren() != len(inner.Links()):
		err = errors.New("sizes and links differ in number")
	case depth == maxDepth:
		err = fmt.Errorf("more than %d blocks deep", maxDepth)
	}
	if err != nil {
		w.fail(c, fmt.Errorf("not part of a file: %w", err))
		return
	}
	for i, link := range inner.Links() {
		if w.blocks++; w.blocks > maxBlocks {
			w.fail(c, fmt.Errorf("more than %d blocks", maxBlocks))
			return
		}
		w.visit(link.Cid)
		if link.Cid.Type() == cid.DagProtobuf {
			w.branch(ctx, link.Cid, depth+1)
			continue
		}
		w.leaves = append(w.leaves, Leaf{link.Cid, int64(file.BlockSize(i))})
	}
}

// Blocks lists all blocks on this disk, as raw CIDs of version 1, in no order
// that means anything. Those that come or go meanwhile may be missing or in it.
func (n *Node) Blocks(ctx context.Context) iter.Seq2[cid.Cid, error] {
	return func(yield func(cid.Cid, error) bool) {
		ctx, leave, err := n.enter(ctx)
		if err != nil {
			yield(cid.Undef, fmt.Errorf("list blocks: %w", err))
			return
		}
		defer leave()
		for d, err := range n.files.all() {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(cid.Undef, fmt.Errorf("list blocks: %w", err))
				return
			}
			if !yield(d.cid(), nil) {
				return
			}
		}
	}
}

// cid is the raw CID of version 1 of the block.
func (d digest) cid() cid.Cid {
	mh, err := multihash.Encode(d[:], multihash.SHA2_256)
	if err != nil {
		panic(err) // unreachable: the code is known
	}
	return cid.NewCidV1(cid.Raw, mh)
}
