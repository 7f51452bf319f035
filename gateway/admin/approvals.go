package admin

import (
	"bytes"
	"context"
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire/access"
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
	DecideApproval(ctx context.Context, id string, state musen.ApprovalState, decider string) error
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

// isDangerous reports whether a route does what cannot be undone, or changes
// who may do what.
func isDangerous(r route) bool {
	return slices.Contains([]string{
		"DELETE /segments/:cid", "DELETE /stations/:station", "POST /keys/rotate", "PUT /roles", "POST /policy/reload",
	}, r.name())
}

// name is the method and the pattern of a route.
func (r route) name() string { return r.method + " " + r.path }

// confirm lets a dangerous request pass if its sender showed a second factor
// lately, or a second person approved it. Otherwise it is recorded, to be
// approved. The operator on the socket needs neither. Who sends it must be known
// by name: else one person could ask by a token that they issued to somebody who
// is nobody, and approve as themselves.
func (c *call) confirm(g *gin.Context) error {
	s, now := c.server, c.server.Now()
	if c.grant.Kind() == policy.LocalOperator().Kind() {
		return nil
	}
	if at := c.grant.SecondFactor(); !at.IsZero() && !at.After(now) && now.Sub(at) <= factorAge {
		return nil
	}
	if !c.grant.Identity() {
		return errNoIdentity
	}
	digest, err := s.bodyDigest(g)
	if err != nil {
		return err
	}
	ctx := g.Request.Context()
	if ids := g.Request.Header.Values(approvalHeader); len(ids) > 0 {
		return c.useApproval(ctx, ids, digest)
	}
	id := make([]byte, 16)
	if _, err := io.ReadFull(s.Rand, id); err != nil {
		return err
	}
	a, err := s.Approvals.PutApproval(ctx, musen.Approval{
		ID: hex.EncodeToString(id), Request: g.Request.Method + " " + g.Request.URL.RequestURI(), Route: c.route.method + " " + prefix + c.route.path, Station: c.station.ID,
		Digest: digest, Subject: c.grant.Subject(), Created: now, Expires: now.Add(approvalTTL),
	})
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
// that request of the same sender.
func (c *call) useApproval(ctx context.Context, ids []string, digest []byte) error {
	a, err := c.server.Approvals.Approval(ctx, ids[0])
	switch {
	case errors.Is(err, musen.ErrNotFound):
	case err != nil:
		return err
	case len(ids) == 1 && a.Subject == c.grant.Subject() && hmac.Equal(a.Digest, digest):
		err = c.server.Approvals.UseApproval(ctx, a.ID)
		if !errors.Is(err, musen.ErrDecided) {
			return err
		}
		return errApproval.with("The approval %.80q is not given yet, or was denied, used before, or has expired.", a.ID)
	}
	return errApproval.with("The approval %.80q is not for this request of yours.", ids[0])
}

// bodyDigest is a keyed hash of method, target and body of a request, whose
// body can be read again.
func (s *Server) bodyDigest(g *gin.Context) ([]byte, error) {
	body, ok := g.Get(bodyKey)
	if !ok {
		b, err := io.ReadAll(http.MaxBytesReader(g.Writer, g.Request.Body, maxBody))
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			return nil, musen.ErrTooLarge
		}
		if err != nil {
			return nil, cutOff(err)
		}
		g.Request.Body = io.NopCloser(bytes.NewReader(b))
		body = b
	}
	h := s.Digest()
	for _, part := range [][]byte{[]byte(g.Request.Method), []byte(g.Request.URL.RequestURI()), body.([]byte)} {
		size := []byte{byte(len(part) >> 24), byte(len(part) >> 16), byte(len(part) >> 8), byte(len(part))}
		h.Write(append(size, part...))
	}
	return h.Sum(nil), nil
}

// bodyKey is where readJSON leaves the body that it has read.
const bodyKey = "body"

// listApprovals answers with the requests that the caller made or may decide
// on.
func (s *Server) listApprovals(c *gin.Context, in call) error {
	all, err := s.Approvals.Approvals(c.Request.Context())
	if err != nil {
		return err
	}
	list := access.Approvals{Approvals: []access.Approval{}}
	for _, a := range all {
		if a.Subject == in.grant.Subject() || in.mayDecide(a) {
			list.Approvals = append(list.Approvals, access.FromApproval(a, s.Now()))
		}
	}
	return s.answer(c, http.StatusOK, list)
}

// mayDecide reports whether the caller has leave for what was asked for.
func (c call) mayDecide(a musen.Approval) bool {
	r, ok := c.server.routes[a.Route]
	return ok && slices.ContainsFunc(r.need, func(n policy.Action) bool { return c.may(n, musen.Station{ID: a.Station}) })
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
	switch local := in.grant.Kind() == policy.LocalOperator().Kind(); {
	case a.Subject == in.grant.Subject():
		return errOwnRequest
	case !in.mayDecide(a):
		return musen.ErrNotFound
	case !local && !in.grant.Identity():
		return errNoIdentity
	}
	err = s.Approvals.DecideApproval(ctx, id, state, in.grant.Subject())
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
