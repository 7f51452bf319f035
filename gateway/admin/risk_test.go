package admin

import (
	"strings"
	"testing"

	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/gateway/admin/wire/access"
	"github.com/musenai/musen/gateway/admin/wire/swarm"
	"github.com/musenai/musen/policy"
)

// risky is a world in which several people run the node.
func risky(t *testing.T) (w *world, segment string) {
	t.Helper()
	w = newWorld(t, nil)
	w.station("jazz")
	for _, subject := range []string{"ann", "bob"} {
		w.give(subject, policy.Operator, "")
		w.give(subject, policy.Security, "")
	}
	_, err := w.local.Admit(t.Context(), swarm.Admission{ID: "12D3KooWoslo", Name: "oslo"})
	must(t, err)
	return w, w.segment("jazz", "one").CID
}

// P28, P36: each route that changes something says whether it is dangerous, and
// each that is needs a second person over TCP, whatever roles its caller has.
func TestDangerousRoutesNeedASecondPerson(t *testing.T) {
	w, segment := risky(t)
	ann := w.identity("ann")
	samples := map[string][2]string{ // path and body
		"DELETE /stations/:station": {"/stations/jazz", ""},
		"DELETE /segments/:cid":     {"/segments/" + segment, ""},
		"POST /takedowns":           {"/takedowns", `{"cid":"` + segment + `","reason":"x","shred":true}`},
		"POST /takedowns/:cid/lift": {"/takedowns/" + w.takenDown(w.stationID("jazz")) + "/lift", `{"reason":"x"}`},
		"DELETE /peers/:peer":       {"/peers/oslo", ""},
		"POST /services":            {"/services", `{"name":"x","endpoint":"https://pins.example","token_file":"/etc/token"}`},
		"DELETE /services/:service": {"/services/x", ""},
		"POST /keys/rotate":         {"/keys/rotate", `{"kind":"link"}`},
		"PUT /roles":                {"/roles", `{"subject":"eve","role":"support"}`},
		"POST /policy/reload":       {"/policy/reload", ""},
		"POST /tokens":              {"/tokens", `{"subject":"eve","actions":["audit"],"ttl":60}`},
		"POST /tokens/revoke":       {"/tokens/revoke", `{"subject":"bob"}`},
		"POST /roles/revoke":        {"/roles/revoke", `{"subject":"bob","role":"security"}`},
		"PUT /subjects":             {"/subjects", `{"subject":"bob","state":"suspended","reason":"test"}`},
	}
	for _, r := range routes() {
		name := r.name()
		if r.changes() != (r.act.risk != 0) {
			t.Errorf("%s: it must say whether it is dangerous, unless it only reads", name)
			continue
		}
		sample, ok := samples[name]
		if ok != (r.act.risk == dangerous || r.act.risk == perhaps) {
			t.Errorf("%s: it needs a sample here, if it is dangerous", name)
		}
		if !ok {
			continue
		}
		if status, code, given := w.ask(r.method, sample[0], sample[1], ann, ""); status != 409 || code != "approval_needed" || given == "" {
			t.Errorf("%s: %d %s, want a second person", name, status, code)
		}
	}
	if peers, err := w.local.Peers(t.Context()); err != nil || len(peers) != 1 {
		t.Errorf("%+v, %v", peers, err)
	}
}

// What ends the access of listeners, or gives up what is one's own, is quick.
func TestEmergenciesNeedNoSecondPerson(t *testing.T) {
	w, segment := risky(t)
	ctx, jazz := t.Context(), w.stationID("jazz")
	share, err := w.local.CreateShare(ctx, "jazz", wire.NewShare{})
	must(t, err)
	listener, err := w.local.IssueToken(ctx, wire.TokenRequest{Subject: "eve", Actions: []string{"listen", "add"}, TTL: 60})
	must(t, err)
	ann := w.identity("ann")
	for _, p := range probes(segment, jazz, share.ID, "", nil) {
		if routeOf(t, p).act.risk == harmless {
			_, code, _ := w.ask(p.method, p.path, strings.ReplaceAll(p.body, "%s", "x"), ann, "")
			if code == "approval_needed" {
				t.Errorf("%s %s needs a second person", p.method, p.path)
			}
		}
	}
	for what, c := range map[string][3]string{
		"one token":                {"POST", "/tokens/revoke", `{"jti":"` + listener.ID + `"}`},
		"a token of elsewhere":     {"POST", "/tokens/revoke", `{"jti":"acme|abc"}`},
		"a listener":               {"POST", "/tokens/revoke", `{"subject":"eve"}`},
		"who came by a share":      {"POST", "/tokens/revoke", `{"subject":"share:` + share.ID + `"}`},
		"what is one's own":        {"POST", "/tokens/revoke", `{"subject":"ann"}`},
		"a listener, suspended":    {"PUT", "/subjects", `{"subject":"eve","state":"suspended","reason":"test"}`},
		"a listener, let in again": {"PUT", "/subjects", `{"subject":"eve","state":"active","reason":"test"}`},
		"a runner, limited":        {"PUT", "/subjects", `{"subject":"bob","state":"limited","reason":"test"}`},
		"one's own role":           {"POST", "/roles/revoke", `{"subject":"ann","role":"security"}`},
	} {
		if what == "what is one's own" || what == "one's own role" {
			w.give("ann", policy.Security, "")
			w.clock.Add(1)
		}
		if status, code, _ := w.ask(c[0], c[1], c[2], w.identity("ann"), ""); status != 200 && status != 204 {
			t.Errorf("%s: %d %s", what, status, code)
		}
		w.clock.Add(1)
	}
}

