package admin

import (
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/gateway/admin/wire/access"
	"github.com/musenai/musen/policy"
)

// codeOf is the code of a problem, or empty.
func codeOf(err error) string {
	if e, ok := errors.AsType[*client.Error](err); ok {
		return e.Code
	}
	return ""
}

// giveUntil gives a role that ends by itself.
func (w *world) giveUntil(subject string, role policy.Role, station string, until time.Time) {
	w.t.Helper()
	_, err := w.local.GrantRole(w.t.Context(), access.Role{Subject: subject, Role: string(role), Station: station, Until: &until})
	must(w.t, err)
}

// P35: a token ends with the role that it takes to issue it: not with another
// that ends earlier, nor after one that would do as well.
func TestTokenEndsWithTheRole(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	w.station("blues")
	minute := func(n int) time.Time { return w.now().Add(time.Duration(n) * time.Minute).UTC() }
	w.giveUntil("ann", policy.Support, "", minute(1))
	w.giveUntil("ann", policy.Operator, "", minute(10))
	w.giveUntil("ann", policy.Operator, "jazz", minute(20))
	w.giveUntil("ann", policy.Publisher, "blues", minute(30))
	ann := w.remote(w.identity("ann"))
	for _, c := range []struct {
		stations []string
		ttl      int64
		want     time.Time
	}{
		{nil, 3000, minute(10)}, {nil, 60, minute(1)}, {[]string{"jazz"}, 3000, minute(20)},
		{[]string{"blues"}, 3000, minute(10)}, {[]string{"blues", "jazz"}, 3000, minute(10)},
	} {
		made, err := ann.IssueToken(t.Context(), wire.TokenRequest{Subject: "bob", Stations: c.stations, Actions: []string{"listen"}, TTL: c.ttl})
		if err != nil || !made.Expires.Equal(c.want) {
			t.Errorf("on %v for %d s: until %v, %v; want %v", c.stations, c.ttl, made.Expires, err, c.want)
		}
	}
	w.clock.Store(15 * 60)
	_, err := ann.IssueToken(t.Context(), wire.TokenRequest{Subject: "bob", Actions: []string{"listen"}, TTL: 60})
	refused(t, err, 403, "forbidden")
}

// P35, P39: what somebody issued stops with them: while they are suspended or
// ended, and when they lose the role that it took; also what was issued with it
// in turn.
func TestTokenStopsWithItsIssuer(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	w.station("jazz")
	w.give("ann", policy.Operator, "jazz")
	w.give("ann", policy.Support, "")
	w.give("bob", policy.Operator, "jazz")
	listen := wire.TokenRequest{Subject: "eve", Stations: []string{"jazz"}, Actions: []string{"listen"}, TTL: 60}
	first, err := w.remote(w.identity("ann")).IssueToken(ctx, listen)
	must(t, err)
	passed, _, _, err := w.issuer.Token(policy.TokenRequest{
		Subject: "service", Stations: []string{w.stationID("jazz")}, Actions: []policy.Action{policy.IssueTokens, policy.Listen}, TTL: time.Hour,
		By: []policy.Granter{{Subject: "ann", Roles: []policy.RoleAt{{Role: policy.Operator, Station: w.stationID("jazz")}}}},
	})
	must(t, err)
	second, err := w.remote(passed).IssueToken(ctx, listen)
	must(t, err)
	other, err := w.remote(w.identity("bob")).IssueToken(ctx, listen)
	must(t, err)
	good := func(when string, want bool) {
		t.Helper()
		for name, raw := range map[string]string{"issued": first.Token, "issued in turn": second.Token} {
			if _, err := w.verifier.Token(raw); (err == nil) != want {
				t.Errorf("%s: %s: %v", when, name, err)
			}
		}
		if _, err := w.verifier.Token(other.Token); err != nil {
			t.Errorf("%s: of another: %v", when, err)
		}
	}
	good("before", true)
	for _, state := range []string{"limited", "suspended", "ended", "active"} {
		_, err := w.local.SetSubject(ctx, wire.SubjectChange{Subject: "ann", State: state, Reason: "test"})
		must(t, err)
		good(state, state == "limited" || state == "active")
	}
	must(t, w.local.RevokeRole(ctx, access.Role{Subject: "ann", Role: "support"}))
	good("without a role that it did not take", true)
	must(t, w.local.RevokeRole(ctx, access.Role{Subject: "ann", Role: "operator", Station: "jazz"}))
	good("without the role", false)
	w.give("ann", policy.Operator, "")
	good("with the role everywhere", true)
	r, err := w.local.Revoke(ctx, wire.Revocation{IssuedBy: "ann"})
	if err != nil || !r.Known {
		t.Errorf("%+v, %v", r, err)
	}
	good("when all is revoked that she issued", false)
	_, err = w.local.Revoke(ctx, wire.Revocation{Subject: policy.IssuedBy("bob")})
	refused(t, err, 422, "invalid")
	w.clock.Add(2)
	again, err := w.remote(w.identity("ann")).IssueToken(ctx, listen)
	must(t, err)
	if _, err := w.verifier.Token(again.Token); err != nil {
		t.Errorf("issued after that: %v", err)
	}
	all, err := w.local.Tokens(ctx)
	must(t, err)
	for _, token := range all {
		if want := map[string]string{first.ID: "ann", second.ID: "service", other.ID: "bob", again.ID: "ann"}[token.ID]; token.IssuedBy != want {
			t.Errorf("%+v, want issued by %q", token, want)
		}
	}
}

