package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/policy"
)

// issueToken answers with a new token, once its record is durable. Nobody gets
// more out of it than they have: not another station, action or day. It ends
// with the roles that it takes to issue it, and with whoever issues it.
func (s *Server) issueToken(c *gin.Context, in call) error {
	var req wire.TokenRequest
	if err := s.readJSON(c, &req); err != nil {
		return err
	}
	ctx := c.Request.Context()
	wanted, stations, err := in.tokenOf(ctx, req)
	if err != nil {
		return err
	}
	needs := in.needsOf(wanted, stations)
	for _, n := range needs {
		if err := n.check(in); err != nil {
			return err
		}
	}
	if end := in.grant.Expires(); !end.IsZero() && s.Now().Add(wanted.TTL).After(end) {
		return errGrant.with("Your own token ends before the one you ask for.")
	}
	by, until, err := in.granters(ctx, needs)
	if err != nil {
		return err
	}
	wanted.By = by
	if wanted.Identity || runsThings(wanted.Actions) {
		if err := in.confirm(c, s.meaning(ctx, wanted, until)); err != nil {
			return err
		}
	}
	if left := until.Sub(s.Now()).Truncate(time.Second); !until.IsZero() && left < wanted.TTL {
		wanted.TTL = left
	}
	meaning := s.meaning(ctx, wanted, time.Time{})
	in.about("%s", meaning)
	made, err := s.issue(ctx, in, wanted)
	if err != nil {
		return err
	}
	in.about("%s: %s", made.ID, meaning)
	return s.answer(c, http.StatusCreated, made)
}

// tokenOf reads what a request asks for, and the stations that it names; none
// are all there are, if it names actions, and else none.
func (c call) tokenOf(ctx context.Context, req wire.TokenRequest) (r policy.TokenRequest, stations []musen.Station, err error) {
	if req.Subject == "" || !isName(req.Subject) {
		return r, nil, errField.with("The subject is not one line of text of 1 to %d bytes, without characters that change its direction.", maxName)
	}
	r = policy.TokenRequest{Subject: req.Subject, Identity: req.Roles}
	if r.TTL, err = lifetime(req.TTL, c.server.Limits.TokenTTL, c.server.Limits.MaxTokenTTL); err != nil {
		return r, nil, err
	}
	if len(req.Actions) == 0 && req.Roles {
		if len(req.Stations) > 0 {
			err = errField.with("Stations are of no use without actions: a role is held where it was given.")
		}
		return r, nil, err
	}
	if r.Actions, err = readActions(req.Actions); err != nil {
		return r, nil, err
	}
	if len(req.Stations) == 0 {
		stations, err = c.server.Stations.Stations(ctx)
		return r, stations, err
	}
	if stations, err = c.stationsOf(ctx, req.Stations); err != nil {
		return r, nil, err
	}
	r.Stations = idsOf(stations)
	return r, stations, nil
}

// A need is what a caller must have leave for, at one place.
type need struct {
	station string // id; empty: everywhere
	check   func(call) error
}

// holds reports whether a caller has it.
func (n need) holds(c call) bool { return n.check(c) == nil }

// needsOf are all that it takes to issue a token for the stations that it is
// for. For one that is for all it takes leave on the node, on every station that
// there is, and on such as there may be.
func (c call) needsOf(r policy.TokenRequest, stations []musen.Station) (needs []need) {
	switch {
	case len(r.Actions) == 0:
	case len(r.Stations) == 0:
		unknown := musen.Station{ID: "*"}
		needs = append(needs, need{"", func(c call) error {
			err := c.mayPassOn(r.Actions, musen.Station{})
			for _, s := range append(slices.Clip(stations), unknown) {
				if err == nil {
					err = c.within(r.Actions, s)
				}
			}
			return err
		}})
	default:
		for _, s := range stations {
			needs = append(needs, need{s.ID, func(c call) error { return c.mayPassOn(r.Actions, s) }})
		}
	}
	if r.Identity {
		needs = append(needs, need{"", func(c call) error {
			if !c.may(policy.ManageRoles, musen.Station{}) {
				return errGrant.with("A token that carries the roles of its subject is issued by who may give roles.")
			}
			return nil
		}})
	}
	return needs
}

// mayPassOn returns an error unless the caller may issue tokens of a station, or
// of the node for the zero station, and its own token and roles reach as far as
// actions there.
func (c call) mayPassOn(actions []policy.Action, station musen.Station) error {
	if err := c.require(station); err != nil {
		return err
	}
	return c.within(actions, station)
}

// within returns an error if what the caller's own token names, and the roles of
// its subject, do not reach as far as actions on a station, or on the node for
// the zero one. Saving is passed on where the station does not allow it now.
func (c call) within(actions []policy.Action, station musen.Station) error {
	for _, a := range actions {
		r := resource(station)
		r.Downloads = true
		if a == policy.ReleaseKey {
			r.Segment = "any" // it is about one alone
		}
		named := c.grant.Has(a) && (c.grant.Covers(station.ID) || c.grant.Covers(""))
		if station.ID == "" && a.ForUse() || named || c.server.Engine.Decide(c.grant, a, r).Allowed() {
			continue
		}
		return errGrant.with("Your own token does not allow %q.", a)
	}
	return nil
}

