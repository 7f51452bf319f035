package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multibase"

	"github.com/musenai/musen"
)

// spellings are the eight ways to spell a CID, by name.
func spellings(t *testing.T, c cid.Cid) map[string]string {
	t.Helper()
	out := map[string]string{
		"v0":    cid.NewCidV0(c.Hash()).String(),
		"alias": cid.NewCidV1(cid.Raw+cid.DagProtobuf-c.Type(), c.Hash()).String(),
	}
	for name, base := range map[string]multibase.Encoding{
		"base32": multibase.Base32, "base36": multibase.Base36, "base58": multibase.Base58BTC,
		"base64url": multibase.Base64url, "base16": multibase.Base16, "base32upper": multibase.Base32Upper,
		"base16upper": multibase.Base16Upper, "base36upper": multibase.Base36Upper,
	} {
		s, err := c.StringOfBase(base)
		check(t, err)
		out[name] = s
	}
	return out
}

// every credential opens the segment, alone, and what plays is the audio.
func TestEveryCredentialPlays(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{MediaType: "audio/ogg; codecs=opus"}, audioOf(300_000))
	s := r.serve(nil)
	token, link := r.token("jazz"), r.link("jazz", seg.CID)
	path := "/listen/" + seg.CID.String()
	for name, a := range map[string]answer{
		"token":  s.ask("GET", path, "Authorization", "Bearer "+token),
		"scheme": s.ask("GET", path, "Authorization", "bearer "+token),
		"query":  s.ask("GET", path+"?CAT="+link),
		"header": s.ask("GET", path, "CTA-Common-Access-Token", link),
		"cookie": s.ask("GET", path, "Cookie", "a=b; CTA-Common-Access-Token="+link),
	} {
		if a.StatusCode != 200 || !bytes.Equal(a.body, audioOf(300_000)) {
			t.Errorf("%s: status %d, %d bytes", name, a.StatusCode, len(a.body))
		}
		if got := a.Header.Get("Content-Type"); got != "audio/ogg; codecs=opus" {
			t.Errorf("%s: Content-Type %q", name, got)
		}
	}
}

// H25: ten spellings of a CID get one verdict, whatever the segment's state,
// for a token and for the link of the canonical spelling.
func TestSpellingsGetOneVerdict(t *testing.T) {
	r := newRealm(t)
	s := r.serve(nil)
	removed := musen.Segment{State: musen.Removed}
	taken := musen.Segment{State: musen.TakenDown}
	for _, size := range []int{1000, 400_000} { // a raw block; a DAG
		for _, c := range []struct {
			segment musen.Segment
			status  int
		}{{musen.Segment{}, 200}, {removed, 410}, {taken, 451}, {musen.Segment{Station: "other"}, 404}} {
			seg := r.add(c.segment, audioOf(size))
			link := r.link("jazz", seg.CID)
			for name, spelled := range spellings(t, seg.CID) {
				byToken := s.ask("GET", "/listen/"+spelled, "Authorization", "Bearer "+r.token("jazz"))
				byLink := s.ask("GET", "/listen/"+spelled+"?CAT="+link)
				if byToken.StatusCode != c.status || byLink.StatusCode != c.status {
					t.Errorf("%s of a segment of %d bytes: token %d, link %d, want %d",
						name, size, byToken.StatusCode, byLink.StatusCode, c.status)
				}
			}
		}
	}
}

// P93, H31: who could listen to what was taken down is told why and where to
// appeal, and nobody else that there was anything.
func TestTakenDown(t *testing.T) {
	r := newRealm(t)
	s := r.serve(func(o *Options) { o.AppealURL = "https://radio.example/appeal" })
	for _, state := range []musen.State{musen.TakenDown, musen.Removed} { // the key was destroyed too
		seg := r.add(musen.Segment{State: state, Takedown: "privacy"}, audioOf(1000))
		a := s.ask("GET", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+r.token("jazz"))
		if body := string(a.body); a.StatusCode != 451 || !strings.Contains(body, "taken down: privacy") || !strings.Contains(body, "https://radio.example/appeal") || a.Header.Get("Link") != `<https://radio.example/appeal>; rel="help"` {
			t.Errorf("%d %s, Link %q", a.StatusCode, body, a.Header.Get("Link"))
		}
		a = s.ask("GET", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+r.token("other"))
		if unknown := s.ask("GET", "/listen/"+unknownCID(cid.Raw).String(), "Authorization", "Bearer "+r.token("other")); without(t, a) != without(t, unknown) {
			t.Errorf("a stranger gets %s, and of an unknown one %s", without(t, a), without(t, unknown))
		}
	}
}

