package admin

import (
	"context"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/policy"
)

// Keys are the keys that credentials are signed with: those of the node, and
// those of others whose tokens it accepts.
type Keys interface {
	Keys() wire.Keys
	// Rotate makes a new key of a kind, "token" or "link", and returns its id.
	// What the old one signed stays good. It is durable on return.
	Rotate(ctx context.Context, kind string) (kid string, err error)
	// RevokeKey ends all that a key signed, or will, durably on return. Known
	// tells that the key is one of Keys.
	RevokeKey(ctx context.Context, name string) (known bool, err error)
	// IssuerName finds the name of an issuer by that, or by its URL.
	IssuerName(nameOrURL string) (name string, ok bool)
}

var (
	errNoIssuer = refusal{404, "unknown_issuer", "", "Name one of the issuers in the configuration, or its URL."}
	errKeyInUse = refusal{409, "key_in_use", "The node signs with this key now.",
		"Rotate it first; then revoke it."}
)

func (s *Server) listKeys(c *gin.Context, _ call) error {
	return s.answer(c, http.StatusOK, s.Keys.Keys())
}

func (s *Server) rotateKey(c *gin.Context, in call) error {
	var req wire.Rotation
	if err := s.readJSON(c, &req); err != nil {
		return err
	}
	if req.Kind != wire.KeyOfTokens && req.Kind != wire.KeyOfLinks {
		return errField.with("The kind %.40q is neither %q nor %q.", req.Kind, wire.KeyOfTokens, wire.KeyOfLinks)
	}
	if err := in.confirm(c, "rotate the key of kind "+req.Kind); err != nil {
		return err
	}
	kid, err := s.Keys.Rotate(c.Request.Context(), req.Kind)
	if err != nil {
		return err
	}
	return s.answer(c, http.StatusOK, wire.Rotated{ID: kid})
}

// revokeKey revokes all that a key signed. That with which the node signs now
// is to be rotated first: else all that it issues would be dead.
func (s *Server) revokeKey(ctx context.Context, name string) (known bool, err error) {
	for _, k := range s.Keys.Keys().Keys {
		if k.ID == name && k.State == wire.KeySigns {
			return false, errKeyInUse
		}
	}
	return s.Keys.RevokeKey(ctx, name)
}

// spokenFor is what a revocation names as policy calls it: what an issuer says
// begins with the name of that issuer.
func (s *Server) spokenFor(r wire.Revocation) (wire.Revocation, error) {
	var given []*string
	for _, what := range []*string{&r.ID, &r.Subject, &r.IssuedBy, &r.Key} {
		if *what != "" {
			given = append(given, what)
		}
	}
	if len(given) != 1 {
		return r, errField.with("Give either a jti, a subject, an issued_by or a key.")
	}
	what := given[0]
	if r.Issuer != "" {
		name, ok := s.Keys.IssuerName(r.Issuer)
		if !ok {
			return r, errNoIssuer.with("There is no issuer %.200q here.", r.Issuer)
		}
		if name != "" { // else it is the node itself
			*what = name + "|" + *what
		}
	}
	switch {
	case len(*what) > maxName || !isLine(*what):
		return r, errField.with("The jti, the subject or the key is not one line of text of at most %d bytes.", maxName)
	case r.Subject == policy.ShareSubject(""):
		return r, errField.with("The subject %q names no share: its id is missing.", r.Subject)
	case r.IssuedBy == policy.LocalOperator().Subject():
		return r, errField.with("What was issued on the socket is not kept apart: revoke it by jti, subject or key.")
	case strings.HasPrefix(r.Subject, policy.IssuedBy("")):
		return r, errField.with("The subject %.80q stands for what somebody has issued: name that one in issued_by.", r.Subject)
	}
	return r, nil
}
