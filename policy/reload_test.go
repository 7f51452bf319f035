package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/musenai/musen/policy"
)

// holders are who holds which role where; "" is everywhere.
type holders struct {
	mu   sync.Mutex
	held map[[2]string]policy.RoleSet // subject, station
}

func (h *holders) Held(subject, station string, _ time.Time) policy.RoleSet {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.held[[2]string{subject, station}] | h.held[[2]string{subject, ""}]
}

func (h *holders) give(subject, station string, roles ...policy.Role) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var s policy.RoleSet
	for _, r := range roles {
		s = s.With(r)
	}
	h.held[[2]string{subject, station}] = s
}

// engine makes one with policies and roles.
func (w *world) newEngine(t testing.TB, text string, zone *time.Location) (*policy.Engine, *holders) {
	t.Helper()
	h := &holders{held: map[[2]string]policy.RoleSet{}}
	o := policy.EngineOptions{Now: w.options.Now, Zone: zone, Roles: h}
	if text != "" {
		o.Policies = []byte(text)
	}
	e, err := policy.NewEngine(o)
	must(t, err)
	return e, h
}

// identity is a grant whose subject's roles count.
func (w *world) identity(t testing.TB, subject string, factor time.Time, actions ...policy.Action) policy.Grant {
	t.Helper()
	raw, _, _, err := w.issuer.Token(policy.TokenRequest{
		Subject: subject, Stations: []string{blues}, Actions: actions, TTL: time.Hour, Identity: true, SecondFactor: factor,
	})
	must(t, err)
	g, err := w.verifier.Token(raw)
	must(t, err)
	return g
}

const nobody = `@id("nobody") forbid (principal, action, resource);`

// P64: new policies count for the next decision, also where the old one was
// remembered, and what does not validate changes nothing.
func TestLoad(t *testing.T) {
	w := newWorld(t)
	e, _ := w.newEngine(t, "", nil)
	g := w.grant(t, "alice", jazz, policy.Listen)
	r := policy.Resource{Station: jazz, Epoch: 3, Segment: "s"}
	check(t, e.Decide(g, policy.Listen, r), true, "alice", "segment")
	for _, text := range []string{"permit (", "", `@id("x") permit (principal, action == Action::"fly", resource);`} {
		if err := e.Load([]policy.File{{Name: "bad.cedar", Text: []byte(text)}}); err == nil {
			t.Errorf("%q was loaded", text)
		}
		check(t, e.Decide(g, policy.Listen, r), true, "alice", "segment, after a bad load")
	}
	must(t, e.Load([]policy.File{{Name: "a.cedar", Text: policy.DefaultPolicies()}, {Name: "b.cedar", Text: []byte(nobody)}}))
	check(t, e.Decide(g, policy.Listen, r), false, "alice", "segment, after a forbid")
	if files := e.Policies(); len(files) != 2 || files[1].Name != "b.cedar" {
		t.Errorf("in force: %v", files)
	}
	must(t, e.Load(nil))
	check(t, e.Decide(g, policy.Listen, r), true, "alice", "segment, by the default again")
}

// The place of a fault is the file and the line in it.
func TestFaultsNameFileAndLine(t *testing.T) {
	good := policy.File{Name: "a.cedar", Text: policy.DefaultPolicies()}
	for text, says := range map[string]string{
		"// one\n\npermit (principal, action":                                                        "b.cedar:3",
		"// one\n" + nobody + "\n@id(\"nobody\") permit (principal, action, resource);":              "b.cedar:3",
		"\n\n\n@id(\"x\") permit (principal, action, resource) when { principal.shoe == 1 };":        "b.cedar:4",
		"@id(\"x\") @streams(\"0\") permit (principal, action, resource);":                           "@streams",
		"@id(\"x\") @streams(\"two\") permit (principal, action, resource);":                         "@streams",
		"@id(\"x\") @streams(\"2\") forbid (principal, action, resource);":                           "@streams",
		"@id(\"x\") permit (principal, action, resource) when { context.address == \"192.0.2.1\" };": "address",
	} {
		err := policy.Check(good, policy.File{Name: "b.cedar", Text: []byte(text)})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %s", text, err, says)
		}
	}
}

