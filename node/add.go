package node

import (
	"context"
	"fmt"
	"io"

	chunk "github.com/ipfs/boxo/chunker"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs/importer/balanced"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	pool "github.com/libp2p/go-buffer-pool"
	"golang.org/x/sync/errgroup"
)

const (
	leafSize = 256 << 10
	// addWrites is how many blocks of one Add are on their way to the disk at
	// once. It bounds the memory of an Add to two leaves more than that.
	addWrites = 4
)

// Add stores the bytes of r as an IPFS file: CIDv1, raw leaves of 262,144
// bytes, balanced, SHA-256, the CID that ipfs add --cid-version=1 --raw-leaves
// gives. leaves are in the order of the bytes, repeats included; inner are the
// blocks above them, root among them, and none for a file of one leaf, which
// is its own root.
//
// On return every block is durable, its folder entry included, and root is
// pinned. A power cut may take the pin, and only the pin: the owner pins what
// it wants kept before its first GC. On an error nothing is pinned and what
// was written goes with the next GC. Memory is bounded whatever the length of
// r, and no GC waits for r or takes its blocks.
func (n *Node) Add(ctx context.Context, r io.Reader) (root cid.Cid, leaves, inner []cid.Cid, err error) {
	ctx, leave, err := n.enter(ctx)
	if err != nil {
		return cid.Undef, nil, nil, fmt.Errorf("add: %w", err)
	}
	defer leave()
	s := newSink(ctx, n)
	defer s.release()
	if root, err = s.store(r); err == nil {
		err = n.pin(ctx, root)
	}
	if err != nil {
		return cid.Undef, nil, nil, fmt.Errorf("add: %w", err)
	}
	return root, s.leaves, s.inner, nil
}

// sink takes the blocks of one Add from the importer, notes their CIDs, and
// writes them, a few at a time.
type sink struct {
	ipld.DAGService // nil: the balanced layout only calls Add

	node   *Node
	ctx    context.Context // of the one Add that this sink serves; ends with its first failed write
	writes *errgroup.Group
	leaves []cid.Cid
	inner  []cid.Cid
	held   []digest
}

func newSink(ctx context.Context, n *Node) *sink {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(addWrites)
	return &sink{node: n, ctx: ctx, writes: g}
}

// store lays r out and returns once all its blocks are durable.
func (s *sink) store(r io.Reader) (cid.Cid, error) {
	prefix, err := merkledag.PrefixForCidVersion(1)
	if err != nil {
		return cid.Undef, err
	}
	params := helpers.DagBuilderParams{
		Dagserv:    s,
		RawLeaves:  true,
		Maxlinks:   helpers.DefaultLinksPerBlock,
		CidBuilder: prefix,
	}
	builder, err := params.New(chunk.NewSizeSplitter(r, leafSize))
	if err != nil {
		return cid.Undef, err
	}
	root, err := balanced.Layout(builder)
	if werr := s.writes.Wait(); werr != nil {
		err = werr // it came first
	}
	if err != nil {
		return cid.Undef, err
	}
	return root.Cid(), nil
}

// Add writes one block in the background. The importer does not touch a block
// again that it has added, so the buffer of a leaf is used anew once written.
func (s *sink) Add(_ context.Context, nd ipld.Node) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	d, ok := digestOf(nd.Cid())
	if !ok {
		return fmt.Errorf("block %s is not named by a SHA-256", nd.Cid()) // unreachable
	}
	s.node.flight.hold(d)
	s.held = append(s.held, d)
	_, leaf := nd.(*merkledag.RawNode)
	if leaf {
		s.leaves = append(s.leaves, nd.Cid())
	} else {
		s.inner = append(s.inner, nd.Cid())
	}
	s.writes.Go(func() error {
		err := s.node.put(s.ctx, nd)
		if leaf {
			pool.Put(nd.RawData())
		}
		return err
	})
	return nil
}

// release ends the protection of the blocks from GC: they are pinned by now,
// or given up.
func (s *sink) release() {
	_ = s.writes.Wait() // an importer that failed may have left writes behind
	s.node.flight.release(s.held)
}
