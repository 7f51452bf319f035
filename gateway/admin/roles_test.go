package admin

import (
	"context"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/gateway/admin/wire/access"
	"github.com/musenai/musen/policy"
)

var (
	_ Roles        = (*memory)(nil)
	_ policy.Roles = (*memory)(nil)
)

func (m *memory) GrantRole(_ context.Context, a musen.Assignment) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roles = append(m.roles, a)
	return nil
}

func (m *memory) RevokeRole(_ context.Context, a musen.Assignment) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.roles)
	m.roles = slices.DeleteFunc(m.roles, func(b musen.Assignment) bool {
		return b.Subject == a.Subject && b.Role == a.Role && b.Station == a.Station
	})
	if len(m.roles) == n {
		return musen.ErrNotFound
	}
	return nil
}

func (m *memory) Assignments(context.Context) ([]musen.Assignment, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.roles), nil
}

func (m *memory) Held(subject, station string, at time.Time) (held policy.RoleSet) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.roles {
		if a.Subject == subject && (a.Station == "" || a.Station == station) && (a.Until.IsZero() || at.Before(a.Until)) {
			held = held.With(a.Role)
		}
	}
	return held
}

// identity is a token that carries the roles of its subject, and names nothing.
func (w *world) identity(subject string) string {
	w.t.Helper()
	raw, _, _, err := w.issuer.Token(policy.TokenRequest{Subject: subject, TTL: time.Hour, Identity: true})
	must(w.t, err)
	return raw
}

// give gives a role everywhere, or on a station.
func (w *world) give(subject string, role policy.Role, station string) {
	w.t.Helper()
	_, err := w.local.GrantRole(w.t.Context(), access.Role{Subject: subject, Role: string(role), Station: station})
	must(w.t, err)
}

// documented is which permission each role has, by the table in the manual.
func documented(t *testing.T) map[policy.Action][]policy.Role {
	t.Helper()
	text, err := os.ReadFile("../../docs/operating.md")
	must(t, err)
	table := map[policy.Action][]policy.Role{}
	var head []string
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case cells[0] == "permission":
			head = cells
		case len(cells) == len(head) && strings.HasPrefix(cells[0], "`"):
			action := policy.Action(strings.Trim(cells[0], "`"))
			table[action] = nil
			for i, cell := range cells[2:] {
				if cell == "yes" {
					table[action] = append(table[action], policy.Role(head[i+2]))
				}
			}
		case strings.HasPrefix(line, "#"):
			head = nil
		}
	}
	return table
}

// routeOf is the row of the table that a probe meets.
func routeOf(t *testing.T, p probe) route {
	t.Helper()
	path, _, _ := strings.Cut(p.path, "?")
	parts := strings.Split(path, "/")
	best, literal := route{}, -1
	for _, r := range routes() {
		pattern := strings.Split(r.path, "/")
		if r.method != p.method || len(pattern) != len(parts) {
			continue
		}
		same := 0
		for i := range parts {
			if pattern[i] == parts[i] {
				same++
			} else if !strings.HasPrefix(pattern[i], ":") {
				same = -1
				break
			}
		}
		if same > literal {
			best, literal = r, same
		}
	}
	if literal < 0 {
		t.Fatalf("no route for %s %s", p.method, p.path)
	}
	return best
}

// P30, P31, P32: who holds a role, and nothing else, may do on every route what
// the manual says, and no more.
func TestRolesOnRoutes(t *testing.T) {
	w := newWorld(t, nil)
	table := documented(t)
	jazz := w.station("jazz")
	id := w.segment("jazz", "one").CID
	share, err := w.local.CreateShare(t.Context(), "jazz", wire.NewShare{})
	must(t, err)
	taken := w.takenDown(jazz.ID)
	actions := []policy.Action{policy.Listen}
	for _, role := range policy.AllRoles() {
		subject := "service:" + string(role)
		w.give(subject, role, "")
		token := w.identity(subject)
		for _, p := range probes(id, jazz.ID, share.ID, taken, actions) {
			w.clock.Add(1) // else it is refused too often
			r := routeOf(t, p)
			want := slices.Equal(p.allowed, actions) // what any valid credential may
			for _, a := range r.need {
				roles, ok := table[a]
				if !ok {
					t.Fatalf("the manual has no row for %q", a)
				}
				want = want || slices.Contains(roles, role)
			}
			req := newRequest(t, p.method, "http://"+w.tcp+prefix+p.path, strings.ReplaceAll(p.body, "%s", "x-"+string(role)))
			req.Header.Set("Authorization", "Bearer "+token)
			status, problem := w.do(req)
			if got := status != 403 && status != 404; got != want {
				t.Errorf("%s: %s %s: %d %s, want allowed %v", role, p.method, p.path, status, problem.Code, want)
			}
		}
	}
}

