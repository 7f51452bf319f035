package gateway

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multibase"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/watch"
)

// P91: anybody reports a segment in any spelling, by a link to it, or a share or
// a station by its link, and is told what becomes of it.
func TestReport(t *testing.T) {
	d := newDesk(t, nil)
	upper, err := d.song.StringOfBase(multibase.Base16Upper)
	check(t, err)
	v0 := cid.NewCidV0(d.song.Hash()).String()
	receipts := map[string]bool{}
	for i, what := range []string{
		d.song.String(), upper, v0, " " + d.song.String() + "\n", "ipfs://" + d.song.String(),
		"https://radio.example/listen/" + d.song.String() + "?CAT=secret&download=1", "/listen/" + v0, "radio.example:8420/radio/listen/" + upper,
		"https://elsewhere.example/ipfs/" + d.song.String() + "?format=raw",
	} {
		receipts[d.receiptOf(d.report(fmt.Sprintf("203.0.113.%d", i), about(what)))] = true
	}
	if all := d.all(); len(all) != 1 || !all[0].CID.Equals(d.song) || all[0].Station != d.station.ID || all[0].Count != 9 || all[0].Reporters != 9 || len(receipts) != 9 {
		t.Fatalf("%+v with %d receipts", all, len(receipts))
	}
	d.clock.Add(time.Second)
	share := d.receiptOf(d.report("203.0.113.77", about("https://radio.example/s/"+d.secret)))
	d.receiptOf(d.report("203.0.113.78", about("/stations/"+d.station.ID)))
	all := d.all()
	if len(all) != 2 || all[1].CID.Defined() || all[1].Station != d.station.ID || all[1].Share == "" || all[1].Count != 2 {
		t.Fatalf("%+v", all)
	}
	d.ask("GET", "/reports/"+share).want(t, http.StatusOK, `{"receipt":"`+share+`","state":"received"}`)
	check(t, d.rows.TakeReport(t.Context(), all[1].ID, "mod"))
	d.ask("GET", "/reports/"+share).want(t, http.StatusOK, `"state":"in_review"}`)
	check(t, d.rows.CloseReport(t.Context(), all[1].ID, musen.ReportActedOn, "mod", "the reason"))
	for receipt := range receipts {
		d.ask("GET", "/reports/"+receipt).want(t, http.StatusOK, `"state":"received"}`)
	}
	closed := d.ask("GET", "/reports/"+share, "Accept", "text/html,*/*")
	closed.want(t, http.StatusOK, "closed: action taken")
	if strings.Contains(string(closed.body), "the reason") || strings.Contains(string(closed.body), "mod<") {
		t.Errorf("the receipt tells more than the state: %s", closed.body)
	}
	check(t, d.rows.CloseReport(t.Context(), all[0].ID, musen.ReportDismissed, "mod", "x"))
	for receipt := range receipts {
		d.ask("GET", "/reports/"+receipt).want(t, http.StatusOK, `"state":"closed","outcome":"none"}`)
	}
	for _, receipt := range []string{"x", share + "a", all[0].ID} {
		d.ask("GET", "/reports/"+receipt).want(t, http.StatusNotFound, "no report with this receipt")
	}
	if log := d.log.String(); strings.Contains(log, d.secret) || strings.Contains(log, share) || strings.Contains(log, "secret") {
		t.Errorf("the log knows too much: %s", log)
	}
}

