package wire

import (
	"time"

	"github.com/musenai/musen"
)

// Subject is the state of a subject. Changed is absent where none was ever set:
// then it is active.
type Subject struct {
	Subject string    `json:"subject"`
	State   string    `json:"state"`
	Reason  string    `json:"reason"`
	Actor   string    `json:"actor"` // who set it
	Changed time.Time `json:"changed,omitzero"`
	Reach   *Reach    `json:"reach,omitempty"` // where it is in force that was just set
}

// FromSubject shapes the state of a subject.
func FromSubject(s musen.Subject) Subject {
	return Subject{Subject: s.Name, State: string(s.State), Reason: s.Reason, Actor: s.Actor, Changed: utc(s.Changed)}
}

// Subjects is the answer to a listing of subjects.
type Subjects struct {
	Subjects []Subject `json:"subjects"`
}

// SubjectChange sets the state of a subject.
type SubjectChange struct {
	Subject string `json:"subject"`
	State   string `json:"state"`
	Reason  string `json:"reason"`
}