// granters are the caller, with the roles that it takes to meet needs, after
// whoever issued its own token; and when the first of these roles ends, if that
// is known. None for the operator on the socket.
func (c call) granters(ctx context.Context, needs []need) (by []policy.Granter, until time.Time, err error) {
	if c.grant.Kind() == policy.LocalOperator().Kind() {
		return nil, until, nil
	}
	self := policy.Granter{Subject: c.grant.Subject()}
	held, err := c.held(ctx)
	if err != nil {
		return nil, until, err
	}
	for _, n := range needs {
		for _, a := range c.takes(n, held) {
			if at := (policy.RoleAt{Role: a.Role, Station: a.Station}); !slices.Contains(self.Roles, at) {
				self.Roles = append(self.Roles, at)
			}
			if !a.Until.IsZero() && (until.IsZero() || a.Until.Before(until)) {
				until = a.Until
			}
		}
	}
	return append(c.grant.Granters(), self), until, nil
}

// held are the roles that the caller holds now, if its token carries them.
func (c call) held(ctx context.Context) ([]musen.Assignment, error) {
	if !c.grant.Identity() {
		return nil, nil
	}
	all, err := c.server.Roles.Assignments(ctx)
	now := c.server.Now()
	return slices.DeleteFunc(all, func(a musen.Assignment) bool {
		return a.Subject != c.grant.Subject() || !a.Until.IsZero() && !now.Before(a.Until)
	}), err
}

// takes are the roles, of those that the caller holds, without which it would
// not have what it needs: none, the one that is enough and lasts longest, or all
// together.
func (c call) takes(n need, held []musen.Assignment) []musen.Assignment {
	var all policy.RoleSet
	for _, a := range held {
		all = all.With(a.Role)
	}
	only := func(roles policy.RoleSet) call {
		alone := c
		alone.grant = c.grant.Without(all &^ roles)
		return alone
	}
	if n.holds(only(0)) {
		return nil
	}
	best := -1
	for i, a := range held {
		if a.Station != "" && a.Station != n.station || best >= 0 && !outlasts(a, held[best]) || !n.holds(only(policy.RoleSet(0).With(a.Role))) {
			continue
		}
		best = i
	}
	if best >= 0 {
		return held[best : best+1]
	}
	return slices.DeleteFunc(slices.Clone(held), func(a musen.Assignment) bool {
		return n.station != "" && a.Station != "" && a.Station != n.station
	})
}

// outlasts reports whether a is held for longer than b.
func outlasts(a, b musen.Assignment) bool {
	return !b.Until.IsZero() && (a.Until.IsZero() || a.Until.After(b.Until))
}

// issue makes a token and its record. What the caller is worth is looked at
// again when it is made: time may have passed.
func (s *Server) issue(ctx context.Context, in call, wanted policy.TokenRequest) (made wire.IssuedToken, err error) {
	names := []string{wanted.Subject}
	record := musen.Token{Subject: wanted.Subject, Stations: wanted.Stations, Identity: wanted.Identity, Issued: s.Now()}
	for _, g := range wanted.By {
		names, record.Issuer = append(names, policy.IssuedBy(g.Subject)), g.Subject
	}
	for _, name := range names {
		if err := s.Verifier.Fresh(ctx, name); err != nil {
			return made, notIssued(err)
		}
	}
	raw, jti, expires, err := s.Issuer.Token(wanted)
	if err != nil {
		return made, notIssued(err)
	}
	if err := s.Verifier.Good(in.grant); err != nil {
		return made, err
	}
	record.ID, record.Expires = jti, expires
	for _, a := range wanted.Actions {
		record.Actions = append(record.Actions, string(a))
	}
	return wire.IssuedToken{Token: raw, ID: jti, Expires: expires.UTC()}, s.Tokens.PutToken(ctx, record)
}

// notIssued blames the request for what policy issues to nobody.
func notIssued(err error) error {
	if e, ok := errors.AsType[*policy.RequestError](err); ok {
		return errField.with("The node issues no such credential: %v.", e)
	}
	return err
}

// meaning is a token in words.
func (s *Server) meaning(ctx context.Context, r policy.TokenRequest, until time.Time) string {
	text := fmt.Sprintf("issue a token of %v to %q", r.TTL, r.Subject)
	if !until.IsZero() {
		text = fmt.Sprintf("issue a token of %v, but until %s at the latest, to %q", r.TTL, until.UTC().Format(time.RFC3339), r.Subject)
	}
	if r.Identity {
		text += ", with the roles of that subject"
	}
	if len(r.Actions) == 0 {
		return text
	}
	text += ", that may"
	for _, a := range r.Actions {
		text += " " + string(a)
	}
	if len(r.Stations) == 0 {
		return text + ", everywhere"
	}
	var b strings.Builder
	b.WriteString(text)
	for _, id := range r.Stations {
		b.WriteString(", " + s.place(ctx, id))
	}
	return b.String()
}