// Whatever is not the one spelling of a CID in its base is no CID.
func TestOtherSpellingsAreNoCID(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(1000))
	s := r.serve(nil)
	sp := spellings(t, seg.CID)
	padded, _ := seg.CID.StringOfBase(multibase.Base64urlPad)
	base64, _ := seg.CID.StringOfBase(multibase.Base64)
	for _, bad := range []string{
		padded, base64, "f" + strings.ToUpper(sp["base16"][1:]), "b" + strings.ToUpper(sp["base32"][1:]),
		sp["base32"] + "=", sp["base32"][:len(sp["base32"])-1], sp["base32"] + "a", " " + sp["base32"],
		"z" + sp["v0"], "bafkqaaa", "bafkqac3jmrsw45djor4q", "f" + strings.Repeat("0", 200), "Qm", "b", "..", "ipfs", "%00",
	} {
		a := s.ask("GET", "/listen/"+strings.ReplaceAll(bad, " ", "%20"), "Authorization", "Bearer "+r.token())
		if a.StatusCode != 404 {
			t.Errorf("%q: status %d", bad, a.StatusCode)
		}
	}
}

// without makes an answer comparable: what differs between any two answers goes.
func without(t *testing.T, a answer) string {
	t.Helper()
	var p map[string]any
	if len(a.body) > 0 {
		check(t, json.Unmarshal(a.body, &p))
		delete(p, "request_id")
	}
	h := a.Header.Clone()
	h.Del("Date")
	h.Del("X-Request-Id")
	return fmt.Sprint(a.StatusCode, p, h, a.ContentLength)
}

// H31: a client that may not hear a segment gets what it gets for a CID that
// nobody has, whatever it tries; so does one whose link is for another.
func TestForbiddenIsAbsent(t *testing.T) {
	r := newRealm(t)
	r.addStation("other", true)
	mine := r.add(musen.Segment{}, audioOf(100))
	theirs := r.add(musen.Segment{Station: "other"}, audioOf(1000))
	hidden := r.add(musen.Segment{PublishAt: r.clock.Now().Add(time.Hour)}, audioOf(1000))
	s := r.serve(nil)
	token, link := r.token("jazz"), r.link("jazz", mine.CID)
	v := versionOf(theirs)
	for _, headers := range [][]string{
		{}, {"Range", "bytes=0-0"}, {"Range", "bytes=999999-"}, {"If-None-Match", v.etag}, {"If-None-Match", "*"},
		{"If-Match", `"x"`}, {"If-Modified-Since", time.Now().UTC().Format(http.TimeFormat)},
		{"Range", "bytes=0-9", "If-Range", v.etag},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			for _, query := range []string{"", "download=1"} {
				byToken := append([]string{"Authorization", "Bearer " + token}, headers...)
				want := s.ask(method, "/listen/"+unknownCID(cid.Raw).String()+"?"+query, byToken...)
				for _, c := range []string{theirs.CID.String(), hidden.CID.String(), "no-cid"} {
					got := s.ask(method, "/listen/"+c+"?"+query, byToken...)
					if got.StatusCode != 404 || without(t, got) != without(t, want) {
						t.Errorf("%s %s %v:\n%s\nunknown:\n%s", method, query, headers, without(t, got), without(t, want))
					}
				}
				want = s.ask(method, "/listen/"+unknownCID(cid.Raw).String()+"?CAT="+link+"&"+query, headers...)
				got := s.ask(method, "/listen/"+theirs.CID.String()+"?CAT="+link+"&"+query, headers...)
				if got.StatusCode != 404 || without(t, got) != without(t, want) {
					t.Errorf("link %s %s %v:\n%s\nunknown:\n%s", method, query, headers, without(t, got), without(t, want))
				}
			}
		}
	}
}

