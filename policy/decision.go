package policy

import (
	"slices"
	"time"
)

// A Resource is what policy must know of the station, and of the segment if
// there is one, that a request names. A node-wide request has an empty Station.
type Resource struct {
	Station   string // its id
	Name      string // the station's name now, which a policy may ask for
	Downloads bool   // the station allows saving
	Epoch     uint64 // the station's epoch now

	Segment   string    // its id; empty for the station itself
	PublishAt time.Time // zero: at once
	ExpiresAt time.Time // zero: never

	At time.Time // when it was asked for; zero: now
}

// A Decision is the answer of policy to one request, and the only thing that
// releases a key. Its zero value denies. Only an Engine makes one that allows.
type Decision struct {
	allowed  bool
	action   Action
	station  string
	segment  string
	reason   string
	policies []string
	streams  int
	at       time.Time
}

// Allowed reports whether the request may go on.
func (d Decision) Allowed() bool { return d.allowed }

// ReleasesKey reports whether the data key of that segment of that station may
// be handed to whoever serves this request.
func (d Decision) ReleasesKey(station, segment string) bool {
	if !d.allowed || station == "" || segment == "" {
		return false
	}
	return d.action.opens() && d.station == station && d.segment == segment
}

// Action is what was asked for.
func (d Decision) Action() Action { return d.action }

// Reason is a stable word for why the decision went as it did, for logs and
// for policy explain; never shown to strangers.
func (d Decision) Reason() string { return d.reason }

// Policies are the ids of the Cedar policies that determined the decision.
func (d Decision) Policies() []string { return slices.Clone(d.policies) }

// At is when the request came that was decided. To decide the same request
// again, put it into the Resource: then the clock alone changes nothing.
func (d Decision) At() time.Time { return d.at }

// Streams is how many answers at a time the policies let the subject have, by
// their annotation streams; 0: they do not say.
func (d Decision) Streams() int { return d.streams }
