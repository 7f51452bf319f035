// Package member says who belongs to a swarm: the roles of peers, what each
// offers, the invitations by which they come in, and the roster that an origin
// signs. A peer that is not on the roster is not spoken to.
//
// The origin keeps a Ledger, every other peer a Book with the newest roster that
// it was given. Both feed a Gate, which says whose connections are taken. An
// invitation carries the private key of a one-time identity: the Gate admits
// that identity for the enrolment protocol alone, so that somebody without an
// invitation cannot even finish a handshake.
//
// It does not know which blocks a peer holds, what they are worth, or how the
// connections are made.
package member

import (
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/musenai/musen/pin/contract"
)

var (
	// ErrInvite says that a string is no invitation, or not one that this origin
	// knows (any more).
	ErrInvite = errors.New("not a valid invite")
	// ErrExpired says that an invitation came too late.
	ErrExpired = errors.New("invite expired")
	// ErrUsed says that somebody else came in by the invitation.
	ErrUsed = errors.New("invite already used")
	// ErrUnknown says that there is no such peer, or no such open invitation.
	ErrUnknown = errors.New("not in the ledger")
	// ErrTaken says that a name is another peer's, or promised to one.
	ErrTaken = errors.New("name is taken")
	// ErrInvalid says that what was given about a peer cannot be right.
	ErrInvalid = errors.New("not valid")
	// ErrRemoved says that the origin ended the membership of a peer.
	ErrRemoved = errors.New("removed from the swarm")
	// ErrFull says that no further peer or invitation can be kept.
	ErrFull = errors.New("ledger is full")
	// ErrRoster says that a roster is not the one to follow: of another realm,
	// of another signer, or older than what is known.
	ErrRoster = errors.New("not a roster to follow")
	// ErrDamaged says that a ledger lost something that was in it.
	ErrDamaged = errors.New("ledger is damaged")
)

// A Role is what a peer may do.
type Role string

const (
	Origin  Role = "origin"  // holds the catalogue and the keys, gives orders
	Storage Role = "storage" // an operator's pinning node: trusted with the pinset
	Replica Role = "replica" // a community host: trusted with nothing
	Guest   Role = "guest"   // any IPFS node that may fetch ciphertext, no more
)

// Trusted reports whether peers of the role may change the pinset.
func (r Role) Trusted() bool { return r == Origin || r == Storage }

// A Peer is one line of the roster. In rosters that are sent, Contract and
// Answered are left out: they are between the host and the origin.
type Peer struct {
	ID       peer.ID           `cbor:"1,keyasint"`
	Role     Role              `cbor:"2,keyasint"`
	Name     string            `cbor:"3,keyasint,omitempty"` // what the operator calls it
	Site     string            `cbor:"4,keyasint,omitempty"` // machines of one site may fail together
	Addrs    []string          `cbor:"5,keyasint,omitempty"` // multiaddrs without the peer ID; none: it dials
	Contract contract.Contract `cbor:"6,keyasint"`           // what a replica offers
	Enrolled time.Time         `cbor:"7,keyasint"`
	Draining bool              `cbor:"8,keyasint,omitempty"` // gets nothing new, and gives away what it has
	Answered string            `cbor:"9,keyasint,omitempty"` // the appeal that was answered last, if it still stands
}

// A Roster is who belongs to the swarm, as the origin of Realm says. A replica
// gets one that names the trusted peers alone.
type Roster struct {
	Realm  string    `cbor:"1,keyasint"`
	Seq    uint64    `cbor:"2,keyasint"` // a higher one replaces a lower one
	Issued time.Time `cbor:"3,keyasint"`
	Peers  []Peer    `cbor:"4,keyasint"`
}

// AddrInfo returns where the peer can be dialled. Addresses that cannot be read
// are left out.
func (p Peer) AddrInfo() peer.AddrInfo {
	info := peer.AddrInfo{ID: p.ID}
	for _, s := range p.Addrs {
		if a, err := ma.NewMultiaddr(s); err == nil {
			info.Addrs = append(info.Addrs, a)
		}
	}
	return info
}

// RosterKind is the kind under which an origin signs a Roster.
const RosterKind = "roster"
