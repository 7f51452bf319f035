package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/gateway/admin/wire/access"
	"github.com/musenai/musen/gateway/problem"
	"github.com/musenai/musen/policy"
)

// errPolicy refuses policies that do not load.
var errPolicy = refusal{409, "policy_refused", "", "Mend what is named and load again. Those that were in force stay in force."}

// getPolicy answers with the text in force; of several files, one after the
// other.
func (s *Server) getPolicy(c *gin.Context, _ call) error {
	var b bytes.Buffer
	files := s.Engine.Policies()
	for i, f := range files {
		if len(files) > 1 {
			fmt.Fprintf(&b, "// %s\n", s.Policies.State().Files[i])
		}
		b.Write(f.Text)
		b.WriteByte('\n')
	}
	s.writeBytes(c, http.StatusOK, "text/plain; charset=utf-8", b.Bytes())
	return nil
}

func (s *Server) getPolicyState(c *gin.Context, _ call) error {
	return s.answer(c, http.StatusOK, access.FromPolicyState(s.Policies.State()))
}

// reloadPolicy loads the policies that lie in the home again. Who does so where
// nothing has changed has seen what was lost, or is shown it now.
func (s *Server) reloadPolicy(c *gin.Context, in call) error {
	if err := noBody(c.Request); err != nil {
		return err
	}
	before, lost := s.Policies.State(), ""
	next, err := s.Policies.Next()
	if err != nil {
		return errPolicy.with("The policies were not loaded: %v.", err)
	}
	if gone := slices.Concat(before.LostFiles, before.LostForbids); before.Digest == next.Digest && len(gone) > 0 {
		lost = fmt.Sprintf(", and take it that %q are gone", gone)
	}
	what := fmt.Sprintf("load the policies %q, SHA-256 %s%s", next.Files, next.Digest, lost)
	if err := in.confirm(c, what); err != nil {
		return err
	}
	in.about("%s", what)
	if err := s.Policies.ReloadOnly(next.Digest); err != nil {
		return errPolicy.with("The policies were not loaded: %v.", err)
	}
	st := s.Policies.State()
	if st.Digest == before.Digest { // what was acknowledged is shown
		st.LostFiles, st.LostForbids = before.LostFiles, before.LostForbids
	}
	return s.answer(c, http.StatusOK, access.FromPolicyState(st))
}

// Warnings are what an operator should look at, in words.
func (s *Server) Warnings(ctx context.Context) ([]string, error) {
	list := []string{}
	if st := s.Policies.State(); st.Fault != "" {
		list = append(list, "policies that lie in the home are not in force since "+st.Failed.UTC().Format(time.RFC3339)+": "+st.Fault)
	}
	if lost := access.FromPolicyState(s.Policies.State()).Lost(); lost != "" {
		list = append(list, "gone from the policies in force: "+lost+"; put them back, or say with `musen policy reload` that it is meant")
	}
	if until := s.Uses.Unfollowed(); !until.IsZero() {
		list = append(list, "more credentials are in use than are followed: tokens that were last used before "+until.Format(time.RFC3339)+
			" are let in, whatever policy.disable_unused says; issue fewer and longer ones")
	}
	for _, l := range s.Denylists.State() {
		if w := l.Warning(); w != "" {
			list = append(list, w)
		}
	}
	due, err := s.overdue(ctx)
	if !due.IsZero() {
		list = append(list, "a review of access is due since "+due.UTC().Format(time.RFC3339)+": see `musen access review`")
	}
	if err != nil {
		return list, err
	}
	more, err := s.auditWarnings(ctx)
	if err != nil {
		return list, err
	}
	waiting, err := s.reportWarnings(ctx)
	return append(append(list, more...), waiting...), err
}

// explain answers how policy would decide a request, without doing anything.
func (s *Server) explain(c *gin.Context, in call) error {
	var q wire.Question
	if err := s.readJSON(c, &q); err != nil {
		return err
	}
	action, err := readAction(q.Action)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	r, err := in.asked(ctx, q)
	if err != nil {
		return err
	}
	grant, err := in.bearer(ctx, q)
	if err != nil {
		return err
	}
	d := s.Engine.Decide(grant, action, r)
	return s.answer(c, http.StatusOK, wire.Explanation{
		Allowed: d.Allowed(), Reason: d.Reason(), Policies: append([]string{}, d.Policies()...),
	})
}

// asked is what a question is about; its asker needs leave for that too.
func (c call) asked(ctx context.Context, q wire.Question) (policy.Resource, error) {
	var station musen.Station
	var err error
	if q.Station != "" {
		if station, err = c.findStation(ctx, q.Station); err != nil {
			return policy.Resource{}, err
		}
	}
	if err := c.require(station); err != nil {
		return policy.Resource{}, err
	}
	r := resource(station)
	if q.CID == "" {
		return r, nil
	}
	if err := c.findSegment(ctx, q.CID); err != nil {
		return policy.Resource{}, err
	}
	if c.segment.Station != station.ID {
		return policy.Resource{}, c.absent(musen.ErrNotFound, "That station has no segment %.128q.", q.CID)
	}
	r.Segment, r.PublishAt, r.ExpiresAt = c.segment.ID, c.segment.PublishAt, c.segment.ExpiresAt
	return r, nil
}

// bearer is the grant that a question is about: of the token in it, or of a
// token such as the question describes, which is made for that alone.
func (c call) bearer(ctx context.Context, q wire.Question) (policy.Grant, error) {
	raw := q.Token
	if raw == "" {
		var err error
		if raw, err = c.hypothetical(ctx, q); err != nil {
			return policy.Grant{}, err
		}
	} else if q.Subject != "" || len(q.Actions)+len(q.Stations) > 0 {
		return policy.Grant{}, errField.with("Give either a token, or a subject with actions and stations.")
	}
	grant, err := c.server.Verifier.Examine(raw)
	if err != nil {
		return policy.Grant{}, errField.with("The token is not valid: %s.", credentialFault(err))
	}
	return grant, nil
}

func (c call) hypothetical(ctx context.Context, q wire.Question) (string, error) {
	if q.Subject == "" || !isName(q.Subject) {
		return "", errField.with("Give a token, or a subject with actions.")
	}
	actions, err := readActions(q.Actions)
	if err != nil {
		return "", err
	}
	stations, err := c.stationsOf(ctx, q.Stations) // none: all
	if err != nil {
		return "", err
	}
	raw, _, _, err := c.server.Issuer.Token(policy.TokenRequest{Subject: q.Subject, Stations: idsOf(stations), Actions: actions, TTL: time.Minute})
	return raw, notIssued(err)
}

// credentialFault is why a credential was refused: a stable word, and the
// reason, which only who may ask for explanations is told.
func credentialFault(err error) string {
	if refused, ok := errors.AsType[*policy.CredentialError](err); ok {
		return refused.Code + ": " + refused.Why()
	}
	return string(problem.Of(err).Code)
}
