// Package control is the line between an origin and each peer that holds
// segments for it: the origin sends its roster and its orders, the peer answers
// with signed receipts and tells how it is. The peer dials and keeps the line
// open. Orders wait for a peer that is away, and nothing that an origin said to
// drop is served by a peer that came back before it has heard so.
//
// The origin runs a Server, a peer one Client for each of its origins. What is
// promised: an order is durable at the origin before Order returns, durable at
// the peer before the origin takes it as received, and kept there until its
// receipt is durable, which in turn is kept and sent until the origin has
// recorded it. Each step may happen again after a crash; none is left out. Of
// all orders about one segment only the newest counts, on both sides.
//
// It does not know why an order is given, nor how blocks are kept.
package control

import (
	"errors"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/contract"
)

var (
	// ErrStranger says that a peer is not one that gets orders: not enrolled, or
	// neither storage nor replica.
	ErrStranger = errors.New("no line with this peer")
	// ErrPurged says that a segment cannot be held by a peer that has still to
	// purge it.
	ErrPurged = errors.New("its purge is waiting")
	// ErrClosed says that the server was closed.
	ErrClosed = errors.New("control server closed")
	// ErrRemoved says that the origin ended the membership of this peer.
	ErrRemoved = errors.New("this peer was removed from the swarm")
	// ErrInvalid says that what was said is not what can be said on the line.
	ErrInvalid = errors.New("not valid")
)

// A Verb is what an order tells a peer to do.
type Verb string

const (
	Hold  Verb = "hold"  // fetch the segment and keep it
	Drop  Verb = "drop"  // no longer needed here
	Purge Verb = "purge" // removed or taken down: delete it, and do not serve it again unless it is lifted
)

// An Instruction is what shall be done with a segment, by whichever peer.
type Instruction struct {
	Verb  Verb
	Root  cid.Cid
	Size  int64  // bytes of ciphertext; 0: unknown
	Label string // of the station
	// Lifted, of a Hold, says that an earlier Purge does not count any more: what
	// was taken down was put back.
	Lifted bool
}

// An Order is one thing that an origin tells one peer to do with a segment.
type Order struct {
	Seq    uint64    `cbor:"1,keyasint"` // grows from order to order to this peer, from 1, with gaps
	Peer   peer.ID   `cbor:"2,keyasint"` // who shall do it
	Verb   Verb      `cbor:"3,keyasint"`
	Root   cid.Cid   `cbor:"4,keyasint"`
	Size   int64     `cbor:"5,keyasint,omitempty"` // bytes of ciphertext
	Label  string    `cbor:"6,keyasint,omitempty"` // of the station: random, it says nothing
	Issued time.Time `cbor:"7,keyasint"`
	Lifted bool      `cbor:"8,keyasint,omitempty"` // a hold that ends the purge of before
}

// An Outcome is what became of an order.
type Outcome string

const (
	Done    Outcome = "done"    // held, dropped or purged
	Full    Outcome = "full"    // refused: it would exceed the disk that was offered
	Outside Outcome = "outside" // refused: the contract does not cover it
	Failed  Outcome = "failed"  // could not be done; the peer tries again
	Lost    Outcome = "lost"    // was held, and is not any more
)

// A Receipt is what a peer says, and signs, about an order. A storage peer,
// which is told by the pinset what to hold, sends receipts with Seq 0 for that.
type Receipt struct {
	Seq     uint64    `cbor:"1,keyasint,omitempty"`
	Verb    Verb      `cbor:"2,keyasint"`
	Root    cid.Cid   `cbor:"3,keyasint"`
	Outcome Outcome   `cbor:"4,keyasint"`
	Reason  string    `cbor:"5,keyasint,omitempty"`
	At      time.Time `cbor:"6,keyasint"`
}

// A Report is how a peer is. It is the peer's own word.
type Report struct {
	Contract contract.Contract `cbor:"1,keyasint"`
	Addrs    []string          `cbor:"2,keyasint,omitempty"` // multiaddrs where it can be dialled
	Held     int64             `cbor:"3,keyasint"`           // segments
	Used     int64             `cbor:"4,keyasint"`           // bytes on its disk
	Free     int64             `cbor:"5,keyasint"`           // bytes that it could still take
	Served   int64             `cbor:"6,keyasint"`           // bytes sent since it began
	Paused   time.Time         `cbor:"7,keyasint,omitempty"` // absent by announcement until then
	Leaving  bool              `cbor:"8,keyasint,omitempty"` // asks to be drained
	Appeal   string            `cbor:"9,keyasint,omitempty"` // against its standing, in the host's words
	Version  string            `cbor:"10,keyasint,omitempty"`
}

// A Regard is what an origin thinks of a peer. The peer is told, so that whoever
// runs it can see; nothing depends on it, but that an appeal which was answered
// is one no more.
type Regard struct {
	Standing string    `cbor:"1,keyasint"`           // in one word; "": none was told
	Since    time.Time `cbor:"2,keyasint,omitempty"` // when it got that standing
	Reason   string    `cbor:"3,keyasint,omitempty"` // why, in words
	Audit    string    `cbor:"4,keyasint,omitempty"` // outcome of the last audit; "": there was none
	Audited  time.Time `cbor:"5,keyasint,omitempty"` // the last audit that reached the peer
	Answered string    `cbor:"6,keyasint,omitempty"` // the appeal of the peer that was answered
	Draining bool      `cbor:"7,keyasint,omitempty"` // the operator has its copies moved elsewhere
}

// Kinds under which orders and receipts are signed, a list of them at a time:
// each is followed by a slash and the realm, so that nothing said in one realm
// counts in another. A receipt for a drop or a purge is signed alone, because it
// is kept.
const (
	OrderKind   = "order"
	ReceiptKind = "receipt"
)
