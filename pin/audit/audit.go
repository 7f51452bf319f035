// Package audit finds out whether peers really hold what they say. The origin
// challenges a peer with a segment and a nonce; the answer is a hash keyed with
// the nonce over bytes of the segment's leaves, which nobody can give who does
// not have them within reach.
//
// It does not know who should hold what, nor what follows from an outcome for
// the placement of copies; it keeps the standing of peers.
package audit

// An Outcome is what one challenge showed.
type Outcome string

const (
	Proved  Outcome = "proved"  // the right answer, in time
	Wrong   Outcome = "wrong"   // an answer, and not the right one
	Missing Outcome = "missing" // the peer says that it has not got it
	Late    Outcome = "late"    // the deadline passed while the peer was connected
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
