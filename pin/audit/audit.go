// Package audit finds out whether peers really hold what they say. The origin
// challenges a peer with a segment and a nonce; the answer is a hash keyed with
// the nonce over bytes of the segment's leaves, which nobody can give who does
// not have them within reach. PROTOCOL.md has the words and the sums, and
// testdata what they come to: enough for a second implementation.
//
// What an audit does not prove: that the copy lies on a disk of its own, or at
// the site that the peer claims, or will be there tomorrow. A peer that fetches
// the bytes from another holder faster than the deadline passes for one that
// has them.
//
// # Standings
//
// Outcomes add up to the standing of a peer, by these rules:
//
//	from                to       when
//	new                 good     20 proved, the first of them an hour ago or more
//	new, good           warned   1 wrong; or 3 missing or late among the last 50
//	new, good, warned   paused   2 wrong among the last 100; or 10 % failed of the last 100, if there are 30;
//	                             or offline for more than 7 days without excuse
//	any                 dropped  5 wrong within 90 days; or paused for 14 days without excuse
//	paused, warned      warned, good   20 proved in a row, one step at a time
//	any                 new      reinstated by the operator
//
// Wrong, missing and late are failures; offline is none. Late within ten minutes
// of a late that counted is the same stall and does not count again. What was
// before a step up is not held against the peer again, save the 5 wrong. An
// excuse reaches 30 days ahead at most; excused time does not count as offline
// nor as paused. A peer that is paused is to be challenged on, or it could
// never come back.
//
// It does not know who should hold what, nor what follows from an outcome for
// the placement of copies; it keeps the standing of peers.
package audit

import (
	"context"
	"errors"

	"github.com/ipfs/go-cid"
)

// Protocol is what auditor and prover speak.
const Protocol = "/musen/audit/1"

// MaxBatch is how many challenges one stream carries at most.
const MaxBatch = 64

// ErrNoSpare says that a peer was not challenged about a root: the auditor has
// neither its bytes nor a spare answer left, so it could not judge.
var ErrNoSpare = errors.New("no copy to audit against and no spare answer left")

// An Outcome is what one challenge showed.
type Outcome string

const (
	Proved  Outcome = "proved"  // the right answer, in time
	Wrong   Outcome = "wrong"   // an answer, and not the right one
	Missing Outcome = "missing" // the peer says that it has not got it
	Late    Outcome = "late"    // no answer until the deadline, or until it hung up, while the peer was connected
	Offline Outcome = "offline" // the peer was away: no failure
)

// A Standing is what an origin thinks of a peer.
type Standing string

const (
	New     Standing = "new"     // little is known yet
	Good    Standing = "good"    // proves what it is asked
	Warned  Standing = "warned"  // failed some; keeps what it has, gets less
	Paused  Standing = "paused"  // failed more: gets nothing new, and nothing it has counts
	Dropped Standing = "dropped" // out, unless its appeal is heard
)

// A Challenge is one question to a peer. The nonce is 16 random bytes that
// nobody knew before.
type Challenge struct {
	Root  cid.Cid
	Nonce [16]byte
}

// A Leaf is one block of audio of a segment.
type Leaf struct {
	CID  cid.Cid
	Size int64 // bytes
}

// A Source is blocks on this machine. It must never fetch from peers: a prover
// would lie unknowingly, and an auditor would pay for it.
type Source interface {
	// Leaves are the leaves of a segment in order: all of them, or an error.
	Leaves(ctx context.Context, root cid.Cid) ([]Leaf, error)
	// ReadBlockAt is io.ReaderAt on one block.
	ReadBlockAt(ctx context.Context, c cid.Cid, p []byte, off int64) (int, error)
}
