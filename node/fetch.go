package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"golang.org/x/sync/errgroup"
)

const (
	// fetchWindow is how many leaves one Fetch asks for at a time. It bounds
	// the memory of a Fetch to so many blocks.
	fetchWindow = 8
	// innerSize is what a full block above the leaves takes, at most.
	innerSize = 12 << 10
	// pinCost is what the pin of a root takes of the metadata, about.
	pinCost = 1 << 10
	// maxDepth and maxBlocks bound a tree of blocks: a real one of so many
	// leaves, 256 GiB, is four deep.
	maxDepth  = 8
	maxBlocks = 1 << 20
)

var (
	errStalled = errors.New("no peer sent a block in time")
	errPurged  = errors.New("purged meanwhile")
)

// Fetch gets all blocks of root that are not here, or are rotten here, from
// connected peers, and pins root. Each is checked against its CID and durable
// before the pin. size is how many bytes the sealed segment has; 0: unknown.
// Room for it is reserved at once: Fetch returns ErrNoSpace before it asks for
// the first block if StorageMax or the disk has none, and never passes either,
// whatever size said. ErrNotFound says that no peer sent another block within
// Options.FetchTimeout, ErrDenied that root or a block below it is denied.
//
// On an error what was fetched is deleted, and nothing is pinned that was not
// before. Calls for the same root at the same time share one run, which goes on
// until the last of them gave up. No GC takes blocks of a Fetch. To fetch what
// is here and pinned is cheap, and no error. The pin is durable with the next
// Sync of Store.
func (n *Node) Fetch(ctx context.Context, root cid.Cid, size int64) error {
	err := n.pulls.do(ctx, fetchOf(root), func(ctx context.Context) error {
		return n.pull(ctx, root, size)
	})
	if err != nil {
		return fmt.Errorf("fetch %s: %w", root, err)
	}
	return nil
}

// fetchCost is what a segment of that many bytes takes on the disk.
func fetchCost(size int64) int64 {
	leaves := (size + leafSize - 1) / leafSize
	cost := pinCost + size/leafSize*fileCost(leafSize) + fileCost(size%leafSize)
	for leaves > 1 {
		leaves = (leaves + int64(helpers.DefaultLinksPerBlock) - 1) / int64(helpers.DefaultLinksPerBlock)
		cost += leaves * fileCost(innerSize)
	}
	return cost
}

// pull is one run of a Fetch.
type pull struct {
	node   *Node
	room   *reservation
	stall  *time.Timer // ends the run unless it is reset by a new block
	leaves *errgroup.Group

	mu   sync.Mutex
	held map[digest]bool // true: fetched by this run
}

func (n *Node) pull(ctx context.Context, root cid.Cid, size int64) error {
	if n.denied(root) {
		return ErrDenied
	}
	if here, err := n.whole(ctx, root); err != nil || here {
		return err
	}
	return n.bring(ctx, root, size, false)
}

// Mend gets the blocks of root that are missing or rotten here from connected
// peers, reading all of them to know. What it got stays, also when it then
// fails with ErrNotFound, as Fetch does, or ErrNoSpace. It pins root.
func (n *Node) Mend(ctx context.Context, root cid.Cid) error {
	err := n.pulls.do(ctx, mendOf(root), func(ctx context.Context) error {
		return n.bring(ctx, root, 0, true)
	})
	if err != nil {
		return fmt.Errorf("mend %s: %w", root, err)
	}
	return nil
}

// fetchOf and mendOf name runs.
func fetchOf(root cid.Cid) string { return "fetch " + root.KeyString() }
func mendOf(root cid.Cid) string  { return "mend " + root.KeyString() }

// bring is one run of a Fetch, or, with parts, of a Mend, to which each block
// is worth having.
func (n *Node) bring(ctx context.Context, root cid.Cid, size int64, parts bool) (err error) {
	room, err := n.reserve(fetchCost(max(0, size)))
	if err != nil {
		return err
	}
	defer room.release()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p := &pull{node: n, room: room, held: map[digest]bool{}}
	defer func() { p.end(err != nil && !parts) }()
	p.stall = time.AfterFunc(n.opts.FetchTimeout, func() { cancel(errStalled) })
	defer p.stall.Stop()
	if err = p.tree(ctx, root); err == nil {
		err = n.pin(ctx, root)
	}
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		err = fmt.Errorf("%w: no peer sent a block within %s", ErrNotFound, n.opts.FetchTimeout.Round(time.Millisecond))
	}
	return err
}

