package pin

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	ipfscluster "github.com/ipfs-cluster/ipfs-cluster"
	capi "github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs/go-cid"
	rpc "github.com/libp2p/go-libp2p-gorpc"
	"github.com/libp2p/go-libp2p/core/peer"
)

// connector gives Cluster the blocks of this machine, in the place of an IPFS
// daemon. What it has no use for fails.
type connector struct {
	self   peer.ID
	blocks Blocks
	held   func(cid.Cid, error)
	denied func(cid.Cid) bool
	log    *slog.Logger
	ready  chan struct{}

	ctx  context.Context // ends with Shutdown
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu    sync.Mutex // orders Add and Wait of wg, and guards turns
	turns map[cid.Cid]*turn
}

// turn is whose it is to change one root. A fetch that was called off may still
// be about to succeed when the removal comes that called it off.
type turn struct {
	sync.Mutex
	users int
}

var _ ipfscluster.IPFSConnector = (*connector)(nil)

func newConnector(o Options) *connector {
	ctx, cancel := context.WithCancel(context.Background())
	c := &connector{
		self: o.Host.ID(), blocks: o.Blocks, held: o.Held, denied: o.Denied, log: o.Log,
		ready: make(chan struct{}), ctx: ctx, stop: cancel, turns: map[cid.Cid]*turn{},
	}
	close(c.ready)
	return c
}

// begin returns a context that ends with the connector, and what to call when
// done with it.
func (c *connector) begin(ctx context.Context) (context.Context, func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return nil, nil, ErrClosed
	}
	c.wg.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.ctx, cancel)
	return ctx, func() { stop(); cancel(); c.wg.Done() }, nil
}

// take waits for the turn to change root, and returns what ends it.
func (c *connector) take(root cid.Cid) func() {
	c.mu.Lock()
	t := c.turns[root]
	if t == nil {
		t = new(turn)
		c.turns[root] = t
	}
	t.users++
	c.mu.Unlock()
	t.Lock()
	return func() {
		t.Unlock()
		c.mu.Lock()
		defer c.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(c.turns, root)
		}
	}
}

// Pin fetches a segment and tells the owner how that went, unless it was called
// off.
func (c *connector) Pin(ctx context.Context, p capi.Pin) error {
	root := p.Cid.Cid
	if c.denied(root) {
		return errDenied
	}
	ctx, done, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	defer c.take(root)()
	if err := ctx.Err(); err != nil {
		return err
	}
	held, err := c.blocks.Pinned(ctx, root)
	if err == nil && !held {
		_, size := readName(p.Name)
		err = c.blocks.Fetch(ctx, root, size)
	}
	if ctx.Err() == nil {
		c.held(root, err)
	}
	return err
}

// Unpin gives a segment up.
func (c *connector) Unpin(ctx context.Context, root capi.Cid) error {
	ctx, done, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	defer c.take(root.Cid)()
	held, err := c.blocks.Pinned(ctx, root.Cid)
	if err != nil || !held {
		return err
	}
	return c.blocks.Remove(ctx, root.Cid)
}

// PinLsCid says whether a segment is held here.
func (c *connector) PinLsCid(ctx context.Context, p capi.Pin) (capi.IPFSPinStatus, error) {
	ctx, done, err := c.begin(ctx)
	if err != nil {
		return capi.IPFSPinStatusError, err
	}
	defer done()
	held, err := c.blocks.Pinned(ctx, p.Cid.Cid)
	switch {
	case err != nil:
		return capi.IPFSPinStatusError, err
	case held:
		return capi.IPFSPinStatusRecursive, nil
	}
	return capi.IPFSPinStatusUnpinned, nil
}

// PinLs sends all that is held here and closes out.
func (c *connector) PinLs(ctx context.Context, _ []string, out chan<- capi.IPFSPinInfo) error {
	defer close(out)
	ctx, done, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	for root, err := range c.blocks.Pins(ctx) {
		if err != nil {
			return err
		}
		select {
		case out <- capi.IPFSPinInfo{Cid: capi.NewCid(root), Type: capi.IPFSPinStatusRecursive}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// RepoStat says how much room there is.
func (c *connector) RepoStat(ctx context.Context) (capi.IPFSRepoStat, error) {
	used, free, err := c.blocks.Space(ctx)
	if err != nil {
		return capi.IPFSRepoStat{}, err
	}
	used, free = max(used, 0), max(free, 0)
	return capi.IPFSRepoStat{RepoSize: uint64(used), StorageMax: uint64(used + free)}, nil
}

// ID names this peer and no address: it goes into messages.
func (c *connector) ID(context.Context) (capi.IPFSID, error) { return capi.IPFSID{ID: c.self}, nil }

// Ready is from the start.
func (c *connector) Ready(context.Context) <-chan struct{} { return c.ready }

// SetClient does nothing: a connector calls nobody.
func (c *connector) SetClient(*rpc.Client) {}

// Shutdown calls off what runs and waits for it.
func (c *connector) Shutdown(context.Context) error {
	c.mu.Lock()
	c.stop()
	c.mu.Unlock()
	c.wg.Wait()
	return nil
}

// ConnectSwarms does nothing: connections are the caller's.
func (c *connector) ConnectSwarms(context.Context) error { return nil }

// SwarmPeers tells nothing.
func (c *connector) SwarmPeers(context.Context) ([]peer.ID, error) { return nil, nil }

// ConfigKey fails.
func (c *connector) ConfigKey(string) (any, error) { return nil, errors.ErrUnsupported }

// RepoGC fails: blocks are collected by whom they belong to.
func (c *connector) RepoGC(context.Context) (capi.RepoGC, error) {
	return capi.RepoGC{}, errors.ErrUnsupported
}

// Resolve fails: roots are known by CID.
func (c *connector) Resolve(context.Context, string) (capi.Cid, error) {
	return capi.CidUndef, errors.ErrUnsupported
}

// BlockStream fails: blocks come from peers alone.
func (c *connector) BlockStream(_ context.Context, in <-chan capi.NodeWithMeta) error {
	go func() {
		for range in { // so that its sender ends
		}
	}()
	return errors.ErrUnsupported
}

// BlockGet fails: blocks are not for Cluster.
func (c *connector) BlockGet(context.Context, capi.Cid) ([]byte, error) {
	return nil, errors.ErrUnsupported
}
