package keep

import (
	"context"
	"io"
	"iter"
	"log/slog"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
	"github.com/musenai/musen/pin/remote"
)

// A Pin is one entry of the pinset: exactly the Holders, which are Max peers,
// shall hold the segment. Min is how few of them may be there before the pinset
// helps itself; no more than that are there now. Peers to Avoid give away what
// they have: none but those that are Holders may hold it.
type Pin struct {
	Root     cid.Cid
	Label    string
	Size     int64
	Min, Max int
	Holders  []peer.ID
	Avoid    []peer.ID
}

// A Metric is what a trusted peer last said about itself.
type Metric struct {
	ID    peer.ID
	Alive bool
	Free  int64 // bytes
	Site  string
}

// Wants is the catalogue.
type Wants interface {
	// All gives what is wanted. An error ends it, and then what did not come is
	// not taken as gone.
	All(ctx context.Context) iter.Seq2[Want, error]
	// Gone reports whether the catalogue knows that a segment was removed or
	// taken down. When in doubt it is false.
	Gone(ctx context.Context, root cid.Cid) bool
}

// Pinset is what the trusted peers agree on.
type Pinset interface {
	// Pin makes or changes an entry, so that Holders hold the segment and no
	// other trusted peer has to.
	Pin(ctx context.Context, p Pin) error
	// Unpin is no error if there is no such entry.
	Unpin(ctx context.Context, root cid.Cid) error
	// Pins gives all entries.
	Pins(ctx context.Context) iter.Seq2[Pin, error]
}

// Trusted is how the trusted peers are.
type Trusted interface {
	// Peers gives the latest word of each, this one included.
	Peers(ctx context.Context) []Metric
	// Recover has the peers try again to hold a segment that they failed to.
	Recover(ctx context.Context, root cid.Cid) error
}

// Orders is the line to each peer. One that can also give many orders at once,
// for little more than one costs, is asked to:
//
//	OrderMany(ctx context.Context, to peer.ID, ins ...control.Instruction) error
//
// Its error is taken to be about all of them.
type Orders interface {
	// Order is durable on return and reaches the peer when its line is up.
	Order(ctx context.Context, to peer.ID, in control.Instruction) error
}

// Auditor challenges peers.
type Auditor interface {
	// Audit challenges p once for each root and returns as many outcomes in the
	// same order, an empty one where p could not be challenged. An error means
	// that nothing was learnt about any.
	Audit(ctx context.Context, p peer.ID, roots []cid.Cid) ([]audit.Outcome, error)
}

// Standings keeps what is thought of peers. The keeper records the outcome of
// each challenge to a peer that said it holds the segment, and Offline once when
// a peer's unannounced absence has lasted so long that its copies stop counting.
// One that can also record what a whole batch showed, in order, is asked to:
//
//	RecordAll(p peer.ID, at time.Time, outcomes ...audit.Outcome) audit.Standing
type Standings interface {
	Record(p peer.ID, o audit.Outcome, at time.Time) audit.Standing
	Get(p peer.ID) audit.Standing
}

// orderMany is Orders that can give many at once.
type orderMany interface {
	OrderMany(ctx context.Context, to peer.ID, ins ...control.Instruction) error
}

// recordAll is Standings that can record many outcomes at once.
type recordAll interface {
	RecordAll(p peer.ID, at time.Time, outcomes ...audit.Outcome) audit.Standing
}

// Roster is who belongs to the swarm, this origin included or not.
type Roster interface {
	Peers() []member.Peer
}

// Local is the origin's own store.
type Local interface {
	// Verify reports what is wrong with the own copy of a segment; nil: nothing.
	// It is called once in an audit cycle for each segment, and after Mend.
	Verify(ctx context.Context, root cid.Cid) error
	// Mend fetches from peers what is missing or rotten in the own copy.
	Mend(ctx context.Context, root cid.Cid, size int64) error
}

// Services are pinning services. None of the methods blocks.
type Services interface {
	Keep(root cid.Cid, name string)
	Drop(root cid.Cid)
	Copies(root cid.Cid) []remote.Copy
}

var _ Services = (*remote.Services)(nil)

// Timing is how long things take. Fields that are 0 have the default.
type Timing struct {
	Pass         time.Duration // between two surveys of all that is wanted and pinned: 1 minute
	Cycle        time.Duration // in which each copy is challenged once: 12 hours
	TrustedGrace time.Duration // after which the copies of an absent trusted peer stop counting: 15 seconds
	ReplicaGrace time.Duration // the same for a replica: 1 hour
	StartGrace   time.Duration // in which peers may come back after a start before any counts as absent: 45 seconds
	Stall        time.Duration // after which a peer that is there and sent no receipt for an order is not waited for: 10 minutes
	Retry        time.Duration // before the first new try of what failed; doubles up to an hour: 5 seconds
	Tick         time.Duration // between two looks at who is there: 1 second
}

func (t Timing) withDefaults() Timing {
	for _, f := range []struct {
		d *time.Duration
		v time.Duration
	}{
		{&t.Pass, time.Minute},
		{&t.Cycle, 12 * time.Hour},
		{&t.TrustedGrace, 15 * time.Second},
		{&t.ReplicaGrace, time.Hour},
		{&t.StartGrace, 45 * time.Second},
		{&t.Stall, 10 * time.Minute},
		{&t.Retry, 5 * time.Second},
		{&t.Tick, time.Second},
	} {
		if *f.d <= 0 {
			*f.d = f.v
		}
	}
	return t
}

// Options are what a Keeper works with.
type Options struct {
	Self      peer.ID            // the origin
	Site      string             // where it is
	Store     datastore.Batching // under /keep
	Wants     Wants
	Roster    Roster
	Local     Local     // nil: the own copies are taken to be good
	Pinset    Pinset    // nil: there are no other trusted peers
	Trusted   Trusted   // nil likewise
	Orders    Orders    // nil: there are no replicas
	Auditor   Auditor   // nil: nothing is ever proved but the own copy
	Standings Standings // nil: every peer is in good standing
	Services  Services  // nil: there are none
	Timing    Timing
	Now       func() time.Time // nil: time.Now
	Rand      io.Reader        // nil: crypto/rand
	Log       *slog.Logger     // nil: silent
}
