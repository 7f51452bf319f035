package wire

import (
	"fmt"
	"time"

	"github.com/musenai/musen"
)

// Gateway is one of those that share a catalogue.
type Gateway struct {
	ID        string    `json:"id"` // peer ID
	Name      string    `json:"name,omitempty"`
	Role      string    `json:"role"` // origin or edge
	Addresses []string  `json:"addresses"`
	Started   time.Time `json:"started"`
	Seen      time.Time `json:"seen"`
	Silent    bool      `json:"silent"` // for longer than its lease
	Behind    bool      `json:"behind"` // has not applied all that this node changed
	Self      bool      `json:"self"`   // the one that answers
}

// FromGateway shapes a gateway.
func FromGateway(g musen.Gateway) Gateway {
	return Gateway{
		ID: g.ID, Name: g.Name, Role: g.Role, Addresses: append([]string{}, g.Addrs...),
		Started: g.Started.UTC(), Seen: g.Seen.UTC(), Silent: g.Silent, Behind: g.Behind, Self: g.Self,
	}
}

// Fleet is the answer to a listing of gateways.
type Fleet struct {
	Gateways []Gateway `json:"gateways"`
}

// Reach tells where a change is in force, once it is or the gateways that are
// left refuse whoever needs a credential. It is absent where a node is alone,
// or it is not known.
type Reach struct {
	Gateways int     `json:"gateways"`
	InForce  int     `json:"in_force"`
	Silent   int     `json:"silent"`
	Took     float64 `json:"took_seconds"`
}

// ReachHeader carries a Reach, as String spells it, with every answer that came
// when what was changed is in force.
const ReachHeader = "Musen-Reach"

// String spells r as a dictionary of RFC 9651.
func (r Reach) String() string {
	return fmt.Sprintf("gateways=%d, in_force=%d, silent=%d, took=%.3f", r.Gateways, r.InForce, r.Silent, r.Took)
}

// ParseReach reads what String has made; nil: it is something else, or nothing.
func ParseReach(s string) *Reach {
	var r Reach
	n, err := fmt.Sscanf(s, "gateways=%d, in_force=%d, silent=%d, took=%g", &r.Gateways, &r.InForce, &r.Silent, &r.Took)
	if err != nil || n != 4 {
		return nil
	}
	return &r
}