// H31, H53: nothing in an answer tells whether what was reported is there, has
// been reported, or is kept; and no proxy that is not declared names a client.
func TestReportTellsNothing(t *testing.T) {
	d := newDesk(t, nil)
	shape := func(a answer) string {
		receipt := d.receiptOf(a)
		return a.Status + sameHeaders(a) + strings.ReplaceAll(string(a.body), receipt, strings.Repeat("?", len(receipt)))
	}
	want := shape(d.report("203.0.113.1", about(d.song.String())))
	_, unknown, err := musen.NewShare(bytes.NewReader(make([]byte, 99)), d.station)
	check(t, err)
	for _, what := range []string{
		d.song.String(), unknownCID(cid.Raw).String(), unknownCID(cid.Raw).String(), "/s/" + d.secret, "/s/" + unknown,
		"/stations/" + d.station.ID, "/stations/" + strings.Repeat("a", 25) + "i",
	} {
		a := d.report("203.0.113.1", about(what))
		if got := shape(a); got != want {
			t.Errorf("%s:\n%s\nnot\n%s", what, got, want)
		}
		receipt := d.receiptOf(a)
		d.ask("GET", "/reports/"+receipt).want(t, http.StatusOK, `"state":"received"}`)
	}
	for took, wait := range map[time.Duration]time.Duration{
		0: reportGrain, time.Millisecond: reportGrain - time.Millisecond, reportGrain: reportGrain, 3*reportGrain + 1: reportGrain - 1,
	} {
		if got := untilAnswer(took); got != wait {
			t.Errorf("after %v it waits for %v, not %v", took, got, wait)
		}
	}

	direct := newDesk(t, func(o *Options) { o.Proxies, o.ClientHeader = nil, "" })
	for i := range 20 { // of one client, whoever it says it is
		direct.report(fmt.Sprintf("203.0.113.%d", i), about(direct.song.String()), "Forwarded", "for=192.0.2.1", "X-Real-IP", "192.0.2.2")
	}
	if all := direct.all(); len(all) != 1 || all[0].Reporters != 1 || all[0].Count != 20 {
		t.Errorf("forged reporters: %+v", all)
	}
}

// H48: what is no report is refused before anything is asked.
func TestReportRefusals(t *testing.T) {
	d := newDesk(t, nil)
	good := about(d.song.String())
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	for i, c := range []struct {
		body    string
		headers []string
		status  int
	}{
		{"", nil, 400}, {"{}", nil, 422}, {"null", nil, 422}, {"[]", nil, 400}, {good + "x", nil, 400}, {`{"about":1}`, nil, 400},
		{`{"about":"a","about":"b"}`, nil, 400}, {`{"about":{"about":{"about":{}}}}`, nil, 400}, {strings.Repeat(`{"about":`, 1000), nil, 400},
		{`{"about":"` + d.song.String() + `","category":"other","text":"\ud800"}`, nil, 400},
		{`{"about":"` + d.song.String() + `","category":"other","email":"a@example.org"}`, nil, 400}, // P43
		{`{"about":"` + d.song.String() + `","category":"bad"}`, nil, 422},
		{`{"about":"x","category":"other"}`, nil, 422},
		{`{"about":"https://evil.example/","category":"other"}`, nil, 422},
		{`{"about":"/s/short","category":"other"}`, nil, 422},
		{`{"about":"` + d.song.String() + `","category":"other","text":"` + strings.Repeat("x", musen.MaxStatement+1) + `"}`, nil, 422},
		{strings.Repeat("x", maxReport+1), nil, 413},
		{good, []string{"Content-Type", "text/plain"}, 415}, {good, []string{"Content-Encoding", "gzip"}, 415},
		{good, []string{"Sec-Fetch-Site", "cross-site"}, 403}, {good, []string{"Origin", "https://evil.example"}, 403},
		{"about=x&category=other", form, 422}, {"about=%zz", form, 400}, {"about=a&about=b", form, 400}, {"about=a&email=b", form, 400},
		{"about=" + d.song.String() + "&category=other&text=%ff", form, 422},
	} {
		a := d.report(fmt.Sprintf("203.0.113.%d", i), c.body, c.headers...)
		if a.StatusCode != c.status {
			t.Errorf("%.80q with %v: %s, want %d\n%s", c.body, c.headers, a.Status, c.status, a.body)
		}
		if c.status == 403 && strings.Contains(string(a.body), "token") {
			t.Errorf("no token helps: %s", a.body)
		}
	}
	if all := d.all(); len(all) != 0 {
		t.Errorf("kept: %+v", all)
	}
	d.ask("PUT", "/reports").want(t, http.StatusMethodNotAllowed)
}

