// Package pin keeps the pinset: which segment is to be held, and by which of
// the trusted peers. It embeds IPFS Cluster with a CRDT on the one libp2p host
// of the process. Origins and storage peers belong to it. Replicas and guests
// never do: trusted peers open no stream of Cluster to them and take none.
//
// What Cluster needs around it is here too. Its gossip and its block exchange
// see the host through a door that lets trusted peers alone in and never dials.
// Changes go in batches, metrics count by the receiver's own clock, and copies
// are spread by rendezvous over free space and sites.
//
// It does not know what a segment is, who owns it, whether a peer that says it
// holds one really does, or how blocks move: the caller's Blocks does that. It
// knows no keys. Pin names carry an opaque label and a size, no more.
//
// Importing IPFS Cluster changes two things of the process at start. slog's
// default handler becomes that of go-log, which package node sends on to the
// program's own log with addresses masked: a program that logs through
// slog.Default must set it again. And libp2p believes an observed address of
// its own after one observer, not four, which suits a swarm of a few peers.
package pin

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
)

var (
	// ErrTrusted says that the list of trusted peers is empty or names
	// something that is no peer.
	ErrTrusted = errors.New("no list of trusted peers")
	// ErrFewPeers says that fewer trusted peers with room are alive than a
	// segment needs at least.
	ErrFewPeers = errors.New("too few peers alive")
	// ErrPlacement says that a placement asks for what cannot be.
	ErrPlacement = errors.New("impossible placement")
	// ErrClosed says that the cluster was closed.
	ErrClosed = errors.New("cluster is closed")

	errDenied = errors.New("denied: never to be held again")
)

const (
	maxCopies = 32 // copies of one segment that may be asked for
	maxLabel  = 64 // bytes of a label
)

// A Holder holds the blocks of segments on this machine.
type Holder interface {
	// Fetch brings all blocks of root here, durable and pinned on return. size
	// is how many bytes they have, 0 if unknown.
	Fetch(ctx context.Context, root cid.Cid, size int64) error
	// Remove unpins root. It may keep the blocks, or do nothing at all where
	// copies have another owner.
	Remove(ctx context.Context, root cid.Cid) error
	Pinned(ctx context.Context, root cid.Cid) (bool, error)
}

// An Inventory says what this machine holds and how much room is left.
type Inventory interface {
	Space(ctx context.Context) (used, free int64, err error) // bytes
	Pins(ctx context.Context) iter.Seq2[cid.Cid, error]
}

// Blocks is what the cluster needs of the machine that it runs on.
type Blocks interface {
	Holder
	Inventory
}

// Timing is how often things happen. A zero field stands for its default.
type Timing struct {
	Ping        time.Duration // between signs of life of a peer: 5 s. After two without one it counts as lost.
	Check       time.Duration // between looks for lost peers: 5 s
	Recover     time.Duration // until a segment that could not be fetched is tried again: 1 min
	Rebroadcast time.Duration // between tellings of the newest pinset to peers that may have missed it: 15 s
	BatchSize   int           // changes that are committed together: 500
	BatchAge    time.Duration // that a change waits for others at most: 500 ms
}

// withDefaults fills in what was left zero.
func (t Timing) withDefaults() Timing {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&t.Ping, 5*time.Second)
	def(&t.Check, 5*time.Second)
	def(&t.Recover, time.Minute)
	def(&t.Rebroadcast, 15*time.Second)
	def(&t.BatchAge, 500*time.Millisecond)
	if t.BatchSize <= 0 {
		t.BatchSize = 500
	}
	return t
}

// Options are what a Cluster is opened with.
type Options struct {
	Host  host.Host          // the process's own; its key must be in its peerstore
	Store datastore.Batching // keys under /pin are the cluster's

	Name  string // of this peer, in its own log alone
	Site  string // machines of one site may fail together; other trusted peers are told
	Realm string // pinsets of different realms never mix

	// Trusted are the peers that may change the pinset and hold segments, this
	// one may be among them. It must name at least one: there is no "everybody".
	Trusted []peer.ID

	Blocks Blocks
	// Held, if set, is called after this peer held a segment that the pinset
	// gives it, or failed to. It must be quick.
	Held func(root cid.Cid, err error)
	// Denied, if set, says which segments are never fetched, whatever the
	// pinset says. It must be quick.
	Denied func(root cid.Cid) bool

	Timing Timing
	Log    *slog.Logger // nil: nowhere

	ajar bool // strangers may open streams, so that tests see what stands behind the door
}

// check reports what is missing or wrong, and fills in defaults.
func (o *Options) check() error {
	switch {
	case o.Host == nil, o.Store == nil, o.Blocks == nil:
		return errors.New("open cluster: host, store and blocks are all needed")
	case o.Realm == "":
		return errors.New("open cluster: no realm")
	case len(o.Site) > maxValue:
		return fmt.Errorf("open cluster: the site has a name of %d bytes", len(o.Site))
	case len(o.Trusted) == 0:
		return fmt.Errorf("open cluster: %w: it is empty", ErrTrusted)
	}
	for _, p := range o.Trusted {
		if _, err := peer.IDFromBytes([]byte(p)); err != nil {
			return fmt.Errorf("open cluster: %w: %q is no peer ID", ErrTrusted, string(p))
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Name != "" {
		o.Log = o.Log.With("cluster", o.Name)
	}
	if o.Held == nil {
		o.Held = func(cid.Cid, error) {}
	}
	if o.Denied == nil {
		o.Denied = func(cid.Cid) bool { return false }
	}
	o.Timing = o.Timing.withDefaults()
	return nil
}

// Placement is how a segment is to be held.
type Placement struct {
	Label    string    // opaque; ASCII letters, digits, '-' and '_', at most 64
	Size     int64     // bytes of ciphertext, 0 if unknown
	Min, Max int       // copies on trusted peers, 1 ≤ Min ≤ Max ≤ 32
	Prefer   []peer.ID // come first if alive, whatever room they have
	Avoid    []peer.ID // get nothing that they do not hold already, and keep that only if preferred
}

// A Pin is what the pinset says about a segment. Holders are the peers that are
// to hold it, which does not say that they do. Prefer and Avoid are not kept.
type Pin struct {
	Root cid.Cid
	Placement
	Holders []peer.ID
}

// A Metric is what a trusted peer last said of itself.
type Metric struct {
	ID    peer.ID
	Alive bool
	Free  int64 // bytes; 0 when it has no room or is not alive
	Site  string
}
