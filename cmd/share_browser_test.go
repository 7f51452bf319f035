package cmd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// do does steps in the browser.
func (b *browser) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
}

// value is that of an expression of the page, or what it promises.
func value[T any](b *browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%.60s: %v", expression, err)
	}
	return v
}

// until waits for something of the audio element of the page to become true.
func (b *browser) until(condition string) {
	b.t.Helper()
	value[bool](b, fmt.Sprintf(`new Promise((done) => {
		const audio = document.getElementById("audio");
		const look = () => { if (%s) done(true); };
		for (const event of ["timeupdate", "playing", "pause", "ended", "emptied", "loadedmetadata"]) audio.addEventListener(event, look);
		look();
	})`, condition))
}

// writeSecret puts a line into a file, and returns its name.
func writeSecret(t *testing.T, line string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// P17, P19, P21, H11: a listener opens a share in a browser, gives its password,
// and hears the station; when the share is regenerated, the song that plays ends
// and the page says why.
func TestBrowserOpensAShare(t *testing.T) {
	t.Parallel()
	r, b := startRadio(t), openBrowser(t)
	short := r.add(bundled(t)[0])
	song := r.add(longSong(t))
	link := r.musen("share", "create", "jazz", "--password", writeSecret(t, "open sesame"))

	b.goTo(link)
	b.do("give a wrong password", chromedp.SendKeys("#password", "open simsim"), chromedp.Click("button"), chromedp.WaitVisible("[role=alert]"))
	b.do("give the password", chromedp.SendKeys("#password", "open sesame"), chromedp.Click("button"), chromedp.WaitVisible("#segments li"))
	if at := value[string](b, "location.href"); !strings.HasPrefix(at, r.node.ready.Public+"/stations/") {
		t.Errorf("the browser is at %s", at)
	}
	if cookies := value[string](b, "document.cookie"); cookies != "" {
		t.Errorf("a script can read %q", cookies)
	}
	// P26: nothing but the gateway is asked, and only what is needed of it.
	for _, url := range value[[]string](b, `performance.getEntriesByType("resource").map((e) => e.name)`) {
		if !strings.HasPrefix(url, r.node.ready.Public+"/") || strings.Contains(url, "/s/") {
			t.Errorf("the page loads %s", url)
		}
	}
	if n := value[int](b, `document.querySelectorAll("audio").length`); n != 1 {
		t.Errorf("%d audio elements", n)
	}

	// The first segment is played out, and the next begins by itself.
	value[bool](b, "document.getElementById('audio').muted = true")
	b.do("play", chromedp.Click(fmt.Sprintf("[id=%q] button", short.CID)))
	b.until("audio.duration > 0 && audio.currentTime > 0.2")
	if d := value[float64](b, "document.getElementById('audio').duration"); d < short.seconds()-0.2 || d > short.seconds()+0.2 {
		t.Errorf("it plays %f seconds, not %f", d, short.seconds())
	}
	value[float64](b, "(audio => audio.currentTime = audio.duration - 0.5)(document.getElementById('audio'))")
	b.until(fmt.Sprintf("audio.src.includes(%q) && audio.currentTime > 0.2", song.CID))

	// P8: a load of the page has links of its own.
	const links = `fetch(document.body.dataset.segments).then((r) => r.json()).then((l) => l.segments.map((s) => s.url).join(" "))`
	if a, b := value[string](b, links), value[string](b, links); a == b || !strings.Contains(a, "?CAT=") {
		t.Errorf("links twice: %s", a)
	}

	fresh := r.musen("share", "regenerate", "jazz")
	value[float64](b, "(audio => audio.currentTime = audio.duration / 2)(document.getElementById('audio'))") // beyond what it may have
	b.do("be told", chromedp.WaitReady("body[data-state=ended]"))
	if said := value[string](b, "document.getElementById('said').textContent"); !strings.HasPrefix(said, "Access denied.") {
		t.Errorf("the page says %q", said)
	}
	if value[bool](b, "(audio => !audio.paused || audio.hasAttribute('src'))(document.getElementById('audio'))") {
		t.Error("it plays on")
	}
	resp, err := chromedp.Run(b.ctx, chromedp.NavigateResponse(link))
	if err != nil || resp.Status != http.StatusForbidden {
		t.Errorf("open the old link: %+v, %v", resp, err)
	}
	b.goTo(fresh) // has the password of the old one
	b.do("come in again", chromedp.SendKeys("#password", "open sesame"), chromedp.Click("button"), chromedp.WaitVisible("#segments li"))
}

// P91: a listener reports the segment that plays, by the page that the player
// links to.
func TestBrowserReports(t *testing.T) {
	t.Parallel()
	r, b := startRadio(t), openBrowser(t)
	song := r.add(longSong(t))
	b.goTo(r.musen("share", "create", "jazz"))
	b.do("come in", chromedp.WaitVisible("#segments li"))
	value[bool](b, "document.getElementById('audio').muted = true")
	b.do("play", chromedp.Click(fmt.Sprintf("[id=%q] button", song.CID)))
	b.until("audio.currentTime > 0.2")
	b.do("report", chromedp.Click("#report"), chromedp.WaitVisible("#about"))
	if about := value[string](b, "document.getElementById('about').value"); about != song.CID {
		t.Errorf("it is about %q", about)
	}
	b.do("say why", chromedp.SetValue("#category", "hate"), chromedp.SendKeys("#text", "<b>because</b>"), chromedp.Click("button"), chromedp.WaitVisible("code"))
	if said := value[string](b, "document.querySelector('main').textContent"); !strings.Contains(said, "Thank you") || !strings.Contains(said, "received") {
		t.Errorf("the page says %q", said)
	}
	b.do("look at the receipt", chromedp.Click("main a"), chromedp.WaitVisible("code"))
	if list := r.musen("report", "list", "--open"); !strings.Contains(list, song.CID) || !strings.Contains(list, "hate") {
		t.Errorf("reports: %s", list)
	}
}

// P8, P9: links end while a song plays, and it plays on, also when the browser
// asks for more of it; what plays next has a link that was minted meanwhile.
func TestBrowserRenewsLinks(t *testing.T) {
	t.Parallel()
	r, b := startRadio(t, "MUSEN_POLICY_LINK_TTL=2s"), openBrowser(t)
	song := r.add(longSong(t))
	after := r.add(bundled(t)[0])
	b.goTo(r.musen("share", "create", "jazz"))
	b.do("come in", chromedp.WaitVisible("#segments li"))
	old := value[string](b, `fetch(document.body.dataset.segments).then((r) => r.json()).then((l) => l.segments[0].url)`)

	value[bool](b, "document.getElementById('audio').muted = true")
	b.do("play", chromedp.Click(fmt.Sprintf("[id=%q] button", song.CID)))
	value[float64](b, "document.getElementById('audio').playbackRate = 4")
	b.until("audio.currentTime > 14") // longer than links live
	if got, err := http.Get(r.node.ready.Public + old); err != nil || got.StatusCode != http.StatusUnauthorized {
		t.Errorf("a link that was copied still opens: %+v, %v", got, err)
	}
	playing := value[string](b, "document.getElementById('audio').src")
	value[float64](b, "(audio => audio.currentTime = audio.duration - 1)(document.getElementById('audio'))") // not fetched yet
	b.until(fmt.Sprintf("audio.src.includes(%q) && audio.currentTime > 0.2", after.CID))
	next := value[string](b, "document.getElementById('audio').src")
	if _, token, _ := strings.Cut(next, "CAT="); token == "" || strings.Contains(playing, token) {
		t.Errorf("played %s, then %s", playing, next)
	}
	if said := value[string](b, "document.getElementById('said').textContent"); said != "" {
		t.Errorf("the page says %q", said)
	}
}

// H13: neither the secret of a share, nor its password, nor what came of them is
// in any file of the home, or in the log.
func TestShareSecretsStayOut(t *testing.T) {
	t.Parallel()
	r := startRadio(t)
	r.add(bundled(t)[0])
	const word = "Xyloph0ne-quartet"
	link := r.musen("share", "create", "jazz", "--password", writeSecret(t, word))
	_, secret, _ := strings.Cut(link, "/s/")
	send := func(method, url, cookie, form string) *http.Response {
		req, err := http.NewRequest(method, url, strings.NewReader(form))
		if err != nil {
			t.Fatal(err)
		}
		if form != "" {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		req.Header.Set("Cookie", cookie)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	send("GET", link, "", "")
	send("POST", link, "", "password=Wr0ng-guess-here")
	opened := send("POST", link, "", "password="+word)
	session, _, _ := strings.Cut(opened.Header.Get("Set-Cookie"), ";")
	if opened.StatusCode != http.StatusSeeOther || session == "" {
		t.Fatalf("not let in: %s", opened.Status)
	}
	var list struct{ Segments []struct{ URL string } }
	answer := send("GET", r.node.ready.Public+opened.Header.Get("Location")+"/segments", session, "")
	if err := json.NewDecoder(answer.Body).Decode(&list); err != nil || len(list.Segments) != 1 {
		t.Fatalf("list: %v, %+v", err, list)
	}
	send("GET", r.node.ready.Public+list.Segments[0].URL, "", "")
	fresh := r.musen("share", "regenerate", "jazz")
	send("GET", r.node.ready.Public+list.Segments[0].URL, session, "")
	send("GET", link, session, "")

	_, token, _ := strings.Cut(list.Segments[0].URL, "CAT=")
	_, freshSecret, _ := strings.Cut(fresh, "/s/")
	secrets := []string{secret, freshSecret, word, "Wr0ng-guess-here", strings.TrimPrefix(session, "__Host-musen="), token}
	files := map[string][]byte{"the log": []byte(r.node.log.String())}
	err := filepath.WalkDir(r.home, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files[path], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil || len(files) < 10 {
		t.Fatalf("read the home: %d files, %v", len(files), err)
	}
	for name, b := range files {
		for _, s := range secrets {
			for i := 0; i+12 <= len(s); i += 4 { // the beginning of a token is the same for all
				if i < 40 && len(s) > 100 {
					continue
				}
				if bytes.Contains(b, []byte(s[i:i+12])) {
					t.Errorf("%s holds %q of a secret", name, s[i:i+12])
				}
			}
		}
	}
}
