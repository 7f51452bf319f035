package policy

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
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

// Roles answers from memory: it is asked at every decision on an identity.
type Roles interface {
	// Held are the roles that the subject holds at that time, on the station of
	// that id and everywhere; on the node, which the empty id stands for, those
	// that it holds everywhere.
	Held(subject, station string, at time.Time) RoleSet
}

// EngineOptions are what an Engine decides by.
type EngineOptions struct {
	Policies []byte           // Cedar; nil: Files
	Files    []File           // Cedar in several files; none: the default policies
	Now      func() time.Time // for embargoes and expiry of segments
	Zone     *time.Location   // of the hours and days in policies; nil: UTC
	Roles    Roles            // nil: nobody holds any
}

// An Engine answers requests. It is safe for concurrent use.
//
// It remembers what the policies said for a credential, an action, a station
// with its settings, the roles of its bearer there, and whatever else they
// depend on, in bounded memory. The clock and the roles are asked every time.
//
// What LocalOperator administers is decided by the default policies alone.
type Engine struct {
	o       EngineOptions
	loading sync.Mutex
	rules   atomic.Pointer[rules]
	builtIn *rules // the default policies
	known   *otter.Cache[question, *verdict]
}

// question is all that a verdict depends on.
type question struct {
	rules      uint64 // which ones
	credential [sha256.Size]byte
	action     Action
	station    string
	name       string // of the station
	downloads  bool
	epoch      uint64
	segment    bool // about a segment of the station, not the station itself
	roles      RoleSet
	minute     int64  // since 1970, if any policy asks for circumstances, else 0
	region     string // the same
}

// verdict is what the policies say to a question.
type verdict struct {
	allowed  bool
	reason   string
	policies []string
	streams  int
}

// knownVerdicts is how many verdicts are remembered, of about 300 bytes each.
const knownVerdicts = 1 << 16

// NewEngine makes an Engine, or returns an error if the policies do not pass
// Check.
func NewEngine(o EngineOptions) (*Engine, error) {
	if o.Now == nil {
		return nil, errors.New("make a policy engine: no clock given")
	}
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	if o.Policies != nil {
		o.Files = []File{{Name: "policies", Text: o.Policies}}
	}
	known, err := otter.New(&otter.Options[question, *verdict]{MaximumSize: knownVerdicts})
	if err != nil {
		return nil, fmt.Errorf("make a policy engine: %w", err)
	}
	e := &Engine{o: o, known: known}
	if e.builtIn, err = newRules(orDefault(nil)); err != nil {
		return nil, fmt.Errorf("make a policy engine: %w", err)
	}
	if err := e.Load(o.Files); err != nil {
		return nil, fmt.Errorf("make a policy engine: %w", err)
	}
	return e, nil
}

// Load has the engine decide by the policies in files from now on, or by the
// default ones if there are none. If they do not pass Check, those in force
// stay, and the error says where the fault is.
func (e *Engine) Load(files []File) error {
	e.loading.Lock()
	defer e.loading.Unlock()
	r, err := newRules(orDefault(files))
	if err != nil {
		return err
	}
	r.number = 1
	if old := e.rules.Load(); old != nil {
		r.number = old.number + 1
	}
	e.rules.Store(r)
	return nil
}

// Policies are the Cedar policies in force, as they were loaded.
func (e *Engine) Policies() []File { return slices.Clone(e.rules.Load().files) }

// Forbids are the ids of the policies in force that forbid, sorted.
func (e *Engine) Forbids() []string { return e.rules.Load().forbids() }

// Decide answers whether the bearer of g may do a with r. Whatever no policy
// permits is denied, and so is everything for the zero Grant. A segment can be
// heard, saved, or have its key released only between its PublishAt and its
// ExpiresAt. Decide does not look at the expiry or the revocation of g: a
// Verifier did.
func (e *Engine) Decide(g Grant, a Action, r Resource) Decision {
	if r.At.IsZero() {
		r.At = e.o.Now()
	}
	d := Decision{action: a, station: r.Station, segment: r.Segment, reason: reasonNoGrant, at: r.At}
	if g.c == nil {
		return d
	}
	v := e.verdict(g, a, r)
	d.allowed, d.reason, d.policies, d.streams = v.allowed, v.reason, v.policies, v.streams
	if !d.allowed {
		return d
	}
	if reason := untimely(a, r); reason != "" {
		d.allowed, d.reason = false, reason
	}
	return d
}

// untimely says why the segment cannot be heard at that time, or nothing.
func untimely(a Action, r Resource) string {
	switch {
	case a != Listen && a != Download && a != ReleaseKey:
	case !r.ExpiresAt.IsZero() && !r.At.Before(r.ExpiresAt):
		return ReasonExpired
	case r.At.Before(r.PublishAt):
		return reasonNotPublished
	}
	return ""
}

// rulesFor are the policies that decide on an action of the bearer of c. Whoever
// can open the node's own socket owns the node, and could change its policies:
// those bind the owner where a segment is opened, but lock nobody out of the
// node.
func (e *Engine) rulesFor(c *credential, a Action) *rules {
	if c.kind == kindLocal && !a.opens() {
		return e.builtIn
	}
	return e.rules.Load()
}

func (e *Engine) verdict(g Grant, a Action, r Resource) *verdict {
	rules := e.rulesFor(g.c, a)
	q := question{
		rules: rules.number, credential: g.c.print, action: a,
		station: r.Station, name: r.Name, downloads: r.Downloads, epoch: r.Epoch, segment: r.Segment != "",
	}
	if g.c.identity && e.o.Roles != nil {
		q.roles = e.o.Roles.Held(g.c.subject, r.Station, r.At) &^ g.without
	}
	if rules.circumstances {
		q.minute, q.region = floorMinute(r.At), g.region
	}
	if v, ok := e.known.GetIfPresent(q); ok {
		return v
	}
	v := rules.ask(g.c, q, e.o.Zone)
	e.known.Set(q, v)
	return v
}

// floorMinute is the number of whole minutes from 1970 to t.
func floorMinute(t time.Time) int64 {
	s := t.Unix()
	if s < 0 {
		s -= 59
	}
	return s / 60
}

// ask evaluates every policy. A policy that fails denies: it could have been
// one that forbids.
func (r *rules) ask(c *credential, q question, zone *time.Location) *verdict {
	principal := principalEntity(c, q.roles)
	about := resourceEntities(q)
	request := cedar.Request{
		Principal: principal.UID,
		Action:    cedar.NewEntityUID(typeAction, cedar.String(q.action)),
		Resource:  about[0].UID,
		Context:   circumstances(c, q, zone),
	}
	if err := r.schema.Request(request); err != nil {
		return &verdict{reason: reasonNotApplicable}
	}
	decision, diagnostic := cedar.Authorize(r.policies, entities{append(about, principal), r.actions}, request)
	v := &verdict{reason: reasonAllowed}
	for _, reason := range diagnostic.Reasons {
		v.policies = append(v.policies, string(reason.PolicyID))
	}
	slices.Sort(v.policies)
	v.streams = r.streams(v.policies)
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
