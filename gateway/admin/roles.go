package admin

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire/access"
	"github.com/musenai/musen/policy"
)

// Roles keeps who holds which role where, durably on return.
type Roles interface {
	GrantRole(ctx context.Context, a musen.Assignment) error
	// RevokeRole returns musen.ErrNotFound when the subject does not hold it.
	RevokeRole(ctx context.Context, a musen.Assignment) error
	Assignments(ctx context.Context) ([]musen.Assignment, error)
}

// listRoles answers with all assignments that are not over.
func (s *Server) listRoles(c *gin.Context, _ call) error {
	all, err := s.Roles.Assignments(c.Request.Context())
	if err != nil {
		return err
	}
	list := access.Roles{Roles: []access.Role{}}
	for _, a := range all {
		if a.Until.IsZero() || s.Now().Before(a.Until) {
			list.Roles = append(list.Roles, access.FromAssignment(a, s.stationName(c.Request.Context(), a.Station)))
		}
	}
	return s.answer(c, http.StatusOK, list)
}

// stationName is how a station is called now; of one that was removed, its id.
func (s *Server) stationName(ctx context.Context, id string) string {
	if id == "" {
		return ""
	}
	station, err := s.Stations.Station(ctx, id)
	if err != nil {
		return id
	}
	return station.Name
}

// grantRole gives a role to one identity.
func (s *Server) grantRole(c *gin.Context, in call) error {
	var req access.Role
	if err := s.readJSON(c, &req); err != nil {
		return err
	}
	a, err := in.assignment(c.Request.Context(), req)
	if err != nil {
		return err
	}
	if err := checkIdentity(req.Subject); err != nil {
		return err
	}
	if req.Until != nil {
		if a.Until = req.Until.UTC().Truncate(time.Second); !a.Until.After(s.Now()) {
			return errField.with("The time in until has passed.")
		}
	}
	if a.Subject == in.grant.Subject() {
		return errField.with("You cannot give yourself a role.")
	}
	ctx := c.Request.Context()
	what := fmt.Sprintf("give role %s %s to %q", a.Role, s.place(ctx, a.Station), a.Subject)
	if !a.Until.IsZero() {
		what += " until " + a.Until.Format(time.RFC3339)
	}
	if err := in.confirm(c, what); err != nil {
		return err
	}
	a.Granted, a.Actor = s.Now(), in.grant.Subject()
	if err := s.Roles.GrantRole(ctx, a); err != nil {
		return err
	}
	s.Log.LogAttrs(ctx, slog.LevelInfo, "role given", slog.String("role", string(a.Role)), slog.String("by", in.grant.Kind()))
	_ = s.settle(c) // it may have been held for longer before
	return s.answer(c, http.StatusOK, access.FromAssignment(a, s.stationName(ctx, a.Station)))
}

func everyRole() (s policy.RoleSet) {
	for _, r := range policy.AllRoles() {
		s = s.With(r)
	}
	return s
}

// assignment reads what a request says of a role.
func (c call) assignment(ctx context.Context, req access.Role) (a musen.Assignment, err error) {
	if err := checkSubjectName(req.Subject); err != nil {
		return a, err
	}
	a = musen.Assignment{Subject: req.Subject, Role: policy.Role(req.Role)}
	if !slices.Contains(policy.AllRoles(), a.Role) {
		return a, errField.with("The role %.40q is none of %s.", req.Role, strings.Join(everyRole().Words(), ", "))
	}
	if req.Station != "" {
		station, err := c.findStation(ctx, req.Station)
		if err != nil {
			return a, err
		}
		a.Station = station.ID
	}
	return a, nil
}

// checkIdentity refuses subjects that no single person or program is.
func checkIdentity(subject string) error {
	for _, shared := range []string{"share:", "anonymous-"} {
		if strings.HasPrefix(subject, shared) {
			return errField.with("The subject %.80q is nobody by name: a role is given to one person or one program.", subject)
		}
	}
	if strings.ContainsAny(subject, "*, ") {
		return errField.with("The subject %.80q names several: a role is given to one person or one program at a time.", subject)
	}
	return nil
}

// revokeRole takes a role away, at once.
func (s *Server) revokeRole(c *gin.Context, in call) error {
	var req access.Role
	if err := s.readJSON(c, &req); err != nil {
		return err
	}
	a, err := in.assignment(c.Request.Context(), req)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	what := fmt.Sprintf("take role %s %s from %q", a.Role, s.place(ctx, a.Station), a.Subject)
	if a.Subject != in.grant.Subject() { // a role of one's own is given up alone
		if err := in.confirm(c, what); err != nil {
			return err
		}
	}
	in.about("%s", what)
	if err := s.Roles.RevokeRole(ctx, a); err != nil {
		return in.absent(err, "That role is not held there by %.80q.", a.Subject)
	}
	s.Log.LogAttrs(ctx, slog.LevelInfo, "role taken", slog.String("role", string(a.Role)), slog.String("by", in.grant.Kind()))
	_ = s.settle(c)
	return s.done(c)
}
