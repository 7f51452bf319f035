package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/gateway/admin/wire/access"
	"github.com/musenai/musen/policy"
	"github.com/musenai/musen/policy/folder"
)

var _ Approvals = (*memory)(nil)

func (m *memory) PutApproval(_ context.Context, a musen.Approval) (musen.Approval, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range m.approvals {
		if b.Subject == a.Subject && string(b.Digest) == string(a.Digest) && b.State == musen.Pending {
			return b, nil
		}
	}
	m.approvals = append(m.approvals, a)
	return a, nil
}

func (m *memory) Approval(_ context.Context, id string) (musen.Approval, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.IndexFunc(m.approvals, func(a musen.Approval) bool { return a.ID == id }); i >= 0 {
		return m.approvals[i], nil
	}
	return musen.Approval{}, musen.ErrNotFound
}

func (m *memory) Approvals(context.Context) ([]musen.Approval, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.approvals), nil
}

func (m *memory) move(id string, from musen.ApprovalState, to musen.Approval) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, a := range m.approvals {
		if a.ID == id && a.State == from && m.now().Before(a.Expires) {
			if a.State = to.State; to.Decider != "" {
				a.Decider, a.By, a.Token, a.Decided = to.Decider, to.By, to.Token, m.now()
			}
			m.approvals[i] = a
			return nil
		}
	}
	return musen.ErrDecided
}

func (m *memory) DecideApproval(_ context.Context, a musen.Approval) error {
	return m.move(a.ID, musen.Pending, a)
}

func (m *memory) UseApproval(_ context.Context, id string) error {
	return m.move(id, musen.Approved, musen.Approval{State: musen.Used})
}

