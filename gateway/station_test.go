package gateway

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

// P8, P9: each load of a list mints links of its own, which end soon and were
// never good for anything else.
func TestListMintsFreshLinks(t *testing.T) {
	r := newRealm(t)
	song := r.add(musen.Segment{Title: "Blue in Green", Artist: "a trio", Duration: 327 * time.Second}, audioOf(1000))
	other := r.add(musen.Segment{}, audioOf(500))
	s := r.open(hasher(t), nil)
	_, secret := r.share("jazz", nil)
	mine := cookie(s.enter(secret))
	first, second := s.list("jazz", "", "Cookie", mine), s.list("jazz", "", "Cookie", mine)
	if len(first.Segments) != 2 || first.Next != "" || first.Station != "jazz" || first.ValidFor != 300 {
		t.Fatalf("list %+v", first)
	}
	seen := map[string]bool{}
	for _, l := range append(first.Segments, second.Segments...) {
		if seen[l.URL] {
			t.Errorf("a link comes twice: %s", l.URL)
		}
		seen[l.URL] = true
		s.ask("GET", l.URL).want(t, http.StatusOK)
		moved := strings.Replace(l.URL, song.CID.String(), other.CID.String(), 1)
		if l.CID == song.CID.String() {
			if l.Title != "Blue in Green" || l.Artist != "a trio" || l.DurationMS != 327_000 || l.MediaType != "audio/mpeg" {
				t.Errorf("listed %+v", l)
			}
			s.ask("GET", moved).want(t, http.StatusNotFound)
		}
	}
	r.clock.Add(299 * time.Second)
	s.ask("GET", first.Segments[0].URL).want(t, http.StatusOK)
	r.clock.Add(time.Second)
	a := s.ask("GET", first.Segments[0].URL) // who copied it has nothing
	a.want(t, http.StatusUnauthorized, "credential_expired")

	// In the browser that loaded the list it plays on, and the list has new ones.
	s.ask("GET", first.Segments[0].URL, "Cookie", mine).want(t, http.StatusOK)
	s.ask("GET", s.list("jazz", "", "Cookie", mine).Segments[0].URL).want(t, http.StatusOK)
	r.clock.Add(time.Hour)
	s.ask("GET", first.Segments[0].URL, "Cookie", mine).want(t, http.StatusUnauthorized, "credential_expired")
	s.ask("GET", "/stations/jazz/segments", "Cookie", mine).want(t, http.StatusUnauthorized, "credential_expired")
	s.ask("GET", "/stations/jazz", "Cookie", mine).want(t, http.StatusUnauthorized, "Access denied", "Your time here is over.", "credential_expired")
}

// A session near its end lists links that end with it.
func TestLinksEndWithTheirSession(t *testing.T) {
	r := newRealm(t)
	r.add(musen.Segment{}, audioOf(100))
	s := r.open(hasher(t), nil)
	_, secret := r.share("jazz", func(s *musen.Share) { s.SessionTTL = time.Minute })
	p := s.list("jazz", "", "Cookie", cookie(s.enter(secret)))
	if p.ValidFor > 60 || p.ValidFor < 58 {
		t.Errorf("valid for %d s", p.ValidFor)
	}
	r.clock.Add(time.Minute)
	s.ask("GET", p.Segments[0].URL).want(t, http.StatusUnauthorized, "credential_expired")
}

// P22: saving needs the station, and the share or the token.
func TestListDownloads(t *testing.T) {
	r := newRealm(t)
	r.addStation("quiet", false)
	r.add(musen.Segment{}, audioOf(100))
	r.add(musen.Segment{Station: "quiet"}, audioOf(100))
	s := r.open(hasher(t), nil)
	_, saves := r.share("jazz", nil)
	_, hears := r.share("jazz", func(s *musen.Share) { s.Downloads = false })
	_, quiet := r.share("quiet", nil)
	for name, c := range map[string]struct {
		station string
		headers []string
		want    bool
	}{
		"share with downloads":    {"jazz", []string{"Cookie", cookie(s.enter(saves))}, true},
		"share without":           {"jazz", []string{"Cookie", cookie(s.enter(hears))}, false},
		"station without":         {"quiet", []string{"Cookie", cookie(s.enter(quiet))}, false},
		"token":                   {"jazz", []string{"Authorization", "Bearer " + r.token("jazz")}, true},
		"token for no downloads":  {"quiet", []string{"Authorization", "Bearer " + r.token("quiet")}, false},
		"token for every station": {"jazz", []string{"Authorization", "Bearer " + r.token()}, true},
	} {
		l := s.list(c.station, "", c.headers...).Segments[0]
		if (l.Download != "") != c.want {
			t.Errorf("%s: %+v", name, l)
		}
		a := s.ask("GET", l.URL+"&download=1")
		if got := a.StatusCode == http.StatusOK && strings.HasPrefix(a.Header.Get("Content-Disposition"), "attachment"); got != c.want {
			t.Errorf("%s: %s %q", name, a.Status, a.Header.Get("Content-Disposition"))
		}
		if !c.want {
			a.want(t, http.StatusForbidden)
		}
		s.ask("GET", l.URL).want(t, http.StatusOK)
	}
}