// P91, P89: the page works without scripts and holds nothing that it was given
// but what it is about; what comes of the form is a page too.
func TestReportPage(t *testing.T) {
	d := newDesk(t, func(o *Options) { o.Pages.Base, o.Pages.Guidelines = "/radio", "https://radio.example/rules" })
	page := func(query string) string {
		a := d.ask("GET", "/reports"+query)
		a.want(t, http.StatusOK, `action="/radio/reports"`, `method="post"`, `href="https://radio.example/rules"`)
		if csp := a.Header.Get("Content-Security-Policy"); csp != pagePolicy || strings.Contains(string(a.body), "<script") {
			t.Errorf("policy %q\n%s", csp, a.body)
		}
		return string(a.body)
	}
	for _, c := range musen.ReportCategories() {
		if c.Words() == "" || !strings.Contains(page(""), `value="`+string(c)+`"`) {
			t.Errorf("no %q on the page", c)
		}
	}
	if !strings.Contains(page("?about="+d.song.String()), `value="`+d.song.String()+`"`) ||
		!strings.Contains(page("?about=/stations/"+d.station.ID), `value="/stations/`+d.station.ID+`"`) {
		t.Error("the page does not say what it is about")
	}
	for _, query := range []string{"?about=%22%3E%3Cscript%3E", "?about=/s/" + d.secret, "?about=/listen/" + d.song.String() + "?CAT=secret", "?text=evil&category=other"} {
		if got := page(query); strings.Contains(got, "<script") || strings.Contains(got, d.secret) || strings.Contains(got, "secret") || strings.Contains(got, "evil") {
			t.Errorf("%s is shown: %s", query, got)
		}
	}
	a := d.report("203.0.113.7", "about="+d.song.String()+"&category=hate&text=one%0D%0Atwo", "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin")
	a.want(t, http.StatusAccepted, "Thank you", "State: <strong>received</strong>", `href="/radio/reports/`)
	if all := d.all(); len(all) != 1 || all[0].Category != "hate" || all[0].Statements[0].Text != "one\ntwo" {
		t.Errorf("%+v", all)
	}
	d.report("203.0.113.7", "about=x", "Content-Type", "application/x-www-form-urlencoded").want(t, http.StatusUnprocessableEntity, "<!doctype html>", "Guidelines")
	d.ask("GET", "/reports/x", "Accept", "text/html").want(t, http.StatusNotFound, "<!doctype html>")
}

// P24, P66: one client, and all that is said of one thing, is bounded; another
// client and another thing are not touched.
func TestReportsAreLimited(t *testing.T) {
	d := newDesk(t, nil)
	for i := range 10 {
		d.report("203.0.113.7", about(alone(fmt.Sprint(i)).String())).want(t, http.StatusAccepted)
	}
	a := d.report("203.0.113.7", about(d.song.String()))
	if a.want(t, http.StatusTooManyRequests, "too_many_requests"); a.Header.Get("Retry-After") != "60" {
		t.Errorf("wait for %q", a.Header.Get("Retry-After"))
	}
	for i := range 100 {
		d.server.pages.reports.take(string(d.song.Hash()))
		if i == 98 {
			d.report("203.0.113.8", about(d.song.String())).want(t, http.StatusAccepted)
		}
	}
	d.report("203.0.113.9", about(d.song.String())).want(t, http.StatusTooManyRequests)
	d.report("203.0.113.9", about(alias(d.song))).want(t, http.StatusTooManyRequests) // it is the same segment
	d.report("203.0.113.9", about("/stations/"+d.station.ID)).want(t, http.StatusAccepted)
	d.clock.Add(time.Minute)
	d.report("203.0.113.7", about(d.song.String())).want(t, http.StatusAccepted)
}

// P61, H53: many clients that report one segment which is here are told of once,
// and that is all that is done by itself. One client, however often, is not
// many, and what is not here is nobody's trouble.
func TestManyReportersAreTold(t *testing.T) {
	var told []watch.Alert
	d := newDesk(t, func(o *Options) {
		o.Watch = watch.New(watch.Options{Thresholds: map[watch.Rule]int{watch.Reported: 5}, Now: o.Now, Tell: func(a watch.Alert) { told = append(told, a) }})
	})
	for i := range 8 {
		d.report("203.0.113.100", about(d.song.String()))
		d.report(fmt.Sprintf("203.0.113.%d", i), about(unknownCID(cid.Raw).String()))
	}
	if len(told) != 0 {
		t.Fatalf("told %+v", told)
	}
	for i := range 8 { // by both of its CIDs
		spelled := []string{d.song.String(), alias(d.song)}[i%2]
		d.report(fmt.Sprintf("203.0.113.%d", i), about(spelled))
	}
	if len(told) != 1 || told[0].Rule != watch.Reported || told[0].About != d.song.String() || told[0].Count != 6 {
		t.Errorf("told %+v", told)
	}
	if s, err := d.rows.Segment(t.Context(), d.song.Hash()); err != nil || s.State != musen.Live {
		t.Errorf("the segment: %+v, %v", s, err)
	}
}

