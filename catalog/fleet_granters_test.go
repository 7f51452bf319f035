package catalog_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"testing"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog"
	"github.com/musenai/musen/policy"
)

// P18, P35, P39: what somebody issued by a role ends on every gateway with them,
// whichever gateway that is said on.
func TestFleetEndsWhatWasIssued(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	a, b := f.gateway("a"), f.gateway("b")
	public, private, err := ed25519.GenerateKey(rand.Reader)
	noErr(t, err)
	aead, err := subtle.NewAESGCM(make([]byte, 32))
	noErr(t, err)
	secret := make([]byte, 32)
	rand.Read(secret)
	issuer, err := policy.NewIssuer(policy.IssuerOptions{
		Issuer: "musen", Audience: "musen", KeyID: "k", Key: private, LinkKeyID: "l", LinkSecret: secret,
		Cipher: aead, Now: time.Now, Rand: rand.Reader,
	})
	noErr(t, err)
	verifier := func(c *catalog.Catalog) *policy.Verifier {
		v, err := policy.NewVerifier(policy.VerifierOptions{
			Issuer: "musen", Audience: "musen", Keys: []policy.PublicKey{{ID: "k", Key: public}}, LinkKeys: []policy.LinkKey{{ID: "l", Secret: secret}},
			Revocations: c, Subjects: c, Roles: c, Cipher: aead, Now: time.Now,
		})
		noErr(t, err)
		return v
	}
	raw, _, _, err := issuer.Token(policy.TokenRequest{
		Subject: "bob", Actions: []policy.Action{policy.Listen}, TTL: time.Hour,
		By: []policy.Granter{{Subject: "ann", Roles: []policy.RoleAt{{Role: policy.Operator}}}},
	})
	noErr(t, err)
	onA, onB := verifier(a), verifier(b)
	role := musen.Assignment{Subject: "ann", Role: policy.Operator, Granted: time.Now()}
	state := func(s policy.SubjectState) musen.Subject {
		return musen.Subject{Name: "ann", State: s, Reason: "test", Actor: "local", Changed: time.Now()}
	}
	for _, step := range []struct {
		what string
		do   func() error
		want bool
	}{
		{"nothing", func() error { return nil }, false},
		{"the role given", func() error { return a.GrantRole(ctx, role) }, true},
		{"suspended", func() error { return b.SetSubject(ctx, state(policy.SubjectSuspended)) }, false},
		{"active", func() error { return b.SetSubject(ctx, state(policy.SubjectActive)) }, true},
		{"the role taken", func() error { return b.RevokeRole(ctx, role) }, false},
		{"and given", func() error { return b.GrantRole(ctx, role) }, true},
		{"all revoked", func() error { return b.RevokeSubject(ctx, policy.IssuedBy("ann")) }, false},
	} {
		noErr(t, step.do())
		settled(t, a, 2)
		settled(t, b, 2)
		for name, v := range map[string]*policy.Verifier{"a": onA, "b": onB} {
			if _, err := v.Token(raw); (err == nil) != step.want {
				t.Errorf("%s, on %s: %v", step.what, name, err)
			}
		}
	}
}
