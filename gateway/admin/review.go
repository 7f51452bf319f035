package admin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/gateway/admin/wire/access"
	"github.com/musenai/musen/policy"
)

// Reviews keeps who looked at who may do what.
type Reviews interface {
	PutReview(ctx context.Context, v musen.Review) error
	// Reviews are all of something, the last first.
	Reviews(ctx context.Context, of string) ([]musen.Review, error)
}

// Uses knows which credentials are in use.
type Uses interface {
	// LastUsed is to the hour, of a jti or of a subject of another issuer; zero:
	// never, as far as is known.
	LastUsed(id string) time.Time
	// Unfollowed is until when credentials were used that are not followed any
	// more, so that they are let in whether they are used or not; zero: there is
	// none of them.
	Unfollowed() time.Time
}

const (
	staleAfter = 30 * 24 * time.Hour // without use
	longLife   = 90 * 24 * time.Hour // of a token
)

// errChanged refuses to sign what is not so any more.
var errChanged = refusal{409, "report_changed", "Who holds what has changed since the report was made.", "Look at the report again."}

// getAccess answers with who holds what.
func (s *Server) getAccess(c *gin.Context, _ call) error {
	r, err := s.report(c.Request.Context())
	if err != nil {
		return err
	}
	return s.answer(c, http.StatusOK, r)
}

func (s *Server) report(ctx context.Context) (r access.Report, err error) {
	r.Holdings = []access.Holding{}
	for _, add := range []func(context.Context) ([]access.Holding, error){
		s.tokenHoldings, s.roleHoldings, s.shareHoldings, s.peerHoldings,
	} {
		more, err := add(ctx)
		if err != nil {
			return r, err
		}
		r.Holdings = append(r.Holdings, more...)
	}
	r.Digest = digestOf(r.Holdings)
	reviews, err := s.Reviews.Reviews(ctx, musen.ReviewOfAccess)
	if err == nil && len(reviews) > 0 {
		last := access.FromReview(reviews[0])
		r.Last = &last
	}
	return r, err
}

