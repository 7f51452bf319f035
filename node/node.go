// Package node embeds Kubo: sealed bytes in, CIDs out, and blocks back, from
// this machine's disk or from connected peers.
//
// It never sees plaintext and never sees keys: what it stores was sealed
// before it came here, and it knows no station, no segment, no listener and no
// catalogue. Whoever runs only this package can serve ciphertext and nothing
// else. It does not know either which pins are wanted; its owner tells it with
// Pin and Remove.
//
// Who may connect, which blocks a peer may have, which nobody may have, and how
// fast they go out is asked of its owner too, by the Gate, Serve, Denied and
// Upload of Options. It knows no roles, contracts or orders.
//
// With default Options nothing is dialled, nothing is announced, and only
// loopback is listened on.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/exchange/offline"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/core/node/libp2p"
	"github.com/ipfs/kubo/repo/fsrepo"
	"github.com/libp2p/go-libp2p/core/host"
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
	// ErrNoFolder says that the folder of the blocks went away under the Node.
	ErrNoFolder = errors.New("the folder of the blocks is gone: put it back, or start the node again, which makes a new one")
	// ErrLocked says that another Node has the folder open.
	ErrLocked = errors.New("in use by another node")
	// ErrDenied says that Options.Denied denies a block, which so is not fetched.
	ErrDenied = errors.New("denied: neither served nor fetched here")
	// ErrClosed says that the Node was closed.
	ErrClosed = errors.New("node closed")
)

// closeWait is how long Close waits for calls that are still running, and then
// for Kubo.
const closeWait = 3 * time.Second

// A Node is an open Kubo node. It is safe for concurrent use.
type Node struct {
	opts     Options
	kubo     *core.IpfsNode
	lock     io.Closer
	files    blockFiles
	hot      *hotBlocks
	space    space
	flight   flight
	pulls    sharing
	kept     keptPeers
	sessions sessions
	offline  blockservice.BlockService
	bare     bool // there was no folder of blocks

	fetches singleflight.Group
	fetched atomic.Int64 // fetches that asked peers
	gcMu    sync.Mutex   // one GC, or one Pin of what is there already, at a time

	replacing sync.Mutex // one block that is damaged at a time

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

func open(ctx context.Context, opts Options) (_ *Node, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	routeLogs(opts.Logger)
	lock, err := lockDir(opts.Dir)
	if err != nil {
		return nil, err
	}
	n := &Node{opts: opts, lock: lock, files: newBlockFiles(filepath.Join(opts.Dir, blocksDir))}
	if _, missing := os.Stat(n.files.root); errors.Is(missing, fs.ErrNotExist) {
		n.bare = true
		if err := makeBlocksDir(n.files.root); err != nil {
			return nil, errors.Join(err, lock.Close())
		}
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			n.cancel()
			n.running.Wait()
			lock.Close()
		}
	}()
	if n.hot, err = newHotBlocks(opts.CacheBytes); err != nil {
		return nil, err
	}
	if n.kubo, err = startKubo(n.ctx, opts); err != nil {
		return nil, err
	}
	if err = n.prepare(ctx); err != nil {
		return nil, errors.Join(err, n.kubo.Close())
	}
	return n, nil
}

// startKubo opens the repo and starts Kubo on it, with the quiet settings
// whatever its config file says. ctx ends with the Node.
func startKubo(ctx context.Context, opts Options) (*core.IpfsNode, error) {
	if err := registerOnce(); err != nil {
		return nil, err
	}
	hostOptions, err := opts.swarm()
	if err != nil {
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
	cfg.Addresses.Swarm, cfg.Addresses.Announce = opts.Listen, opts.Announce
	cfg.Swarm.Transports.Network.Relay = flag(opts.Relay || len(opts.Relays) > 0)
	if err := seed(r.Datastore()); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	k, err := core.NewNode(context.Background(), &core.BuildCfg{
		Online:          true,
		Permanent:       true,
		Repo:            &ownRepo{Repo: r, bitswap: opts.bitswap(), denied: opts.Denied},
		Host:            hostOption(ctx, opts, hostOptions),
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
	if b, ok := n.kubo.Blockstore.(hidden); ok { // Bitswap has it by now; what is denied is kept like the rest
		n.kubo.Blockstore = b.whole
	}
	n.flight.held = map[digest]int{}
	n.pulls.enter, n.pulls.runs = n.enter, map[string]*run{}
	n.kept.peers = map[peer.ID]*keptPeer{}
	n.sessions.ctx, n.sessions.begin = n.ctx, n.newSession
	n.offline = blockservice.New(n.kubo.Blockstore, offline.Exchange(n.kubo.Blockstore))
	// Pins need no fsync each: their owner repeats those that a power cut
	// takes. The pinner's indexes are flushed by Close and rebuilt without it.
	if p, ok := n.kubo.Pinning.(interface{ SetAutosync(bool) bool }); ok {
		p.SetAutosync(false)
	}
	if err := n.openSpace(ctx); err != nil {
		return err
	}
	n.kubo.PeerHost.Network().Notify((*keptEvents)(n))
	if n.opts.Gate != nil {
		n.running.Go(n.sweepPeers)
	}
	return nil
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
	n.kubo.PeerHost.Network().StopNotify((*keptEvents)(n))
	n.cancel()
	if n.waitRunning() {
		n.closeSpace()
	}

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

// waitRunning tells whether all calls ended in time.
func (n *Node) waitRunning() bool {
	done := make(chan struct{})
	go func() { n.running.Wait(); close(done) }()
	late := time.NewTimer(closeWait)
	defer late.Stop()
	select {
	case <-done:
		return true
	case <-late.C:
		return false
	}
}

// Bare reports whether there was no folder of blocks when the Node was opened,
// which made a new one: whatever was pinned is gone from this machine.
func (n *Node) Bare() bool { return n.bare }

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

// Host is the libp2p host of this node, for other protocols than blocks. It
// closes with the Node, and what is still open of it then.
func (n *Node) Host() host.Host { return n.kubo.PeerHost }

// Store is where the node keeps its metadata. Others may keep theirs there
// too, each under a prefix of its own; no GC touches it. A write is durable
// once Sync returned, and so is every write before it, pins among them. It
// closes with the Node.
func (n *Node) Store() ds.Batching { return n.kubo.Repo.Datastore() }
