package scenario

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/musenai/musen/policy"
)

// Run decides every case by the policies, which must pass policy.Check.
func (s Suite) Run(policies []policy.File) ([]Outcome, error) {
	w, err := s.newWorld(policies)
	if err != nil {
		return nil, fmt.Errorf("run scenarios: %w", err)
	}
	outcomes := make([]Outcome, 0, len(s.Cases))
	for _, c := range s.Cases {
		o, err := w.decide(c)
		if err != nil {
			return nil, fmt.Errorf("run case %q: %w", c.Name, err)
		}
		outcomes = append(outcomes, o)
	}
	return outcomes, nil
}

// world is what a suite happens in.
type world struct {
	suite    Suite
	now      time.Time
	issuer   *policy.Issuer
	verifier *policy.Verifier
	engine   *policy.Engine
}

func (s Suite) newWorld(policies []policy.File) (*world, error) {
	w := &world{suite: s}
	clock := func() time.Time { return w.now }
	zone, err := time.LoadLocation(s.Zone)
	if err != nil {
		return nil, fmt.Errorf("zone %.80q is not known", s.Zone)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	if w.issuer, err = policy.NewIssuer(policy.IssuerOptions{
		Issuer: "scenario", Audience: "scenario", KeyID: "token", Key: private,
		LinkKeyID: "link", LinkSecret: secret, Now: clock, Rand: rand.Reader,
	}); err != nil {
		return nil, err
	}
	if w.verifier, err = policy.NewVerifier(policy.VerifierOptions{
		Issuer: "scenario", Audience: "scenario", Keys: []policy.PublicKey{{ID: "token", Key: public}},
		LinkKeys: []policy.LinkKey{{ID: "link", Secret: secret}}, Revocations: w, Now: clock,
	}); err != nil {
		return nil, err
	}
	w.engine, err = policy.NewEngine(policy.EngineOptions{Files: policies, Now: clock, Zone: zone, Roles: w})
	return w, err
}

// Revoked implements policy.Revocations: nothing is.
func (w *world) Revoked(string, string, time.Time) bool { return false }

// KeyRevoked implements policy.Revocations: none is.
func (w *world) KeyRevoked(string) bool { return false }

// Epoch implements policy.Revocations.
func (w *world) Epoch(id string) (uint64, bool) {
	for _, st := range w.suite.Stations {
		if st.ID == id {
			return st.Epoch, true
		}
	}
	return 0, false
}

// Held implements policy.Roles.
func (w *world) Held(subject, station string, at time.Time) (held policy.RoleSet) {
	for _, b := range w.suite.Bearers {
		if b.subject() != subject {
			continue
		}
		for _, r := range b.Roles {
			if (r.Station == "" || w.suite.station(r.Station).ID == station) && (r.Until.IsZero() || at.Before(r.Until)) {
				held = held.With(policy.Role(r.Role))
			}
		}
	}
	return held
}

// subject is the bearer's, or one of its own.
func (b Bearer) subject() string {
	if b.Subject == "" {
		return b.Name
	}
	return b.Subject
}

const listenPath = "/listen/x"

// grant makes the credential of a bearer and verifies it.
func (w *world) grant(b Bearer) (policy.Grant, error) {
	if b.Kind == "link" {
		st := w.suite.station(b.Stations[0])
		raw, _, err := w.issuer.Link(policy.LinkRequest{
			Station: st.ID, Epoch: st.Epoch, Path: listenPath, Subject: b.Subject,
			Download: slices.Contains(b.Actions, string(policy.Download)),
		})
		if err != nil {
			return policy.Grant{}, err
		}
		return w.verifier.Link(raw, "GET", listenPath)
	}
	r := policy.TokenRequest{Subject: b.subject(), TTL: time.Hour, Identity: true}
	switch {
	case len(b.Stations) == 0:
		r.Stations = []string{"none"}
	case !slices.Contains(b.Stations, "*"):
		for _, name := range b.Stations {
			r.Stations = append(r.Stations, w.suite.station(name).ID)
		}
	}
	for _, a := range b.Actions {
		r.Actions = append(r.Actions, policy.Action(a))
	}
	var err error
	if r.SecondFactor, err = b.factor(w.now); err != nil {
		return policy.Grant{}, err
	}
	raw, _, _, err := w.issuer.Token(r)
	if err != nil {
		return policy.Grant{}, err
	}
	return w.verifier.Token(raw)
}

func (w *world) decide(c Case) (Outcome, error) {
	w.now = c.At
	grant, err := w.grant(*w.suite.bearer(c.Bearer))
	if err != nil {
		return Outcome{}, err
	}
	r := policy.Resource{PublishAt: c.PublishAt, ExpiresAt: c.ExpiresAt}
	if st := w.suite.station(c.Station); st != nil {
		r.Station, r.Name, r.Epoch, r.Downloads = st.ID, st.Name, st.Epoch, st.Downloads == nil || *st.Downloads
	}
	if c.Segment {
		r.Segment = "x"
	}
	d := w.engine.Decide(grant.From(c.Region), policy.Action(c.Action), r)
	return Outcome{Case: c.Name, Allowed: d.Allowed(), Reason: d.Reason(), Policies: d.Policies(), Wrong: c.wrong(d)}, nil
}

// wrong says what was expected of a decision that is another.
func (c Case) wrong(d policy.Decision) string {
	var list []string
	if d.Allowed() != *c.Allow {
		list = append(list, fmt.Sprintf("allow = %v", *c.Allow))
	}
	want, got := slices.Sorted(slices.Values(c.Policies)), slices.Sorted(slices.Values(d.Policies()))
	if c.Policies != nil && !slices.Equal(want, got) {
		list = append(list, fmt.Sprintf("policies = %q", want))
	}
	if c.Reason != "" && c.Reason != d.Reason() {
		list = append(list, fmt.Sprintf("reason = %q", c.Reason))
	}
	if c.Streams != nil && *c.Streams != d.Streams() {
		list = append(list, fmt.Sprintf("streams = %d", *c.Streams))
	}
	return strings.Join(list, ", ")
}