// H1, H10, H31: without a valid credential the answer is a 401 that depends on
// the credential alone, never on the CID.
func TestRefusedCredentials(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(100))
	s := r.serve(nil)
	token, link := r.token("jazz"), r.link("jazz", seg.CID)
	revoked, id := r.tokenFor("gone")
	r.revoke(id)
	for _, c := range []struct {
		code, query string
		headers     []string
	}{
		{"credential_missing", "", nil},
		{"credential_missing", "?cat=" + link, nil},
		{"credential_malformed", "?CAT=", nil},
		{"credential_malformed", "?CAT=" + link + "&CAT=" + link, nil},
		{"credential_malformed", "?CAT=" + link + ";x=1", nil},
		{"credential_malformed", "?CAT=" + link, []string{"Authorization", "Bearer " + token}},
		{"credential_malformed", "?CAT=" + link, []string{"CTA-Common-Access-Token", link}},
		{"credential_malformed", "", []string{"CTA-Common-Access-Token", link, "Cookie", "CTA-Common-Access-Token=" + link}},
		{"credential_malformed", "", []string{"Cookie", "CTA-Common-Access-Token=" + link + "; CTA-Common-Access-Token=" + link}},
		{"credential_malformed", "", []string{"Authorization", "Bearer " + token, "Authorization", "Bearer " + token}},
		{"credential_malformed", "", []string{"Authorization", "Basic YTpi"}},
		{"credential_malformed", "", []string{"Authorization", token}},
		{"credential_malformed", "", []string{"Authorization", "Bearer"}},
		{"credential_malformed", "", []string{"Authorization", "Bearer " + token + " " + token}},
		{"credential_malformed", "", []string{"Authorization", "Bearer " + link}},
		{"credential_malformed", "?CAT=" + token, nil},
		{"credential_signature", "", []string{"Authorization", "Bearer " + token[:len(token)-8] + "AAAAAAAA"}},
		{"credential_revoked", "", []string{"Authorization", "Bearer " + revoked}},
	} {
		var want string
		for _, target := range []string{seg.CID.String(), unknownCID(cid.Raw).String(), "no-cid"} {
			a := s.ask("GET", "/listen/"+target+c.query, c.headers...)
			var p struct{ Code string }
			check(t, json.Unmarshal(a.body, &p))
			if a.StatusCode != 401 || p.Code != c.code {
				t.Errorf("%s %v: status %d %s, want 401 %s", c.query, c.headers, a.StatusCode, p.Code, c.code)
			}
			if got := without(t, a); want == "" {
				want = got
			} else if got != want {
				t.Errorf("%s %v: the CID shows:\n%s\n%s", c.query, c.headers, got, want)
			}
		}
	}
}

func TestExpiredLinkIsRefused(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(100))
	s := r.serve(nil)
	link := r.link("jazz", seg.CID)
	r.clock.Add(6 * time.Minute)
	a := s.ask("GET", "/listen/"+seg.CID.String()+"?CAT="+link)
	if a.StatusCode != 401 || !strings.Contains(string(a.body), "credential_expired") {
		t.Errorf("status %d: %s", a.StatusCode, a.body)
	}
}

// H13, H32, H44: no answer may be kept by a cache, tells where it came from,
// or lets a page use somebody else's credential.
func TestHeadersOfEveryAnswer(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(1000))
	s := r.serve(nil)
	path, bearer := "/listen/"+seg.CID.String(), "Bearer "+r.token()
	for status, a := range map[int]answer{
		200: s.ask("GET", path, "Authorization", bearer, "Origin", "https://evil.example"),
		206: s.ask("GET", path, "Authorization", bearer, "Range", "bytes=1-2", "Origin", "null"),
		304: s.ask("GET", path, "Authorization", bearer, "If-None-Match", "*"),
		401: s.ask("GET", path, "Origin", "https://evil.example"),
		404: s.ask("GET", "/listen/x", "Authorization", bearer),
		412: s.ask("GET", path, "Authorization", bearer, "If-Match", `"x"`),
		416: s.ask("GET", path, "Authorization", bearer, "Range", "bytes=1000-"),
	} {
		if a.StatusCode != status {
			t.Errorf("status %d, want %d", a.StatusCode, status)
		}
		for name, want := range map[string]string{
			"Cache-Control": "private, no-store", "Vary": "Authorization, Cookie", "Referrer-Policy": "no-referrer",
			"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin",
			"Access-Control-Allow-Origin": "", "Access-Control-Allow-Credentials": "", "Strict-Transport-Security": "",
		} {
			if got := a.Header.Get(name); got != want {
				t.Errorf("%d: %s: %q, want %q", status, name, got, want)
			}
		}
		if a.Header.Get("X-Request-Id") == "" {
			t.Errorf("%d: no request id", status)
		}
		if shown := a.Header.Get("ETag") != ""; shown != (status < 400) {
			t.Errorf("%d: ETag shown: %v", status, shown)
		}
	}
}