// H53: a hundred thousand reports of a hundred thousand clients in a hundred
// seconds: most are refused, the rest takes a bounded room, and what honest
// people reported before is there.
func TestReportFlood(t *testing.T) {
	d := newDesk(t, func(o *Options) { o.Log = discard() })
	honest := d.receiptOf(d.report("198.51.100.1", `{"about":"`+d.song.String()+`","category":"hate","text":"mine"}`))
	var accepted, refused, other atomic.Int64
	var wg sync.WaitGroup
	jobs := make(chan int)
	for range 64 {
		wg.Go(func() {
			for i := range jobs {
				d.clock.Add(time.Millisecond)
				body := about(alone(fmt.Sprint(i)).String())
				if i%4 == 0 {
					body = about("/stations/" + d.station.ID)
				}
				req := httptest.NewRequest(http.MethodPost, "/reports", strings.NewReader(body))
				req.RemoteAddr = "127.0.0.1:1"
				req.Header.Set("Content-Type", "application/json")
				req.Header.Set("X-Forwarded-For", fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255))
				w := httptest.NewRecorder()
				d.server.http.Handler.ServeHTTP(w, req)
				switch {
				case w.Code == http.StatusAccepted:
					accepted.Add(1)
				case w.Code == http.StatusTooManyRequests && w.Header().Get("Retry-After") != "":
					refused.Add(1)
				default:
					other.Add(1)
				}
			}
		})
	}
	for i := range 100_000 {
		jobs <- i
	}
	close(jobs)
	wg.Wait()
	t.Logf("%d accepted, %d refused", accepted.Load(), refused.Load())
	if accepted.Load() > 400+100*20+100 || refused.Load() < 90_000 || other.Load() != 0 {
		t.Errorf("%d accepted, %d refused, %d neither", accepted.Load(), refused.Load(), other.Load())
	}
	all := d.all()
	if len(all) > 502 || all[0].Statements[0].Text != "mine" || all[0].Station != d.station.ID {
		t.Errorf("%d reports are kept", len(all))
	}
	d.ask("GET", "/reports/"+honest).want(t, http.StatusOK, "received")
}

// FuzzReport: whatever a stranger sends, it is refused, or one report of one
// thing, of bounded length, in which no secret of a link is named.
func FuzzReport(f *testing.F) {
	song, secret := alone("a song").String(), strings.Repeat("ab27", 8)
	f.Add("application/json", `{"about":"`+song+`","category":"other","text":"x"}`)
	f.Add("application/json", `{"about":"https://h/s/`+secret+`?a#b","category":"hate"}`)
	f.Add(formType, "about=%2Flisten%2F"+song+"%3FCAT%3Dx&category=privacy&text=%0D%0A")
	f.Add(formType, "about=//s/"+secret+"&category=other")
	f.Add(formType, "about=/stations/"+strings.Repeat("a", 26)+"&category=other&text=%00")
	f.Fuzz(func(t *testing.T, mediaType, body string) {
		r, err := parseReport(mediaType, []byte(body))
		if err != nil {
			return
		}
		targets := 0
		for _, is := range []bool{r.CID.Defined(), r.Share != "", r.Station != ""} {
			if is {
				targets++
			}
		}
		if targets != 1 || r.Category.Words() == "" || len(r.Text) > musen.MaxStatement || !strings.HasPrefix(strings.ToValidUTF8(r.Text, "\xff"), r.Text) {
			t.Errorf("%+v of %q", r, body)
		}
		if r.Share != "" && (reported(r) != "" || !musen.IsShareSecret(r.Share)) || r.Station != "" && !musen.IsID(r.Station) {
			t.Errorf("%+v of %q", r, body)
		}
	})
}