// whole tells whether root is pinned and all below it here. Hashes of leaves
// are not checked.
func (n *Node) whole(ctx context.Context, root cid.Cid) (bool, error) {
	pinned, err := n.Pinned(ctx, root)
	if err != nil || !pinned {
		return false, err
	}
	leaves, err := n.localLeaves(ctx, root, nil)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrRotten) {
		return false, nil
	}
	for _, l := range leaves {
		d, _ := digestOf(l.CID)
		if _, there := n.files.size(d); !there {
			return false, nil
		}
	}
	return err == nil, err
}

// tree brings root and all below it here.
func (p *pull) tree(ctx context.Context, root cid.Cid) error {
	p.leaves, ctx = errgroup.WithContext(ctx)
	p.leaves.SetLimit(fetchWindow)
	_, err := p.seen(root)
	if err == nil {
		err = p.branch(ctx, root, 0)
	}
	if lerr := p.leaves.Wait(); lerr != nil && (err == nil || ctx.Err() != nil) {
		err = lerr // it came first
	}
	return err
}

// branch brings a block, and those below it if it is an inner one.
func (p *pull) branch(ctx context.Context, c cid.Cid, depth int) error {
	b, err := p.block(ctx, c)
	if err != nil || c.Type() != cid.DagProtobuf {
		return err
	}
	inner, err := merkledag.DecodeProtobuf(b.RawData())
	if err != nil {
		return fmt.Errorf("block %s: %w", c, err)
	}
	if depth == maxDepth {
		return fmt.Errorf("block %s: more than %d blocks deep", c, maxDepth)
	}
	for _, link := range inner.Links() {
		if seen, err := p.seen(link.Cid); err != nil || seen {
			if err != nil {
				return err
			}
			continue
		}
		if link.Cid.Type() == cid.DagProtobuf {
			if err := p.branch(ctx, link.Cid, depth+1); err != nil {
				return err
			}
			continue
		}
		p.leaves.Go(func() error {
			_, err := p.block(ctx, link.Cid)
			return err
		})
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// seen protects a block from GC and tells whether the run came by it before. One
// that is denied ends the run, wherever it is.
func (p *pull) seen(c cid.Cid) (bool, error) {
	d, ok := digestOf(c)
	if !ok {
		return false, fmt.Errorf("block %s: %w: not named by a SHA-256", c, ErrNotFound)
	}
	if p.node.denied(c) {
		return false, fmt.Errorf("block %s: %w", c, ErrDenied)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.held[d]; ok {
		return true, nil
	}
	if len(p.held) == maxBlocks {
		return false, fmt.Errorf("more than %d blocks", maxBlocks)
	}
	p.held[d] = false
	p.node.flight.hold(d)
	return false, nil
}

// block returns a block once it is durable here.
func (p *pull) block(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	n := p.node
	b, err := n.verified(ctx, c)
	if err == nil {
		p.stall.Reset(n.opts.FetchTimeout)
		return b, nil
	}
	rotten := errors.Is(err, ErrRotten)
	if !rotten && !errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("block %s: %w", c, err)
	}
	if len(n.kubo.PeerHost.Network().Peers()) == 0 {
		return nil, fmt.Errorf("block %s: %w: no peer is connected", c, ErrNotFound)
	}
	through := n.sessions.borrow()
	defer n.sessions.giveBack(through)
	if b, err = n.demand(ctx, c, through); err != nil {
		return nil, fmt.Errorf("block %s: %w", c, err)
	}
	p.stall.Reset(n.opts.FetchTimeout)
	d, _ := digestOf(c)
	store := func() error {
		p.mu.Lock()
		p.held[d] = true
		p.mu.Unlock()
		return n.putReserved(ctx, b, p.room)
	}
	if rotten {
		err = n.replace(ctx, d, b, store)
	} else {
		err = store()
	}
	if err != nil {
		return nil, err
	}
	n.hot.forget(d)
	return b, n.kubo.Exchange.NotifyNewBlocks(ctx, b)
}

// end gives the blocks free for GC. What was fetched in vain is deleted.
func (p *pull) end(vain bool) {
	held := make([]digest, 0, len(p.held))
	for d, fetched := range p.held {
		held = append(held, d)
		if fetched && vain {
			if err := p.node.discardUnless(d, 1); err != nil {
				p.node.opts.Logger.Warn("delete a block that was fetched in vain", "err", err)
			}
		}
	}
	p.node.flight.release(held)
}
