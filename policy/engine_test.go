package policy_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen/policy"
)

func everyAction() []policy.Action {
	return []policy.Action{
		policy.Listen, policy.Download, policy.ReleaseKey, policy.Add,
		policy.Manage, policy.Moderate, policy.Audit, policy.Host,
	}
}

// Each action is allowed by its own word, on the stations that are named, on
// the things that it can be done with, to those who can do it.
func TestDefaultPolicies(t *testing.T) {
	w := newWorld(t)
	things := map[string]policy.Resource{
		"node":    {},
		"station": {Station: jazz, Downloads: true, Epoch: 3},
		"segment": {Station: jazz, Downloads: true, Epoch: 3, Segment: "s"},
	}
	on := map[policy.Action][]string{
		policy.Listen: {"station", "segment"}, policy.Download: {"station", "segment"},
		policy.ReleaseKey: {"segment"}, policy.Add: {"station"}, policy.Host: {"station", "segment"},
		policy.Manage: {"node", "station", "segment"}, policy.Moderate: {"node", "station", "segment"},
		policy.Audit: {"node", "station", "segment"},
	}
	for _, subject := range []string{"alice", "service:ingest", "host:peer-1"} {
		for _, granted := range everyAction() {
			jazzOnly := w.grant(t, subject, jazz, granted)
			bluesOnly := w.grant(t, subject, blues, granted)
			everywhere := w.grant(t, subject, "", granted)
			for _, asked := range everyAction() {
				for thing, r := range things {
					can := granted == asked && slices.Contains(on[asked], thing) &&
						(asked == policy.Host || !strings.HasPrefix(subject, "host:"))
					check(t, w.engine.Decide(jazzOnly, asked, r), can && thing != "node", subject+" jazz", thing)
					check(t, w.engine.Decide(bluesOnly, asked, r), false, subject+" blues", thing)
					check(t, w.engine.Decide(everywhere, asked, r), can, subject+" everywhere", thing)
				}
			}
		}
	}
}

func check(t *testing.T, d policy.Decision, want bool, who, thing string) {
	t.Helper()
	if d.Allowed() != want {
		t.Errorf("%s: %s of the %s: allowed is %v (%s %v)", who, d.Action(), thing, d.Allowed(), d.Reason(), d.Policies())
	}
	if d.Allowed() && (d.Reason() != "allowed" || len(d.Policies()) == 0) {
		t.Errorf("%s: allowed without saying why: %s %v", who, d.Reason(), d.Policies())
	}
	if !d.Allowed() && d.ReleasesKey(jazz, "s") {
		t.Errorf("%s: a denial releases a key", who)
	}
}

func TestDecisionSaysWhy(t *testing.T) {
	w := newWorld(t)
	operator := policy.LocalOperator()
	listener := w.grant(t, "alice", jazz, policy.Listen, policy.Download)
	link := w.linkGrant(t, nil)
	host := w.grant(t, "host:peer-1", jazz, policy.Listen, policy.Host)
	open := policy.Resource{Station: jazz, Downloads: true, Epoch: 3, Segment: "s"}
	closed, later := open, open
	closed.Downloads = false
	later.Epoch = 4
	cases := []struct {
		name     string
		grant    policy.Grant
		action   policy.Action
		resource policy.Resource
		reason   string
		policies []string
	}{
		{"operator manages", operator, policy.Manage, policy.Resource{}, "allowed", []string{"manage"}},
		{"operator listens", operator, policy.Listen, open, "allowed", []string{"listen"}},
		{"operator saves", operator, policy.Download, closed, "forbidden", []string{"downloads-off"}},
		{"listener listens", listener, policy.Listen, open, "allowed", []string{"listen"}},
		{"listener saves", listener, policy.Download, open, "allowed", []string{"download"}},
		{"listener saves where it is off", listener, policy.Download, closed, "forbidden", []string{"downloads-off"}},
		{"listener manages", listener, policy.Manage, open, "no_policy", nil},
		{"link listens", link, policy.Listen, open, "allowed", []string{"listen"}},
		{"link of another epoch", link, policy.Listen, later, "forbidden", []string{"link-of-another-epoch"}},
		{"link manages", link, policy.Manage, open, "not_applicable", nil},
		{"host listens", host, policy.Listen, open, "not_applicable", nil},
		{"nobody", policy.Grant{}, policy.Listen, open, "no_grant", nil},
		{"unknown action", operator, "fly", open, "not_applicable", nil},
	}
	for _, c := range cases {
		for range 2 { // decided, then remembered
			d := w.engine.Decide(c.grant, c.action, c.resource)
			if d.Reason() != c.reason || !slices.Equal(d.Policies(), c.policies) {
				t.Errorf("%s: %s %v, want %s %v", c.name, d.Reason(), d.Policies(), c.reason, c.policies)
			}
		}
	}
}

