// Package keep sees to it that every segment has the copies that its station
// asks for. It compares what is wanted with what the pinset says, what peers
// were ordered to do and what they proved, and mends the difference: on every
// event at once, and all of it again and again, so that nothing depends on an
// event that was missed.
//
// What counts as a copy:
//
//   - a copy that is held counts for Replicated, one that passed its last audit
//     counts for Durable;
//   - a copy that answered wrongly, or not at all while its peer was there,
//     counts for nothing from that moment, and neither does any copy of a peer
//     whose standing is paused or dropped;
//   - the copies of a trusted peer that went away stop counting after seconds,
//     those of a replica after an hour, or after three audit cycles when its
//     absence was announced or it is outside its hours; they are then made
//     elsewhere, as is what it did not come to hold or prove before;
//   - the origin's own copy counts until anybody finds something wrong with it,
//     and again when it was mended and verified;
//   - copies on replicas are Community first. Those beyond that count towards
//     Min where there are fewer trusted peers than Max; none is ordered for it.
//
// A copy that is one too many, or on a peer that leaves, is dropped when Min
// copies are proved without it, and so are those of all who can take its place;
// not before. A replica that leaves goes once others have proved its share. What was removed from the catalogue is unpinned and purged,
// however often it comes back.
//
// It does not know how blocks move, how pins are agreed on, what is asked in an
// audit, or what a segment contains.
package keep

import (
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/member"
)

var (
	// ErrUnknown says that nothing is wanted under a CID.
	ErrUnknown = errors.New("no such segment is kept")
	// ErrGone says that a segment was removed.
	ErrGone = errors.New("segment removed")
	// ErrClosed says that the keeper has stopped.
	ErrClosed = errors.New("keeper stopped")
)

// A Want is how many copies of a segment there shall be.
type Want struct {
	Root      cid.Cid
	Size      int64  // bytes of ciphertext
	Label     string // of the station
	Min, Max  int    // copies on trusted peers, the origin's own one included
	Spread    bool   // Durable asks for Min sites, not only Min peers
	Community int    // further copies, on replicas
	Lifted    bool   // it was taken down once: who purged it may hold it again
}

// sane is w with numbers that can be worked with: 1 ≤ Min ≤ Max ≤ 32 and
// 0 ≤ Community ≤ 64.
func (w Want) sane() Want {
	w.Min = min(max(w.Min, 1), maxCopies)
	w.Max = min(max(w.Max, w.Min), maxCopies)
	w.Community = min(max(w.Community, 0), maxCommunity)
	return w
}

const (
	maxCopies    = 32
	maxCommunity = 64
	maxReason    = 160 // bytes of a reason that a peer gave
)

// A Level is how safe a segment is.
type Level uint8

// The levels, each of which includes those before it.
const (
	None       Level = iota // there is no copy that counts
	Stored                  // there is at least one copy
	Replicated              // at least Min copies are held
	Durable                 // at least Min copies are proved, with Spread on Min sites
)

// String is the level as operators write it.
func (l Level) String() string {
	if int(l) >= len(levels()) {
		return fmt.Sprintf("level %d", uint8(l))
	}
	return levels()[l]
}

func levels() []string { return []string{"none", "stored", "replicated", "durable"} }

// MarshalText is String.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads what String gives, in lower case.
func (l *Level) UnmarshalText(b []byte) error {
	for i, name := range levels() {
		if name == string(b) {
			*l = Level(i)
			return nil
		}
	}
	return fmt.Errorf("%.20q is none of stored, replicated and durable", b)
}

// A State is how far one copy is.
type State string

// The states of a copy.
const (
	Ordered State = "ordered" // the peer was told to hold it
	Held    State = "held"    // the peer says that it holds it
	Proved  State = "proved"  // the peer proved it when last asked
	Failed  State = "failed"  // the peer could not, would not, or proved to be lying
	Lost    State = "lost"    // the peer held it and says that it does not any more
	Purging State = "purging" // the segment was removed; no receipt for that yet
)

// A Copy is one peer's copy of a segment.
type Copy struct {
	Peer    peer.ID // empty for a pinning service
	Name    string
	Site    string
	Role    member.Role // Service for a pinning service
	State   State
	Counts  bool          // whether it counts at present: proved, on a peer that is there and in standing
	Since   time.Time     // when it came to its state
	Proved  time.Time     // when it was last proved; zero: never
	Outcome audit.Outcome // of the last audit; empty: none yet
	Reason  string        // why it failed or is late
}

// Service is the role of a pinning service among the copies: it is no peer, and
// proves nothing.
const Service member.Role = "service"

// A Health is how a segment is.
type Health struct {
	Root   cid.Cid
	Want   Want
	Level  Level
	Gone   bool      // removed; Copies are those that have not been purged yet
	Copies []Copy    // the origin's own first
	Reason string    // what is not as it should be; empty: healthy
	Next   time.Time // when the keeper looks again, or tries again
}

// A Summary counts the segments under one label, or all.
type Summary struct {
	Segments   int   // wanted
	Bytes      int64 // of ciphertext
	Away       int   // of level None, though peers that are away have copies
	Stored     int   // at least Stored
	Replicated int   // at least Replicated
	Durable    int   // at least Durable
	Unhealthy  int   // wanted, and with a reason
	Copies     int   // that peers say they hold and are taken at their word for
	Proved     int   // of those, proved
	Purging    int   // removed, with receipts outstanding
	Fewer      int   // durable, on fewer trusted peers than Max and than there are
	Strangers  int   // entries of the pinset that belong to no segment; left alone
	Surveyed   time.Time
}
