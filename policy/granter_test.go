package policy_test

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"

	"github.com/musenai/musen/policy"
)

// newCipher is a Cipher of a key of its own.
func newCipher(t testing.TB) *subtle.AESGCM {
	t.Helper()
	key := make([]byte, 32)
	rand.Read(key)
	aead, err := subtle.NewAESGCM(key)
	must(t, err)
	return aead
}

// delegation is a world in which tokens are issued by somebody who holds a role.
type delegation struct {
	*world
	roles  *holders
	states states
}

// states are those of subjects.
type states map[string]policy.SubjectState

func (s states) SubjectState(subject string) policy.SubjectState { return s[subject] }

func newDelegation(t *testing.T) *delegation {
	t.Helper()
	d := &delegation{world: newWorld(t), roles: &holders{held: map[[2]string]policy.RoleSet{}}, states: states{}}
	c := newCipher(t)
	d.options.Cipher, d.options.Roles, d.options.Subjects = c, d.roles, d.states
	var err error
	d.issuer, err = policy.NewIssuer(policy.IssuerOptions{
		Issuer: issuerName, Audience: audience, KeyID: tokenKid, Key: d.private, LinkKeyID: linkKid, LinkSecret: d.secret,
		Cipher: c, Now: func() time.Time { return d.now }, Rand: rand.Reader,
	})
	must(t, err)
	d.verifier, err = policy.NewVerifier(d.options)
	must(t, err)
	return d
}

func (d *delegation) issue(t *testing.T, by ...policy.Granter) string {
	t.Helper()
	raw, _, _, err := d.issuer.Token(policy.TokenRequest{Subject: "bob", Stations: []string{jazz}, Actions: []policy.Action{policy.Listen}, TTL: time.Hour, By: by})
	must(t, err)
	return raw
}

func payload(t *testing.T, raw string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[1])
	must(t, err)
	return string(b)
}

func codeOf(err error) string {
	if e, ok := errors.AsType[*policy.CredentialError](err); ok {
		return e.Code
	}
	return ""
}

// P35, P39: a token is worth no more than whoever issued it, at the next look
// and in the middle of a song, however long the chain; and its bearer does not
// read who that is.
func TestTokenEndsWithItsIssuer(t *testing.T) {
	d := newDelegation(t)
	d.roles.give("ann", "", policy.Operator)
	d.roles.give("sue", "", policy.Support)
	by := []policy.Granter{{Subject: "ann", Roles: []policy.RoleAt{{Role: policy.Operator, Station: jazz}}}, {Subject: "sue"}}
	raw := d.issue(t, by...)
	g, err := d.verifier.Token(raw)
	must(t, err)
	if got := g.Granters(); len(got) != 2 || got[0].Subject != "ann" || !slices.Equal(got[0].Roles, by[0].Roles) || got[1].Subject != "sue" {
		t.Errorf("issued by %+v", got)
	}
	if strings.Contains(payload(t, raw), "ann") {
		t.Error("the bearer reads who issued the token")
	}
	for name, c := range map[string]struct{ end, mend func() }{
		"suspended":      {func() { d.states["ann"] = policy.SubjectSuspended }, func() { delete(d.states, "ann") }},
		"ended, further": {func() { d.states["sue"] = policy.SubjectEnded }, func() { delete(d.states, "sue") }},
		"role taken":     {func() { d.roles.give("ann", "", policy.Support) }, func() { d.roles.give("ann", "", policy.Operator) }},
		"revoked":        {func() { d.registry.subjects[policy.IssuedBy("ann")] = d.now }, func() { delete(d.registry.subjects, policy.IssuedBy("ann")) }},
	} {
		c.end()
		if _, err := d.verifier.Token(raw); codeOf(err) != "credential_revoked" {
			t.Errorf("%s: %v", name, err)
		}
		if err := d.verifier.Live(g, jazz); codeOf(err) != "credential_revoked" {
			t.Errorf("%s, while it plays: %v", name, err)
		}
		if err := d.verifier.Good(g); codeOf(err) != "credential_revoked" {
			t.Errorf("%s, looked at again: %v", name, err)
		}
		c.mend()
		if _, err := d.verifier.Token(raw); err != nil {
			t.Errorf("%s, and taken back: %v", name, err)
		}
	}
	d.states["bob's friend"] = policy.SubjectEnded
	d.roles.give("sue", "") // took none
	if _, err := d.verifier.Token(raw); err != nil {
		t.Error(err)
	}
}

