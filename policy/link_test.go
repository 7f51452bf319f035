package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen/policy"
	"github.com/musenai/musen/policy/cat"
)

func TestLinkGrantsOnePath(t *testing.T) {
	w := newWorld(t)
	raw, expires, err := w.issuer.Link(policy.LinkRequest{Station: jazz, Epoch: 3, Path: listenPath, Subject: "alice"})
	must(t, err)
	if want := w.now.Add(5 * time.Minute); !expires.Equal(want) {
		t.Errorf("expires %v, want %v", expires, want)
	}
	g, err := w.verifier.Link(raw, "GET", listenPath)
	must(t, err)
	if g.Kind() != "link" || g.Subject() != "alice" || g.Epoch() != 3 || len(g.ID()) != 32 || !g.Expires().Equal(expires) {
		t.Errorf("grant says %q %q %d %q %v", g.Kind(), g.Subject(), g.Epoch(), g.ID(), g.Expires())
	}
	if !g.Covers(jazz) || g.Covers(blues) || g.Covers("") || !g.Has(policy.Listen) || g.Has(policy.Download) {
		t.Error("a link grants other than it says")
	}
	if _, err := w.verifier.Link(raw, "HEAD", listenPath); err != nil {
		t.Error(err)
	}
	if len(raw) > 350 {
		t.Errorf("a link of %d characters", len(raw))
	}
}

// H8: a link holds for one spelling of one path.
func TestLinkRefusesOtherRequests(t *testing.T) {
	w := newWorld(t)
	raw := w.link(t, nil)
	cases := []struct{ method, path string }{
		{"POST", listenPath}, {"get", listenPath}, {"", listenPath}, {"GET\x00", listenPath},
		{"GET", ""}, {"GET", "/"}, {"GET", listenPath + "/"}, {"GET", "/" + listenPath}, {"GET", listenPath[1:]},
		{"GET", strings.ToUpper(listenPath)}, {"GET", "/Listen/" + listenPath[len("/listen/"):]},
		{"GET", listenPath + ";x"}, {"GET", listenPath + ";x=/.."}, {"GET", listenPath + "%2f"}, {"GET", listenPath + "%00"},
		{"GET", listenPath + "?a=b"}, {"GET", listenPath + "#x"}, {"GET", listenPath + " "}, {"GET", listenPath + "\\"},
		{"GET", "/listen/../listen/" + listenPath[len("/listen/"):]}, {"GET", "/./" + listenPath[1:]},
		{"GET", "/listen//" + listenPath[len("/listen/"):]}, {"GET", "/%6cisten/" + listenPath[len("/listen/"):]},
		{"GET", listenPath + "/../../admin"}, {"GET", listenPath[:len(listenPath)-1]}, {"GET", "/ipfs/" + listenPath[len("/listen/"):]},
		{"GET", "/keys/" + listenPath[len("/listen/"):]}, {"GET", "/api/v1/stations"}, {"GET", "/metrics"}, {"GET", "/debug/pprof/"},
		{"GET", strings.Replace(listenPath, "k", "\u212a", 1)}, {"GET", "http://h" + listenPath},
	}
	for _, c := range cases {
		_, err := w.verifier.Link(raw, c.method, c.path)
		wantCode(t, err, "credential_scope")
	}
}

func TestLinkTimes(t *testing.T) {
	w := newWorld(t)
	raw := w.link(t, func(r *policy.LinkRequest) { r.TTL = time.Minute })
	start := w.now
	for _, remembered := range []bool{false, true} {
		for _, c := range []struct {
			at   time.Duration
			code string
		}{
			{-time.Second, "credential_not_yet_valid"},
			{0, ""},
			{59 * time.Second, ""},
			{60 * time.Second, "credential_expired"},
		} {
			if !remembered {
				v, err := policy.NewVerifier(w.options)
				must(t, err)
				w.verifier = v
			}
			w.now = start.Add(c.at)
			_, err := w.verifier.Link(raw, "GET", listenPath)
			wantCode(t, err, c.code)
		}
	}
}

// H11: a new epoch ends every link of the station, also one that was used.
func TestLinkEpoch(t *testing.T) {
	w := newWorld(t)
	raw := w.link(t, nil)
	g, err := w.verifier.Link(raw, "GET", listenPath)
	must(t, err)
	must(t, w.verifier.Live(g, jazz))
	wantCode(t, w.verifier.Live(g, blues), "credential_scope")
	for _, epoch := range []uint64{2, 4} {
		w.registry.epochs[jazz] = epoch
		_, err = w.verifier.Link(raw, "GET", listenPath)
		wantCode(t, err, "credential_revoked")
		wantCode(t, w.verifier.Live(g, jazz), "credential_revoked")
	}
	delete(w.registry.epochs, jazz)
	_, err = w.verifier.Link(raw, "GET", listenPath)
	wantCode(t, err, "credential_revoked")

	w.registry.epochs[jazz] = 3
	must(t, w.verifier.Live(g, jazz))
	w.registry.ids[g.ID()] = true
	_, err = w.verifier.Link(raw, "GET", listenPath)
	wantCode(t, err, "credential_revoked")
}

