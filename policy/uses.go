package policy

import (
	"encoding/json"
	"fmt"
	"time"
)

// Uses follows which credentials are in use, in memory: it is asked at every
// use of a token.
type Uses interface {
	// Use notes that a credential is used, and reports whether it may be: one
	// that was not used for too long since it was issued may not. A zero issued
	// says that it is never too long.
	Use(id string, issued time.Time) bool
	// Usable reports what Use would, and notes nothing.
	Usable(id string, issued time.Time) bool
}

// used has use, a method of Uses, refuse a token that was not used for too long:
// one of the node's own goes by its id, one of another issuer, which makes a new
// one at each sign-in, by its subject.
func (v *Verifier) used(c *credential, use func(Uses, string, time.Time) bool) error {
	if v.o.Uses == nil {
		return nil
	}
	id, issued := c.id, c.issued
	if c.from != nil && c.from.Name != "" {
		id, issued = c.subject, time.Time{}
	}
	if !use(v.o.Uses, id, issued) {
		return refuse(codeRevoked, "it was not used for too long")
	}
	return nil
}

// Attest signs a record with the key that tokens are signed with, as a JWS of a
// type that no token has.
func (i *Issuer) Attest(record any) (string, error) {
	payload, err := json.Marshal(record)
	if err != nil {
		return "", fmt.Errorf("sign a record: %w", err)
	}
	jws, err := i.with.Load().records.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("sign a record: %w", err)
	}
	return jws.CompactSerialize()
}
