package admin

import (
	"context"
	"crypto/hmac"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire/access"
	"github.com/musenai/musen/internal/audit"
	"github.com/musenai/musen/policy"
)

// Approvals keeps requests that need a second person, durably on return.
type Approvals interface {
	// PutApproval returns the same request of the same subject in its place while
	// that waits, and musen.ErrInvalid when too many of the subject wait.
	PutApproval(ctx context.Context, a musen.Approval) (musen.Approval, error)
	// Approval returns musen.ErrNotFound when there is none.
	Approval(ctx context.Context, id string) (musen.Approval, error)
	Approvals(ctx context.Context) ([]musen.Approval, error)
	// DecideApproval and UseApproval return musen.ErrDecided when it is too late.
	DecideApproval(ctx context.Context, a musen.Approval) error
	UseApproval(ctx context.Context, id string) error
}

const (
	factorAge      = 10 * time.Minute // a second factor counts that long
	approvalTTL    = time.Hour        // to be approved and used
	approvalHeader = "Musen-Approval" // carries the id of one
)

var (
	errSecondPerson = refusal{409, "approval_needed", "", ""}
	errApproval     = refusal{409, "approval_refused", "", "Send the request without the header " + approvalHeader + " to ask anew."}
	errManyPending  = refusal{429, "too_many_pending", "Too many requests of yours wait for approval.", "Have them decided first."}
	errOwnRequest   = refusal{403, "own_request", "You cannot decide on what you asked for yourself.", "Ask somebody else who has the permission."}
	errNoIdentity   = refusal{403, "no_identity", "Your token does not say by name who you are.", "Use a token of a configured issuer, or one that carries roles."}
	errTooLate      = refusal{409, "not_pending", "It was decided before, or has expired.", "See `musen approval list`."}
)

// confirm lets a dangerous request, one that does what cannot be undone or
// changes who may do what, pass if its sender showed a second factor lately, or
// a second person approved it. Otherwise it is recorded, to be approved. The
// operator on the socket needs neither.
//
// What says in words all that the request would do now, with stations by their
// ids: it is what the second person reads, and the approval is good for that
// alone.
//
// Who sends it must be known by name: else one person could ask by a token that
// they issued to somebody who is nobody, and approve as themselves.
func (c *call) confirm(g *gin.Context, what string) error {
	s, now := c.server, c.server.Now()
	c.about("%s", what)
	if c.grant.Kind() == policy.LocalOperator().Kind() {
		return nil
	}
	if at := c.grant.SecondFactor(); !at.IsZero() && !at.After(now) && now.Sub(at) <= factorAge {
		return s.append(g.Request.Context(), c.record(g, "factor.used", audit.Done))
	}
	if !c.grant.Identity() {
		return errNoIdentity
	}
	a := musen.Approval{
		Request: g.Request.Method + " " + g.Request.URL.RequestURI(), Summary: what,
		Route: c.route.method + " " + prefix + c.route.path, Station: c.station.ID,
		Subject: c.grant.Subject(), Created: now, Expires: now.Add(approvalTTL),
	}
	a.Digest = s.approvalDigest(a)
	ctx := g.Request.Context()
	if ids := g.Request.Header.Values(approvalHeader); len(ids) > 0 {
		if err := c.useApproval(ctx, ids, a); err != nil {
			return err
		}
		r := c.record(g, "approval.used", audit.Done)
		r.Facts = map[string]string{"approval": ids[0]}
		return s.append(ctx, r)
	}
	return c.askApproval(g, a)
}

// askApproval records a request that waits for a second person, and refuses it
// until then.
func (c *call) askApproval(g *gin.Context, a musen.Approval) error {
	s, ctx := c.server, g.Request.Context()
	id := make([]byte, 16)
	if _, err := io.ReadFull(s.Rand, id); err != nil {
		return err
	}
	a.ID = hex.EncodeToString(id)
	a, err := s.Approvals.PutApproval(ctx, a)
	if errors.Is(err, musen.ErrInvalid) {
		return errManyPending
	}
	if err != nil {
		return err
	}
	s.Log.LogAttrs(ctx, slog.LevelInfo, "second person needed", slog.String("route", c.route.name()), slog.String("approval", a.ID))
	g.Header(approvalHeader, a.ID)
	r := errSecondPerson.with("This needs a second factor of the last 10 minutes, or a second person: it waits as %s until %s.", a.ID, a.Expires.UTC().Format(time.RFC3339))
	r.help = "Have somebody else with the permission run `musen approval approve " + a.ID + "`, then send the same request again with the header " + approvalHeader + ": " + a.ID + "."
	return r
}

