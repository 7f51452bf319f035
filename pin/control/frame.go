package control

import (
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/musenai/musen/pin/wire"
)

// Protocol is what the line is spoken under. The peer begins with a hello, the
// origin answers with a welcome; then both send what they have, and an empty
// frame when they had nothing for a while.
const Protocol protocol.ID = "/musen/control/1"

// connTag protects the connections of lines from being trimmed.
const connTag = "musen control"

const (
	maxBatch  = 512       // orders or receipts in one frame
	maxUp     = 512 << 10 // bytes of a frame from a peer
	maxDown   = 16 << 20  // bytes of a frame from an origin: it may carry the roster
	maxShown  = 384 << 10 // bytes of a roster that a peer shows
	maxSeq    = 1 << 62   // no counter comes near
	maxLast   = 1 << 61   // of a hello: whatever a peer says, numbers for orders are left
	slowest   = 32 << 10  // bytes per second that a line must carry
	beats     = 3         // silent heartbeats until a line is taken as broken
	heartbeat = 15 * time.Second
	greeting  = 10 * time.Second // until hello or welcome must have come
)

// A hello is how a peer begins.
type hello struct {
	Realm string `cbor:"1,keyasint"`
	Epoch uint64 `cbor:"2,keyasint,omitempty"` // of the welcome after which Last came
	Last  uint64 `cbor:"3,keyasint,omitempty"` // the newest order that it keeps, with all before
}

// A welcome is how an origin begins.
type welcome struct {
	Epoch  uint64 `cbor:"1,keyasint"`           // of the origin's counting; another one: it may have lost some
	Latest uint64 `cbor:"2,keyasint,omitempty"` // the newest order when the line began
}

// An up frame goes from a peer to its origin.
type up struct {
	Hello    *hello          `cbor:"1,keyasint,omitempty"` // in the first frame alone
	Got      uint64          `cbor:"2,keyasint,omitempty"` // the orders up to this one are durable here
	Receipts []wire.Envelope `cbor:"3,keyasint,omitempty"` // lists of Receipt
	Report   *Report         `cbor:"4,keyasint,omitempty"`
	Roster   *wire.Envelope  `cbor:"5,keyasint,omitempty"` // the one that it follows, when it refused another
}

// A down frame goes from an origin to a peer.
type down struct {
	Welcome *welcome       `cbor:"1,keyasint,omitempty"` // in the first frame alone
	Roster  *wire.Envelope `cbor:"2,keyasint,omitempty"`
	Orders  *wire.Envelope `cbor:"3,keyasint,omitempty"` // a list of Order
	Caught  bool           `cbor:"4,keyasint,omitempty"` // all up to Latest have been sent
	Acked   uint64         `cbor:"5,keyasint,omitempty"` // receipts dealt with since the line began
	Regard  *Regard        `cbor:"6,keyasint,omitempty"` // after the welcome, and when it is another
	Removed bool           `cbor:"7,keyasint,omitempty"` // the last word: the peer is no member any more
}

// check refuses what a peer never sends.
func (f up) check(first bool) error {
	if (f.Hello != nil) != first {
		return fmt.Errorf("%w: a hello belongs at the beginning, and there alone", ErrInvalid)
	}
	if first && (len(f.Receipts) > 0 || f.Report != nil || f.Got != 0 || f.Roster != nil) {
		return fmt.Errorf("%w: more than a hello at the beginning", ErrInvalid)
	}
	if first {
		return f.Hello.check()
	}
	if len(f.Receipts) > maxBatch {
		return fmt.Errorf("%w: %d lists of receipts in one frame", ErrInvalid, len(f.Receipts))
	}
	if f.Report != nil {
		return f.Report.check()
	}
	return nil
}

func (h hello) check() error {
	if h.Last > maxLast || h.Realm == "" {
		return fmt.Errorf("%w: hello after order %d", ErrInvalid, h.Last)
	}
	return text("realm", h.Realm, maxRealm)
}

// check refuses what an origin never sends.
func (f down) check(first bool) error {
	if (f.Welcome != nil) != first {
		return fmt.Errorf("%w: a welcome belongs at the beginning, and there alone", ErrInvalid)
	}
	if first && (f.Welcome.Latest > maxSeq || f.Roster == nil || f.Orders != nil || f.Caught || f.Regard != nil || f.Removed) {
		return fmt.Errorf("%w: not how an origin begins", ErrInvalid)
	}
	if f.Regard != nil {
		return f.Regard.check()
	}
	return nil
}

// send writes one frame, within as long as the slowest line would take.
func send(s network.Stream, f any, patience time.Duration) error {
	return wire.Write(timed{s, patience}, f)
}

// timed gives each frame its time to leave.
type timed struct {
	stream   network.Stream
	patience time.Duration
}

var _ io.Writer = timed{}

func (t timed) Write(frame []byte) (int, error) {
	long := time.Duration(len(frame)) * time.Second / slowest
	if err := t.stream.SetWriteDeadline(time.Now().Add(t.patience + long)); err != nil {
		return 0, err
	}
	return t.stream.Write(frame)
}