// A link in the URL plays on a page of any origin, and only that does.
func TestLinkPlaysOnAnyPage(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(1000))
	s := r.serve(nil)
	path := "/listen/" + seg.CID.String() + "?CAT=" + r.link("jazz", seg.CID)
	for _, origin := range []string{"https://player.example", "null"} {
		a := s.ask("GET", path, "Origin", origin)
		if a.StatusCode != 200 || a.Header.Get("Access-Control-Allow-Origin") != "*" ||
			a.Header.Get("Access-Control-Allow-Credentials") != "" || a.Header.Get("Cross-Origin-Resource-Policy") != "cross-origin" {
			t.Errorf("origin %s: status %d, %v", origin, a.StatusCode, a.Header)
		}
	}
}

func TestHeadHasTheHeadersOfGet(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{Title: "A"}, audioOf(70_000))
	s := r.serve(nil)
	for _, path := range []string{"/listen/" + seg.CID.String(), "/listen/" + seg.CID.String() + "?download=1"} {
		get := s.ask("GET", path, "Authorization", "Bearer "+r.token())
		head := s.ask("HEAD", path, "Authorization", "Bearer "+r.token(), "Range", "bytes=0-1") // Range is for GET
		for _, a := range []answer{get, head} {
			a.Header.Del("Date")
			a.Header.Del("X-Request-Id")
		}
		if head.StatusCode != 200 || len(head.body) != 0 || fmt.Sprint(head.Header) != fmt.Sprint(get.Header) {
			t.Errorf("HEAD %d %v\nGET  %d %v", head.StatusCode, head.Header, get.StatusCode, get.Header)
		}
	}
}

func TestDownload(t *testing.T) {
	r := newRealm(t)
	r.addStation("live", false)
	title := "../../et\"c\r\nSet-Cookie: a=b/\u202eNaïve ☂ %41;"
	seg := r.add(musen.Segment{Artist: "Ann", Title: title, MediaType: "audio/mpeg"}, audioOf(1000))
	live := r.add(musen.Segment{Station: "live"}, audioOf(1000))
	s := r.serve(nil)
	bearer := "Bearer " + r.token()
	a := s.ask("GET", "/listen/"+seg.CID.String()+"?download=1", "Authorization", bearer)
	kind, params, err := mime.ParseMediaType(a.Header.Get("Content-Disposition"))
	if err != nil || a.StatusCode != 200 || kind != "attachment" {
		t.Fatalf("status %d, %q: %v", a.StatusCode, a.Header.Get("Content-Disposition"), err)
	}
	if got, want := params["filename"], "Ann - .. .. et c Set-Cookie a=b Naïve ☂ 41.mp3"; got != want {
		t.Errorf("file name %q, want %q", got, want)
	}
	if a.Header.Get("Set-Cookie") != "" {
		t.Error("the title became a header (H34)")
	}
	for path, status := range map[string]int{
		"/listen/" + seg.CID.String():                  200,
		"/listen/" + live.CID.String():                 200,
		"/listen/" + seg.CID.String() + "?download=0":  200,
		"/listen/" + live.CID.String() + "?download=1": 403,
	} {
		a := s.ask("GET", path, "Authorization", bearer)
		if a.StatusCode != status || status == 200 && a.Header.Get("Content-Disposition") != "inline" {
			t.Errorf("%s: status %d, %q", path, a.StatusCode, a.Header.Get("Content-Disposition"))
		}
	}
}