// What is wrong with a policy is told in one line: where, what is there, and what
// was expected.
func TestFaultsSayWhatIsExpected(t *testing.T) {
	const id = "@id(\"x\")\n"
	for text, says := range map[string]string{
		"permit (principal, action":                                                `parse policies: a.cedar:1: the text ends where "," is expected`,
		"permit (principal, action, resource)\n":                                   `parse policies: a.cedar:2: the text ends where ";" is expected`,
		id + "permit (principal, action, resource) when { principal.shoe = 1 };":   `parse policies: a.cedar:2: "=" where "}" is expected`,
		id + "permit (principal, action, resource) when { context.hour == 1 && };": `parse policies: a.cedar:2: no expression before ";"; text stands in double quotes`,
		id + "allow (principal, action, resource);":                                `parse policies: a.cedar:2: "allow" where permit or forbid is expected`,
		"\n[[case]]": `parse policies: a.cedar:2: "[" where permit or forbid is expected`,
		id + "permit (principal == \"ann\", action, resource);":                       `parse policies: a.cedar:2: a name is expected before ","; an entity is spelled like User::"ann"`,
		"@id(x) permit (principal, action, resource);":                                `parse policies: a.cedar:1: text in double quotes is expected before ")"`,
		id + "permit (principal, action, resource) when { resource.name == \"late };": `parse policies: a.cedar:2: literal not terminated`,
		id + "permit (principal, action, resource) when { principal.shoe == 1 };":     "check policy: a.cedar:1: \"x\": attribute `shoe` on entity type `User` not found; attribute `shoe` on entity type `Service` not found",
		"\n" + id + "permit (principal, action == Action::\"fly\", resource);":        "check policy: a.cedar:2: \"x\": unrecognized action `Action::\"fly\"`; unable to find",
		id + "permit (principal, action in [Action::\"a\" Action::\"b\"], resource);": `parse policies: a.cedar:2: "Action" where "," is expected`,
		id + "@id(\"y\") permit (principal, action, resource);":                       `parse policies: a.cedar:2: duplicate annotation: @id`,
	} {
		err := policy.Check(policy.File{Name: "a.cedar", Text: []byte(text)})
		if err == nil || !strings.HasPrefix(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q:\n%v, want\n%s", text, err, says)
		}
	}
}

// P30: time, zone, region, kind of credential and second factor decide where
// policies ask for them.
func TestCircumstances(t *testing.T) {
	w := newWorld(t)
	zone := time.FixedZone("east", 2*3600)
	w.now = time.Date(2027, 1, 16, 21, 59, 30, 0, time.UTC) // a Saturday; 23:59:30 in the east
	g := w.identity(t, "alice", w.now.Add(-10*time.Minute), policy.Listen)
	link := w.linkGrant(t, nil)
	r := policy.Resource{Station: jazz, Epoch: 3, Segment: "s"}
	for condition, want := range map[string]bool{
		`context.hour == 23`:                                     true,
		`context.hour == 21`:                                     false,
		`context.weekday == "saturday"`:                          true,
		`["saturday", "sunday"].contains(context.weekday)`:       true,
		`context.now < datetime("2027-01-16T22:00:00Z")`:         true,
		`context.now == datetime("2027-01-16T21:59:00Z")`:        true, // to the minute
		`context.region == "ee"`:                                 true,
		`context.region == "us"`:                                 false,
		`context.credential == "token"`:                          true,
		`context.mfaMinutes <= 10`:                               true,
		`context.mfaMinutes < 10`:                                false,
		`context.action == "listen" && !(context.region == "x")`: true,
		`context == context`:                                     true,
	} {
		e, _ := w.newEngine(t, `@id("x") permit (principal, action == Action::"listen", resource) when { `+condition+` };`, zone)
		for range 2 {
			check(t, e.Decide(g.From("ee"), policy.Listen, r), want, condition, "segment")
		}
	}
	e, _ := w.newEngine(t, `@id("x") permit (principal, action == Action::"listen", resource) when { context.hour == 23 };
@id("link") permit (principal, action == Action::"listen", resource) when { context.credential == "link" && context.mfaMinutes > 1000000 };`, zone)
	check(t, e.Decide(g, policy.Listen, r), true, "alice", "before midnight")
	check(t, e.Decide(link, policy.Listen, r), true, "link", "before midnight")
	opened := e.Decide(g, policy.Listen, r).At()
	w.now = w.now.Add(30 * time.Second)
	check(t, e.Decide(g, policy.Listen, r), false, "alice", "after midnight")
	check(t, e.Decide(link, policy.Listen, r), true, "link", "after midnight")
	r.At = opened
	check(t, e.Decide(g, policy.Listen, r), true, "alice", "what was asked for before midnight")
}

