// Package node embeds Kubo: sealed bytes in, CIDs out, and blocks back, from
// this machine's disk or from connected peers.
//
// It never sees plaintext and never sees keys: what it stores was sealed
// before it came here, and it knows no station, no segment, no listener and no
// catalogue. Whoever runs only this package can serve ciphertext and nothing
// else. It does not know either which pins are wanted; its owner tells it with
// Pin and Remove.
//
// With default Options nothing is dialled, nothing is announced, and only
// loopback is listened on.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/exchange/offline"
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/core/node/libp2p"
	"github.com/ipfs/kubo/repo/fsrepo"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/singleflight"
)

var (
	// ErrNotFound says that a block is neither on this machine nor with a
	// connected peer that answered in time.
	ErrNotFound = errors.New("block not found")
	// ErrRotten says that the bytes on disk are not those that the CID names.
	ErrRotten = errors.New("block is rotten")
	// ErrNoSpace says that the disk, or Options.StorageMax, has no room left.
	ErrNoSpace = errors.New("no space left")
	// ErrLocked says that another Node has the folder open.
	ErrLocked = errors.New("in use by another node")
	// ErrClosed says that the Node was closed.
	ErrClosed = errors.New("node closed")
)

const (
	defaultCacheBytes   = 32 << 20
	defaultFetchTimeout = 10 * time.Second
	// closeWait is how long Close waits for calls that are still running, and
	// then for Kubo.
	closeWait = 3 * time.Second
)

// Options say how a Node is opened. Only Dir is needed.
type Options struct {
	// Dir is a folder that Init made.
	Dir string
	// Listen holds the multiaddrs to listen on; empty: one TCP port of
	// loopback that the system picks.
	Listen []string
	// StorageMax is how many bytes the repo may take, about 4 MiB of which are
	// its folders; 0: as many as fit.
	StorageMax int64
	// CacheBytes bounds the cache of hot blocks; 0: 32 MiB, negative: none.
	CacheBytes int64
	// FetchTimeout bounds one fetch of a block from peers; 0: 10 s.
	FetchTimeout time.Duration
	// Logger gets the errors of Kubo, with network addresses masked. It is
	// process-wide: the Node that was opened last decides. nil: none.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if len(o.Listen) == 0 {
		o.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = defaultCacheBytes
	}
	if o.FetchTimeout == 0 {
		o.FetchTimeout = defaultFetchTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// A Node is an open Kubo node. It is safe for concurrent use.
type Node struct {
	opts    Options
	kubo    *core.IpfsNode
	lock    io.Closer
	files   blockFiles
	hot     *hotBlocks
	space   space
	flight  flight
	offline blockservice.BlockService

	fetches singleflight.Group
	fetched atomic.Int64 // fetches that asked peers
	gcMu    sync.Mutex   // one GC, or one Pin of what is there already, at a time

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	opMu    sync.Mutex
	closed  bool
	running sync.WaitGroup
}

// Open starts the node of a folder that Init made. The Node lives until Close;
// ctx bounds the start only. It returns ErrLocked while another Node, of this
// process or of another, has the folder open.
func Open(ctx context.Context, opts Options) (*Node, error) {
	n, err := open(ctx, opts.withDefaults())
	if err != nil {
		return nil, fmt.Errorf("open node %q: %w", opts.Dir, err)
	}
	return n, nil
}

func open(ctx context.Context, opts Options) (n *Node, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	routeLogs(opts.Logger)
	lock, err := lockDir(opts.Dir)
	if err != nil {
		return nil, err
	}
	n = &Node{opts: opts, lock: lock, files: newBlockFiles(filepath.Join(opts.Dir, blocksDir))}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			n.cancel()
			lock.Close()
		}
	}()
	if n.hot, err = newHotBlocks(opts.CacheBytes); err != nil {
		return nil, err
	}
	if n.kubo, err = startKubo(opts); err != nil {
		return nil, err
	}
	if err = n.prepare(ctx); err != nil {
		return nil, errors.Join(err, n.kubo.Close())
	}
	return n, nil
}

// startKubo opens the repo and starts Kubo on it, with the quiet settings
// whatever its config file says.
func startKubo(opts Options) (*core.IpfsNode, error) {
	if err := registerDatastores(); err != nil {
		return nil, err
	}
	r, err := fsrepo.Open(opts.Dir)
	if err != nil {
		return nil, err
	}
	cfg, err := r.Config()
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	quiet(cfg)
	cfg.Addresses.Swarm = opts.Listen
	if err := seed(r.Datastore()); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	k, err := core.NewNode(context.Background(), &core.BuildCfg{
		Online:          true,
		Permanent:       true,
		Repo:            r,
		Routing:         libp2p.NilRouterOption,
		ShutdownTimeout: closeWait,
	})
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	// It would remember peers, and dial them when there are few.
	if err := k.Bootstrapper.Close(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// prepare does what must be done once Kubo runs.
func (n *Node) prepare(ctx context.Context) error {
	n.flight.held = map[digest]int{}
	n.offline = blockservice.New(n.kubo.Blockstore, offline.Exchange(n.kubo.Blockstore))
	// Pins need no fsync each: their owner repeats those that a power cut
	// takes. The pinner's indexes are flushed by Close and rebuilt without it.
	if p, ok := n.kubo.Pinning.(interface{ SetAutosync(bool) bool }); ok {
		p.SetAutosync(false)
	}
	return n.measureSpace(ctx)
}

// enter admits a call: its context ends when the Node is closed, and Close
// waits for leave.
func (n *Node) enter(ctx context.Context) (_ context.Context, leave func(), err error) {
	n.opMu.Lock()
	defer n.opMu.Unlock()
	if n.closed {
		return nil, nil, ErrClosed
	}
	n.running.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(n.ctx, cancel)
	return ctx, func() { stop(); cancel(); n.running.Done() }, nil
}

// Close stops the node. Calls that are still running fail; Close waits a few
// seconds for them at most. A second Close does nothing.
func (n *Node) Close() error {
	n.opMu.Lock()
	if n.closed {
		n.opMu.Unlock()
		return nil
	}
	n.closed = true
	n.opMu.Unlock()
	n.cancel()
	n.waitRunning()

	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	if err := n.kubo.Pinning.Flush(ctx); err != nil { // costs the next start some time
		n.opts.Logger.Warn("flush pins", "err", err)
	}
	err := errors.Join(n.offline.Close(), n.kubo.Close(), n.lock.Close())
	if err != nil {
		return fmt.Errorf("close node %q: %w", n.opts.Dir, err)
	}
	return nil
}

func (n *Node) waitRunning() {
	done := make(chan struct{})
	go func() { n.running.Wait(); close(done) }()
	late := time.NewTimer(closeWait)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
	}
}

// PeerID is the name of this node among IPFS peers.
func (n *Node) PeerID() string { return n.kubo.Identity.String() }

// Addrs are the multiaddrs, peer ID included, that peers can dial.
func (n *Node) Addrs() []string {
	info := peer.AddrInfo{ID: n.kubo.Identity, Addrs: n.kubo.PeerHost.Addrs()}
	addrs, err := peer.AddrInfoToP2pAddrs(&info)
	if err != nil { // unreachable: the ID is our own
		return nil
	}
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a.String()
	}
	return out
}

// Offline serves blocks of this machine alone and checks the hash of each: a
// rotten block is an error, never wrong bytes. It closes with the Node.
func (n *Node) Offline() blockservice.BlockService { return n.offline }
