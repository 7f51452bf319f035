package gateway

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

const aWord = "open sesame"

// P16, P21, P25, P29: whoever has the link of a share is let in without an account,
// with a cookie that is safe, and for a time.
func TestShareOpensASession(t *testing.T) {
	r := newRealm(t)
	song := r.add(musen.Segment{Title: "Blue in Green"}, audioOf(1000))
	s := r.open(hasher(t), nil)
	_, secret := r.share("jazz", nil)
	a := s.ask("GET", "/s/"+secret)
	c := a.Cookies()[0]
	if a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "/stations/jazz" {
		t.Fatalf("%s to %q", a.Status, a.Header.Get("Location"))
	}
	if c.Name != "__Host-musen" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.MaxAge < 3599 || c.MaxAge > 3600 {
		t.Errorf("cookie %+v", c)
	}
	// H13: no page tells where somebody came from, and none is kept.
	for name, value := range map[string]string{
		"Referrer-Policy": "no-referrer", "Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff",
	} {
		if a.Header.Get(name) != value {
			t.Errorf("%s is %q", name, a.Header.Get(name))
		}
	}
	if got := r.shares[secret]; got.Uses != 1 {
		t.Errorf("%d uses", got.Uses)
	}

	a = s.ask("GET", "/stations/jazz", "Cookie", cookie(c.Value))
	a.want(t, http.StatusOK, "<audio", `data-segments="/stations/jazz/segments"`)
	if strings.Contains(string(a.body), "://") || strings.Contains(string(a.body), "<script>") || strings.Count(string(a.body), "<audio") != 1 {
		t.Errorf("the page is not only ours:\n%s", a.body)
	}
	if csp := a.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("policy %q", csp)
	}
	s.ask("GET", "/listen/"+song.CID.String(), "Cookie", cookie(c.Value)).want(t, http.StatusOK)

	// A visitor who is in already uses up nothing more.
	if again := s.ask("GET", "/s/"+secret, "Cookie", cookie(c.Value)); again.StatusCode != http.StatusSeeOther || len(again.Cookies()) != 0 {
		t.Errorf("again: %s, %v", again.Status, again.Cookies())
	}
	if head := s.ask("HEAD", "/s/"+secret); head.StatusCode != http.StatusSeeOther || len(head.Cookies()) != 0 {
		t.Errorf("HEAD: %s, %v", head.Status, head.Cookies())
	}
	if got := r.shares[secret]; got.Uses != 1 {
		t.Errorf("%d uses", got.Uses)
	}
	r.change(secret, func(s *musen.Share) { s.Expires = r.clock.Now().Add(time.Minute) })
	if c := s.ask("GET", "/s/"+secret).Cookies()[0]; c.MaxAge > 60 {
		t.Errorf("a session outlives its share by %d s", c.MaxAge-60)
	}
}

// P25: who enters in the second in which a share's sessions were ended gets one
// that lives.
func TestShareInTheSecondOfItsRevocation(t *testing.T) {
	r := newRealm(t)
	r.add(musen.Segment{}, audioOf(1000))
	s := r.open(hasher(t), nil)
	share, secret := r.share("jazz", nil)
	before := cookie(s.cookieOf(s.ask("GET", "/s/"+secret)))
	r.mu.Lock()
	r.ended[policy.ShareSubject(share.ID)] = r.clock.Now()
	r.mu.Unlock()
	s.ask("GET", "/stations/jazz", "Cookie", before).want(t, http.StatusUnauthorized)
	after := cookie(s.cookieOf(s.ask("GET", "/s/"+secret)))
	s.ask("GET", "/stations/jazz", "Cookie", after).want(t, http.StatusOK, "<audio")
}

