package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/policy"
)

// maxStations is how many stations one token names: more would make it too long
// to be sent in a header.
const maxStations = 150

func (s *Server) listTokens(c *gin.Context, _ call) error {
	all, err := s.Tokens.Tokens(c.Request.Context())
	if err != nil {
		return err
	}
	list := wire.Tokens{Tokens: []wire.Token{}}
	for _, t := range all {
		list.Tokens = append(list.Tokens, wire.FromToken(t))
	}
	return s.answer(c, http.StatusOK, list)
}

// issueToken answers with a new token, once its record is durable. Nobody gets
// more out of it than they have: not another station, action or day.
func (s *Server) issueToken(c *gin.Context, in call) error {
	var req wire.TokenRequest
	if err := s.readJSON(c, &req); err != nil {
		return err
	}
	if req.Subject == "" || !isName(req.Subject) {
		return errField.with("The subject is not one line of text of 1 to %d bytes, without characters that change its direction.", maxName)
	}
	ttl, err := lifetime(req.TTL, s.Limits.TokenTTL, s.Limits.MaxTokenTTL)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	var stations []string
	if len(req.Actions) > 0 || !req.Roles {
		stations, err = in.stationsOf(ctx, req.Stations)
	} else if len(req.Stations) > 0 {
		err = errField.with("Stations are of no use without actions: a role is held where it was given.")
	}
	if err != nil {
		return err
	}
	actions, err := s.actionsOf(req)
	if err != nil {
		return err
	}
	if err := in.within(stations, actions, s.Now().Add(ttl)); err != nil {
		return err
	}
	if req.Roles && !in.may(policy.ManageRoles, musen.Station{}) {
		return errGrant.with("A token that carries the roles of its subject is issued by who may give roles.")
	}
	wanted := policy.TokenRequest{Subject: req.Subject, Stations: stations, Actions: actions, TTL: ttl, Identity: req.Roles}
	if req.Roles {
		if err := in.confirm(c, s.meaning(ctx, wanted)); err != nil {
			return err
		}
	}
	in.about("%s", s.meaning(ctx, wanted))
	if err := s.Verifier.Fresh(ctx, req.Subject); err != nil {
		return notIssued(err)
	}
	raw, jti, expires, err := s.Issuer.Token(wanted)
	if err != nil {
		return notIssued(err)
	}
	record := musen.Token{ID: jti, Subject: req.Subject, Stations: stations, Identity: req.Roles, Issued: s.Now(), Expires: expires}
	for _, a := range actions {
		record.Actions = append(record.Actions, string(a))
	}
	if err := s.Tokens.PutToken(ctx, record); err != nil {
		return err
	}
	in.about("%s: %s", jti, s.meaning(ctx, wanted))
	return s.answer(c, http.StatusCreated, wire.IssuedToken{Token: raw, ID: jti, Expires: expires.UTC()})
}

// notIssued blames the request for what policy issues to nobody.
func notIssued(err error) error {
	if e, ok := errors.AsType[*policy.RequestError](err); ok {
		return errField.with("The node issues no such credential: %v.", e)
	}
	return err
}

