package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen/policy"
	"github.com/musenai/musen/policy/cat"
)

const (
	shareID    = "cccccccccccccccccccccccccc"
	sessionKid = "session-1"
)

// session issues one of the share to jazz.
func (w *world) session(t testing.TB, change func(*policy.SessionRequest)) string {
	t.Helper()
	r := policy.SessionRequest{Share: shareID, Generation: 2, Station: jazz, Epoch: 3, TTL: time.Hour}
	if change != nil {
		change(&r)
	}
	raw, _, err := w.issuer.Session(r)
	must(t, err)
	return raw
}

func (w *world) sessionGrant(t testing.TB, change func(*policy.SessionRequest)) policy.Grant {
	t.Helper()
	g, err := w.verifier.Session(w.session(t, change))
	must(t, err)
	return g
}

// linkFor mints a link for a grant and verifies it.
func (w *world) linkFor(t testing.TB, g policy.Grant, r policy.LinkRequest) (raw string, of policy.Grant) {
	t.Helper()
	r.Path = listenPath
	raw, _, err := w.issuer.LinkFor(g, r)
	must(t, err)
	of, err = w.verifier.Link(raw, "GET", listenPath)
	must(t, err)
	return raw, of
}

// P21: a session is for one station, a time, and no more than listening.
func TestSessionGrantsOneStation(t *testing.T) {
	w := newWorld(t)
	raw, expires, err := w.issuer.Session(policy.SessionRequest{Share: shareID, Generation: 2, Station: jazz, Epoch: 3, TTL: time.Hour})
	must(t, err)
	if !expires.Equal(w.now.Add(time.Hour)) {
		t.Errorf("expires %v", expires)
	}
	g, err := w.verifier.Session(raw)
	must(t, err)
	if g.Kind() != "session" || g.Subject() != "share:"+shareID || g.Epoch() != 3 || g.Session() != g.ID() || len(g.ID()) != 32 || !g.Expires().Equal(expires) {
		t.Errorf("grant says %q %q %d %q %q", g.Kind(), g.Subject(), g.Epoch(), g.ID(), g.Session())
	}
	if !g.Covers(jazz) || g.Covers(blues) || g.Covers("") || !g.Has(policy.Listen) || g.Has(policy.Download) {
		t.Error("a session grants other than it says")
	}
	if with := w.sessionGrant(t, func(r *policy.SessionRequest) { r.Download = true }); !with.Has(policy.Download) {
		t.Error("a session with downloads has none")
	}
	if len(raw) > 400 {
		t.Errorf("a session of %d characters", len(raw))
	}
	for _, a := range []policy.Action{policy.Download, policy.ReleaseKey, policy.Add, policy.Manage, policy.Moderate, policy.Audit, policy.Host} {
		if w.engine.Decide(g, a, policy.Resource{Station: jazz, Downloads: true, Epoch: 3}).Allowed() {
			t.Errorf("a session allows %s", a)
		}
	}
	for _, r := range []policy.Resource{{Station: blues, Epoch: 1}, {Station: jazz, Epoch: 4}, {}} {
		if w.engine.Decide(g, policy.Listen, r).Allowed() {
			t.Errorf("a session listens to %+v", r)
		}
	}
	if !w.engine.Decide(g, policy.Listen, policy.Resource{Station: jazz, Epoch: 3}).Allowed() {
		t.Error("a session does not listen")
	}
}

// P18, P29, H11, H76: whatever ends a session ends it at its next use, and in the
// middle of a stream, with the links that were minted with it.
func TestWhatEndsASession(t *testing.T) {
	for name, end := range map[string]func(*world, policy.Grant){
		"epoch":    func(w *world, _ policy.Grant) { w.registry.epochs[jazz]++ },
		"no more":  func(w *world, _ policy.Grant) { delete(w.registry.epochs, jazz) },
		"password": func(w *world, _ policy.Grant) { w.registry.shares[shareID]++ },
		"share":    func(w *world, _ policy.Grant) { delete(w.registry.shares, shareID) },
		"subject":  func(w *world, _ policy.Grant) { w.registry.subjects["share:"+shareID] = w.now },
		"session":  func(w *world, g policy.Grant) { w.registry.ids[g.ID()] = true },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			raw := w.session(t, nil)
			g, err := w.verifier.Session(raw)
			must(t, err)
			link, of := w.linkFor(t, g, policy.LinkRequest{Station: jazz, Epoch: 3})
			must(t, w.verifier.Live(g, jazz))
			must(t, w.verifier.Live(of, jazz))
			end(w, g)
			_, err = w.verifier.Session(raw)
			wantCode(t, err, "credential_revoked")
			_, err = w.verifier.Link(link, "GET", listenPath)
			wantCode(t, err, "credential_revoked")
			wantCode(t, w.verifier.Live(g, jazz), "credential_revoked")
			wantCode(t, w.verifier.Live(of, jazz), "credential_revoked")
		})
	}
}