// A segment is heard between the moments of its publication and its end; who
// manages or audits it sees it always.
func TestEmbargoAndExpiry(t *testing.T) {
	w := newWorld(t)
	g := policy.LocalOperator()
	start := w.now
	r := policy.Resource{
		Station: jazz, Downloads: true, Segment: "s",
		PublishAt: start.Add(time.Hour), ExpiresAt: start.Add(2 * time.Hour),
	}
	for _, c := range []struct {
		at     time.Duration
		reason string
	}{
		{0, "not_published"},
		{time.Hour - 1, "not_published"},
		{time.Hour, "allowed"},
		{2*time.Hour - 1, "allowed"},
		{2 * time.Hour, policy.ReasonExpired},
		{0, "not_published"}, // the clock is asked every time
	} {
		w.now = start.Add(c.at)
		for _, a := range everyAction() {
			want := c.reason
			if a != policy.Listen && a != policy.Download && a != policy.ReleaseKey {
				want = "allowed"
			}
			if a == policy.Add {
				want = "not_applicable"
			}
			d := w.engine.Decide(g, a, r)
			if d.Reason() != want || d.Allowed() != (want == "allowed") {
				t.Errorf("%s after %v: %s, want %s", a, c.at, d.Reason(), want)
			}
		}
	}
}

// Who is not allowed to hear a segment does not learn that its time is over.
func TestExpiryIsNotToldToOthers(t *testing.T) {
	w := newWorld(t)
	r := policy.Resource{Station: blues, Segment: "s", ExpiresAt: w.now.Add(-time.Hour)}
	if d := w.engine.Decide(w.grant(t, "alice", jazz, policy.Listen), policy.Listen, r); d.Reason() == policy.ReasonExpired {
		t.Error("told to somebody without a grant for the station")
	}
}

// What is remembered for one question is not given to another.
func TestRememberedDecisionsDoNotMix(t *testing.T) {
	w := newWorld(t)
	r := policy.Resource{Station: jazz, Downloads: true, Epoch: 3, Segment: "s"}
	g := w.grant(t, "alice", jazz, policy.Listen, policy.Download)
	check(t, w.engine.Decide(g, policy.Download, r), true, "alice", "segment")
	r.Downloads = false
	check(t, w.engine.Decide(g, policy.Download, r), false, "alice", "segment, downloads off")
	check(t, w.engine.Decide(g, policy.Listen, r), true, "alice", "segment")
	r.Station = blues
	check(t, w.engine.Decide(g, policy.Listen, r), false, "alice", "segment of blues")
	// A token with the same jti and subject, but fewer rights, is another one.
	weak := w.forge(toJSON(w.header()), toJSON(with(w.claims(), map[string]any{"scope": "host"})))
	strong := w.forge(toJSON(w.header()), toJSON(w.claims()))
	for _, c := range []struct {
		raw  string
		want bool
	}{{strong, true}, {weak, false}, {strong, true}} {
		g, err := w.verifier.Token(c.raw)
		must(t, err)
		r := policy.Resource{Station: jazz, Segment: "s"}
		check(t, w.engine.Decide(g, policy.Listen, r), c.want, "same jti", "segment")
	}
}

// P31: no policies lock the owner of the node out of administering it, and all
// of them bind the owner where a key is released.
func TestPoliciesAndTheLocalOperator(t *testing.T) {
	w := newWorld(t)
	local, host := policy.LocalOperator(), w.grant(t, "alice", jazz, everyAction()...)
	opens := []policy.Action{policy.Listen, policy.Download, policy.ReleaseKey, policy.Audit}
	for text, owner := range map[string]bool{
		nobody: false,
		`@id("token") permit (principal, action, resource) when { context.credential == "token" };`: false,
		`@id("local") permit (principal, action, resource) when { context.credential == "local" };`: true,
	} {
		e, _ := w.newEngine(t, text, nil)
		for _, a := range policy.Actions() {
			for range 2 { // decided, then remembered
				r := policy.Resource{Station: jazz, Downloads: true, Segment: "s"}
				if !slices.Contains(opens, a) {
					r = policy.Resource{}
					if a == policy.Add || a == policy.ManageSegments || a == policy.ManageShares || a == policy.Moderate || a == policy.Host {
						r.Station = jazz
					}
				}
				want := owner || !slices.Contains(opens, a)
				if d := e.Decide(local, a, r); d.Allowed() != want || d.ReleasesKey(jazz, "s") && !owner {
					t.Errorf("%s: the owner, %s: %v (%s)", text, a, d.Allowed(), d.Reason())
				}
			}
		}
		if text == nobody && e.Decide(host, policy.Manage, policy.Resource{Station: jazz}).Allowed() {
			t.Error("whoever comes with a token is not bound")
		}
	}
}