// ask sends a request over TCP with a token and an approval.
func (w *world) ask(method, path, body, token, approval string) (status int, code, given string) {
	w.t.Helper()
	req := newRequest(w.t, method, "http://"+w.tcp+prefix+path, body)
	req.Header.Set("Authorization", "Bearer "+token)
	if approval != "" {
		req.Header.Set(approvalHeader, approval)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	must(w.t, err)
	defer resp.Body.Close()
	var p struct{ Code string }
	if resp.StatusCode >= 400 {
		must(w.t, json.NewDecoder(resp.Body).Decode(&p))
	}
	return resp.StatusCode, p.Code, resp.Header.Get(approvalHeader)
}

// P28, P36: what cannot be undone needs a second person on TCP: somebody else,
// known by name, with the permission, for just that request, once, in time.
func TestSecondPerson(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	w.station("jazz")
	id := w.segment("jazz", "one").CID
	other := w.segment("jazz", "two").CID
	for subject, role := range map[string]policy.Role{"ann": policy.Operator, "bob": policy.Operator, "sue": policy.Support} {
		w.give(subject, role, "")
	}
	ann, bob, sue := w.identity("ann"), w.identity("bob"), w.identity("sue")
	named := w.token(nil, policy.Manage) // of ann too, by another token
	path := "/segments/" + id
	expect := func(what string, status int, code string, gotStatus int, gotCode string) {
		t.Helper()
		if gotStatus != status || gotCode != code {
			t.Errorf("%s: %d %s, want %d %s", what, gotStatus, gotCode, status, code)
		}
	}
	status, code, approval := w.ask("DELETE", path, "", ann, "")
	expect("alone", 409, "approval_needed", status, code)
	status, code, again := w.ask("DELETE", path, "", ann, "")
	if expect("alone, again", 409, "approval_needed", status, code); again != approval || approval == "" {
		t.Errorf("approvals %q and %q", approval, again)
	}
	status, code, _ = w.ask("DELETE", path, "", ann, approval)
	expect("not approved yet", 409, "approval_refused", status, code)
	for what, c := range map[string]struct {
		token, code string
		status      int
	}{"oneself": {ann, "own_request", 403}, "oneself by another token": {named, "own_request", 403}, "without the permission": {sue, "not_found", 404}} {
		status, code, _ = w.ask("POST", "/approvals/"+approval+"/approve", "", c.token, "")
		expect("approved by "+what, c.status, c.code, status, code)
	}
	raw, _, _, err := w.issuer.Token(policy.TokenRequest{Subject: "eve", Actions: []policy.Action{policy.Manage}, TTL: time.Hour})
	must(t, err)
	status, code, _ = w.ask("POST", "/approvals/"+approval+"/approve", "", raw, "")
	expect("approved by who is not known by name", 403, "no_identity", status, code)
	status, code, _ = w.ask("POST", "/approvals/"+approval+"/approve", "", bob, "")
	expect("approved by bob", 200, "", status, code)
	status, code, _ = w.ask("POST", "/approvals/"+approval+"/deny", "", bob, "")
	expect("decided again", 409, "not_pending", status, code)
	for what, c := range map[string][3]string{
		"another segment": {"DELETE", "/segments/" + other, ann}, "another spelling": {"DELETE", path + "?", ann},
		"another sender": {"DELETE", path, bob}, "another request": {"DELETE", "/stations/jazz", ann},
	} {
		status, code, _ = w.ask(c[0], c[1], "", c[2], approval)
		if status != 409 || code != "approval_refused" {
			t.Errorf("with the approval for %s: %d %s", what, status, code)
		}
	}
	status, code, _ = w.ask("DELETE", path, "", ann, approval)
	expect("approved", 204, "", status, code)
	status, code, _ = w.ask("DELETE", path, "", ann, approval)
	expect("the same again", 410, "gone", status, code)
	list, err := w.local.Approvals(ctx)
	if err != nil || len(list) != 1 || list[0].State != "used" || list[0].Decider != "bob" || list[0].Subject != "ann" || list[0].Request != "DELETE /api/v1"+path {
		t.Errorf("%+v, %v", list, err)
	}

	_, _, late := w.ask("DELETE", "/segments/"+other, "", ann, "") // one that is approved by the operator, and too late
	_, err = w.local.Approve(ctx, late)
	must(t, err)
	w.clock.Add(3600)
	status, code, _ = w.ask("DELETE", "/segments/"+other, "", ann, late)
	expect("late", 401, "credential_expired", status, code)
	ann = w.identity("ann")
	status, code, _ = w.ask("DELETE", "/segments/"+other, "", ann, late)
	expect("late, with a new token", 409, "approval_refused", status, code)
	_, _, denied := w.ask("DELETE", "/segments/"+other, "", ann, "")
	_, err = w.local.Deny(ctx, denied)
	must(t, err)
	status, code, _ = w.ask("DELETE", "/segments/"+other, "", ann, denied)
	expect("denied", 409, "approval_refused", status, code)
}

// P28, P38: nobody is their own second person under another name, by a token
// that whoever may issue tokens can make.
func TestAliasIsNoSecondPerson(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	id := w.segment("jazz", "one").CID
	w.give("ann", policy.Operator, "")
	alias, err := w.local.IssueToken(t.Context(), wire.TokenRequest{Subject: "zed", Actions: []string{"manage"}, TTL: 60})
	must(t, err)
	status, code, approval := w.ask("DELETE", "/segments/"+id, "", alias.Token, "")
	if status != 403 || code != "no_identity" || approval != "" {
		t.Errorf("%d %s, approval %q", status, code, approval)
	}
}

// P28: a second factor of the last ten minutes is enough; an older one is not.
func TestSecondFactor(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	w.give("ann", policy.Operator, "")
	for ago, want := range map[time.Duration]int{0: 204, 10 * time.Minute: 204, 10*time.Minute + time.Second: 409} {
		id := w.segment("jazz", fmt.Sprint(ago)).CID
		raw, _, _, err := w.issuer.Token(policy.TokenRequest{Subject: "ann", TTL: time.Hour, Identity: true, SecondFactor: w.now().Add(-ago)})
		must(t, err)
		if status, code, _ := w.ask("DELETE", "/segments/"+id, "", raw, ""); status != want {
			t.Errorf("%v ago: %d %s", ago, status, code)
		}
	}
}

// P36: an approval is for the station that the second person read of, whatever
// another is called by then.
func TestApprovalKeepsToItsStation(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	jazz, junk := w.station("jazz"), w.station("junk")
	w.give("ann", policy.Operator, "")
	ann := w.identity("ann")
	role := `{"subject":"sue","role":"support","station":"junk"}`
	token := `{"subject":"sue","actions":["listen"],"stations":["junk"],"roles":true,"ttl":60}`
	asks := [][3]string{{"DELETE", "/stations/junk?force=true", ""}, {"PUT", "/roles", role}, {"POST", "/tokens", token}}
	given := make([]string, len(asks))
	for i, a := range asks {
		var status int
		if status, _, given[i] = w.ask(a[0], a[1], a[2], ann, ""); status != 409 {
			t.Fatalf("%s %s: %d", a[0], a[1], status)
		}
		_, err := w.local.Approve(ctx, given[i])
		must(t, err)
	}
	for _, s := range [][2]string{{junk.ID, "gone"}, {jazz.ID, "junk"}} {
		_, err := w.local.ChangeStation(ctx, s[0], wire.StationChange{Name: &s[1]})
		must(t, err)
	}
	for i, a := range asks {
		if status, code, _ := w.ask(a[0], a[1], a[2], ann, given[i]); status != 409 || code != "approval_refused" {
			t.Errorf("%s %s on another station of that name: %d %s", a[0], a[1], status, code)
		}
	}
	if _, err := w.local.Station(ctx, jazz.ID); err != nil {
		t.Error(err)
	}
}

// P28, P36: every request that cannot be undone, or changes who may do what,
// waits, and the second person reads all that it would do.
func TestApprovalSaysWhatItIsFor(t *testing.T) {
	w := newWorld(t, nil)
	jazz := w.station("jazz")
	id := w.segment("jazz", "one").CID
	w.give("ann", policy.Operator, "")
	ann := w.identity("ann")
	until := w.now().Add(time.Hour).UTC().Format(time.RFC3339)
	on := fmt.Sprintf("on station %q (%s)", "jazz", jazz.ID)
	for _, c := range []struct{ method, path, body, want string }{
		{"DELETE", "/stations/jazz", "", fmt.Sprintf("remove station %q (%s)", "jazz", jazz.ID)},
		{"DELETE", "/stations/jazz?force=true", "", fmt.Sprintf("remove station %q (%s) with all its segments", "jazz", jazz.ID)},
		{"DELETE", "/segments/" + id, "", "remove segment " + id + " " + on},
		{"PUT", "/roles", `{"subject":"mallory","role":"operator","until":"` + until + `"}`, `give role operator everywhere to "mallory" until ` + until},
		{"PUT", "/roles", `{"subject":"sue","role":"support","station":"jazz"}`, `give role support ` + on + ` to "sue"`},
		{"POST", "/tokens", `{"subject":"bob","actions":[],"ttl":60,"\u0072oles":true}`, `issue a token of 1m0s to "bob", with the roles of that subject`},
		{"POST", "/tokens", `{"subject":"bob","actions":["listen","add"],"stations":["jazz"],"ttl":60,"roles":true}`,
			`issue a token of 1m0s to "bob", with the roles of that subject, that may listen add, ` + on},
		{"POST", "/tokens", `{"subject":"bob","actions":["listen"],"ttl":60,"roles":true}`,
			`issue a token of 1m0s to "bob", with the roles of that subject, that may listen, everywhere`},
		{"POST", "/keys/rotate", `{"kind":"token"}`, "rotate the key of kind token"},
		{"POST", "/policy/reload", "", fmt.Sprintf(`load the policies ["default.cedar"], SHA-256 %s`, w.server.Policies.State().Digest)},
	} {
		status, code, given := w.ask(c.method, c.path, c.body, ann, "")
		if status != 409 {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, code)
			continue
		}
		list, err := w.local.Approvals(t.Context())
		must(t, err)
		if i := slices.IndexFunc(list, func(a access.Approval) bool { return a.ID == given }); i < 0 || list[i].Summary != c.want {
			t.Errorf("%s %s %s: %+v, want %q", c.method, c.path, c.body, list, c.want)
		}
	}
}