// digestOf is the SHA-256 of what is held. When it was used is left out: that
// changes while a report is read.
func digestOf(held []access.Holding) string {
	held = slices.Clone(held)
	for i := range held {
		held[i].Used, held[i].Findings = nil, nil
	}
	b, err := json.Marshal(held)
	if err != nil {
		panic("unreachable: shapes of strings and times marshal: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// moment is t, or nil for the zero time.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func (s *Server) tokenHoldings(ctx context.Context) (held []access.Holding, err error) {
	tokens, err := s.Tokens.Tokens(ctx)
	for _, t := range tokens {
		if !t.Revoked.IsZero() || !s.Now().Before(t.Expires) {
			continue
		}
		h := access.Holding{
			Kind: "token", ID: t.ID, Holder: t.Subject, May: strings.Join(t.Actions, " "), Where: s.places(ctx, t.Stations),
			Since: moment(t.Issued), Until: moment(t.Expires), Used: moment(s.Uses.LastUsed(t.ID)),
		}
		if t.Identity {
			h.May = strings.TrimSpace("its roles, " + h.May)
			h.May = strings.TrimSuffix(h.May, ",")
		}
		if len(t.Actions) == 0 {
			h.Where = "where it holds them"
		}
		if len(t.Stations) == 0 {
			h.Findings = tooWide(t.Actions)
		}
		if t.Expires.Sub(t.Issued) > longLife {
			h.Findings = append(h.Findings, "lives long")
		}
		h.Findings = append(h.Findings, s.stale(h.Used, t.Issued)...)
		held = append(held, h)
	}
	return held, err
}

// tooWide says which actions that run the node are held on all of it.
func tooWide(actions []string) (findings []string) {
	var all []string
	for _, a := range actions {
		switch {
		case a == string(policy.Manage):
			findings = append(findings, "may manage everything")
		case !policy.Action(a).ForUse():
			all = append(all, a)
		}
	}
	if len(all) > 0 {
		findings = append(findings, "may "+strings.Join(all, ", ")+" everywhere")
	}
	return findings
}

// stale says whether a credential is not used.
func (s *Server) stale(used *time.Time, issued time.Time) []string {
	switch now := s.Now(); {
	case used == nil && now.Sub(issued) > staleAfter:
		return []string{"never used"}
	case used != nil && now.Sub(*used) > staleAfter:
		return []string{fmt.Sprintf("unused for %d days", int(now.Sub(*used)/(24*time.Hour)))}
	}
	return nil
}

// places are the names of stations; of none, all of them.
func (s *Server) places(ctx context.Context, ids []string) string {
	if len(ids) == 0 {
		return "everywhere"
	}
	var names []string
	for _, id := range ids {
		names = append(names, s.stationName(ctx, id))
	}
	return strings.Join(names, " ")
}

func (s *Server) roleHoldings(ctx context.Context) (held []access.Holding, err error) {
	all, err := s.Roles.Assignments(ctx)
	for _, a := range all {
		if !a.Until.IsZero() && !s.Now().Before(a.Until) {
			continue
		}
		h := access.Holding{
			Kind: "role", Holder: a.Subject, May: string(a.Role), Where: s.places(ctx, slices.DeleteFunc([]string{a.Station}, func(id string) bool { return id == "" })),
			Since: moment(a.Granted), Until: moment(a.Until), Used: moment(s.Uses.LastUsed(a.Subject)),
		}
		if a.Station == "" && a.Role == policy.Operator {
			h.Findings = append(h.Findings, "may manage everything")
		}
		if a.Until.IsZero() {
			h.Findings = append(h.Findings, "has no end")
		}
		held = append(held, h)
	}
	return held, err
}

func (s *Server) shareHoldings(ctx context.Context) (held []access.Holding, err error) {
	stations, err := s.Stations.Stations(ctx)
	if err != nil {
		return nil, err
	}
	list := wire.Shares{}
	for _, station := range stations {
		if err := s.addShares(ctx, &list, station); err != nil {
			return nil, err
		}
	}
	for _, sh := range list.Shares {
		if sh.State != "live" {
			continue
		}
		h := access.Holding{
			Kind: "share", ID: sh.ID, Holder: "whoever has its link", May: "listen", Where: sh.StationName, Since: moment(sh.Created), Until: moment(sh.Expires),
		}
		if sh.Downloads {
			h.May = "listen download"
		}
		if !sh.Password {
			h.Findings = append(h.Findings, "no password")
		}
		if sh.Expires.IsZero() {
			h.Findings = append(h.Findings, "has no end")
		}
		if sh.Uses == 0 && s.Now().Sub(sh.Created) > staleAfter {
			h.Findings = append(h.Findings, "never used")
		}
		held = append(held, h)
	}
	return held, nil
}

// peerHoldings are those of peers, open invites and pinning services; none on
// a node without a swarm.
func (s *Server) peerHoldings(ctx context.Context) (held []access.Holding, err error) {
	if s.Members == nil || s.Invites == nil || s.Services == nil {
		return nil, nil
	}
	peers, err := s.Members.Peers(ctx)
	for _, p := range peers {
		if p.Role != "origin" {
			held = append(held, access.Holding{Kind: "peer", ID: p.ID, Holder: p.Name, May: "hold ciphertext as " + p.Role, Where: "everywhere", Since: moment(p.Enrolled)})
		}
	}
	if err != nil {
		return nil, err
	}
	invites, err := s.Invites.Invites(ctx)
	for _, i := range invites {
		held = append(held, access.Holding{Kind: "invite", ID: i.ID, Holder: i.Name, May: "join as " + i.Role, Where: "everywhere", Until: moment(i.Expires)})
	}
	if err != nil {
		return nil, err
	}
	services, err := s.Services.Services(ctx)
	for _, v := range services {
		held = append(held, access.Holding{Kind: "service", ID: v.Name, Holder: v.Endpoint, May: "hold ciphertext", Where: "everywhere"})
	}
	return held, err
}

// signOff records that somebody looked at who holds what. It holds for the
// report of that digest alone.
func (s *Server) signOff(c *gin.Context, in call) error {
	var req access.SignOff
	if err := s.readJSON(c, &req); err != nil {
		return err
	}
	if req.Reviewer == "" || !isName(req.Reviewer) {
		return errField.with("The reviewer is not one line of text of 1 to %d bytes.", maxName)
	}
	ctx := c.Request.Context()
	r, err := s.report(ctx)
	if err != nil {
		return err
	}
	if r.Digest != req.Digest {
		return errChanged
	}
	in.about("report %s by %q", r.Digest, req.Reviewer)
	v, err := s.sign(ctx, musen.Review{Of: musen.ReviewOfAccess, Reviewer: req.Reviewer, Actor: in.grant.Subject(), Digest: r.Digest})
	if err != nil {
		return err
	}
	s.Log.LogAttrs(ctx, slog.LevelInfo, "access reviewed", slog.String("digest", v.Digest), slog.String("by", in.grant.Kind()))
	return s.answer(c, http.StatusCreated, access.FromReview(v))
}

// overdue says since when a review of access is due; zero: it is not.
func (s *Server) overdue(ctx context.Context) (time.Time, error) {
	if s.Limits.ReviewEvery <= 0 {
		return time.Time{}, nil
	}
	reviews, err := s.Reviews.Reviews(ctx, musen.ReviewOfAccess)
	if err != nil {
		return time.Time{}, err
	}
	var since time.Time
	if len(reviews) > 0 {
		since = reviews[0].Made
	} else {
		r, err := s.report(ctx)
		if err != nil {
			return time.Time{}, err
		}
		for _, h := range r.Holdings {
			if h.Since != nil && (since.IsZero() || h.Since.Before(since)) {
				since = *h.Since
			}
		}
	}
	due := since.Add(s.Limits.ReviewEvery)
	if since.IsZero() || s.Now().Before(due) {
		return time.Time{}, nil
	}
	return due, nil
}
