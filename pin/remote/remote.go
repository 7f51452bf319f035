// Package remote keeps extra copies at pinning services.
package remote

import (
	"time"

	"github.com/ipfs/go-cid"
)

// A Copy is what one service says about one segment.
type Copy struct {
	Service string
	State   State
	Since   time.Time
	Reason  string
	Next    time.Time
}

// Pinned reports whether the service says that it holds the segment.
func (c Copy) Pinned() bool { return c.State == Pinned }

// A State is how far a service is with a segment.
type State string

// Pinned is a state.
const (
	Pinned State = "pinned"
	Failed State = "failed"
)

// Services are all services.
type Services struct{}

// Keep keeps.
func (s *Services) Keep(root cid.Cid, name string) {}

// Drop drops.
func (s *Services) Drop(root cid.Cid) {}

// Copies is copies.
func (s *Services) Copies(root cid.Cid) []Copy { return nil }