// useApproval uses up the approval that a request names, which must be for just
// what is wanted, of the same sender.
func (c *call) useApproval(ctx context.Context, ids []string, want musen.Approval) error {
	a, err := c.server.Approvals.Approval(ctx, ids[0])
	switch {
	case errors.Is(err, musen.ErrNotFound):
	case err != nil:
		return err
	case len(ids) == 1 && a.Subject == want.Subject && a.Station == want.Station && hmac.Equal(a.Digest, want.Digest):
		if a.State == musen.Approved && !c.server.upheld(a) {
			return errApproval.with("Whoever gave the approval %.80q could not give it any more.", a.ID)
		}
		err = c.server.Approvals.UseApproval(ctx, a.ID)
		if !errors.Is(err, musen.ErrDecided) {
			return err
		}
		return errApproval.with("The approval %.80q is not given yet, or was denied, used before, or has expired.", a.ID)
	}
	return errApproval.with("The approval %.80q is not for this request of yours, or means something else by now.", ids[0])
}

// upheld reports whether whoever approved a request is still worth it: not
// barred, not revoked since then, and not without the roles that it took.
func (s *Server) upheld(a musen.Approval) bool {
	if a.Decider == policy.LocalOperator().Subject() { // nobody else is called so
		return true
	}
	by := a.By
	if len(by) == 0 {
		by = []policy.Granter{{Subject: a.Decider}}
	}
	return s.Verifier.Stands(by, a.Decided) == nil && !s.Verifier.Revoked(a.Token, a.Decider, a.Decided)
}

// approvalDigest is a keyed hash of method, target and meaning of a request.
func (s *Server) approvalDigest(a musen.Approval) []byte {
	h := s.Digest()
	for _, part := range []string{a.Request, a.Station, a.Summary} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write([]byte(part))
	}
	return h.Sum(nil)
}

// place is a station in words, of the name that it has now.
func (s *Server) place(ctx context.Context, id string) string {
	if id == "" {
		return "everywhere"
	}
	return fmt.Sprintf("on station %q (%s)", s.stationName(ctx, id), id)
}

// listApprovals answers with the requests that the caller made or may decide
// on.
func (s *Server) listApprovals(c *gin.Context, in call) error {
	ctx := c.Request.Context()
	all, err := s.Approvals.Approvals(ctx)
	if err != nil {
		return err
	}
	list := access.Approvals{Approvals: []access.Approval{}}
	for _, a := range all {
		if a.Subject == in.grant.Subject() || in.toDecide(ctx, a).holds(in) {
			list.Approvals = append(list.Approvals, access.FromApproval(a, s.Now()))
		}
	}
	return s.answer(c, http.StatusOK, list)
}

// toDecide is what it takes to decide on a request: leave for what was asked for.
// Of takedowns that is to destroy a key: for nothing else does one ask.
func (c call) toDecide(ctx context.Context, a musen.Approval) need {
	needs := c.server.routes[a.Route].need
	if a.Route == post+" "+prefix+takedownsPath {
		needs = anyOf(policy.ManageSegments)
	}
	station := musen.Station{ID: a.Station}
	if a.Station != "" {
		if found, err := c.server.Stations.Station(ctx, a.Station); err == nil {
			station = found
		}
	}
	return need{a.Station, func(c call) error {
		if slices.ContainsFunc(needs, func(n policy.Action) bool { return c.may(n, station) }) {
			return nil
		}
		return errForbidden
	}}
}

func (s *Server) approve(c *gin.Context, in call) error { return s.decide(c, in, musen.Approved) }

func (s *Server) deny(c *gin.Context, in call) error { return s.decide(c, in, musen.Denied) }

// decide approves or denies a request of somebody else. Who decides must be
// known by name: a token that anybody with leave to issue tokens can make is
// not a second person.
func (s *Server) decide(c *gin.Context, in call, state musen.ApprovalState) error {
	if err := noBody(c.Request); err != nil {
		return err
	}
	ctx, id := c.Request.Context(), c.Param("approval")
	a, err := s.Approvals.Approval(ctx, id)
	if err != nil {
		return in.absent(err, "There is no approval %.80q here.", id)
	}
	toDecide := in.toDecide(ctx, a)
	switch local := in.grant.Kind() == policy.LocalOperator().Kind(); {
	case a.Subject == in.grant.Subject():
		return errOwnRequest
	case !toDecide.holds(in):
		return musen.ErrNotFound
	case !local && !in.grant.Identity():
		return errNoIdentity
	}
	by, _, err := in.granters(ctx, []need{toDecide})
	if err != nil {
		return err
	}
	in.about("approval %s of %q: %s", id, a.Subject, a.Summary)
	a.State, a.Decider, a.By, a.Token = state, in.grant.Subject(), by, in.grant.ID()
	err = s.Approvals.DecideApproval(ctx, a)
	if errors.Is(err, musen.ErrDecided) {
		return errTooLate
	}
	if err != nil {
		return err
	}
	s.Log.LogAttrs(ctx, slog.LevelInfo, "approval decided", slog.String("approval", id), slog.String("state", state.String()), slog.String("by", in.grant.Kind()))
	if a, err = s.Approvals.Approval(ctx, id); err != nil {
		return err
	}
	return s.answer(c, http.StatusOK, access.FromApproval(a, s.Now()))
}