func TestSessionTimes(t *testing.T) {
	w := newWorld(t)
	raw := w.session(t, nil)
	g, err := w.verifier.Session(raw)
	must(t, err)
	w.now = w.now.Add(time.Hour)
	_, err = w.verifier.Session(raw)
	wantCode(t, err, "credential_expired")
	must(t, w.verifier.Live(g, jazz)) // expiry breaks nothing that plays
	w.now = w.now.Add(-2 * time.Hour)
	_, err = w.verifier.Session(raw)
	wantCode(t, err, "credential_not_yet_valid")
}

// A session, a link and a token are never taken for each other, whichever was
// seen first.
func TestSessionsDoNotMix(t *testing.T) {
	w := newWorld(t)
	token, link, session := w.token(t, "alice", jazz, policy.Listen), w.link(t, nil), w.session(t, nil)
	for range 2 {
		_, err := w.verifier.Session(session)
		must(t, err)
		for _, raw := range []string{token, link, "", session + "x", session[:len(session)-1], strings.Repeat("A", 1<<16)} {
			if _, err := w.verifier.Session(raw); err == nil {
				t.Errorf("a session is %.40q", raw)
			}
		}
		_, err = w.verifier.Link(session, "GET", listenPath)
		wantCode(t, err, "credential_signature")
		_, err = w.verifier.Token(session)
		wantCode(t, err, "credential_malformed")
	}
	// With the keys swapped, what is signed is still not the other.
	o := w.options
	o.LinkKeys, o.SessionKeys = o.SessionKeys, o.LinkKeys
	swapped, err := policy.NewVerifier(o)
	must(t, err)
	_, err = swapped.Link(session, "GET", listenPath)
	wantCode(t, err, "credential_malformed")
	_, err = swapped.Session(link)
	wantCode(t, err, "credential_malformed")
	o.SessionKeys = o.LinkKeys
	if _, err := policy.NewVerifier(o); err == nil {
		t.Error("one key for sessions and links is accepted")
	}
}

// Sessions are made here by another program with the right key.
func TestSessionChecks(t *testing.T) {
	w := newWorld(t)
	signer, err := cat.NewSigner(sessionKid, w.sessionSecret)
	must(t, err)
	for name, c := range map[string]struct {
		change func(*cat.Claims)
		code   string
	}{
		"good":             {func(*cat.Claims) {}, ""},
		"no station":       {func(c *cat.Claims) { c.Station = nil }, "credential_malformed"},
		"no id":            {func(c *cat.Claims) { c.ID = nil }, "credential_malformed"},
		"no subject":       {func(c *cat.Claims) { c.Subject = "" }, "credential_malformed"},
		"a person":         {func(c *cat.Claims) { c.Subject = "alice" }, "credential_malformed"},
		"no generation":    {func(c *cat.Claims) { c.Parent = nil }, "credential_malformed"},
		"a parent":         {func(c *cat.Claims) { c.Parent.ID = "x" }, "credential_malformed"},
		"a path":           {func(c *cat.Claims) { c.Paths = []cat.Match{{Value: listenPath}} }, "credential_malformed"},
		"a method":         {func(c *cat.Claims) { c.Methods = []string{"GET"} }, "credential_malformed"},
		"an audience":      {func(c *cat.Claims) { c.Audience = []string{audience} }, "credential_malformed"},
		"no time of issue": {func(c *cat.Claims) { c.Issued = time.Time{} }, "credential_malformed"},
		"lives too long":   {func(c *cat.Claims) { c.Expires = w.now.Add(32 * 24 * time.Hour) }, "credential_malformed"},
		"other issuer":     {func(c *cat.Claims) { c.Issuer = "x" }, "credential_issuer"},
		"other share":      {func(c *cat.Claims) { c.Subject = "share:x" }, "credential_revoked"},
		"other station":    {func(c *cat.Claims) { c.Station.ID = "nowhere" }, "credential_revoked"},
		"other generation": {func(c *cat.Claims) { c.Parent.Generation = 1 }, "credential_revoked"},
	} {
		t.Run(name, func(t *testing.T) {
			claims := cat.Claims{
				Issuer: issuerName, Subject: "share:" + shareID, ID: []byte("0123456789abcdef"), Issued: w.now, Expires: w.now.Add(time.Minute),
				Station: &cat.Station{ID: jazz, Epoch: 3}, Parent: &cat.Parent{Generation: 2},
			}
			c.change(&claims)
			raw, err := signer.Sign(claims)
			must(t, err)
			_, err = w.verifier.Session(raw)
			wantCode(t, err, c.code)
		})
	}
}

