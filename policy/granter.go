package policy

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"time"
)

// A Granter is who made use of a right to let somebody else do something, as by
// issuing a token. What was granted is worth no more than the granter.
type Granter struct {
	Subject string `json:"s"`
	// Roles are those that it took, where they were held. They must be held still.
	Roles []RoleAt `json:"r,omitempty"`
}

// A RoleAt is a role and the id of the station where it is held; empty:
// everywhere.
type RoleAt struct {
	Role    Role   `json:"r"`
	Station string `json:"s,omitempty"`
}

// A Cipher seals what a token says and its bearer is not to read; a tink.AEAD is
// one.
type Cipher interface {
	Encrypt(plaintext, associatedData []byte) ([]byte, error)
	Decrypt(ciphertext, associatedData []byte) ([]byte, error)
}

// maxGranters is how often a right is passed on at most.
const maxGranters = 8

// byPrefix begins the subjects that stand for all that somebody has issued.
const byPrefix = "by:"

// IssuedBy is the subject that stands for all tokens that a subject has issued,
// and for those that were issued with them: revoking it ends them.
func IssuedBy(subject string) string { return byPrefix + subject }

// Granters are who issued the token, and the tokens that it was issued with, the
// first of all first; none for a token that was issued by the operator on the
// socket, or by somebody else than the node.
func (g Grant) Granters() []Granter { return slices.Clone(g.get().by) }

// Without is g as it would be if its subject held none of these roles.
func (g Grant) Without(roles RoleSet) Grant {
	g.without |= roles
	return g
}

// Stands returns a *CredentialError once what these granted together at that
// time is over: one of them is suspended or ended, has lost a role that it took,
// or all that it issued until then was revoked.
func (v *Verifier) Stands(by []Granter, at time.Time) error {
	for _, g := range by {
		switch {
		case barred(v.o.Subjects, g.Subject):
			return refuse(codeRevoked, "whoever issued it is suspended or ended")
		case v.o.Revocations.Revoked("", IssuedBy(g.Subject), at):
			return refuse(codeRevoked, "all that its issuer issued was revoked")
		case !g.holds(v.o.Roles, v.o.Now()):
			return refuse(codeRevoked, "whoever issued it does not hold the role any more that this took")
		}
	}
	return nil
}

// Revoked reports whether the credential of that id was revoked, or all of
// subject that were issued until a time which at is not after.
func (v *Verifier) Revoked(id, subject string, at time.Time) bool {
	return v.o.Revocations.Revoked(id, subject, at)
}

func (g Granter) holds(roles Roles, now time.Time) bool {
	return !slices.ContainsFunc(g.Roles, func(at RoleAt) bool {
		return roles == nil || !roles.Held(g.Subject, at.Station, now).Has(at.Role)
	})
}

// granterContext binds sealed granters to the token or link of that id.
func granterContext(kind, id string) []byte {
	return []byte("musen granters 1\x00" + kind + "\x00" + id)
}

// sealGranters spells granters as what a token or a link of that id says of them.
func sealGranters(c Cipher, by []Granter, kind, id string) ([]byte, error) {
	switch {
	case len(by) == 0:
		return nil, nil
	case c == nil:
		return nil, reject("the node cannot keep who issues it")
	case len(by) > maxGranters:
		return nil, reject("it would be the %dth token of a chain in which each was issued with the one before", len(by))
	}
	text, err := json.Marshal(by)
	if err != nil {
		return nil, err
	}
	return c.Encrypt(text, granterContext(kind, id))
}

// openGranters reads what sealGranters has spelled.
func openGranters(c Cipher, sealed []byte, kind, id string) (by []Granter, ok bool) {
	if c == nil {
		return nil, false
	}
	plain, err := c.Decrypt(sealed, granterContext(kind, id))
	return by, err == nil && json.Unmarshal(plain, &by) == nil && len(by) > 0
}

// tokenGranters reads the claim by of the token of that jti; there may be none.
func tokenGranters(c Cipher, claim any, jti string) (by []Granter, ok bool) {
	if claim == nil {
		return nil, true
	}
	text, _ := claim.(string)
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, false
	}
	return openGranters(c, sealed, kindToken, jti)
}

// grantersAt are granters with the roles that concern one station alone.
func grantersAt(by []Granter, station string) []Granter {
	by = slices.Clone(by)
	for i := range by {
		by[i].Roles = slices.DeleteFunc(slices.Clone(by[i].Roles), func(at RoleAt) bool { return at.Station != "" && at.Station != station })
	}
	return by
}
