package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/policy"
)

// Subjects keeps the states of subjects.
type Subjects interface {
	// SetSubject is durable on return.
	SetSubject(ctx context.Context, s musen.Subject) error
	// Subject returns musen.ErrNotFound when no state was set for it.
	Subject(ctx context.Context, name string) (musen.Subject, error)
	Subjects(ctx context.Context) ([]musen.Subject, error)
}

// listSubjects answers with every subject that a state was set for, or with the
// one that is asked for, which is active if none was.
func (s *Server) listSubjects(c *gin.Context, _ call) error {
	ctx := c.Request.Context()
	list := wire.Subjects{Subjects: []wire.Subject{}}
	name, one := c.GetQuery("subject")
	if !one {
		all, err := s.Subjects.Subjects(ctx)
		if err != nil {
			return err
		}
		for _, subject := range all {
			list.Subjects = append(list.Subjects, wire.FromSubject(subject))
		}
		return s.answer(c, http.StatusOK, list)
	}
	if err := checkSubjectName(name); err != nil {
		return err
	}
	subject, err := s.Subjects.Subject(ctx, name)
	if errors.Is(err, musen.ErrNotFound) {
		subject, err = musen.Subject{Name: name, State: policy.SubjectActive}, nil
	}
	if err != nil {
		return err
	}
	list.Subjects = append(list.Subjects, wire.FromSubject(subject))
	return s.answer(c, http.StatusOK, list)
}

// setSubject sets the state of a subject, which may be one that the node has
// not heard of yet.
func (s *Server) setSubject(c *gin.Context, in call) error {
	var req wire.SubjectChange
	if err := s.readJSON(c, &req); err != nil {
		return err
	}
	if err := checkSubjectName(req.Subject); err != nil {
		return err
	}
	state := policy.SubjectState(req.State)
	if !slices.Contains([]policy.SubjectState{policy.SubjectActive, policy.SubjectLimited, policy.SubjectSuspended, policy.SubjectEnded}, state) {
		return errField.with("The state %.40q is not active, limited, suspended or ended.", req.State)
	}
	if req.Reason == "" || !isText(req.Reason) {
		return errField.with("The reason is not one line of text of 1 to %d bytes, without characters that change its direction.", maxText)
	}
	if req.Subject == in.grant.Subject() && state != policy.SubjectActive {
		return errField.with("You cannot do that to yourself.")
	}
	ctx := c.Request.Context()
	what := fmt.Sprintf("%q to %s: %s", req.Subject, state, req.Reason)
	grave, err := s.movesRunner(ctx, req.Subject, state)
	if err != nil {
		return err
	}
	if grave {
		if err := in.confirm(c, "set "+what); err != nil {
			return err
		}
	}
	in.about("%s", what)
	subject := musen.Subject{Name: req.Subject, State: state, Reason: req.Reason, Actor: in.grant.Subject(), Changed: s.Now()}
	if err := s.Subjects.SetSubject(ctx, subject); err != nil {
		return err
	}
	s.Log.LogAttrs(ctx, slog.LevelInfo, "state of a subject set", slog.String("state", req.State), slog.String("by", in.grant.Kind()))
	set := wire.FromSubject(subject)
	set.Reach = s.settle(c) // done means done on every gateway
	return s.answer(c, http.StatusOK, set)
}

// movesRunner reports whether a state would bar a subject that takes part in
// running the node, or let it in again.
func (s *Server) movesRunner(ctx context.Context, subject string, state policy.SubjectState) (bool, error) {
	was, err := s.Subjects.Subject(ctx, subject)
	if err != nil && !errors.Is(err, musen.ErrNotFound) {
		return false, err
	}
	if was.State.Bars() == state.Bars() {
		return false, nil
	}
	return s.weighty(ctx, subject)
}

func checkSubjectName(name string) error {
	switch {
	case name == "" || !isName(name):
		return errField.with("The subject is not one line of text of 1 to %d bytes, without characters that change its direction.", maxName)
	case name == policy.LocalOperator().Subject():
		return errField.with("The subject %q stands for the operator of the node.", name)
	}
	return nil
}