// P38: the operator on the socket is called so, and nobody who has a token: what
// was approved by local was approved there.
func TestNoTokenIsLocal(t *testing.T) {
	w := newWorld(t)
	raw := w.forge(toJSON(w.header()), toJSON(with(w.claims(), map[string]any{"sub": "local"})))
	if _, err := w.verifier.Token(raw); codeOf(err) != "credential_malformed" {
		t.Error(err)
	}
}

// P35, P39: a link ends with those who issued what it was minted with, too.
func TestLinkEndsWithItsIssuer(t *testing.T) {
	d := newDelegation(t)
	d.roles.give("ann", "", policy.Operator)
	far := policy.RoleAt{Role: policy.Publisher, Station: blues} // of no concern to a link to jazz
	by := []policy.Granter{{Subject: "ann", Roles: []policy.RoleAt{{Role: policy.Operator}, far}}}
	token, _, _, err := d.issuer.Token(policy.TokenRequest{Subject: "bob", Stations: []string{jazz}, Actions: []policy.Action{policy.Listen}, TTL: time.Hour,
		By: []policy.Granter{{Subject: "ann", Roles: by[0].Roles[:1]}}})
	must(t, err)
	g, err := d.verifier.Token(token)
	must(t, err)
	request := policy.LinkRequest{Station: jazz, Epoch: 3, Path: listenPath}
	minted, _, err := d.issuer.LinkFor(g, request)
	must(t, err)
	request.By = by
	made, _, err := d.issuer.Link(request)
	must(t, err)
	good := func(want bool) {
		t.Helper()
		for _, raw := range []string{minted, made} {
			if _, err := d.verifier.Link(raw, "GET", listenPath); (err == nil) != want {
				t.Errorf("%v, want good %v", err, want)
			}
		}
	}
	good(true)
	d.states["ann"] = policy.SubjectSuspended
	good(false)
	delete(d.states, "ann")
	d.roles.give("ann", "", policy.Support)
	good(false)
	d.roles.give("ann", "", policy.Operator)
	good(true)
	o := d.options
	o.Cipher = newCipher(t)
	v, err := policy.NewVerifier(o)
	must(t, err)
	if _, err := v.Link(made, "GET", listenPath); codeOf(err) != "credential_malformed" {
		t.Error(err)
	}
}

// A verifier without the key takes no such token, nor one whose claim was moved
// from another; a chain has an end.
func TestGrantersAreSealed(t *testing.T) {
	d := newDelegation(t)
	raw := d.issue(t, policy.Granter{Subject: "ann"})
	for name, c := range map[string]policy.Cipher{"none": nil, "another": newCipher(t)} {
		o := d.options
		o.Cipher = c
		v, err := policy.NewVerifier(o)
		must(t, err)
		if _, err := v.Token(raw); codeOf(err) != "credential_malformed" {
			t.Errorf("key: %s: %v", name, err)
		}
		if _, err := v.Token(d.issue(t)); err != nil {
			t.Errorf("a token of the node itself, key: %s: %v", name, err)
		}
	}
	request := policy.TokenRequest{Subject: "bob", Actions: []policy.Action{policy.Listen}, TTL: time.Hour, By: make([]policy.Granter, 9)}
	var refused *policy.RequestError
	if _, _, _, err := d.issuer.Token(request); !errors.As(err, &refused) {
		t.Errorf("a chain of nine: %v", err)
	}
	request.By, request.Subject = nil, policy.IssuedBy("ann")
	if _, _, _, err := d.issuer.Token(request); !errors.As(err, &refused) {
		t.Errorf("a token for all that ann issued: %v", err)
	}
}

// P30: roles can be left out of a decision, and not put into it.
func TestGrantWithoutRoles(t *testing.T) {
	d := newDelegation(t)
	d.roles.give("ann", "", policy.Operator, policy.Support)
	raw, _, _, err := d.issuer.Token(policy.TokenRequest{Subject: "ann", Identity: true, TTL: time.Hour})
	must(t, err)
	g, err := d.verifier.Token(raw)
	must(t, err)
	e, err := policy.NewEngine(policy.EngineOptions{Now: func() time.Time { return d.now }, Roles: d.roles})
	must(t, err)
	operator := policy.RoleSet(0).With(policy.Operator)
	for i, c := range []struct {
		g    policy.Grant
		a    policy.Action
		want bool
	}{
		{g, policy.IssueTokens, true}, {g.Without(operator), policy.IssueTokens, false}, {g.Without(operator), policy.ReadStatus, true},
		{g.Without(operator).From("eu").Without(operator.With(policy.Support)), policy.ReadStatus, false},
		{g.Without(operator.With(policy.HostRole)), policy.Host, false},
	} {
		if got := e.Decide(c.g, c.a, policy.Resource{}).Allowed(); got != c.want {
			t.Errorf("%d: %v", i, got)
		}
	}
}
