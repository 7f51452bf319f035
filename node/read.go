package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
	"time"

	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/ipld/merkledag"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
)

// ReadBlockAt reads a part of one block as an io.ReaderAt does. From this
// machine's disk it reads exactly the bytes asked for and does NOT check their
// hash: the caller checks tags, and calls Heal when one fails. A block that is
// not here is fetched from connected peers within Options.FetchTimeout, checked
// against its CID, kept until the next GC, and then read; it is fetched once
// however many ask. ErrNotFound says that nobody had it.
func (n *Node) ReadBlockAt(ctx context.Context, c cid.Cid, p []byte, off int64) (int, error) {
	d, ok := digestOf(c)
	if !ok {
		return 0, fmt.Errorf("read block %s: %w: not named by a SHA-256", c, ErrNotFound)
	}
	if off < 0 {
		return 0, fmt.Errorf("read block %s at %d: negative offset", c, off)
	}
	if b, ok := n.hot.get(d, len(p), n.files); ok {
		return readAt(b, p, off)
	}
	m, err := n.files.readAt(d, p, off)
	if err == nil || err == io.EOF {
		return m, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("read block %s: %w", c, err)
	}
	b, err := n.fetch(ctx, c, d)
	if err != nil {
		return 0, fmt.Errorf("read block %s: %w", c, err)
	}
	return readAt(b, p, off)
}

// ReadLocalAt is ReadBlockAt from this machine's disk alone: what is not there
// is ErrNotFound, whoever else may have it.
func (n *Node) ReadLocalAt(_ context.Context, c cid.Cid, p []byte, off int64) (int, error) {
	d, ok := digestOf(c)
	if !ok || off < 0 {
		return 0, fmt.Errorf("read block %s at %d: %w", c, off, ErrNotFound)
	}
	m, err := n.files.readAt(d, p, off)
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNotFound
	}
	if err != nil && err != io.EOF {
		err = fmt.Errorf("read block %s: %w", c, err)
	}
	return m, err
}

// readAt is io.ReaderAt on a block in memory.
func readAt(b, p []byte, off int64) (int, error) {
	if off >= int64(len(b)) {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	m := copy(p, b[off:])
	if m < len(p) {
		return m, io.EOF
	}
	return m, nil
}

// fetch gets a block from peers and keeps it. Callers that ask for the same
// block at the same time share one fetch, which no single one of them ends.
func (n *Node) fetch(ctx context.Context, c cid.Cid, d digest) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(n.kubo.PeerHost.Network().Peers()) == 0 {
		return nil, fmt.Errorf("%w: not here, and no peer is connected", ErrNotFound)
	}
	ch := n.fetches.DoChan(string(d[:]), func() (any, error) {
		ctx, leave, err := n.enter(context.Background())
		if err != nil {
			return nil, err
		}
		defer leave()
		b, err := n.ask(ctx, c)
		if err != nil {
			return nil, err
		}
		if err := n.keep(ctx, b); err != nil {
			n.opts.Logger.Warn("keep a fetched block", "cid", c.String(), "err", err)
			n.hot.put(d, b.RawData())
		}
		return b.RawData(), nil
	})
	select {
	case r := <-ch:
		b, _ := r.Val.([]byte)
		return b, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ask gets a block from connected peers; Bitswap checks its hash.
func (n *Node) ask(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	n.fetched.Add(1)
	limit, cancel := context.WithTimeout(ctx, n.opts.FetchTimeout)
	defer cancel()
	b, err := n.demand(limit, c, nil)
	switch {
	case err == nil:
		return b, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case limit.Err() != nil:
		return nil, fmt.Errorf("%w: no peer sent it within %s", ErrNotFound, n.opts.FetchTimeout.Round(time.Millisecond))
	}
	return nil, err
}

// keep stores a fetched block, over a copy that is there, and offers it to
// peers that wait for it.
func (n *Node) keep(ctx context.Context, b blocks.Block) error {
	if err := n.put(ctx, b); err != nil {
		return err
	}
	return n.kubo.Exchange.NotifyNewBlocks(ctx, b)
}

// Verify reads a block from this machine's disk and checks its hash, and that
// of every block below it but the leaves. It returns ErrRotten if bytes are
// wrong or the disk cannot read them, and ErrNotFound if a block is not here.
func (n *Node) Verify(ctx context.Context, c cid.Cid) error {
	ctx, leave, err := n.enter(ctx)
	if err == nil {
		defer leave()
		err = n.verifyInner(ctx, c)
	}
	if err != nil {
		return fmt.Errorf("verify block %s: %w", c, err)
	}
	return nil
}

// verifyInner checks a block and the inner blocks below it.
func (n *Node) verifyInner(ctx context.Context, c cid.Cid) error {
	b, err := n.verified(ctx, c)
	if err != nil || c.Type() != cid.DagProtobuf {
		return err
	}
	inner, err := merkledag.DecodeProtobuf(b.RawData())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRotten, err)
	}
	for _, link := range inner.Links() {
		if link.Cid.Type() != cid.DagProtobuf {
			continue
		}
		if err := n.verifyInner(ctx, link.Cid); err != nil {
			return fmt.Errorf("inner block %s: %w", link.Cid, err)
		}
	}
	return nil
}

// verified reads a block from the disk, hash checked.
func (n *Node) verified(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	b, err := n.kubo.Blockstore.Get(ctx, c)
	switch {
	case errors.Is(err, blockstore.ErrHashMismatch):
		return nil, ErrRotten
	case errors.Is(err, syscall.EIO):
		return nil, fmt.Errorf("%w: %w", ErrRotten, err)
	case ipld.IsNotFound(err):
		return nil, ErrNotFound
	}
	return b, err
}

// Heal makes the local copy of a block good: if it is rotten or gone, the
// block is fetched from peers and, once its hash was checked, the copy is
// deleted and the good one written. It returns ErrRotten, or ErrNotFound if there was no copy, when
// no peer has the block; the rotten copy is kept then. What the cache of hot
// blocks had of it is forgotten in any case.
func (n *Node) Heal(ctx context.Context, c cid.Cid) error {
	ctx, leave, err := n.enter(ctx)
	if err == nil {
		defer leave()
		err = n.heal(ctx, c)
	}
	if err != nil {
		return fmt.Errorf("heal block %s: %w", c, err)
	}
	return nil
}

func (n *Node) heal(ctx context.Context, c cid.Cid) error {
	d, ok := digestOf(c)
	if !ok {
		return ErrNotFound
	}
	defer n.hot.forget(d)
	_, wrong := n.verified(ctx, c)
	if !errors.Is(wrong, ErrRotten) && !errors.Is(wrong, ErrNotFound) {
		return wrong
	}
	if len(n.kubo.PeerHost.Network().Peers()) == 0 {
		return fmt.Errorf("%w: no peer is connected", wrong)
	}
	n.flight.hold(d)
	defer n.flight.release([]digest{d})
	b, err := n.ask(ctx, c)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: no peer has a good copy", wrong)
	}
	if err != nil {
		return err
	}
	return n.replace(ctx, d, b, func() error { return n.keep(ctx, b) })
}

// replace has a block stored in place of the copy that is here, unless another
// mended that in the meantime: what is good is not deleted.
func (n *Node) replace(ctx context.Context, d digest, b blocks.Block, store func() error) error {
	n.replacing.Lock()
	defer n.replacing.Unlock()
	if _, err := n.verified(ctx, b.Cid()); err == nil {
		return nil
	}
	if err := n.discard(d); err != nil {
		return err
	}
	return store()
}
