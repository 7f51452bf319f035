package swarm

import (
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/control"
)

// regard is what a peer is told about its standing.
func (s *Swarm) regard(p peer.ID) control.Regard {
	c := s.standings.Get(p)
	r := control.Regard{
		Standing: string(c.Standing), Since: c.Since, Reason: c.Reason, Audit: string(lastOutcome(c)), Audited: c.Last,
	}
	if p, err := s.ledger.Find(p.String()); err == nil {
		r.Answered, r.Draining = p.Answered, p.Draining
	}
	if c.Last.IsZero() && c.Away.IsZero() && c.Reason == "" {
		r.Since = c.Last // nothing is known: the time would be that of the question
	}
	return r
}

// lastOutcome is what the last audit of a peer showed, "" if there was none.
func lastOutcome(c audit.Conduct) audit.Outcome {
	switch {
	case !c.Away.IsZero():
		return audit.Offline
	case c.Last.IsZero():
		return ""
	case c.Recent == "": // proved answers that lift a standing wipe the slate
		return audit.Proved
	}
	for _, o := range []audit.Outcome{audit.Wrong, audit.Missing, audit.Late} {
		if c.Recent[len(c.Recent)-1] == o[0] {
			return o
		}
	}
	return audit.Proved
}