// P19, P20: a password comes before anything else.
func TestSharePassword(t *testing.T) {
	r, h := newRealm(t), hasher(t)
	s := r.open(h, nil)
	_, secret := r.share("jazz", withPassword(t, h, aWord))
	a := s.ask("GET", "/s/"+secret)
	a.want(t, http.StatusOK, `type="password"`)
	for _, form := range []string{"", "password=", "password=open+sesamE", "password=" + strings.Repeat("x", 256)} {
		a := s.post(secret, form)
		a.want(t, http.StatusForbidden, "That is not the password.", `type="password"`)
		if len(a.Cookies()) != 0 {
			t.Errorf("%q: cookies %v", form, a.Cookies())
		}
	}
	session := s.cookieOf(s.post(secret, "password=open+sesame"))
	s.ask("GET", "/stations/jazz", "Cookie", cookie(session)).want(t, http.StatusOK)
	s.ask("GET", "/s/"+secret, "Cookie", cookie(session)).want(t, http.StatusSeeOther)

	// H76: a cookie after a change of the password.
	other := withPassword(t, h, "another word")
	r.change(secret, func(s *musen.Share) { other(s); s.Generation++ })
	s.ask("GET", "/stations/jazz", "Cookie", cookie(session)).want(t, http.StatusUnauthorized, "Access denied", "credential_revoked")
	s.ask("GET", "/s/"+secret, "Cookie", cookie(session)).want(t, http.StatusOK, `type="password"`)
	s.post(secret, "password=open+sesame").want(t, http.StatusForbidden)
	s.cookieOf(s.post(secret, "password=another+word"))
}

// H76: nothing tells whether a share exists: neither what is said, nor the work.
func TestUnknownShareIsAsOneWithAPassword(t *testing.T) {
	r, h := newRealm(t), hasher(t)
	counted := &counting{Passwords: h, Verifier: r.verifier}
	s := r.open(counted, func(o *Options) { o.Verifier = counted })
	_, known := r.share("jazz", withPassword(t, h, aWord))
	_, unknown := r.share("jazz", nil)
	delete(r.shares, unknown)
	for _, ask := range []func(secret string) answer{
		func(secret string) answer { return s.ask("GET", "/s/"+secret) },
		func(secret string) answer { return s.ask("HEAD", "/s/"+secret) },
		func(secret string) answer { return s.ask("GET", "/s/"+secret, "Cookie", cookie("x")) },
		func(secret string) answer { return s.post(secret, "password=wrong") },
		func(secret string) answer { return s.post(secret, "") },
		func(secret string) answer { return s.post(secret, "a=b") },
		func(secret string) answer { return s.post(secret, "password=x", "Origin", "https://evil.example") },
	} {
		before := counted.n
		a := ask(known)
		forKnown := counted.n - before
		b := ask(unknown)
		if a.StatusCode != b.StatusCode || withoutRequestID(a) != withoutRequestID(b) {
			t.Errorf("known %s\n%s\nunknown %s\n%s", a.Status, a.body, b.Status, b.body)
		}
		if forUnknown := counted.n - before - forKnown; forKnown != forUnknown {
			t.Errorf("%d hashes and cookies looked at for a known share, %d for none", forKnown, forUnknown)
		}
		for _, name := range []string{"X-Request-Id", "Date"} {
			a.Header.Del(name)
			b.Header.Del(name)
		}
		for name := range a.Header {
			if a.Header.Get(name) != b.Header.Get(name) {
				t.Errorf("%s is %q and %q", name, a.Header.Get(name), b.Header.Get(name))
			}
		}
	}
	if counted.n == 0 {
		t.Error("no password was checked, nor a cookie")
	}
	for _, bad := range []string{"x", strings.ToUpper(known), known + "a", known[1:], known[1:] + "0"} {
		s.ask("GET", "/s/"+bad).want(t, http.StatusNotFound)
		s.post(bad, "password=x").want(t, http.StatusNotFound)
	}
}

// counting counts the passwords and the sessions that are checked.
type counting struct {
	Passwords
	Verifier
	n int
}

func (c *counting) Session(raw string) (policy.Grant, error) {
	c.n++
	return c.Verifier.Session(raw)
}

func (c *counting) Matches(ctx context.Context, password, hash string) (bool, error) {
	c.n++
	return c.Passwords.Matches(ctx, password, hash)
}

func withoutRequestID(a answer) string {
	return strings.ReplaceAll(string(a.body), a.Header.Get("X-Request-Id"), "")
}