// P8: a link is minted for whoever may listen, grants no more, and ends with
// what it was minted with.
func TestLinksForGrants(t *testing.T) {
	w := newWorld(t)
	session := w.sessionGrant(t, func(r *policy.SessionRequest) { r.TTL = 2 * time.Minute })
	token := w.grant(t, "alice", jazz, policy.Listen, policy.Download, policy.Manage)
	_, short := w.linkFor(t, session, policy.LinkRequest{Station: jazz, Epoch: 3})
	for _, of := range []policy.Grant{session, short} {
		if kind, id := of.Bearer(); kind != "session" || id != session.ID() {
			t.Errorf("the bearer of a %s is %s %s", of.Kind(), kind, id)
		}
	}
	if !short.Expires().Equal(session.Expires()) || short.Session() != session.ID() || short.Subject() != session.Subject() {
		t.Errorf("a link of a session: ends %v, session %q, subject %q", short.Expires(), short.Session(), short.Subject())
	}
	_, saves := w.linkFor(t, token, policy.LinkRequest{Station: jazz, Epoch: 3, Download: true})
	if !saves.Expires().Equal(w.now.Add(5*time.Minute)) || saves.Session() != "" || saves.Subject() != "alice" || !saves.Has(policy.Download) || saves.Has(policy.Manage) {
		t.Errorf("a link of a token: ends %v, session %q", saves.Expires(), saves.Session())
	}
	w.registry.ids[token.ID()] = true
	wantCode(t, w.verifier.Live(saves, jazz), "credential_revoked")
	must(t, w.verifier.Live(short, jazz))

	for name, try := range map[string]struct {
		g policy.Grant
		r policy.LinkRequest
	}{
		"nobody":        {policy.Grant{}, policy.LinkRequest{Station: jazz, Epoch: 3}},
		"the operator":  {policy.LocalOperator(), policy.LinkRequest{Station: jazz, Epoch: 3}},
		"a link":        {short, policy.LinkRequest{Station: jazz, Epoch: 3}},
		"other station": {session, policy.LinkRequest{Station: blues, Epoch: 1}},
		"other epoch":   {session, policy.LinkRequest{Station: jazz, Epoch: 4}},
		"saves":         {session, policy.LinkRequest{Station: jazz, Epoch: 3, Download: true}},
		"a subject":     {session, policy.LinkRequest{Station: jazz, Epoch: 3, Subject: "alice"}},
		"cannot listen": {w.grant(t, "bob", jazz, policy.Add), policy.LinkRequest{Station: jazz, Epoch: 3}},
	} {
		try.r.Path = listenPath
		if raw, _, err := w.issuer.LinkFor(try.g, try.r); err == nil {
			t.Errorf("%s gets a link: %s", name, raw)
		}
	}
	w.now = w.now.Add(3 * time.Minute)
	if _, _, err := w.issuer.LinkFor(session, policy.LinkRequest{Station: jazz, Epoch: 3, Path: listenPath}); err == nil {
		t.Error("a session that is over gets a link")
	}
}

// Nobody bears the name of a share but its sessions.
func TestSharesAreNoSubjects(t *testing.T) {
	w := newWorld(t)
	if _, _, _, err := w.issuer.Token(policy.TokenRequest{Subject: "share:" + shareID, Actions: []policy.Action{policy.Listen}, TTL: time.Hour}); err == nil {
		t.Error("a token is issued to a share")
	}
	if _, _, err := w.issuer.Link(policy.LinkRequest{Station: jazz, Epoch: 3, Path: listenPath, Subject: "share:" + shareID}); err == nil {
		t.Error("a link is issued to a share")
	}
	forged := w.forge(toJSON(w.header()), toJSON(with(w.claims(), map[string]any{"sub": "share:" + shareID})))
	_, err := w.verifier.Token(forged)
	wantCode(t, err, "credential_malformed")
	for name, r := range map[string]policy.SessionRequest{
		"no share":   {Station: jazz, Epoch: 3, TTL: time.Hour},
		"no station": {Share: shareID, Epoch: 3, TTL: time.Hour},
		"no time":    {Share: shareID, Station: jazz, Epoch: 3},
		"too long":   {Share: shareID, Station: jazz, Epoch: 3, TTL: 32 * 24 * time.Hour},
		"no epoch":   {Share: shareID, Station: jazz, Epoch: 1 << 63, TTL: time.Hour},
		"long name":  {Share: strings.Repeat("x", 300), Station: jazz, Epoch: 3, TTL: time.Hour},
	} {
		if _, _, err := w.issuer.Session(r); err == nil {
			t.Errorf("%s: a session is issued", name)
		}
	}
}

func FuzzSessionOneSpelling(f *testing.F) {
	w := newWorld(f)
	good := w.session(f, nil)
	f.Add(good)
	f.Add(w.link(f, nil))
	f.Fuzz(func(t *testing.T, raw string) {
		if _, err := w.verifier.Session(raw); err == nil && raw != good {
			t.Errorf("another spelling is accepted: %q", raw)
		}
	})
}