// stationsOf finds the ids of stations that a caller names, all of which the
// caller must have leave for; naming none means all stations there are.
func (c call) stationsOf(ctx context.Context, named []string) ([]string, error) {
	if len(named) == 0 {
		return nil, c.require(musen.Station{})
	}
	if len(named) > maxStations {
		return nil, errField.with("More than %d stations are named: name none for all.", maxStations)
	}
	var ids []string
	for _, name := range named {
		station, err := c.findStation(ctx, name)
		if err != nil {
			return nil, err
		}
		if err := c.require(station); err != nil {
			return nil, err
		}
		ids = append(ids, station.ID)
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// actionsOf are the actions that a token is asked to name. One that carries
// roles may name none.
func (s *Server) actionsOf(req wire.TokenRequest) ([]policy.Action, error) {
	if len(req.Actions) == 0 && req.Roles {
		return nil, nil
	}
	return readActions(req.Actions)
}

// within returns an error if what the caller's own token names, and the roles
// of its subject, do not reach as far.
func (c call) within(stations []string, actions []policy.Action, until time.Time) error {
	for _, a := range actions {
		if !c.names(a, stations) && !c.mayPassOn(a, stations) {
			return errGrant.with("Your own token does not allow %q.", a)
		}
	}
	if end := c.grant.Expires(); !end.IsZero() && until.After(end) {
		return errGrant.with("Your own token ends before the one you ask for.")
	}
	return nil
}

// names reports whether the caller's own token names a, for each of stations, or
// for all there are if there are none.
func (c call) names(a policy.Action, stations []string) bool {
	if len(stations) == 0 {
		stations = []string{""}
	}
	return c.grant.Has(a) && !slices.ContainsFunc(stations, func(id string) bool { return !c.grant.Covers(id) })
}

// mayPassOn reports whether policy lets the caller do a on each of stations, or
// on every one that there may be and on the node if there are none.
func (c call) mayPassOn(a policy.Action, stations []string) bool {
	engine := c.server.Engine
	if len(stations) == 0 {
		onNode := slices.Contains([]policy.Action{policy.Listen, policy.Download, policy.ReleaseKey, policy.Add, policy.Host}, a) ||
			engine.Decide(c.grant, a, policy.Resource{}).Allowed()
		return onNode && engine.Decide(c.grant, a, policy.Resource{Station: "*", Downloads: true, Segment: segmentFor(a)}).Allowed()
	}
	return !slices.ContainsFunc(stations, func(id string) bool {
		return !engine.Decide(c.grant, a, policy.Resource{Station: id, Downloads: true, Segment: segmentFor(a)}).Allowed()
	})
}

// segmentFor stands for any segment, where an action is about one alone.
func segmentFor(a policy.Action) string {
	if a == policy.ReleaseKey {
		return "any"
	}
	return ""
}

// readActions reads the names of one action or more.
func readActions(names []string) ([]policy.Action, error) {
	if len(names) == 0 {
		return nil, errField.with("No action is given.")
	}
	var actions []policy.Action
	for _, name := range names {
		a, err := readAction(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(actions, a) {
			actions = append(actions, a)
		}
	}
	return actions, nil
}

func readAction(name string) (policy.Action, error) {
	if a := policy.Action(name); slices.Contains(policy.Actions(), a) {
		return a, nil
	}
	known := make([]string, 0, len(policy.Actions()))
	for _, a := range policy.Actions() {
		known = append(known, string(a))
	}
	return "", errField.with("The action %.80q is none of %s.", name, strings.Join(known, ", "))
}

// revoke ends one token, all credentials of a subject, or all that a key signed,
// at once. A jti that
// is not on record is revoked too: its token may come from elsewhere.
func (s *Server) revoke(c *gin.Context, in call) error {
	var req wire.Revocation
	if err := s.readJSON(c, &req); err != nil {
		return err
	}
	ctx := c.Request.Context()
	given := 0
	for _, what := range []string{req.ID, req.Subject, req.Key} {
		if what != "" {
			given++
		}
	}
	if given != 1 {
		return errField.with("Give either a jti, a subject or a key.")
	}
	named, err := s.spokenFor(req)
	if err != nil {
		return err
	}
	in.about("id %q, subject %q, key %q", named.ID, named.Subject, named.Key)
	known := true
	switch what := named.ID + named.Subject + named.Key; { // two of them are empty
	case len(what) > maxName || !isLine(what):
		return errField.with("The jti, the subject or the key is not one line of text of at most %d bytes.", maxName)
	case named.Key != "":
		known, err = s.revokeKey(ctx, named.Key)
	case named.ID != "":
		if err = s.Tokens.RevokeToken(ctx, named.ID); err == nil && named.ID == req.ID {
			known, err = s.issued(ctx, named.ID)
		}
	default:
		err = s.Tokens.RevokeSubject(ctx, named.Subject)
	}
	if err != nil {
		return err
	}
	return s.answer(c, http.StatusOK, wire.Revoked{Known: known, Reach: s.settle(ctx)})
}

// issued reports whether a token is on record.
func (s *Server) issued(ctx context.Context, jti string) (bool, error) {
	all, err := s.Tokens.Tokens(ctx)
	return slices.ContainsFunc(all, func(t musen.Token) bool { return t.ID == jti }), err
}
