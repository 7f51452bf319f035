package wire

import (
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire/swarm"
)

// Takedown is the record of a refusal. Reach and Copies are told where they are
// asked for.
type Takedown struct {
	CID         string         `json:"cid"`               // the root of what was taken down
	State       string         `json:"state"`             // in_force, shredded or lifted
	Segment     string         `json:"segment,omitempty"` // id; absent: the catalogue knew none
	Station     string         `json:"station,omitempty"` // id
	StationName string         `json:"station_name,omitempty"`
	Title       string         `json:"title,omitempty"`
	Category    string         `json:"category"`
	Reason      string         `json:"reason"`
	Actor       string         `json:"actor"` // who did it
	Created     time.Time      `json:"created"`
	Shredded    time.Time      `json:"shredded,omitzero"` // when the key was destroyed
	Lifted      time.Time      `json:"lifted,omitzero"`
	LiftReason  string         `json:"lift_reason,omitempty"`
	LiftedBy    string         `json:"lifted_by,omitempty"`
	Blocks      int            `json:"blocks"` // that are denied, the root included
	Reach       *Reach         `json:"reach,omitempty"`
	Copies      *swarm.Purging `json:"copies,omitempty"`
}

// FromTakedown shapes a takedown of a station, the zero one if there is none.
func FromTakedown(t musen.Takedown, station musen.Station) Takedown {
	return Takedown{
		CID: t.CID.String(), State: t.State(), Segment: t.Segment, Station: t.Station, StationName: station.Name,
		Category: t.Category, Reason: t.Reason, Actor: t.Actor, Created: utc(t.Created), Shredded: utc(t.Shredded),
		Lifted: utc(t.Lifted), LiftReason: t.LiftReason, LiftedBy: t.LiftedBy, Blocks: 1 + len(t.Blocks),
	}
}

// Takedowns is a page of takedowns, the newest first.
type Takedowns struct {
	Takedowns []Takedown `json:"takedowns"`
	Next      string     `json:"next,omitempty"` // cursor of the next page; absent on the last
}

// NewTakedown takes down what a CID belongs to.
type NewTakedown struct {
	CID      string `json:"cid"`
	Category string `json:"category,omitempty"` // absent: other
	Reason   string `json:"reason"`
	Shred    bool   `json:"shred,omitempty"` // destroy the key too
}

// Lift ends a takedown.
type Lift struct {
	Reason string `json:"reason"`
}
