package swarm

import "github.com/musenai/musen"

// What copies are spread over.
const (
	SpreadNone = "none" // nothing
	SpreadSite = "site" // sites: copies on the same one count once
)

// A Want is how many copies of a segment there shall be.
type Want struct {
	Min       int    `json:"min"` // on the origin and trusted peers
	Max       int    `json:"max"`
	Spread    string `json:"spread"`    // SpreadNone or SpreadSite
	Community int    `json:"community"` // further ones, on replicas
}

// FromReplication shapes what a station asks for.
func FromReplication(r musen.Replication) Want {
	w := Want{Min: r.Min, Max: r.Max, Spread: SpreadNone, Community: r.Community}
	if r.Spread {
		w.Spread = SpreadSite
	}
	return w
}

// WantChange sets what is not nil. A nil one sets nothing.
type WantChange struct {
	Min       *int    `json:"min,omitempty"`
	Max       *int    `json:"max,omitempty"`
	Spread    *string `json:"spread,omitempty"`
	Community *int    `json:"community,omitempty"`
}

// Apply returns r with the change.
func (c *WantChange) Apply(r musen.Replication) musen.Replication {
	if c == nil {
		return r
	}
	if c.Min != nil {
		r.Min = *c.Min
	}
	if c.Max != nil {
		r.Max = *c.Max
	}
	if c.Spread != nil {
		r.Spread = *c.Spread == SpreadSite
	}
	if c.Community != nil {
		r.Community = *c.Community
	}
	return r
}
