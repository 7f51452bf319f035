package cmd_test

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// A browser is a headless Chromium with a page that plays links.
type browser struct {
	t    *testing.T
	ctx  context.Context
	page string
}

// What a browser heard of a link.
type heard struct {
	Heard    float64 // seconds, after a moment
	Duration float64
	Jumped   float64 // where it went when told to go close to the end
	End      float64
	Status   int // of a request of the page itself
	Error    string
}

// openBrowser starts Chromium, with a new profile, on a page of another origin
// than any gateway.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	need(t, "chromium")
	files := httptest.NewServer(http.FileServer(http.Dir("testdata/play")))
	t.Cleanup(files.Close)
	var said strings.Builder
	ctx, cancel := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath("chromium"), chromedp.Headless, chromedp.NoSandbox, chromedp.NoFirstRun,
		chromedp.CombinedOutput(&said),
		chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("mute-audio", true),
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"))
	t.Cleanup(cancel)
	ctx, cancelTab := chromedp.NewContext(ctx)
	t.Cleanup(cancelTab)
	b := &browser{t: t, ctx: ctx, page: files.URL + "/player.html"}
	if _, err := chromedp.Run(ctx, chromedp.Navigate(b.page)); err != nil { // without a deadline, that would be the browser's
		t.Fatalf("chromium: %v\n%s", err, &said)
	}
	return b
}

// goTo opens an address.
func (b *browser) goTo(url string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		b.t.Fatalf("navigate: %v", err)
	}
}

// hear runs an expression of the page that hears something.
func (b *browser) hear(expression string) (h heard) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	h, err := chromedp.Run(ctx, chromedp.Evaluate[heard](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%.40s: %v", expression, err)
	}
	return h
}

// hearLink plays a link in an audio element of the page.
func (b *browser) hearLink(link string) heard {
	b.t.Helper()
	return b.hear(fmt.Sprintf("hearLink(%q)", link))
}

// openLink opens a link itself, as when it is pasted into the address bar, and
// plays the page that the browser makes of it.
func (b *browser) openLink(link string) heard {
	b.t.Helper()
	script, err := os.ReadFile("testdata/play/hear.js")
	if err != nil {
		b.t.Fatal(err)
	}
	b.goTo(link)
	return b.hear(string(script) + "; hear(document.querySelector('audio, video'))")
}

// check fails the test unless all of a segment was heard where it belongs.
func (h heard) check(t *testing.T, a aired) {
	t.Helper()
	length := a.seconds()
	if h.Error != "" || h.Heard < 0.2 || math.Abs(h.Jumped-(h.Duration-0.5)) > 0.3 || math.Abs(h.End-length) > 0.3 {
		t.Errorf("heard %+v of %.3f seconds", h, length)
	}
	if a.MediaType != "audio/aac" && math.Abs(h.Duration-length) > 0.1 { // ADTS: a browser can only guess
		t.Errorf("the browser takes it for %.3f seconds, the catalogue for %.3f", h.Duration, length)
	}
}

// A browser plays every format, in a page and as it is, to the end.
func TestBrowserPlaysLinks(t *testing.T) {
	t.Parallel()
	r, b := startRadio(t), openBrowser(t)
	for _, a := range r.addBundled() {
		t.Run(filepath.Base(a.source), func(t *testing.T) {
			r, b := &radio{t: t, home: r.home}, &browser{t: t, ctx: b.ctx, page: b.page}
			link := r.link(a, "ann")
			b.openLink(link).check(t, a)
			b.goTo(b.page)
			b.hearLink(link).check(t, a)
		})
	}
}

// A jump in a long song fetches what is heard and not what lies between; a
// revoked link plays no more, and others do.
func TestBrowserJumpsAndIsRefused(t *testing.T) {
	t.Parallel()
	r, b := startRadio(t), openBrowser(t)
	song := r.add(longSong(t))
	line := newBadLine(t, r.node.ready.Public, func(int) int64 { return -1 })
	link, other := line.through(r.link(song, "ann")), line.through(r.link(song, "bob"))
	b.hearLink(link).check(t, song)
	if asked := line.starts(); len(asked) < 2 || asked[0] != 0 || slices.Max(asked) < 18<<20 {
		t.Errorf("the browser asked for audio from the bytes %d", asked)
	}
	if n := line.carried.Load(); n >= song.Size {
		t.Errorf("%d of %d bytes went over the line for a few seconds of it", n, song.Size)
	}
	middle := fmt.Sprintf("jump(audio, %f)", song.seconds()/2)
	r.musen("token", "revoke", "--subject", "ann")
	if h := b.hear(middle); h.Status != http.StatusUnauthorized || h.Jumped > 0 {
		t.Errorf("a page gets more of a revoked link: %+v", h)
	}
	b.goTo(b.page) // a page may play on what it has in memory
	if h := b.hearLink(link); h.Error == "" || h.Heard > 0 {
		t.Errorf("a revoked link plays: %+v", h)
	}
	b.hearLink(other).check(t, song)
	if h := b.hear(middle); h.Status != http.StatusPartialContent || h.Jumped == 0 {
		t.Errorf("a link of another listener: %+v", h)
	}
	resp, err := chromedp.Run(b.ctx, chromedp.NavigateResponse(link))
	if err != nil || resp.Status != http.StatusUnauthorized {
		t.Errorf("open a revoked link: %+v, %v", resp, err)
	}
}
