package musen

import (
	"context"
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/policy"
)

// ErrConsent says that somebody has to consent to a request who gave no answer.
// It wraps ErrUnavailable.
var ErrConsent = fmt.Errorf("%w: whoever must consent gave no answer", ErrUnavailable)

// A Question is what somebody else is asked to consent to: a request that
// policy has allowed.
type Question struct {
	Grant   policy.Grant
	Action  policy.Action // Listen, Download or ReleaseKey
	Station Station
	CID     cid.Cid // of the segment
}

// Consent asks somebody else, who has the last word.
type Consent interface {
	// Ask returns nil for a yes, ErrNotFound for a no, and ErrConsent when there
	// is no answer. It is asked before each key that is released, and again and
	// again while a stream runs, so it remembers answers while they hold.
	Ask(ctx context.Context, q Question) error
}

// consent asks whether a request that policy has allowed may go on. What is
// done to the audio of a station by those who run it is theirs to decide alone.
func (e *Edge) consent(ctx context.Context, g policy.Grant, a policy.Action, station Station, s Segment) error {
	switch {
	case e.Consent == nil, g.Kind() == policy.LocalOperator().Kind():
		return nil
	case a != policy.Listen && a != policy.Download && a != policy.ReleaseKey:
		return nil
	}
	return e.Consent.Ask(ctx, Question{Grant: g, Action: a, Station: station, CID: s.CID})
}