// P30: who may listen by a role or a policy, and not by what the credential
// names, is told where: the same credential opens it, until that is over, and a
// link that would outlive the role is not made.
func TestListForRoles(t *testing.T) {
	r := newRealm(t)
	song := r.add(musen.Segment{}, audioOf(100))
	s := r.open(hasher(t), nil)
	raw, _, _, err := r.issuer.Token(policy.TokenRequest{Subject: "ann", Identity: true, TTL: time.Hour})
	check(t, err)
	r.roles["ann"] = policy.Operator
	bearer := []string{"Authorization", "Bearer " + raw}
	l := s.list("jazz", "", bearer...).Segments[0]
	if l.URL != "/listen/"+song.CID.String() || l.Download != "" {
		t.Errorf("listed %+v", l)
	}
	s.ask("GET", l.URL, bearer...).want(t, http.StatusOK)
	s.ask("GET", l.URL).want(t, http.StatusUnauthorized)
	r.mu.Lock()
	delete(r.roles, "ann")
	r.mu.Unlock()
	s.ask("GET", l.URL, bearer...).want(t, http.StatusNotFound)
	s.ask("GET", "/stations/jazz/segments", bearer...).want(t, http.StatusNotFound)

	// A share that does not save, at a node whose policies let everybody save.
	check(t, r.engine.Load([]policy.File{{Name: "own", Text: []byte(`@id("all") permit (principal, action, resource);`)}}))
	_, hears := r.share("jazz", func(s *musen.Share) { s.Downloads = false })
	mine := cookie(s.enter(hears))
	l = s.list("jazz", "", "Cookie", mine).Segments[0]
	s.ask("GET", l.URL).want(t, http.StatusOK)
	s.ask("GET", l.Download, "Cookie", mine).want(t, http.StatusOK)
	if strings.Contains(l.Download, "CAT=") {
		t.Errorf("a link saves what the share does not: %s", l.Download)
	}
}

// What may not be heard now is not listed; pages follow each other.
func TestListPages(t *testing.T) {
	r := newRealm(t)
	s := r.open(hasher(t), nil)
	want := map[string]bool{}
	for range 5 {
		want[r.add(musen.Segment{}, audioOf(100)).CID.String()] = true
	}
	r.add(musen.Segment{PublishAt: r.clock.Now().Add(time.Hour)}, audioOf(100))
	r.add(musen.Segment{ExpiresAt: r.clock.Now()}, audioOf(100))
	r.add(musen.Segment{State: musen.TakenDown}, audioOf(100))
	r.deny(r.add(musen.Segment{}, audioOf(100)).CID, true)
	bearer := "Bearer " + r.token("jazz")
	pages := 0
	for cursor := ""; ; pages++ {
		p := s.list("jazz", "?limit=3&cursor="+url.QueryEscape(cursor), "Authorization", bearer)
		for _, l := range p.Segments {
			if !want[l.CID] {
				t.Errorf("listed %s, once more or against the clock", l.CID)
			}
			delete(want, l.CID)
		}
		if cursor = p.Next; cursor == "" {
			break
		}
	}
	if len(want) > 0 || pages != 2 {
		t.Errorf("%d segments were not listed on %d pages", len(want), pages+1)
	}
	for _, query := range []string{"?limit=0", "?limit=101", "?limit=x", "?cursor=x", "?x=y", "?limit=1&limit=2"} {
		s.ask("GET", "/stations/jazz/segments"+query, "Authorization", bearer).want(t, http.StatusBadRequest)
	}
	head := s.ask("HEAD", "/stations/jazz/segments", "Authorization", bearer)
	if head.StatusCode != http.StatusOK || len(head.body) != 0 || head.Header.Get("Content-Type") != "application/json" {
		t.Errorf("HEAD: %s, %v", head.Status, head.Header)
	}
}