// P35: a role bites from the next request on, when it is given and when it is
// taken, with the same token.
func TestRoleIsTakenAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	w.station("rock")
	ann := w.remote(w.identity("ann"))
	ctx := t.Context()
	see := func(station, code string) {
		t.Helper()
		_, err := ann.Station(ctx, station)
		if code == "" {
			must(t, err)
		} else {
			refused(t, err, 404, code)
		}
	}
	see("jazz", "not_found")
	w.give("ann", policy.Support, "jazz")
	see("jazz", "")
	see("rock", "not_found")
	_, err := ann.ChangeStation(ctx, "jazz", wire.StationChange{})
	refused(t, err, 403, "forbidden")
	all, err := w.local.Roles(ctx)
	if err != nil || len(all) != 1 || all[0].Station != "jazz" || all[0].Actor != "local" || all[0].Granted == nil {
		t.Errorf("roles %+v, %v", all, err)
	}
	must(t, w.local.RevokeRole(ctx, access.Role{Subject: "ann", Role: "support", Station: "jazz"}))
	see("jazz", "not_found")
	refused(t, w.local.RevokeRole(ctx, access.Role{Subject: "ann", Role: "support", Station: "jazz"}), 404, "not_found")
	until := w.now().Add(time.Minute)
	_, err = w.local.GrantRole(ctx, access.Role{Subject: "ann", Role: "support", Until: &until})
	must(t, err)
	see("rock", "")
	w.clock.Store(60)
	see("rock", "not_found")
}

// P38: a role is given to one identity, by somebody else.
func TestRolesAreForOne(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	for _, subject := range []string{"local", "", "share:abc", "anonymous-abc", "*", "ann,bob", "ann bob", strings.Repeat("x", 300)} {
		_, err := w.local.GrantRole(ctx, access.Role{Subject: subject, Role: "support"})
		refused(t, err, 422, "invalid")
	}
	past := w.now().Add(-time.Second)
	for _, r := range []access.Role{{Subject: "ann", Role: "king"}, {Subject: "ann", Role: "support", Until: &past}} {
		_, err := w.local.GrantRole(ctx, r)
		refused(t, err, 422, "invalid")
	}
	_, err := w.local.GrantRole(ctx, access.Role{Subject: "ann", Role: "support", Station: "nowhere"})
	refused(t, err, 404, "not_found")
}

// Nobody gets at roles by having a token made: who may issue tokens may not
// issue one that carries the roles of another.
func TestTokensThatCarryRoles(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	jazz := w.station("jazz")
	w.give("ann", policy.Operator, "")
	w.give("eve", policy.Publisher, "jazz")
	issuer := w.remote(w.token(nil, policy.IssueTokens))
	_, err := issuer.IssueToken(ctx, wire.TokenRequest{Subject: "ann", Roles: true, Actions: []string{}})
	refused(t, err, 403, "grant_exceeded")
	_, err = issuer.IssueToken(ctx, wire.TokenRequest{Subject: "ann", Actions: []string{"issueTokens"}, TTL: 60})
	refused(t, err, 403, "no_identity")
	plain, err := w.local.IssueToken(ctx, wire.TokenRequest{Subject: "ann", Actions: []string{"issueTokens"}, TTL: 60})
	must(t, err)
	_, err = w.remote(plain.Token).Status(ctx)
	refused(t, err, 403, "forbidden")

	_, err = w.local.IssueToken(ctx, wire.TokenRequest{Subject: "ann", Roles: true, Stations: []string{"jazz"}, Actions: []string{}})
	refused(t, err, 422, "invalid")
	made, err := w.local.IssueToken(ctx, wire.TokenRequest{Subject: "ann", Roles: true, Actions: []string{}})
	must(t, err)
	operator := w.remote(made.Token)
	_, err = operator.Status(ctx)
	must(t, err)
	// What a role is worth can be passed on, as far as it reaches.
	_, err = operator.IssueToken(ctx, wire.TokenRequest{Subject: "bob", Actions: []string{"listen", "manage"}, TTL: 60})
	refused(t, err, 409, "approval_needed")
	_, err = operator.IssueToken(ctx, wire.TokenRequest{Subject: "bob", Stations: []string{"jazz"}, Actions: []string{"releaseKey"}, TTL: 60})
	refused(t, err, 403, "grant_exceeded")
	tokens, err := w.local.Tokens(ctx)
	if err != nil || !slices.ContainsFunc(tokens, func(t wire.Token) bool { return t.ID == made.ID && t.Roles && len(t.Actions) == 0 }) {
		t.Errorf("tokens %+v, %v", tokens, err)
	}
	_ = jazz
}