// P32, P35: what a role permits, it permits where it is held, from the moment
// it is given to the moment it is taken, and to identities alone.
func TestRolesCountAtOnce(t *testing.T) {
	w := newWorld(t)
	e, h := w.newEngine(t, "", nil)
	who := w.identity(t, "ann", time.Time{})
	named := w.grant(t, "ann", "", policy.Host) // a token of the same subject that is no identity
	here, there := policy.Resource{Station: jazz}, policy.Resource{Station: blues}
	check(t, e.Decide(who, policy.Add, here), false, "ann", "jazz")
	h.give("ann", jazz, policy.Publisher)
	check(t, e.Decide(who, policy.Add, here), true, "ann, publisher of jazz", "jazz")
	check(t, e.Decide(who, policy.Add, there), false, "ann, publisher of jazz", "blues")
	check(t, e.Decide(who, policy.ReadStatus, policy.Resource{}), false, "ann, publisher of jazz", "node")
	check(t, e.Decide(named, policy.Add, here), false, "a token of ann", "jazz")
	h.give("ann", "", policy.Support)
	check(t, e.Decide(who, policy.ReadStatus, policy.Resource{}), true, "ann, support", "node")
	h.give("ann", "")
	h.give("ann", jazz)
	check(t, e.Decide(who, policy.Add, here), false, "ann, without a role", "jazz")
	check(t, e.Decide(who, policy.ReadStatus, policy.Resource{}), false, "ann, without a role", "node")
}

// P32: support hears nothing and gets no key, and nobody's role does either but
// to check what was added.
func TestRolesHoldNoKeys(t *testing.T) {
	w := newWorld(t)
	e, h := w.newEngine(t, "", nil)
	segment := policy.Resource{Station: jazz, Downloads: true, Epoch: 3, Segment: "s"}
	for _, role := range policy.AllRoles() {
		who := w.identity(t, "ann", time.Time{})
		h.give("ann", "", role)
		hears := role == policy.Operator || role == policy.Publisher || role == policy.Moderator
		check(t, e.Decide(who, policy.Listen, segment), hears, string(role), "segment")
		check(t, e.Decide(who, policy.Download, segment), false, string(role), "segment")
		check(t, e.Decide(who, policy.ReleaseKey, segment), false, string(role), "segment")
	}
}