// H31: a station that is not covered, or named otherwise, is one that is not
// there; and without a credential nothing is.
func TestStationsTellNothing(t *testing.T) {
	r := newRealm(t)
	r.addStation("rock", true)
	song := r.add(musen.Segment{}, audioOf(100))
	s := r.open(hasher(t), nil)
	_, secret := r.share("rock", nil)
	rock := cookie(s.enter(secret))
	var said []string
	for _, headers := range [][]string{{"Cookie", rock}, {"Authorization", "Bearer " + r.token("rock")}} {
		for _, station := range []string{"jazz", "nowhere", "%6aazz", "JAZZ", "..", "jazz%2f"} {
			for _, path := range []string{"/stations/" + station, "/stations/" + station + "/segments"} {
				a := s.ask("GET", path, headers...)
				a.want(t, http.StatusNotFound)
				if strings.HasSuffix(path, "/segments") && station != "jazz%2f" && station != ".." {
					said = append(said, withoutRequestID(a))
				}
			}
		}
	}
	for _, words := range said {
		if words != said[0] {
			t.Errorf("two answers:\n%s\n%s", words, said[0])
		}
	}
	for _, path := range []string{"/stations/jazz", "/stations/nowhere", "/stations/jazz/segments", "/stations/nowhere/segments"} {
		a := s.ask("GET", path)
		a.want(t, http.StatusUnauthorized, "credential_missing")
		if a.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: no challenge", path)
		}
		// A link opens a segment and no list; a token that may not listen, nothing.
		s.ask("GET", path+"?CAT="+r.link("jazz", song.CID)).want(t, http.StatusNotFound)
	}
	raw, _, _, err := r.issuer.Token(policy.TokenRequest{Subject: "bob", Stations: []string{"jazz"}, Actions: []policy.Action{policy.Add}, TTL: time.Hour})
	check(t, err)
	s.ask("GET", "/stations/jazz/segments", "Authorization", "Bearer "+raw).want(t, http.StatusNotFound)
}

