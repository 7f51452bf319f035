package swarm

import "time"

// Purging is how far the copies of a segment are gone that was removed or taken
// down.
type Purging struct {
	Confirmed []Purged `json:"confirmed"` // by a signed receipt
	Waiting   []Copy   `json:"waiting"`   // for a receipt
	Reason    string   `json:"reason,omitempty"`
}

// Purged is the receipt of a peer that has purged a segment.
type Purged struct {
	Peer string    `json:"peer"` // ID
	Name string    `json:"name,omitempty"`
	At   time.Time `json:"at"` // by the clock of the peer
}