// P28, P35, P38: an approval is worth no more than who gave it is when it is
// used: not suspended, not revoked since, with the permission still. The
// operator on the socket stays, and nobody else is called so.
func TestApprovalEndsWithWhoGaveIt(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	w.station("jazz")
	w.give("ann", policy.Operator, "")
	w.give("sue", policy.Security, "")
	ann := w.identity("ann")
	set := func(subject, state string) error {
		_, err := w.local.SetSubject(ctx, wire.SubjectChange{Subject: subject, State: state, Reason: "test"})
		return err
	}
	revoke := func(r wire.Revocation) error {
		_, err := w.local.Revoke(ctx, r)
		return err
	}
	var token string // of who approves
	for what, c := range map[string]struct {
		leave func(bob string) error
		want  int
	}{
		"nothing":            {func(string) error { return nil }, 204},
		"suspended":          {func(bob string) error { return set(bob, "suspended") }, 409},
		"ended":              {func(bob string) error { return set(bob, "ended") }, 409},
		"limited":            {func(bob string) error { return set(bob, "limited") }, 204},
		"subject revoked":    {func(bob string) error { return revoke(wire.Revocation{Subject: bob}) }, 409},
		"token revoked":      {func(string) error { return revoke(wire.Revocation{ID: token}) }, 409},
		"issuer of token":    {func(string) error { return set("sue", "suspended") }, 409},
		"role taken":         {func(bob string) error { return w.local.RevokeRole(ctx, access.Role{Subject: bob, Role: "operator"}) }, 409},
		"another role taken": {func(bob string) error { return w.local.RevokeRole(ctx, access.Role{Subject: bob, Role: "support"}) }, 204},
	} {
		path, bob := "/segments/"+w.segment("jazz", what).CID, "bob, "+what
		bob = strings.ReplaceAll(strings.ReplaceAll(bob, " ", ""), ",", "-")
		w.give(bob, policy.Operator, "")
		w.give(bob, policy.Support, "")
		raw, jti, _, err := w.issuer.Token(policy.TokenRequest{Subject: bob, TTL: time.Hour, Identity: true, By: []policy.Granter{{Subject: "sue"}}})
		must(t, err)
		token = jti
		_, _, given := w.ask("DELETE", path, "", ann, "")
		if status, code, _ := w.ask("POST", "/approvals/"+given+"/approve", "", raw, ""); status != 200 {
			t.Fatalf("%s: %d %s", what, status, code)
		}
		must(t, c.leave(bob))
		if status, code, _ := w.ask("DELETE", path, "", ann, given); status != c.want {
			t.Errorf("%s: %d %s, want %d", what, status, code, c.want)
		}
		must(t, set("sue", "active"))
	}
}