func TestConditions(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(1000))
	s := r.serve(nil)
	tag := versionOf(seg).etag
	at := seg.Created.Format(http.TimeFormat)
	before := seg.Created.Add(-time.Hour).Format(http.TimeFormat)
	after := seg.Created.Add(time.Hour).Format(http.TimeFormat)
	for _, c := range []struct {
		status  int
		headers []string
	}{
		{304, []string{"If-None-Match", tag}},
		{304, []string{"If-None-Match", "W/" + tag}},
		{304, []string{"If-None-Match", `"a,b", W/"c" , ` + tag}},
		{304, []string{"If-None-Match", `"a"`, "If-None-Match", tag}},
		{304, []string{"If-None-Match", "*"}},
		{304, []string{"If-None-Match", tag, "Range", "bytes=0-1"}},
		{200, []string{"If-None-Match", `"other"`}},
		{200, []string{"If-None-Match", strings.Trim(tag, `"`)}},
		{200, []string{"If-None-Match", `"other"`, "If-Modified-Since", after}}, // the date does not count
		{304, []string{"If-Modified-Since", at}},
		{304, []string{"If-Modified-Since", after}},
		{200, []string{"If-Modified-Since", before}},
		{200, []string{"If-Modified-Since", "yesterday"}},
		{200, []string{"If-Match", tag}},
		{200, []string{"If-Match", "*"}},
		{412, []string{"If-Match", "W/" + tag}}, // strong comparison
		{412, []string{"If-Match", `"other"`}},
		{412, []string{"If-Match", `"other"`, "If-None-Match", tag}}, // If-Match comes first
		{304, []string{"If-Match", tag, "If-Unmodified-Since", before, "If-None-Match", tag}},
		{412, []string{"If-Unmodified-Since", before}},
		{200, []string{"If-Unmodified-Since", at}},
		{206, []string{"Range", "bytes=0-1", "If-Range", tag}},
		{200, []string{"Range", "bytes=0-1", "If-Range", "W/" + tag}},
		{200, []string{"Range", "bytes=0-1", "If-Range", `"other"`}},
		{206, []string{"Range", "bytes=0-1", "If-Range", at}},
		{200, []string{"Range", "bytes=0-1", "If-Range", after}},
		{200, []string{"Range", "bytes=0-1", "If-Range", "nonsense"}},
		{200, []string{"Range", "bytes=5000-", "If-Range", `"other"`}},
	} {
		a := s.ask("GET", "/listen/"+seg.CID.String(), append(c.headers, "Authorization", "Bearer "+r.token())...)
		if a.StatusCode != c.status {
			t.Errorf("%v: status %d, want %d", c.headers, a.StatusCode, c.status)
		}
		if a.StatusCode == 304 && (a.Header.Get("ETag") != tag || len(a.body) > 0 || a.Header.Get("Content-Type") != "") {
			t.Errorf("%v: a 304 with %v", c.headers, a.Header)
		}
	}
}

// The tag of a segment is one for all grants, and its own.
func TestTagIsOfTheSegmentAlone(t *testing.T) {
	r := newRealm(t)
	one, two := r.add(musen.Segment{}, audioOf(10)), r.add(musen.Segment{}, audioOf(10))
	s := r.serve(nil)
	a := s.ask("GET", "/listen/"+one.CID.String(), "Authorization", "Bearer "+r.token())
	b := s.ask("GET", "/listen/"+one.CID.String()+"?CAT="+r.link("jazz", one.CID))
	c := s.ask("GET", "/listen/"+two.CID.String(), "Authorization", "Bearer "+r.token())
	if a.Header.Get("ETag") == "" || a.Header.Get("ETag") != b.Header.Get("ETag") || a.Header.Get("ETag") == c.Header.Get("ETag") {
		t.Errorf("tags %q %q %q", a.Header.Get("ETag"), b.Header.Get("ETag"), c.Header.Get("ETag"))
	}
}

func TestEmptyAudio(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, nil)
	s := r.serve(nil)
	for _, rng := range []string{"", "bytes=0-", "bytes=-5", "bytes=0-0,1-1"} {
		a := s.ask("GET", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+r.token(), "Range", rng)
		if a.StatusCode != 200 || len(a.body) != 0 || a.ContentLength != 0 {
			t.Errorf("%q: status %d, length %d", rng, a.StatusCode, a.ContentLength)
		}
	}
}