func (w *world) stationID(name string) string {
	w.t.Helper()
	s, err := w.local.Station(w.t.Context(), name)
	must(w.t, err)
	return s.ID
}

// P28, P30: over TCP a token that lets its bearer run anything, and not just
// hear, carry or add audio, needs a second person, who reads what it may do.
func TestTokensThatRunThingsNeedASecondPerson(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	w.give("ann", policy.Operator, "")
	ann := w.remote(w.identity("ann"))
	named := w.remote(w.token(nil, policy.Actions()...))
	for _, a := range policy.Actions() {
		req := wire.TokenRequest{Subject: "bob", Actions: []string{string(a), "listen"}, Stations: []string{"jazz"}, TTL: 60}
		_, err := named.IssueToken(t.Context(), req)
		if want := map[bool]string{true: "", false: "no_identity"}[a.ForUse()]; codeOf(err) != want {
			t.Errorf("%s by who is not known by name: %v", a, err)
		}
		if _, err := w.local.IssueToken(t.Context(), req); err != nil {
			t.Errorf("%s on the socket: %v", a, err)
		}
		_, err = ann.IssueToken(t.Context(), req)
		switch code := codeOf(err); {
		case a == policy.Download || a == policy.ReleaseKey || a == policy.Host: // operators may not themselves
			refused(t, err, 403, "grant_exceeded")
		case a.ForUse() && err != nil || !a.ForUse() && code != "approval_needed":
			t.Errorf("%s: %v", a, err)
		}
	}
	until := w.now().Add(time.Hour).UTC()
	w.giveUntil("sue", policy.Operator, "", until)
	_, err := w.remote(w.identity("sue")).IssueToken(t.Context(), wire.TokenRequest{Subject: "bob", Actions: []string{"manage"}, TTL: 120})
	refused(t, err, 409, "approval_needed")
	list, err := w.local.Approvals(t.Context())
	must(t, err)
	want := `issue a token of 2m0s, but until ` + until.Format(time.RFC3339) + ` at the latest, to "bob", that may manage, everywhere`
	if got := list[len(list)-1].Summary; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// P30: a right that policy gives or takes by the name of a station is passed on
// there, and nowhere else.
func TestRightsByNameArePassedOn(t *testing.T) {
	w := newWorld(t, nil)
	for _, name := range []string{"jazz", "late"} {
		w.station(name)
	}
	must(t, w.server.Engine.Load([]policy.File{{Name: "default.cedar", Text: policy.DefaultPolicies()}, {Name: "late.cedar", Text: []byte(`
@id("late") forbid (principal, action == Action::"listen", resource) when { principal.roles.contains("operator") && resource.name == "late" };
@id("keys") permit (principal, action == Action::"releaseKey", resource) when { principal.roles.contains("operator") && resource.name == "jazz" };`)}}))
	w.give("ann", policy.Operator, "")
	ann := w.remote(w.identity("ann"))
	for _, c := range []struct {
		action   policy.Action
		stations []string
		want     bool
	}{
		{policy.Listen, []string{"jazz"}, true}, {policy.Listen, []string{"late"}, false}, {policy.Listen, []string{"jazz", "late"}, false},
		{policy.Listen, nil, false}, {policy.Add, nil, true},
		{policy.ReleaseKey, []string{"jazz"}, true}, {policy.ReleaseKey, []string{"late"}, false}, {policy.ReleaseKey, nil, false},
	} {
		_, err := ann.IssueToken(t.Context(), wire.TokenRequest{Subject: "bob", Stations: c.stations, Actions: []string{string(c.action)}, TTL: 60})
		if c.want {
			must(t, err)
		} else if codeOf(err) != "grant_exceeded" {
			t.Errorf("%s on %v: %v", c.action, c.stations, err)
		}
	}
}

// P35: a link ends with the role that it takes to make it, and with whoever made
// it.
func TestLinkEndsWithItsMaker(t *testing.T) {
	w := newWorld(t, nil)
	ctx, jazz := t.Context(), w.station("jazz")
	id, err := cid.Decode(w.segment("jazz", "one").CID)
	must(t, err)
	until := w.now().Add(2 * time.Minute).UTC()
	w.giveUntil("ann", policy.Publisher, "jazz", until)
	w.give("ann", policy.Support, "")
	link, err := w.remote(w.identity("ann")).Link(ctx, id, wire.LinkRequest{TTL: 3600})
	if must(t, err); !link.Expires.Equal(until) {
		t.Errorf("until %v, want %v", link.Expires, until)
	}
	short, err := w.remote(w.token([]string{jazz.ID}, policy.ManageShares)).Link(ctx, id, wire.LinkRequest{TTL: 7200})
	if must(t, err); !short.Expires.Equal(w.now().Add(time.Hour).UTC()) {
		t.Errorf("it outlives the token that it was made with: %v", short.Expires)
	}
	path := "/listen/" + id.String()
	_, raw, _ := strings.Cut(link.URL, "?CAT=")
	_, err = w.verifier.Link(raw, "GET", path)
	must(t, err)
	must(t, w.local.RevokeRole(ctx, access.Role{Subject: "ann", Role: "publisher", Station: "jazz"}))
	if _, err = w.verifier.Link(raw, "GET", path); err == nil {
		t.Error("it outlives the role")
	}
}

// P35: what is revoked while a request is under way is not issued any more.
func TestRevokedWhileItIsIssued(t *testing.T) {
	w := newWorld(t, nil)
	w.give("ann", policy.Operator, "")
	service, _, _, err := w.issuer.Token(policy.TokenRequest{
		Subject: "service", Actions: []policy.Action{policy.IssueTokens, policy.Listen}, TTL: time.Hour, By: []policy.Granter{{Subject: "ann"}},
	})
	must(t, err)
	body, rest := io.Pipe()
	req := newRequest(t, http.MethodPost, "http://"+w.tcp+prefix+"/tokens", "")
	req.Body, req.ContentLength = body, -1
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+service)
	answered := make(chan string, 1)
	go func() {
		_, p := w.do(req)
		answered <- p.Code
	}()
	_, err = io.WriteString(rest, `{"subject":"eve",`) // the client sends this with the head; the guard lets it in
	must(t, err)
	for len(w.records("token.issued")) == 0 {
		runtime.Gosched()
	}
	_, err = w.local.Revoke(t.Context(), wire.Revocation{IssuedBy: "ann"})
	must(t, err)
	w.clock.Add(5)
	_, err = io.WriteString(rest, `"actions":["listen"],"ttl":60}`)
	must(t, err)
	rest.Close()
	if code := <-answered; code != "credential_revoked" {
		t.Errorf("answered with %q", code)
	}
	_, err = w.local.Revoke(t.Context(), wire.Revocation{IssuedBy: "local"})
	refused(t, err, 422, "invalid")
}
