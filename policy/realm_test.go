package policy_test

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/musenai/musen/policy"
)

// P68: credentials name the realm that they are of. Those of another are
// refused, also by a node that has the same keys, stations and shares, as a
// rehearsal on a copy of the home has.
func TestCredentialsOfAnotherRealm(t *testing.T) {
	const rehearsal = "https://rehearsal.example"
	for name, c := range map[string]struct {
		keysOf func(here, there *world) *world
		code   string
	}{
		"with the same keys": {func(here, _ *world) *world { return here }, "credential_issuer"},
		"with its own keys":  {func(_, there *world) *world { return there }, "credential_signature"},
	} {
		t.Run(name, func(t *testing.T) {
			here := newWorld(t)
			keys := c.keysOf(here, newWorld(t))
			there, err := policy.NewIssuer(policy.IssuerOptions{
				Issuer: rehearsal, Audience: rehearsal, KeyID: tokenKid, Key: keys.private,
				LinkKeyID: linkKid, LinkSecret: keys.secret, Now: here.options.Now,
				SessionKey: policy.LinkKey{ID: sessionKid, Secret: keys.sessionSecret}, Rand: rand.Reader,
			})
			must(t, err)
			o := here.options
			o.Issuer, o.Audience = rehearsal, rehearsal
			o.Keys[0].Key = keys.public
			o.LinkKeys[0].Secret, o.SessionKeys[0].Secret = keys.secret, keys.sessionSecret
			at, err := policy.NewVerifier(o)
			must(t, err)

			token, _, _, err := there.Token(policy.TokenRequest{Subject: "alice", Actions: []policy.Action{policy.Listen}, TTL: time.Hour})
			must(t, err)
			session, _, err := there.Session(policy.SessionRequest{Share: shareID, Generation: 2, Station: jazz, Epoch: 3, TTL: time.Hour})
			must(t, err)
			grant, err := at.Session(session)
			must(t, err)
			link, _, err := there.Link(policy.LinkRequest{Station: jazz, Epoch: 3, Path: listenPath})
			must(t, err)
			minted, _, err := there.LinkFor(grant, policy.LinkRequest{Station: jazz, Epoch: 3, Path: listenPath})
			must(t, err)
			for kind, verify := range map[string]func(*policy.Verifier) error{
				"token":                      func(v *policy.Verifier) error { _, err := v.Token(token); return err },
				"session":                    func(v *policy.Verifier) error { _, err := v.Session(session); return err },
				"link":                       func(v *policy.Verifier) error { _, err := v.Link(link, "GET", listenPath); return err },
				"link that a session minted": func(v *policy.Verifier) error { _, err := v.Link(minted, "GET", listenPath); return err },
			} {
				if err := verify(at); err != nil {
					t.Errorf("%s where it is of: %v", kind, err)
				}
				t.Run(kind, func(t *testing.T) { wantCode(t, verify(here.verifier), c.code) })
			}
		})
	}
}