func TestDecisionReleasesKey(t *testing.T) {
	w := newWorld(t)
	g := policy.LocalOperator()
	r := policy.Resource{Station: jazz, Downloads: true, Segment: "s"}
	for _, a := range everyAction() {
		d := w.engine.Decide(g, a, r)
		want := a == policy.Listen || a == policy.Download || a == policy.ReleaseKey || a == policy.Audit
		if d.ReleasesKey(jazz, "s") != want {
			t.Errorf("%s: releases the key is %v", a, !want)
		}
		if d.ReleasesKey(jazz, "t") || d.ReleasesKey(blues, "s") || d.ReleasesKey("", "") || d.ReleasesKey(jazz, "") {
			t.Errorf("%s: releases another key", a)
		}
	}
	if w.engine.Decide(g, policy.Listen, policy.Resource{Station: jazz}).ReleasesKey(jazz, "") {
		t.Error("a decision on a station releases a key")
	}
	if (policy.Decision{}).ReleasesKey(jazz, "s") || (policy.Decision{}).Allowed() {
		t.Error("the zero decision allows")
	}
	d := w.engine.Decide(g, policy.Listen, r)
	d.Policies()[0] = "changed"
	if w.engine.Decide(g, policy.Listen, r).Policies()[0] != "listen" {
		t.Error("a caller can change what is remembered")
	}
}

func TestCheckAcceptsTheDefault(t *testing.T) {
	source, err := os.ReadFile("default.cedar")
	must(t, err)
	must(t, policy.Check(policy.File{Name: "default.cedar", Text: source}))
	if n := strings.Count(string(source), "@id("); n > 20 {
		t.Errorf("%d default policies: a score is the limit", n)
	}
}

func TestCheckRefuses(t *testing.T) {
	const head = "@id(\"x\")\npermit (principal, action == Action::\"listen\", resource)\nwhen { "
	cases := map[string]struct{ policy, says string }{
		"syntax":                 {"permit (principal, action", "parse"},
		"empty":                  {"", "there are 0"},
		"comments only":          {"// permit", "there are 0"},
		"no id":                  {"permit (principal, action, resource);", "@id"},
		"id twice":               {`@id("a") permit (principal, action, resource); @id("a") forbid (principal, action, resource);`, "another"},
		"unknown action":         {`@id("x") permit (principal, action == Action::"fly", resource);`, "fly"},
		"unknown principal":      {`@id("x") permit (principal is Admin, action, resource);`, "Admin"},
		"unknown resource":       {`@id("x") permit (principal, action, resource is Playlist);`, "Playlist"},
		"unknown attribute":      {head + `principal.admin };`, "admin"},
		"attribute of another":   {head + `principal.epoch == 1 };`, "epoch"},
		"attribute of resource":  {head + `resource.title == "x" };`, "title"},
		"context":                {head + `context.ip == "x" };`, "ip"},
		"wrong type":             {head + `resource.downloads == "yes" };`, "own.cedar:1"},
		"text as condition":      {head + `"yes" };`, "own.cedar:1"},
		"number in set of texts": {head + `principal.actions.contains(1) };`, "own.cedar:1"},
		"never applies":          {`@id("x") permit (principal is Host, action == Action::"listen", resource);`, "own.cedar:1"},
		"names a segment":        {`@id("x") permit (principal, action, resource == Segment::"s");`, "segment"},
		"names in a condition":   {head + `resource == Segment::"s" };`, "segment"},
		"names in a set":         {head + `[Segment::"s", Segment::"t"].contains(resource) };`, "own.cedar:1"},
		"names a parent":         {`@id("x") permit (principal, action == Action::"listen", resource in Segment::"s");`, "segment"},
		"station by its name":    {`@id("x") forbid (principal, action, resource in Station::"late");`, `Station::"late"`},
		"station, one letter":    {`@id("x") forbid (principal, action, resource == Station::"` + jazz[1:] + `");`, "resource.name"},
		"station, spelled twice": {`@id("x") forbid (principal, action, resource == Station::"` + jazz[1:] + `b");`, "resource.name"},
		"station in a condition": {head + `resource in Station::"late" };`, "resource.name"},
		"station under is":       {head + `resource is Segment in Station::"late" };`, "resource.name"},
		"station in the scope":   {`@id("x") forbid (principal, action, resource is Segment in Station::"late");`, "resource.name"},
		"station in a set":       {head + `principal.stations.contains(Station::"late") };`, "resource.name"},
		"too many":               {strings.Repeat(`@id("x") permit (principal, action, resource); `, 65), "65"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			err := policy.Check(policy.File{Name: "own.cedar", Text: []byte(c.policy)})
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error does not tell of %q: %v", c.says, err)
			}
			if _, err := policy.NewEngine(policy.EngineOptions{Policies: []byte(c.policy), Now: time.Now}); err == nil {
				t.Error("an engine loaded it")
			}
		})
	}
	if _, err := policy.NewEngine(policy.EngineOptions{}); err == nil {
		t.Error("an engine without a clock was made")
	}
}