// P30: who may approve is decided with the name of the station, as what is
// approved is.
func TestApproverByNameOfStation(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	must(t, w.server.Engine.Load([]policy.File{{Name: "default.cedar", Text: policy.DefaultPolicies()}, {Name: "jazz.cedar", Text: []byte(
		`@id("jazz") permit (principal, action in Action::"manageSegments", resource) when { principal.roles.contains("moderator") && resource has name && resource.name == "jazz" };`)}}))
	w.give("ann", policy.Operator, "")
	w.give("bob", policy.Moderator, "")
	_, _, given := w.ask("DELETE", "/segments/"+w.segment("jazz", "one").CID, "", w.identity("ann"), "")
	if status, code, _ := w.ask("POST", "/approvals/"+given+"/approve", "", w.identity("bob"), ""); status != 200 {
		t.Errorf("%d %s", status, code)
	}
}

// P28, P64: the second person reads which policies are loaded, and what is laid
// there afterwards is not approved.
func TestApprovalOfPoliciesIsForThese(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, func(o *Options) {
		o.Policies = folder.New(folder.Options{Place: folder.Place{Dir: dir}, Engine: o.Engine, Now: o.Now, Log: o.Log})
	})
	w.give("ann", policy.Security, "")
	ann := w.identity("ann")
	write := func(name, text string) {
		t.Helper()
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	approved := func() string {
		t.Helper()
		_, code, given := w.ask("POST", "/policy/reload", "", ann, "")
		if code != "approval_needed" {
			t.Fatal(code)
		}
		_, err := w.local.Approve(t.Context(), given)
		must(t, err)
		return given
	}
	write("a.cedar", string(policy.DefaultPolicies()))
	given := approved()
	next, err := w.server.Policies.Next()
	must(t, err)
	list, err := w.local.Approvals(t.Context())
	must(t, err)
	if want := fmt.Sprintf(`load the policies ["a.cedar"], SHA-256 %s`, next.Digest); list[0].Summary != want {
		t.Errorf("%q, want %q", list[0].Summary, want)
	}
	write("b.cedar", `@id("all") permit (principal, action, resource);`)
	if status, code, _ := w.ask("POST", "/policy/reload", "", ann, given); status != 409 || code != "approval_refused" {
		t.Errorf("with what was laid there later: %d %s", status, code)
	}
	if status, code, _ := w.ask("POST", "/policy/reload", "", ann, approved()); status != 200 {
		t.Errorf("%d %s", status, code)
	}
	if st := w.server.Policies.State(); len(st.Files) != 2 {
		t.Errorf("%+v", st)
	}
}