// H76: a cookie that was forged, cut, moved or doubled opens nothing, and never
// fails the gateway.
func TestForgedCookies(t *testing.T) {
	r := newRealm(t)
	r.addStation("rock", true)
	song := r.add(musen.Segment{}, audioOf(100))
	s := r.open(hasher(t), func(o *Options) { o.Rates = unlimited() })
	_, secret := r.share("jazz", nil)
	good := s.enter(secret)
	link := r.link("jazz", song.CID)
	bad := map[string]string{
		"empty": cookie(""), "a link": cookie(link), "a token": cookie(r.token("jazz")), "cut": cookie(good[:len(good)-1]),
		"longer": cookie(good + "A"), "quoted": cookie(`"` + good + `"`), "huge": cookie(strings.Repeat("A", 8000)),
		"twice": cookie(good) + "; " + cookie(good), "two": cookie(good) + "; " + cookie("x"),
		"other name": "musen=" + good, "other case": "__host-musen=" + good, "as a link": "CTA-Common-Access-Token=" + good,
	}
	for i := range len(good) {
		flipped := []byte(good)
		flipped[i] = "AB"[btoi(flipped[i] == 'A')]
		bad["flipped at "+string(rune('0'+i%10))+good[:i]] = cookie(string(flipped))
	}
	for name, value := range bad {
		for _, path := range []string{"/stations/jazz", "/stations/jazz/segments", "/listen/" + song.CID.String()} {
			if a := s.ask("GET", path, "Cookie", value); a.StatusCode != http.StatusUnauthorized {
				t.Errorf("%.20s on %s: %s", name, path, a.Status)
			}
		}
	}
	for _, path := range []string{"/stations/rock", "/stations/rock/segments"} { // moved to another station
		s.ask("GET", path, "Cookie", cookie(good)).want(t, http.StatusNotFound)
	}
	// The cookie counts only where there is nothing else, whatever that is.
	for _, headers := range [][]string{{"Authorization", "Bearer x"}, {"CTA-Common-Access-Token", "x"}, {"Authorization", "Basic eDp5"}} {
		s.ask("GET", "/listen/"+song.CID.String(), append(headers, "Cookie", cookie(good))...).want(t, http.StatusUnauthorized)
	}
	s.ask("GET", "/listen/"+song.CID.String()+"?CAT="+link, "Cookie", cookie(good)).want(t, http.StatusOK)
	s.ask("GET", "/listen/"+song.CID.String()+"?CAT="+link[1:], "Cookie", cookie(good)).want(t, http.StatusUnauthorized)
	s.ask("GET", "/stations/jazz", "Cookie", cookie(good)).want(t, http.StatusOK)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Scripts and styles are for anybody, and nothing else that is in their folder.
func TestFilesOfPages(t *testing.T) {
	s := newRealm(t).open(hasher(t), nil)
	for file, mediaType := range map[string]string{"station.js": "text/javascript; charset=utf-8", "page.css": "text/css; charset=utf-8"} {
		a := s.ask("GET", "/web/"+file)
		if a.StatusCode != http.StatusOK || a.Header.Get("Content-Type") != mediaType || len(a.body) == 0 {
			t.Errorf("%s: %s %q", file, a.Status, a.Header.Get("Content-Type"))
		}
		if again := s.ask("GET", "/web/"+file, "If-None-Match", a.Header.Get("Etag")); again.StatusCode != http.StatusNotModified {
			t.Errorf("%s again: %s", file, again.Status)
		}
	}
	for _, file := range []string{"station.html", "web.go", "..", "x.js", "%2e%2e", ""} {
		s.ask("GET", "/web/"+file).want(t, http.StatusNotFound)
	}
}

// H28: a path has one spelling. Any other is an error, and sends nobody anywhere.
func TestOddPathsOfPages(t *testing.T) {
	r := newRealm(t)
	r.add(musen.Segment{}, audioOf(100))
	s := r.open(hasher(t), nil)
	_, secret := r.share("jazz", nil)
	session := "Cookie: " + cookie(s.enter(secret)) + "\r\n"
	l := s.line()
	if res := l.get("/stations/jazz", session); res.StatusCode != http.StatusOK {
		t.Fatal(res.Status)
	}
	for _, target := range []string{
		"/stations/jazz/", "/stations//jazz", "/stations/./jazz", "/stations/x/../jazz", "/stations/x/%2e%2e/jazz", "/Stations/jazz", "/STATIONS/JAZZ",
		"/stations/jazz;x", "/stations/jazz%00", "/stations/jazz%20", "/stations/%6a%61%7a%7a", "/stations\\jazz", "/stations/jazz/segments/", "/stations/jazz//segments",
		"/stations/jazz%2fsegments", "/stations/jazz/segments/..", "/stations/jazz/%73egments", "/stations/" + strings.Repeat("a", 8<<10),
		"/s/" + secret + "/", "//s/" + secret, "/s/%" + secret, "/s/./" + secret, "/S/" + secret, "/s/" + secret + "%2f", "/s/" + secret + ";x", "/s/" + secret + "\xc0\xae",
		"/s/" + secret[:31] + "%32", "/web/../station.html", "/web/%2e%2e/web.go", "/web//page.css", "/WEB/page.css", "/web/page.css/", "/web/PAGE.css",
	} {
		res := l.get(target, session)
		if res.StatusCode < 400 || res.StatusCode > 499 || res.Header.Get("Location") != "" || len(res.Cookies()) > 0 {
			t.Errorf("%.60q: %s, to %q", target, res.Status, res.Header.Get("Location"))
		}
	}
}

// A proxy may serve the listener under a path of its own.
func TestPagesUnderAPath(t *testing.T) {
	r := newRealm(t)
	r.add(musen.Segment{}, audioOf(100))
	s := r.open(hasher(t), func(o *Options) { o.Pages.Base = "/radio" })
	_, secret := r.share("jazz", nil)
	a := s.ask("GET", "/s/"+secret)
	if to := a.Header.Get("Location"); to != "/radio/stations/jazz" {
		t.Errorf("sent to %q", to)
	}
	mine := cookie(s.cookieOf(a))
	s.ask("GET", "/stations/jazz", "Cookie", mine).want(t, http.StatusOK, `"/radio/web/station.js"`, `"/radio/stations/jazz/segments"`)
	if l := s.list("jazz", "", "Cookie", mine).Segments[0].URL; !strings.HasPrefix(l, "/radio/listen/") {
		t.Errorf("link %q", l)
	}
}

func FuzzSessionCookie(f *testing.F) {
	r := newRealm(f)
	share, _ := r.share("jazz", nil)
	good, _, err := r.issuer.Session(policy.SessionRequest{Share: share.ID, Station: "jazz", Epoch: 1, TTL: time.Hour})
	check(f, err)
	for _, seed := range []string{cookie(good), cookie(good) + "; " + cookie(good), "", "__Host-musen", cookie(`"` + good + `"`), "a=b; " + cookie("x")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		req := &http.Request{Header: http.Header{"Cookie": {header}}, URL: &url.URL{}}
		cred, _, err := findCredential(req)
		if err != nil {
			return
		}
		if _, err := r.verifier.Session(cred.raw); cred.isSession && err == nil && !strings.Contains(header, cookie(good)) {
			t.Errorf("a session in %q", header)
		}
	})
}

func FuzzSharePath(f *testing.F) {
	for _, seed := range []string{"", "abcdefghijklmnopqrstuvwxyz234567", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "../../x", "a b", "\x00", strings.Repeat("a", 33)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if musen.IsShareSecret(s) != (len(s) == 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz234567") == "") {
			t.Errorf("%q: %v", s, musen.IsShareSecret(s))
		}
	})
}

func FuzzListQuery(f *testing.F) {
	for _, seed := range []string{"", "limit=5", "cursor=x&limit=100", "limit=1&limit=2", "%zz", "x=y", "limit=+1", "limit=01"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		if _, limit, err := readPage(query); err == nil && (limit < 1 || limit > maxPage) {
			t.Errorf("%q: limit %d", query, limit)
		}
	})
}
