package musen

import "time"

// A Gateway is one process of a fleet, as the catalogue that they share knows
// it.
type Gateway struct {
	ID      string // its peer ID
	Name    string
	Role    string   // origin or edge
	Addrs   []string // multiaddresses where its node is reached, peer ID included
	Started time.Time
	Seen    time.Time // when it was last heard of
	Silent  bool      // for longer than its lease: it refuses whoever needs a credential
	Behind  bool      // changes that were made are not in force there yet
	Self    bool      // the process that was asked
}

// A Reach says where changes that were made are in force.
type Reach struct {
	Gateways int // there are
	InForce  int // have applied all changes
	Silent   int // refuse whoever needs a credential until they have
}
