// Package musen holds the nouns of a content distribution node for AI radio,
// and its two flows: an Origin seals audio and adds it to IPFS, an Edge opens
// sealed segments for those whom policy lets listen.
//
// It does not know HTTP, SQL, Kubo or where keys are kept: each of these is a
// package of its own that satisfies an interface written here.
package musen

import (
	"errors"
	"time"

	"github.com/ipfs/go-cid"
)

// LeafSize is the size in bytes of every IPFS leaf of a sealed segment but the
// last: exactly four sealed chunks.
const LeafSize = 256 << 10

var (
	// ErrNotFound says that no such station, segment or token is known, or
	// that the caller's grant does not cover it: the two are never told apart.
	ErrNotFound = errors.New("not found")
	// ErrExists says that a station of that name is there already.
	ErrExists = errors.New("exists already")
	// ErrGone says that the segment cannot be heard any more: it was removed
	// and its key destroyed, or it has expired.
	ErrGone = errors.New("removed")
	// ErrExpired is the ErrGone of a segment whose time is over.
	ErrExpired error = expired{}
	// ErrTakenDown says that the segment is refused by a takedown or a denylist.
	ErrTakenDown = errors.New("taken down")
	// ErrUnavailable says that the segment exists but its blocks or its key
	// cannot be had now.
	ErrUnavailable = errors.New("unavailable")
	// ErrTooLarge says that the audio is longer than the node accepts.
	ErrTooLarge = errors.New("too large")
	// ErrInvalid says that what the caller sent is not acceptable.
	ErrInvalid = errors.New("invalid")
	// ErrNoSpace says that the disk is full; nothing of the request was kept.
	ErrNoSpace = errors.New("no space left")
)

// A Station is what a listener tunes to: the unit of access, keys, replication
// and retention.
type Station struct {
	ID          string // 128 random bits in lower-case base32, never reused
	Name        string // unique, chosen by the operator, see CheckStationName
	Description string
	Label       string // 16 random characters that name the station to peers, see CheckLabel
	Downloads   bool   // whether listeners may save segments as files
	Epoch       uint64 // +1 ends every link of the station
	Created     time.Time
	Replication Replication
}

// A Segment is one piece of audio of a station. Its public handle is the CID
// of its sealed bytes.
type Segment struct {
	ID          string // 128 random bits in lower-case base32, bound into the seal
	Station     string // Station.ID
	CID         cid.Cid
	Leaves      []cid.Cid // raw leaves in order; a single leaf is the CID itself
	Title       string
	Artist      string
	MediaType   string
	Duration    time.Duration // 0: not told by the headers
	Size        int64         // bytes of audio
	SealedSize  int64         // bytes of ciphertext
	AIGenerated bool
	PublishAt   time.Time // zero: at once
	ExpiresAt   time.Time // zero: never
	Created     time.Time
	State       State
	Takedown    string // category of the takedown in force; empty: none
	Lifted      bool   // it was taken down once, and put back
	Key         WrappedKey
}

// State is where a segment is in its life.
type State uint8

const (
	Live      State = iota // may be listened to
	Removed                // unpinned, forgotten, key destroyed: only a tombstone is left
	TakenDown              // refused
)

// A WrappedKey is a data key under its station's key. It opens nothing without
// the keyring.
type WrappedKey struct {
	Generation uint32 // of the station key
	Ciphertext []byte // empty once the key is destroyed
}

// A Token is the record of a bearer token that was issued. The token itself is
// never kept.
type Token struct {
	ID       string // jti
	Subject  string
	Stations []string // Station.ID; empty: all stations
	Actions  []string
	Identity bool   // the roles of the subject count for its bearer
	Issuer   string // subject that issued it; empty: whoever holds the node
	Issued   time.Time
	Expires  time.Time
	Revoked  time.Time // zero: not revoked
}