// H10: the credentials of listeners open no route of the API.
func TestListenersCredentialsOpenNothing(t *testing.T) {
	w := newWorld(t, nil)
	jazz := w.station("jazz")
	id := w.segment("jazz", "one").CID
	share, err := w.local.CreateShare(t.Context(), "jazz", wire.NewShare{})
	must(t, err)
	_, secret, _ := strings.Cut(share.URL, "/s/")
	link, _, err := w.issuer.Link(policy.LinkRequest{Station: jazz.ID, Epoch: 1, Path: "/listen/" + id, Download: true})
	must(t, err)
	listener := w.token(nil, policy.Listen, policy.Download)
	for _, p := range probes(id, jazz.ID, share.ID, w.takenDown(jazz.ID), nil) {
		if p.path == "/openapi.yaml" || p.method == "GET" && (p.path == "/stations" || p.path == "/takedowns") || p.path == "/shares" || p.path == "/reports" || strings.HasPrefix(p.path, "/approvals") {
			continue // what any token may see: the description, and the list of what it may use
		}
		for name, header := range map[string][2]string{
			"link as bearer": {"Authorization", "Bearer " + link}, "link": {"CTA-Common-Access-Token", link},
			"link as cookie": {"Cookie", "CTA-Common-Access-Token=" + link}, "share as bearer": {"Authorization", "Bearer " + secret},
			"session cookie": {"Cookie", "__Host-musen=" + secret}, "listener's token": {"Authorization", "Bearer " + listener},
		} {
			req := newRequest(t, p.method, "http://"+w.tcp+prefix+p.path, strings.ReplaceAll(p.body, "%s", "x"))
			req.Header.Set(header[0], header[1])
			if status, problem := w.do(req); status != http.StatusUnauthorized && status != http.StatusForbidden {
				t.Errorf("%s: %s %s: %d %s", name, p.method, p.path, status, problem.Code)
			}
		}
	}
}

// P32: what a token names on its stations is not passed on to one where its
// bearer holds a role alone.
func TestActionsArePassedOnWhereTheyAreHeld(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	jazz, blues := w.station("jazz"), w.station("blues")
	raw, _, _, err := w.issuer.Token(policy.TokenRequest{
		Subject: "ann", Stations: []string{jazz.ID}, Actions: []policy.Action{policy.Download, policy.IssueTokens}, TTL: time.Hour, Identity: true,
	})
	must(t, err)
	w.give("ann", policy.Operator, "blues")
	ann := w.remote(raw)
	for _, c := range []struct {
		station, action string
		want            bool
	}{
		{jazz.Name, "download", true}, {blues.Name, "listen", true}, {blues.Name, "manage", true},
		{blues.Name, "download", false}, {jazz.Name, "listen", false}, {jazz.Name, "manage", false},
	} {
		_, err := ann.IssueToken(ctx, wire.TokenRequest{Subject: "bob", Stations: []string{c.station}, Actions: []string{c.action}, TTL: 60})
		if refused := codeOf(err) == "grant_exceeded"; refused == c.want || c.action != "manage" && (err == nil) != c.want {
			t.Errorf("%s of %s: %v", c.action, c.station, err)
		}
	}
	if _, err := ann.IssueToken(ctx, wire.TokenRequest{Subject: "bob", Stations: []string{"blues", "jazz"}, Actions: []string{"download"}, TTL: 60}); err == nil {
		t.Error("a token for both stations saves segments of both")
	}
}
