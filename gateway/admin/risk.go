package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/policy"
)

// runsThings reports whether one of actions is more than to hear, to carry or to
// add audio.
func runsThings(actions []policy.Action) bool {
	return slices.ContainsFunc(actions, func(a policy.Action) bool { return !a.ForUse() })
}

// isRunner reports whether a token that is on record lets its bearer run
// anything.
func isRunner(t musen.Token) bool {
	return t.Identity || slices.ContainsFunc(t.Actions, func(a string) bool { return !policy.Action(a).ForUse() })
}

// weighty reports whether a subject takes part in running the node, as far as
// the node knows: it holds a role, or a token that runs something, or has issued
// tokens, or may have one of an issuer that names those who do.
func (s *Server) weighty(ctx context.Context, subject string) (bool, error) {
	if s.ofRunners(subject) {
		return true, nil
	}
	roles, err := s.Roles.Assignments(ctx)
	if err != nil {
		return false, err
	}
	now := s.Now()
	if slices.ContainsFunc(roles, func(a musen.Assignment) bool {
		return a.Subject == subject && (a.Until.IsZero() || now.Before(a.Until))
	}) {
		return true, nil
	}
	tokens, err := s.Tokens.Tokens(ctx)
	return slices.ContainsFunc(tokens, func(t musen.Token) bool {
		live := t.Revoked.IsZero() && now.Before(t.Expires)
		return live && (t.Issuer == subject || t.Subject == subject && isRunner(t))
	}), err
}

// ofRunners reports whether a subject or a jti is one of Runners.
func (s *Server) ofRunners(name string) bool {
	issuer, _, foreign := strings.Cut(name, "|")
	return foreign && slices.Contains(s.Runners, issuer)
}

// grave reports whether a revocation ends more than what listeners, and those
// who add, have of the caller or of others: all that a key or a subject issued,
// or what somebody else needs to run the node.
func (c call) grave(ctx context.Context, r wire.Revocation) (bool, error) {
	switch {
	case r.Key != "" || r.IssuedBy != "":
		return true, nil
	case r.Subject != "":
		if r.Subject == c.grant.Subject() || strings.HasPrefix(r.Subject, policy.ShareSubject("")) {
			return false, nil
		}
		return c.server.weighty(ctx, r.Subject)
	}
	if c.server.ofRunners(r.ID) && r.ID != c.grant.ID() {
		return true, nil
	}
	tokens, err := c.server.Tokens.Tokens(ctx)
	return slices.ContainsFunc(tokens, func(t musen.Token) bool {
		return t.ID == r.ID && t.Subject != c.grant.Subject() && isRunner(t)
	}), err
}

// revocationInWords says what a revocation would do.
func revocationInWords(r wire.Revocation) string {
	switch {
	case r.Key != "":
		return fmt.Sprintf("revoke all that is signed with key %q", r.Key)
	case r.IssuedBy != "":
		return fmt.Sprintf("revoke all tokens that were issued by %q", r.IssuedBy)
	case r.Subject != "":
		return fmt.Sprintf("revoke all tokens and links of %q", r.Subject)
	}
	return fmt.Sprintf("revoke token %q", r.ID)
}
