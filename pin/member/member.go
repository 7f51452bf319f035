// Package member says who belongs to a swarm: the roles of peers, what each
// offers, the invitations by which they come in, and the roster that an origin
// signs. A peer that is not on the roster is not spoken to.
//
// It does not know which blocks a peer holds, what they are worth, or how the
// connections are made.
package member

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/contract"
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

// A Peer is one line of the roster.
type Peer struct {
	ID       peer.ID           `cbor:"1,keyasint"`
	Role     Role              `cbor:"2,keyasint"`
	Name     string            `cbor:"3,keyasint,omitempty"` // what the operator calls it
	Site     string            `cbor:"4,keyasint,omitempty"` // machines of one site may fail together
	Addrs    []string          `cbor:"5,keyasint,omitempty"` // multiaddrs without the peer ID; none: it dials
	Contract contract.Contract `cbor:"6,keyasint"`           // what a replica offers
	Enrolled time.Time         `cbor:"7,keyasint"`
	Draining bool              `cbor:"8,keyasint,omitempty"` // gets nothing new, and gives away what it has
}

// A Roster is who belongs to the swarm, as the origin of Realm says. A replica
// gets one that names the trusted peers alone.
type Roster struct {
	Realm  string    `cbor:"1,keyasint"`
	Seq    uint64    `cbor:"2,keyasint"` // a higher one replaces a lower one
	Issued time.Time `cbor:"3,keyasint"`
	Peers  []Peer    `cbor:"4,keyasint"`
}

// RosterKind is the kind under which an origin signs a Roster.
const RosterKind = "roster"