// Links are made here by another program with the right key.
func TestLinkChecks(t *testing.T) {
	w := newWorld(t)
	signer, err := cat.NewSigner(linkKid, w.secret)
	must(t, err)
	cases := []struct {
		name   string
		change func(*cat.Claims)
		code   string
	}{
		{"good", func(*cat.Claims) {}, ""},
		{"prefix", func(c *cat.Claims) { c.Paths = []cat.Match{{Value: "/listen/", Prefix: true}} }, ""},
		{"no station", func(c *cat.Claims) { c.Station = nil }, "credential_malformed"},
		{"no id", func(c *cat.Claims) { c.ID = nil }, "credential_malformed"},
		{"no path", func(c *cat.Claims) { c.Paths = nil }, "credential_malformed"},
		{"no method", func(c *cat.Claims) { c.Methods = nil }, "credential_malformed"},
		{"no time of issue", func(c *cat.Claims) { c.Issued = time.Time{} }, "credential_malformed"},
		{"epoch beyond all", func(c *cat.Claims) { c.Station.Epoch = 1 << 63 }, "credential_malformed"},
		{"other issuer", func(c *cat.Claims) { c.Issuer = "x" }, "credential_issuer"},
		{"no issuer", func(c *cat.Claims) { c.Issuer = "" }, "credential_issuer"},
		{"audience", func(c *cat.Claims) { c.Audience = []string{"x", audience} }, ""},
		{"other audience", func(c *cat.Claims) { c.Audience = []string{"x"} }, "credential_audience"},
		{"lives a week", func(c *cat.Claims) { c.Expires = w.now.Add(7 * 24 * time.Hour) }, ""},
		{"lives longer", func(c *cat.Claims) { c.Expires = w.now.Add(7*24*time.Hour + time.Second) }, "credential_malformed"},
		{"ends before it begins", func(c *cat.Claims) { c.Expires = w.now.Add(-time.Second) }, "credential_malformed"},
		{"later", func(c *cat.Claims) { c.NotBefore = w.now.Add(time.Second) }, "credential_not_yet_valid"},
		{"other path", func(c *cat.Claims) { c.Paths[0].Value += "x" }, "credential_scope"},
		{"other station", func(c *cat.Claims) { c.Station.ID = "nowhere" }, "credential_revoked"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			claims := cat.Claims{
				Issuer: issuerName, ID: []byte("0123456789abcdef"), Issued: w.now, Expires: w.now.Add(time.Minute),
				Paths: []cat.Match{{Value: listenPath}}, Methods: []string{"GET"},
				Station: &cat.Station{ID: jazz, Epoch: 3},
			}
			c.change(&claims)
			raw, err := signer.Sign(claims)
			must(t, err)
			_, err = w.verifier.Link(raw, "GET", listenPath)
			wantCode(t, err, c.code)
		})
	}
}

// A link is no token, a token is no link, and neither is remembered as the
// other.
func TestCredentialsDoNotMix(t *testing.T) {
	w := newWorld(t)
	token, link := w.token(t, "alice", jazz, policy.Listen), w.link(t, nil)
	for range 2 {
		_, err := w.verifier.Token(token)
		must(t, err)
		_, err = w.verifier.Link(link, "GET", listenPath)
		must(t, err)
		_, err = w.verifier.Token(link)
		wantCode(t, err, "credential_malformed")
		_, err = w.verifier.Link(token, "GET", listenPath)
		wantCode(t, err, "credential_malformed")
	}
}

// H10: a link opens nothing but listening, and saving where that is allowed.
func TestLinkListensOnly(t *testing.T) {
	w := newWorld(t)
	g := w.linkGrant(t, func(r *policy.LinkRequest) { r.Download = true })
	for _, a := range []policy.Action{
		policy.Listen, policy.Download, policy.ReleaseKey, policy.Add, policy.Manage,
		policy.Moderate, policy.Audit, policy.Host, "", "fly",
	} {
		want := a == policy.Listen || a == policy.Download
		r := policy.Resource{Station: jazz, Downloads: true, Epoch: 3, Segment: "s"}
		if got := w.engine.Decide(g, a, r); got.Allowed() != want {
			t.Errorf("%q: allowed is %v (%s)", a, got.Allowed(), got.Reason())
		}
		for name, other := range map[string]policy.Resource{
			"other station": {Station: blues, Downloads: true, Epoch: 3, Segment: "s"},
			"other epoch":   {Station: jazz, Downloads: true, Epoch: 4, Segment: "s"},
			"node":          {Epoch: 3, Downloads: true},
		} {
			if w.engine.Decide(g, a, other).Allowed() {
				t.Errorf("%q on %s is allowed", a, name)
			}
		}
	}
	g = w.linkGrant(t, nil)
	if w.engine.Decide(g, policy.Download, policy.Resource{Station: jazz, Downloads: true, Epoch: 3, Segment: "s"}).Allowed() {
		t.Error("a link for listening saves")
	}
}
