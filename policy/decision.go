package policy

import (
	"slices"
	"time"
)

// An Action is what a request wants to do with a station or a segment of it.
type Action string

const (
	Listen     Action = "listen"     // hear a segment
	Download   Action = "download"   // save a segment as a file
	ReleaseKey Action = "releaseKey" // have the data key, to decrypt elsewhere
	Add        Action = "add"        // seal and add audio
	Manage     Action = "manage"     // create, change and remove stations, segments, tokens
	Moderate   Action = "moderate"   // take segments down
	Audit      Action = "audit"      // read every record, verify every block
	Host       Action = "host"       // hold ciphertext
)

// A Resource is what policy must know of the station, and of the segment if
// there is one, that a request names. A node-wide request has an empty Station.
type Resource struct {
	Station   string // its id
	Downloads bool   // the station allows saving
	Epoch     uint64 // the station's epoch now

	Segment   string    // its id; empty for the station itself
	PublishAt time.Time // zero: at once
	ExpiresAt time.Time // zero: never
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
}

// Allowed reports whether the request may go on.
func (d Decision) Allowed() bool { return d.allowed }

// ReleasesKey reports whether the data key of that segment of that station may
// be handed to whoever serves this request.
func (d Decision) ReleasesKey(station, segment string) bool {
	if !d.allowed || station == "" || segment == "" {
		return false
	}
	switch d.action {
	case Listen, Download, ReleaseKey, Audit:
		return d.station == station && d.segment == segment
	}
	return false
}

// Action is what was asked for.
func (d Decision) Action() Action { return d.action }

// Reason is a stable word for why the decision went as it did, for logs and
// for policy explain; never shown to strangers.
func (d Decision) Reason() string { return d.reason }

// Policies are the ids of the Cedar policies that determined the decision.
func (d Decision) Policies() []string { return slices.Clone(d.policies) }