// P30: a policy that permits may say how many streams at a time.
func TestStreams(t *testing.T) {
	w := newWorld(t)
	g := w.grant(t, "alice", jazz, policy.Listen)
	r := policy.Resource{Station: jazz, Segment: "s"}
	for text, want := range map[string]int{
		`@id("a") @streams("2") permit (principal, action, resource);`:                                                                       2,
		`@id("a") @streams("2") permit (principal, action, resource); @id("b") @streams("5") permit (principal, action, resource);`:          2,
		`@id("a") @streams("2") permit (principal, action, resource); @id("b") permit (principal, action, resource);`:                        2,
		`@id("a") @streams("2") permit (principal, action, resource); @id("b") @streams("5") permit (principal is Guest, action, resource);`: 2,
	} {
		e, _ := w.newEngine(t, text, nil)
		if got := e.Decide(g, policy.Listen, r).Streams(); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}

// Whatever a verdict depends on is in the key that it is remembered by: an
// engine that has decided much says what a fresh one says.
func TestMemoryChangesNothing(t *testing.T) {
	w := newWorld(t)
	texts := []string{
		string(policy.DefaultPolicies()),
		`@id("x") permit (principal, action, resource) when { context.hour < 12 };`,
		`@id("x") permit (principal, action, resource) when { context.region == "ee" && principal.roles.contains("support") };`,
		`@id("x") permit (principal, action, resource) when { context.mfaMinutes < 30 && ["listen", "revoke"].contains(context.action) };
@id("y") permit (principal, action == Action::"listen", resource) unless { resource.downloads || resource.epoch == 3 };`,
		`@id("x") permit (principal, action, resource) when { resource has name && resource.name == "late" };`,
	}
	var grants []policy.Grant
	for _, subject := range []string{"ann", "service:x"} {
		for _, factor := range []time.Time{{}, w.now.Add(-20 * time.Minute)} {
			grants = append(grants, w.identity(t, subject, factor, policy.Listen, policy.Manage))
		}
		grants = append(grants, w.grant(t, subject, jazz, policy.Listen))
	}
	grants = append(grants, w.linkGrant(t, nil), policy.LocalOperator(), policy.Grant{})
	old, holders := w.newEngine(t, "", nil)
	start := w.now
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom(texts).Draw(t, "policies")
		if err := old.Load([]policy.File{{Name: "p", Text: []byte(text)}}); err != nil {
			t.Fatal(err)
		}
		fresh, err := policy.NewEngine(policy.EngineOptions{Policies: []byte(text), Now: w.options.Now, Roles: holders})
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			w.now = start.Add(time.Duration(rapid.IntRange(-90, 90).Draw(t, "minutes")) * time.Minute)
			holders.give(rapid.SampledFrom([]string{"ann", "service:x"}).Draw(t, "subject"), rapid.SampledFrom([]string{"", jazz}).Draw(t, "where"),
				rapid.SampledFrom(policy.AllRoles()).Draw(t, "role"))
			g := rapid.SampledFrom(grants).Draw(t, "grant").From(rapid.SampledFrom([]string{"", "ee"}).Draw(t, "region"))
			a := rapid.SampledFrom(policy.Actions()).Draw(t, "action")
			r := policy.Resource{
				Station: rapid.SampledFrom([]string{"", jazz, blues}).Draw(t, "station"),
				Name:    rapid.SampledFrom([]string{"jazz", "late"}).Draw(t, "name"), Downloads: rapid.Bool().Draw(t, "downloads"),
				Epoch: uint64(rapid.IntRange(2, 4).Draw(t, "epoch")), Segment: rapid.SampledFrom([]string{"", "s"}).Draw(t, "segment"),
			}
			got, want := old.Decide(g, a, r), fresh.Decide(g, a, r)
			if got.Allowed() != want.Allowed() || got.Reason() != want.Reason() || !slices.Equal(got.Policies(), want.Policies()) {
				t.Fatalf("%s: remembered %s %v, fresh %s %v", fmt.Sprint(r), got.Reason(), got.Policies(), want.Reason(), want.Policies())
			}
		}
	})
}

// No policy text brings the check down, and what passes it can decide.
func FuzzPolicies(f *testing.F) {
	f.Add(policy.DefaultPolicies())
	f.Add([]byte(nobody))
	f.Add([]byte(`@id("x") @streams("3") permit (principal in Node::"", action, resource) when { context.now > datetime("2026-01-01") };`))
	w := newWorld(f)
	g := w.grant(f, "alice", jazz, policy.Listen)
	f.Fuzz(func(t *testing.T, text []byte) {
		if policy.Check(policy.File{Name: "x.cedar", Text: text}) != nil {
			return
		}
		e, _ := w.newEngine(t, string(text), nil)
		e.Decide(g, policy.Listen, policy.Resource{Station: jazz, Segment: "s"})
	})
}

// P18, P35: who listens by a role is cut off by policy when it is taken, and
// not by the token, which names no station.
func TestLiveByRole(t *testing.T) {
	w := newWorld(t)
	e, h := w.newEngine(t, "", nil)
	who := w.identity(t, "ann", time.Time{})
	r := policy.Resource{Station: jazz, Epoch: 3, Segment: "s"}
	h.give("ann", jazz, policy.Publisher)
	d := e.Decide(who, policy.Listen, r)
	check(t, d, true, "ann", "segment")
	must(t, w.verifier.Live(who, jazz))
	h.give("ann", jazz)
	r.At = d.At()
	check(t, e.Decide(who, policy.Listen, r), false, "ann, without the role", "segment that plays")
}