// H76, P24: guesses are throttled, for a client and for a share, and who knows
// the password still comes in.
func TestGuessesAreThrottled(t *testing.T) {
	r, h := newRealm(t), hasher(t)
	s := r.open(h, nil)
	_, secret := r.share("jazz", withPassword(t, h, aWord))
	refused := 0
	for range 40 {
		a := s.post(secret, "password=wrong")
		switch a.StatusCode {
		case http.StatusForbidden:
		case http.StatusTooManyRequests:
			if a.Header.Get("Retry-After") != "30" {
				t.Errorf("Retry-After is %q", a.Header.Get("Retry-After"))
			}
			refused++
		default:
			t.Fatal(a.Status)
		}
	}
	if refused != 30 {
		t.Errorf("%d of 40 guesses were refused unheard", refused)
	}
	s.post(secret, "password=open+sesame").want(t, http.StatusTooManyRequests, "too_many_requests")
	r.clock.Add(31 * time.Second)
	s.cookieOf(s.post(secret, "password=open+sesame"))
	for range 40 { // those who know it use up nothing
		s.cookieOf(s.post(secret, "password=open+sesame"))
		r.clock.Add(time.Second)
	}
	for range 200 {
		if a := s.ask("GET", "/s/"+secret); a.StatusCode == http.StatusTooManyRequests {
			return
		}
	}
	t.Error("a client may come as often as it likes")
}

// H76: guesses that come all at once are no more than those that come in turn.
func TestGuessesAtOnceAreThrottled(t *testing.T) {
	const guesses = 40
	r, h := newRealm(t), hasher(t)
	held := &holding{Passwords: h, arrived: make(chan struct{}, guesses), release: make(chan struct{})}
	s := r.open(held, nil)
	_, secret := r.share("jazz", withPassword(t, h, aWord))
	refused, heard := make(chan int, guesses), 0
	for range guesses {
		go func() { refused <- s.post(secret, "password=wrong").StatusCode }()
	}
	for range guesses { // each is refused at once, or has its password looked at
		select {
		case status := <-refused:
			if status != http.StatusTooManyRequests {
				t.Errorf("status %d", status)
			}
		case <-held.arrived:
			heard++
		}
	}
	close(held.release)
	for range heard {
		if status := <-refused; status != http.StatusForbidden {
			t.Errorf("status %d", status)
		}
	}
	if heard != 10 {
		t.Errorf("%d of %d guesses were heard", heard, guesses)
	}
}

// holding holds whoever checks a password until it is released.
type holding struct {
	Passwords
	arrived, release chan struct{}
}

func (h *holding) Matches(ctx context.Context, password, hash string) (bool, error) {
	h.arrived <- struct{}{}
	<-h.release
	return h.Passwords.Matches(ctx, password, hash)
}

// P17: an ended share says so to whoever has its secret.
func TestEndedShares(t *testing.T) {
	r, h := newRealm(t), hasher(t)
	s := r.open(h, nil)
	for name, c := range map[string]struct {
		change func(*musen.Share)
		words  string
	}{
		"revoked":  {func(s *musen.Share) { s.Revoked = r.clock.Now() }, "This link was ended."},
		"epoch":    {func(s *musen.Share) { s.Epoch-- }, "This link was ended."},
		"expired":  {func(s *musen.Share) { s.Expires = r.clock.Now() }, "This link has expired."},
		"spent":    {func(s *musen.Share) { s.MaxUses, s.Uses = 2, 2 }, "This link was used as often as it may be."},
		"no more":  {func(s *musen.Share) { s.Station = "gone" }, "This link was ended."},
		"password": {func(s *musen.Share) { s.Password, s.Revoked = "x", r.clock.Now() }, "This link was ended."},
	} {
		t.Run(name, func(t *testing.T) {
			_, secret := r.share("jazz", c.change)
			for _, a := range []answer{s.ask("GET", "/s/"+secret), s.post(secret, "password=x")} {
				a.want(t, http.StatusForbidden, "Access denied", c.words, "share_ended")
				if len(a.Cookies()) != 0 {
					t.Errorf("cookies %v", a.Cookies())
				}
			}
		})
	}
}

// A share of a few uses is not used up by what looks at links, and opens as
// often as it says.
func TestShareOfFewUses(t *testing.T) {
	r := newRealm(t)
	s := r.open(hasher(t), nil)
	_, secret := r.share("jazz", func(s *musen.Share) { s.MaxUses = 2 })
	for range 5 {
		a := s.ask("GET", "/s/"+secret)
		a.want(t, http.StatusOK, "<button")
		if strings.Contains(string(a.body), "password") {
			t.Errorf("it asks for a password:\n%s", a.body)
		}
	}
	s.cookieOf(s.post(secret, ""))
	session := s.cookieOf(s.post(secret, ""))
	s.post(secret, "").want(t, http.StatusForbidden, "used as often")
	s.ask("GET", "/s/"+secret, "Cookie", cookie(session)).want(t, http.StatusSeeOther) // one of those it opened
}

