package node

import (
	"context"
	"log/slog"
	"time"

	"github.com/ipfs/boxo/bitswap"
	"github.com/ipfs/boxo/bitswap/client"
	"github.com/ipfs/boxo/bitswap/server"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
)

const (
	defaultCacheBytes   = 32 << 20
	defaultFetchTimeout = 10 * time.Second
	defaultRedial       = 10 * time.Second
	defaultSweep        = time.Second
)

// A Gate says which peers may connect. It is asked about every peer ID, proved
// by a handshake, in both directions, and again about open connections. It
// must be quick and safe for concurrent use.
type Gate interface{ Admits(p peer.ID) bool }

// A Denier says which blocks must not be had. It is asked for every block that
// a peer wants or sends: it must be quick and safe for concurrent use.
type Denier interface {
	Denied(mh multihash.Multihash) bool
}

// A Throttle says when bytes may go out: WaitN returns once n more may, or
// with an error when ctx ends. n is at most 16 KiB, and at most what Burst
// returns if it has that method. A *rate.Limiter is one.
type Throttle interface {
	WaitN(ctx context.Context, n int) error
}

// Options say how a Node is opened. Only Dir is needed.
type Options struct {
	// Dir is a folder that Init made.
	Dir string
	// Listen holds the multiaddrs, TCP and QUIC, to listen on; empty: one TCP
	// port of loopback that the system picks.
	Listen []string
	// Announce holds the multiaddrs that peers are told instead of those that
	// are listened on; empty: the latter.
	Announce []string
	// Gate says which peers may connect; nil: whoever comes. A peer that it
	// admits no more is disconnected within Sweep.
	Gate Gate
	// Restrict puts limits on the streams of peers around those of libp2p; nil:
	// those of libp2p alone.
	Restrict func(network.ResourceManager) network.ResourceManager
	// Sweep is how often open connections are held against Gate; 0: 1 s.
	Sweep time.Duration
	// Serve is asked for every block that a peer wants; one that it denies is
	// answered like one that is not here. While it waits, what the peer sends
	// waits. It must be safe for concurrent use. nil: every block is served.
	Serve func(p peer.ID, c cid.Cid) bool
	// Denied says which blocks no peer gets, and which are not fetched: Fetch, Mend,
	// Heal and ReadBlockAt return ErrDenied rather than ask a peer for one. What
	// is here of them stays, and is read, checked and pinned like the rest. It may
	// change at any time: a block that a peer asked for before is not sent. nil:
	// none is denied.
	Denied Denier
	// Sent is told that n bytes of blocks begin to go out to a peer, some of
	// which may never arrive. It must be quick and safe for concurrent use. nil:
	// nobody is told.
	Sent func(p peer.ID, n int)
	// Upload says when bytes of blocks, and bytes that are relayed, may go out to
	// peers; nil: at once.
	Upload Throttle
	// Relay makes this node a relay for the peers that Gate admits and cannot
	// be dialled. It must be one that can. A peer may send 1 MiB a second
	// through it, and all together 8 MiB.
	Relay bool
	// Relays holds multiaddrs, peer ID included, of nodes with Relay through
	// which this one, that nobody can dial, is reached until a hole is punched.
	// A peer that is reached so can be dialled only with Relays or Relay.
	Relays []string
	// Redial is the longest pause between two tries to reach a peer that was
	// given to Peer; 0: 10 s.
	Redial time.Duration
	// StorageMax is how many bytes the repo may take, about 5 MiB of which are
	// its folders and room for its metadata to be rewritten; 0: as many as fit.
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
	if o.Redial == 0 {
		o.Redial = defaultRedial
	}
	if o.Sweep == 0 {
		o.Sweep = defaultSweep
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// bitswap returns what is special about the Bitswap of this node.
func (o Options) bitswap() []bitswap.Option {
	patience := client.DefaultDontHaveTimeoutConfig()
	patience.DontHaveTimeout = answerTime
	patience.MaxExpectedWantProcessTime = answerTime
	patience.MinTimeout = answerTime / 2
	patience.MaxTimeout = 2 * answerTime
	opts := []bitswap.Option{
		bitswap.WithClientOption(client.WithDontHaveTimeoutConfig(patience)),
		bitswap.WithClientOption(client.WithoutDuplicatedBlockStats()),
	}
	if o.Sent != nil {
		opts = append(opts, bitswap.WithServerOption(server.WithTracer(sent(o.Sent))))
	}
	if o.Serve != nil {
		opts = append(opts, bitswap.WithPeerBlockRequestFilter(o.Serve))
	}
	return opts
}
