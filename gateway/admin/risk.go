package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/policy"
)

// A risk says whether a route needs a second person over TCP, as call.confirm
// has it.
type risk int

const (
	_         risk = iota // undeclared: no route that changes something may be
	harmless              // never
	dangerous             // always
	perhaps               // it depends on what the request says
)

// risks are those of all routes that change something, by method and pattern.
//
// Dangerous is what cannot be undone, what changes who may do what, and what
// would let one person alone keep all others from running the node. To end the
// access of listeners is harmless, however many they are: it has to be quick.
func risks() map[string]risk {
	return map[string]risk{
		"POST /gc":                                  harmless,
		"POST /stations":                            harmless,
		"PATCH /stations/:station":                  harmless,
		"DELETE /stations/:station":                 dangerous,
		"DELETE /shares/:share":                     harmless,
		"PUT /shares/:share/password":               harmless,
		"POST /stations/:station/shares":            harmless,
		"POST /stations/:station/shares/regenerate": harmless,
		"POST /stations/:station/segments":          harmless,
		"DELETE /segments/:cid":                     dangerous,
		"POST /segments/:cid/links":                 harmless,
		"POST /takedowns":                           perhaps, // it may destroy a key
		"POST /takedowns/:cid/lift":                 dangerous,
		"POST /verify":                              harmless,
		"POST /peers":                               harmless,
		"POST /peers/invites":                       harmless,
		"DELETE /peers/invites/:invite":             harmless,
		"DELETE /peers/:peer":                       dangerous,
		"POST /peers/:peer/drain":                   harmless,
		"POST /peers/:peer/reinstate":               harmless,
		"POST /pins/recover":                        harmless,
		"POST /pins/rebalance":                      harmless,
		"POST /services":                            dangerous, // it is sent what a file of the node says
		"DELETE /services/:service":                 dangerous,
		"POST /tokens":                              perhaps,
		"POST /tokens/revoke":                       perhaps,
		"POST /keys/rotate":                         dangerous,
		"PUT /subjects":                             perhaps,
		"PUT /roles":                                dangerous,
		"POST /roles/revoke":                        perhaps,
		"POST /access/reviews":                      harmless,
		"POST /audit/reviews":                       harmless,
		"POST /approvals/:approval/approve":         harmless, // it is the second person
		"POST /approvals/:approval/deny":            harmless,
		"POST /policy/reload":                       dangerous,
		"POST /policy/explain":                      harmless,
		"POST /reports/:report/take":                harmless,
		"POST /reports/:report/close":               harmless,
	}
}

// reaching are the routes whose answer comes when what they changed is in force
// on every gateway, as Server.settle has it: what takes a right away, and what
// other gateways hold in memory.
func reaching() []string {
	return []string{
		"PATCH /stations/:station", "DELETE /stations/:station", "DELETE /segments/:cid",
		"POST /stations/:station/shares", "POST /stations/:station/shares/regenerate", "DELETE /shares/:share", "PUT /shares/:share/password",
		"POST /tokens/revoke", "PUT /subjects", "PUT /roles", "POST /roles/revoke",
	}
}

// changes reports whether a route may change something.
func (r route) changes() bool { return r.method != http.MethodGet && r.method != http.MethodHead }

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
// tokens.
func (s *Server) weighty(ctx context.Context, subject string) (bool, error) {
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
