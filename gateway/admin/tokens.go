package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"

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

// stationsOf finds stations that a caller names, each once, all of which the
// caller must have leave for.
func (c call) stationsOf(ctx context.Context, named []string) (found []musen.Station, err error) {
	if len(named) > maxStations {
		return nil, errField.with("More than %d stations are named: name none for all.", maxStations)
	}
	for _, name := range named {
		station, err := c.findStation(ctx, name)
		if err != nil {
			return nil, err
		}
		if err := c.require(station); err != nil {
			return nil, err
		}
		found = append(found, station)
	}
	slices.SortFunc(found, func(a, b musen.Station) int { return strings.Compare(a.ID, b.ID) })
	return slices.CompactFunc(found, func(a, b musen.Station) bool { return a.ID == b.ID }), nil
}

// idsOf are the ids of stations.
func idsOf(stations []musen.Station) (ids []string) {
	for _, s := range stations {
		ids = append(ids, s.ID)
	}
	return ids
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

// revoke ends one token, all credentials of a subject, all tokens that a subject
// has issued, or all that a key signed, at once. A jti that is not on record is
// revoked too: its token may come from elsewhere.
func (s *Server) revoke(c *gin.Context, in call) error {
	var req wire.Revocation
	if err := s.readJSON(c, &req); err != nil {
		return err
	}
	named, err := s.spokenFor(req)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	grave, err := in.grave(ctx, named)
	if err != nil {
		return err
	}
	if grave {
		if err := in.confirm(c, revocationInWords(named)); err != nil {
			return err
		}
	}
	in.about("id %q, subject %q, issued by %q, key %q", named.ID, named.Subject, named.IssuedBy, named.Key)
	known := true
	switch {
	case named.Key != "":
		known, err = s.revokeKey(ctx, named.Key)
	case named.ID != "":
		if err = s.Tokens.RevokeToken(ctx, named.ID); err == nil && named.ID == req.ID {
			known, err = s.issued(ctx, named.ID)
		}
	case named.IssuedBy != "":
		err = s.Tokens.RevokeSubject(ctx, policy.IssuedBy(named.IssuedBy))
	default:
		err = s.Tokens.RevokeSubject(ctx, named.Subject)
	}
	if err != nil {
		return err
	}
	return s.answer(c, http.StatusOK, wire.Revoked{Known: known, Name: named.ID + named.Subject + named.IssuedBy + named.Key, Reach: s.settle(c)})
}

// issued reports whether a token is on record.
func (s *Server) issued(ctx context.Context, jti string) (bool, error) {
	all, err := s.Tokens.Tokens(ctx)
	return slices.ContainsFunc(all, func(t musen.Token) bool { return t.ID == jti }), err
}
