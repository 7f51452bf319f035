package policy

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cedar-policy/cedar-go"
	"github.com/maypok86/otter/v2"
)

// ReasonExpired is the Reason of a decision that denies only because the
// segment's time is over.
const ReasonExpired = "expired"

// The other reasons of a Decision.
const (
	reasonAllowed       = "allowed"
	reasonNoGrant       = "no_grant"       // the zero Grant
	reasonNotApplicable = "not_applicable" // such a bearer can never do that with such a thing
	reasonNoPolicy      = "no_policy"      // nothing permits it
	reasonForbidden     = "forbidden"      // a policy forbids it
	reasonPolicyError   = "policy_error"   // a policy could not be evaluated
	reasonNotPublished  = "not_published"  // its time has not come
)

// EngineOptions are what an Engine decides by.
type EngineOptions struct {
	Policies []byte           // Cedar; nil: the default policies
	Now      func() time.Time // for embargoes and expiry of segments
}

// An Engine answers requests. It is safe for concurrent use.
//
// It remembers what the policies said for a credential, an action, and a
// station with its settings, in bounded memory. The clock is asked every time.
type Engine struct {
	now   func() time.Time
	rules *rules
	known *otter.Cache[question, *verdict]
}

// question is all that a verdict depends on.
type question struct {
	credential [sha256.Size]byte
	action     Action
	station    string
	downloads  bool
	epoch      uint64
	segment    bool // about a segment of the station, not the station itself
}

// verdict is what the policies say to a question.
type verdict struct {
	allowed  bool
	reason   string
	policies []string
}

// knownVerdicts is how many verdicts are remembered, of about 300 bytes each.
const knownVerdicts = 1 << 16

// NewEngine makes an Engine, or returns an error if the policies do not pass
// Check.
func NewEngine(o EngineOptions) (*Engine, error) {
	if o.Now == nil {
		return nil, errors.New("make a policy engine: no clock given")
	}
	if o.Policies == nil {
		o.Policies = []byte(defaultPolicies)
	}
	r, err := newRules(o.Policies)
	if err != nil {
		return nil, fmt.Errorf("make a policy engine: %w", err)
	}
	known, err := otter.New(&otter.Options[question, *verdict]{MaximumSize: knownVerdicts})
	if err != nil {
		return nil, fmt.Errorf("make a policy engine: %w", err)
	}
	return &Engine{o.Now, r, known}, nil
}

// Decide answers whether the bearer of g may do a with r. Whatever no policy
// permits is denied, and so is everything for the zero Grant. A segment can be
// heard, saved, or have its key released only between its PublishAt and its
// ExpiresAt. Decide does not look at the expiry or the revocation of g: a
// Verifier did.
func (e *Engine) Decide(g Grant, a Action, r Resource) Decision {
	d := Decision{action: a, station: r.Station, segment: r.Segment, reason: reasonNoGrant}
	if g.c == nil {
		return d
	}
	v := e.verdict(g.c, a, r)
	d.allowed, d.reason, d.policies = v.allowed, v.reason, v.policies
	if !d.allowed {
		return d
	}
	if reason := e.untimely(a, r); reason != "" {
		d.allowed, d.reason = false, reason
	}
	return d
}

// untimely says why the segment cannot be heard now, or nothing.
func (e *Engine) untimely(a Action, r Resource) string {
	if !slices.Contains([]Action{Listen, Download, ReleaseKey}, a) || r.ExpiresAt.IsZero() && r.PublishAt.IsZero() {
		return ""
	}
	now := e.now()
	switch {
	case !r.ExpiresAt.IsZero() && !now.Before(r.ExpiresAt):
		return ReasonExpired
	case now.Before(r.PublishAt):
		return reasonNotPublished
	}
	return ""
}

func (e *Engine) verdict(c *credential, a Action, r Resource) *verdict {
	q := question{c.print, a, r.Station, r.Downloads, r.Epoch, r.Segment != ""}
	if v, ok := e.known.GetIfPresent(q); ok {
		return v
	}
	v := e.rules.ask(c, q)
	e.known.Set(q, v)
	return v
}

// ask evaluates every policy. A policy that fails denies: it could have been
// one that forbids.
func (r *rules) ask(c *credential, q question) *verdict {
	principal := principalEntity(c)
	resource, entities := resourceEntities(q)
	entities[principal.UID] = principal
	request := cedar.Request{
		Principal: principal.UID,
		Action:    cedar.NewEntityUID(typeAction, cedar.String(q.action)),
		Resource:  resource,
	}
	if err := r.schema.Request(request); err != nil {
		return &verdict{reason: reasonNotApplicable}
	}
	decision, diagnostic := cedar.Authorize(r.policies, entities, request)
	v := &verdict{reason: reasonAllowed}
	for _, reason := range diagnostic.Reasons {
		v.policies = append(v.policies, string(reason.PolicyID))
	}
	slices.Sort(v.policies)
	switch {
	case len(diagnostic.Errors) > 0:
		v.reason = reasonPolicyError
	case decision == cedar.Allow:
		v.allowed = true
	case len(v.policies) > 0:
		v.reason = reasonForbidden
	default:
		v.reason = reasonNoPolicy
	}
	return v
}