// P30: a policy that names a station, by its name or its id, applies to it and
// its segments, and to no other; a new name counts at once.
func TestPoliciesNameStations(t *testing.T) {
	w := newWorld(t)
	e, _ := w.newEngine(t, string(policy.DefaultPolicies())+`
@id("name") forbid (principal, action == Action::"listen", resource) when { resource.name == "late" };
@id("any") forbid (principal, action == Action::"manage", resource) when { resource has name && resource.name == "late" };
@id("id") forbid (principal, action == Action::"listen", resource in Station::"`+blues+`");`, nil)
	g := w.grant(t, "alice", "", policy.Listen, policy.Manage)
	for _, segment := range []string{"", "s"} {
		r := policy.Resource{Station: jazz, Name: "jazz", Segment: segment}
		for range 2 {
			r.Name = "jazz"
			check(t, e.Decide(g, policy.Listen, r), true, "alice", "jazz")
			r.Name = "late"
			check(t, e.Decide(g, policy.Listen, r), false, "alice", "late")
			check(t, e.Decide(g, policy.Manage, r), false, "alice", "late")
		}
		check(t, e.Decide(g, policy.Listen, policy.Resource{Station: blues, Name: "jazz", Segment: segment}), false, "alice", "blues")
	}
	check(t, e.Decide(g, policy.Manage, policy.Resource{}), true, "alice", "node")
}

// Policies of an operator replace the default ones.
func TestOwnPolicies(t *testing.T) {
	w := newWorld(t)
	source := `
@id("quiet") forbid (principal, action == Action::"listen", resource in Station::"` + blues + `");
@id("all") permit (principal is User, action in [Action::"listen", Action::"manage"], resource in Node::"");
@id("overflow") forbid (principal is Service, action == Action::"audit", resource is Segment)
when { resource.epoch + 9223372036854775807 > 0 };
@id("audit") permit (principal is Service, action == Action::"audit", resource);
`
	e, err := policy.NewEngine(policy.EngineOptions{Policies: []byte(source), Now: w.options.Now})
	must(t, err)
	g := w.grant(t, "alice", jazz, policy.Host)
	check(t, e.Decide(g, policy.Listen, policy.Resource{Station: jazz, Segment: "s"}), true, "alice", "segment of jazz")
	check(t, e.Decide(g, policy.Listen, policy.Resource{Station: blues, Segment: "s"}), false, "alice", "segment of blues")
	check(t, e.Decide(g, policy.Listen, policy.Resource{Station: blues}), false, "alice", "blues")
	check(t, e.Decide(g, policy.Manage, policy.Resource{}), true, "alice", "node")
	check(t, e.Decide(g, policy.Add, policy.Resource{Station: jazz}), false, "alice", "jazz")
	// A policy that fails denies: it could have been one that forbids.
	s := w.grant(t, "service:x", jazz, policy.Audit)
	check(t, e.Decide(s, policy.Audit, policy.Resource{Station: jazz}), true, "service", "station")
	if d := e.Decide(s, policy.Audit, policy.Resource{Station: jazz, Epoch: 1, Segment: "s"}); d.Reason() != "policy_error" || d.Allowed() {
		t.Errorf("a policy that overflows: %s", d.Reason())
	}
}