// The form takes what a browser sends from its own page, and nothing else.
func TestShareFormRefusals(t *testing.T) {
	r, h := newRealm(t), hasher(t)
	s := r.open(h, nil)
	_, secret := r.share("jazz", withPassword(t, h, aWord))
	const right = "password=open+sesame"
	for name, c := range map[string]struct {
		form    string
		headers []string
		status  int
	}{
		"cross site":   {right, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		"other origin": {right, []string{"Origin", "https://evil.example"}, 403},
		"null origin":  {right, []string{"Origin", "null"}, 403},
		"same origin":  {right, []string{"Origin", s.url}, 303},
		"json":         {`{"password":"open sesame"}`, []string{"Content-Type", "application/json"}, 415},
		"multipart":    {right, []string{"Content-Type", "multipart/form-data; boundary=x"}, 415},
		"compressed":   {right, []string{"Content-Encoding", "gzip"}, 415},
		"charset":      {right, []string{"Content-Type", "application/x-www-form-urlencoded; charset=UTF-8"}, 303},
		"twice":        {right + "&" + right, nil, 400},
		"more":         {right + "&x=y", nil, 400},
		"escapes":      {"password=%zz", nil, 400},
		"too large":    {right + strings.Repeat("x", maxForm), nil, 413},
	} {
		if a := s.post(secret, c.form, c.headers...); a.StatusCode != c.status {
			t.Errorf("%s: %s, want %d\n%s", name, a.Status, c.status, a.body)
		}
	}
	// No other route takes a body, and none another method.
	for _, path := range []string{"/s/", "/stations/jazz", "/stations/jazz/segments", "/web/page.css", "/listen/x"} {
		if a := s.raw("POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"); !strings.HasPrefix(a, "HTTP/1.1 400") && !strings.HasPrefix(a, "HTTP/1.1 404") {
			t.Errorf("%s: %.40q", path, a)
		}
	}
	if a := s.ask("DELETE", "/s/"+secret); a.StatusCode != 405 || a.Header.Get("Allow") != "GET, HEAD, POST" {
		t.Errorf("DELETE: %s, %q", a.Status, a.Header.Get("Allow"))
	}
	if a := s.raw("POST /s/" + secret + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n"); !strings.HasPrefix(a, "HTTP/1.1 400") {
		t.Errorf("a body of unknown length: %.40q", a)
	}
}

// H13: no secret is in any log, whatever becomes of the request.
func TestShareSecretsAreNotLogged(t *testing.T) {
	r, h := newRealm(t), hasher(t)
	song := r.add(musen.Segment{}, audioOf(100))
	s := r.open(h, nil)
	_, secret := r.share("jazz", withPassword(t, h, aWord))
	_, ended := r.share("jazz", func(s *musen.Share) { s.Revoked = r.clock.Now() })
	s.ask("GET", "/s/"+secret)
	s.ask("GET", "/s/"+ended)
	s.ask("GET", "/s/"+ended+"x")
	s.post(secret, "password=Wr0ngWr0ng")
	session := s.cookieOf(s.post(secret, "password=open+sesame"))
	for _, path := range []string{"/stations/jazz", "/stations/nowhere", "/stations/jazz/segments"} {
		s.ask("GET", path, "Cookie", cookie(session))
	}
	link := s.list("jazz", "", "Cookie", cookie(session)).Segments[0].URL
	s.ask("GET", link)
	s.ask("GET", "/listen/"+song.CID.String(), "Cookie", cookie(session))
	s.ask("GET", "/stations/jazz", "Cookie", cookie(session+"x"))
	log := s.log.String()
	_, raw, _ := strings.Cut(link, "CAT=")
	for _, word := range []string{secret, ended, session, raw, aWord, "Wr0ng"} {
		for i := 0; i+8 <= len(word); i += 4 {
			if strings.Contains(log, word[i:i+8]) {
				t.Fatalf("the log holds %q of a secret:\n%s", word[i:i+8], log)
			}
		}
	}
	if !strings.Contains(log, "/s/:share") {
		t.Error("the log does not tell the route")
	}
}

func FuzzShareForm(f *testing.F) {
	for _, seed := range []string{"", "password=x", "password=%41", "password=a&password=b", "x=y", "%", "password=%zz", "a;b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		word, err := parseForm(body)
		if err != nil && word != "" || len(word) > len(body) {
			t.Errorf("%q of %q, %v", word, body, err)
		}
	})
}
