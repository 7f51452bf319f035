package musen

import (
	"time"

	"github.com/musenai/musen/policy"
)

// A Subject is the record of the state that was set for a subject.
type Subject struct {
	Name    string // as credentials spell it
	State   policy.SubjectState
	Reason  string // why, in words for people
	Actor   string // who set it
	Changed time.Time
}
