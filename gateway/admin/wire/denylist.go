package wire

import "github.com/musenai/musen/internal/denylist"

// Denylists is a list of denylists.
type Denylists struct {
	Denylists []denylist.State `json:"denylists"`
}

// A Denial says whether a block is denied.
type Denial struct {
	CID    string         `json:"cid"`
	Denied bool           `json:"denied"`
	Rule   *denylist.Rule `json:"rule,omitempty"` // of a denylist that decides; absent: none has one
	Reason string         `json:"reason"`         // in words
}
