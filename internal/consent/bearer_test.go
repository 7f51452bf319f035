package consent_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"testing"
	"time"

	"github.com/musenai/musen/policy"
)

// bearers issue and verify tokens.
type bearers struct {
	issuer   *policy.Issuer
	verifier *policy.Verifier
}

// nothing was ever revoked.
type nothing struct{}

func (nothing) Revoked(string, string, time.Time) bool { return false }
func (nothing) KeyRevoked(string) bool                 { return false }
func (nothing) Epoch(string) (uint64, bool)            { return 0, true }

func newBearers(t testing.TB) *bearers {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	b := &bearers{}
	b.issuer, err = policy.NewIssuer(policy.IssuerOptions{
		Issuer: "i", Audience: "a", KeyID: "k", Key: private, LinkKeyID: "l", LinkSecret: secret, Now: time.Now, Rand: rand.Reader,
	})
	if err != nil {
		t.Fatal(err)
	}
	b.verifier, err = policy.NewVerifier(policy.VerifierOptions{
		Issuer: "i", Audience: "a", Keys: []policy.PublicKey{{ID: "k", Key: public}}, LinkKeys: []policy.LinkKey{{ID: "l", Secret: secret}},
		Revocations: nothing{}, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Grant is that of a token of ann that nobody had before.
func (b *bearers) Grant(t testing.TB, actions []policy.Action, station string) policy.Grant {
	t.Helper()
	return b.GrantTo(t, "ann", actions, station)
}

// GrantTo is that of a token of a subject that nobody had before.
func (b *bearers) GrantTo(t testing.TB, subject string, actions []policy.Action, station string) policy.Grant {
	t.Helper()
	raw, _, _, err := b.issuer.Token(policy.TokenRequest{Subject: subject, Stations: []string{station}, Actions: actions, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	g, err := b.verifier.Token(raw)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// Link is that of a link to a path that was minted with g.
func (b *bearers) Link(t testing.TB, g policy.Grant, station, path string) policy.Grant {
	t.Helper()
	raw, _, err := b.issuer.LinkFor(g, policy.LinkRequest{Station: station, Path: path, TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	link, err := b.verifier.Link(raw, "GET", path)
	if err != nil {
		t.Fatal(err)
	}
	return link
}