// P39: of an issuer whose tokens may run the node nobody knows here who does.
func TestRunnersOfOthers(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Runners = []string{"acme"} })
	w.give("ann", policy.Security, "")
	for body, want := range map[string]int{
		`{"subject":"acme|bob"}`: 409, `{"jti":"acme|abc"}`: 409, `{"subject":"other|bob"}`: 200, `{"jti":"other|abc"}`: 200, `{"subject":"acme"}`: 200,
	} {
		if status, code, _ := w.ask("POST", "/tokens/revoke", body, w.identity("ann"), ""); status != want {
			t.Errorf("%s: %d %s", body, status, code)
		}
	}
	for subject, want := range map[string]int{"acme|bob": 409, "other|bob": 200} {
		body := `{"subject":"` + subject + `","state":"suspended","reason":"test"}`
		if status, code, _ := w.ask("PUT", "/subjects", body, w.identity("ann"), ""); status != want {
			t.Errorf("%s: %d %s", subject, status, code)
		}
	}
}

// P36, P39: nobody alone keeps those from the node who run it, nor lets them in
// again, whichever way it is tried.
func TestNobodyLocksTheOthersOut(t *testing.T) {
	w, _ := risky(t)
	ctx := t.Context()
	runner, err := w.local.IssueToken(ctx, wire.TokenRequest{Subject: "service:run", Actions: []string{"manage"}, TTL: 60})
	must(t, err)
	_, err = w.remote(w.token(nil, policy.IssueTokens, policy.Listen)).IssueToken(ctx, wire.TokenRequest{Subject: "eve", Actions: []string{"listen"}, TTL: 60})
	must(t, err)
	carried, err := w.local.IssueToken(ctx, wire.TokenRequest{Subject: "bob", Roles: true, Actions: []string{}, TTL: 60})
	must(t, err)
	_, err = w.local.SetSubject(ctx, wire.SubjectChange{Subject: "service:run", State: "suspended", Reason: "test"})
	must(t, err)
	sue := w.remote(w.identity("sue"))
	w.give("sue", policy.Security, "")
	for what, err := range map[string]error{
		"suspends who holds a role": second(sue.SetSubject(ctx, wire.SubjectChange{Subject: "bob", State: "suspended", Reason: "test"})),
		"ends who holds a role":     second(sue.SetSubject(ctx, wire.SubjectChange{Subject: "ann", State: "ended", Reason: "test"})),
		"lets a runner in again":    second(sue.SetSubject(ctx, wire.SubjectChange{Subject: "service:run", State: "active", Reason: "test"})),
		"takes a role":              second(0, sue.RevokeRole(ctx, access.Role{Subject: "bob", Role: "operator"})),
		"ends all of a runner":      second(sue.Revoke(ctx, wire.Revocation{Subject: "service:run"})),
		"ends all of who issues":    second(sue.Revoke(ctx, wire.Revocation{Subject: "ann"})),
		"ends what a runner issued": second(sue.Revoke(ctx, wire.Revocation{IssuedBy: "ann"})),
		"ends one of a runner":      second(sue.Revoke(ctx, wire.Revocation{ID: runner.ID})),
		"ends one that has roles":   second(sue.Revoke(ctx, wire.Revocation{ID: carried.ID})),
		"ends all of a provider":    second(sue.Revoke(ctx, wire.Revocation{Issuer: "acme", Key: "a1"})),
		"ends all of a key":         second(sue.Revoke(ctx, wire.Revocation{Key: "k0"})),
	} {
		if codeOf(err) != "approval_needed" {
			t.Errorf("%s: %v", what, err)
		}
	}
	must(t, w.local.RevokeRole(ctx, access.Role{Subject: "ann", Role: "operator"}))
	must(t, w.local.RevokeRole(ctx, access.Role{Subject: "ann", Role: "security"}))
	_, err = sue.Revoke(ctx, wire.Revocation{Subject: "ann"})
	refused(t, err, 409, "approval_needed") // she has issued a token that lives
}
