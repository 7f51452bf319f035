package gateway

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
)

// H28: gin must neither guess nor redirect.
func TestGinSettings(t *testing.T) {
	e := newEngine()
	for name, ok := range map[string]bool{
		"UseRawPath": e.UseRawPath, "UnescapePathValues": !e.UnescapePathValues,
		"RemoveExtraSlash": !e.RemoveExtraSlash, "RedirectTrailingSlash": !e.RedirectTrailingSlash,
		"RedirectFixedPath": !e.RedirectFixedPath, "HandleMethodNotAllowed": e.HandleMethodNotAllowed,
		"ForwardedByClientIP": !e.ForwardedByClientIP, "RemoteIPHeaders": len(e.RemoteIPHeaders) == 0,
		"TrustedPlatform": e.TrustedPlatform == "", "UseH2C": !e.UseH2C,
	} {
		if !ok {
			t.Errorf("%s is not set as it must be", name)
		}
	}
}

// H10: every route is listed here with whether it wants a credential.
func TestRoutes(t *testing.T) {
	r := newRealm(t)
	s := r.serve(nil)
	gated := map[string]bool{"/listen/:cid": true, "/ipfs/:cid": false, "/healthz": false, "/readyz": false}
	var methods []string
	for _, route := range s.server.engine.Routes() {
		want, known := gated[route.Path]
		if !known {
			t.Errorf("route %s is not listed", route.Path)
		}
		path := strings.ReplaceAll(route.Path, ":cid", unknownCID(cid.Raw).String())
		if refused := s.ask(route.Method, path).StatusCode == 401; refused != want {
			t.Errorf("%s %s: 401 without a credential: %v", route.Method, path, refused)
		}
		methods = append(methods, route.Method)
	}
	slices.Sort(methods)
	if fmt.Sprint(methods) != "[GET GET GET GET HEAD HEAD HEAD HEAD]" {
		t.Errorf("methods %v", methods)
	}
}

// H28: no path but the one spelling reaches anything, and nothing redirects.
func TestPathTricks(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(1000))
	s := r.serve(nil)
	c, bearer := seg.CID.String(), r.token()
	for _, path := range []string{
		"/listen/%2e%2e/" + c, "/listen/..%2f" + c, "/listen/..%2flisten%2f" + c, "/x/../listen/" + c, "/listen/./" + c,
		"//listen/" + c, "/listen//" + c, "/listen/" + c + "/", "/listen/" + c + "%2f", "/listen/" + c + "/x",
		"/listen%2f" + c, "/%6cisten/" + c, "/listen/%62" + c[1:], "/listen/%2562" + c[1:], "/listen/" + c + "%00",
		"/listen/" + c + ";x=1", "/listen/" + c + "%3bx", "/listen\\" + c, "/listen/" + c + "%c0%ae", "/LISTEN/" + c,
		"/Listen/" + c, "/listen/" + c + "%20", "/listen/" + c + ".", "/ｌisten/" + c,
		"/listen/%ef%bd%82" + c[1:], "/listen/" + strings.Repeat("a", 3000), "/listen", "/listen/", "/", "*", "",
		"/ipfs/" + c + "/x", "/ipfs/" + c + "/", "/ipns/" + c, "/ipfs/ipfs/" + c, "/api/v0/cat?arg=" + c, "/debug/pprof/",
		"/metrics", "/listen/%", "/listen/" + c + "%zz", "/listen/" + c + "#x",
	} {
		got := s.raw("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + bearer + "\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 4") || strings.Contains(got, "Location:") {
			t.Errorf("%q: %.60q", path, got)
		}
	}
	for _, path := range []string{"/listen/" + c, "http://anything.example/listen/" + c} {
		got := s.raw("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + bearer + "\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 200") {
			t.Errorf("%q: %.60q", path, got)
		}
	}
}

// H32: headers that proxies and frameworks listen to change nothing.
func TestForwardedHeadersChangeNothing(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(100))
	s := r.serve(nil)
	path, bearer := "/listen/"+seg.CID.String(), "Bearer "+r.token()
	for _, h := range [][]string{
		{"X-Forwarded-Host", "evil"}, {"X-Forwarded-Prefix", "/evil"}, {"X-Forwarded-For", "127.0.0.1"}, {"X-Original-Url", "/healthz"},
		{"X-Rewrite-Url", "/healthz"}, {"X-Http-Method-Override", "DELETE"}, {"X-Forwarded-Proto", "https"}, {"Forwarded", "for=::1"},
	} {
		refused := s.ask("GET", path, h...)
		played := s.ask("GET", path, append(h, "Authorization", bearer)...)
		if refused.StatusCode != 401 || played.StatusCode != 200 || len(played.body) != 100 || played.Header.Get("Location") != "" ||
			played.Header.Get("Strict-Transport-Security") != "" {
			t.Errorf("%v: %d, %d", h, refused.StatusCode, played.StatusCode)
		}
	}
}

// H44
func TestMethods(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(100))
	s := r.serve(nil)
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "CONNECT", "PROPFIND", "get"} {
		for _, path := range []string{"/listen/" + seg.CID.String(), "/ipfs/" + seg.CID.String(), "/healthz"} {
			got := s.raw(method + " " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nOrigin: https://evil.example\r\n" +
				"Access-Control-Request-Method: GET\r\nAuthorization: Bearer " + r.token() + "\r\n\r\n")
			if !strings.HasPrefix(got, "HTTP/1.1 405") || !strings.Contains(got, "\r\nAllow: GET, HEAD\r\n") ||
				strings.Contains(got, "Access-Control-Allow") || !strings.Contains(got, "method_not_allowed") {
				t.Errorf("%s %s: %.200q", method, path, got)
			}
		}
	}
	if got := s.raw("OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 404") {
		t.Errorf("OPTIONS *: %.60q", got)
	}
	if a := s.ask("HEAD", "/nothing"); a.StatusCode != 404 || a.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("HEAD of nothing: %d %v", a.StatusCode, a.Header)
	}
}

// H41: a request whose length can be read in two ways ends the connection; so
// the second request of each of these is never answered.
func TestSmuggling(t *testing.T) {
	s := newRealm(t).serve(nil)
	const second = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, head := range map[string]string{
		"CL and TE":      "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"TE obfuscated":  "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"TE twice":       "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"TE with tab":    "Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n",
		"CL twice":       "Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
		"CL negative":    "Content-Length: -1\r\n\r\n",
		"CL plus":        "Content-Length: +5\r\n\r\nhello",
		"bare LF chunk":  "Transfer-Encoding: chunked\r\n\r\n1\nA\r\n0\r\n\r\n",
		"chunk ext CR":   "Transfer-Encoding: chunked\r\n\r\n1;a\rb\r\nA\r\n0\r\n\r\n",
		"body":           "Content-Length: 5\r\n\r\nhello",
		"space in name":  "Content-Length : 5\r\n\r\nhello",
		"no host":        "",
		"NUL in a value": "X: a\x00b\r\n\r\n",
	} {
		request := "GET /healthz HTTP/1.1\r\nHost: x\r\n" + head
		if name == "no host" {
			request = "GET /healthz HTTP/1.1\r\n\r\n"
		}
		got := s.raw(request + second)
		if !strings.HasPrefix(got, "HTTP/1.1 4") && !strings.HasPrefix(got, "HTTP/1.1 501") || strings.Count(got, "HTTP/1.1 ") != 1 {
			t.Errorf("%s: %.200q", name, got)
		}
	}
}

// H47
func TestOversizedRequests(t *testing.T) {
	s := newRealm(t).serve(nil)
	many := strings.Repeat("X-A: b\r\n", 200)
	cookies := "Cookie: " + strings.Repeat("a=b; ", 10_000) + "\r\n"
	for name, c := range map[string]struct{ path, headers, status string }{
		"URL of 5 KiB":    {"/healthz?" + strings.Repeat("a", 5<<10), "", "414"},
		"URL of 1 MiB":    {"/healthz?" + strings.Repeat("a", 1<<20), "", "431"},
		"200 headers":     {"/healthz", many, "431"},
		"100,000 headers": {"/healthz", strings.Repeat("X-A: b\r\n", 100_000), "431"},
		"10,000 cookies":  {"/healthz", cookies, "431"},
		"one huge header": {"/healthz", "X-A: " + strings.Repeat("b", 1<<20) + "\r\n", "431"},
	} {
		got := s.raw("GET " + c.path + " HTTP/1.1\r\nHost: x\r\n" + c.headers + "\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 "+c.status) {
			t.Errorf("%s: %.80q", name, got)
		}
	}
}

// H40: a header that never ends is cut off in its time, and so is a body that
// nobody asked for.
func TestSlowRequests(t *testing.T) {
	s := newRealm(t).serve(func(o *Options) { o.Limits.HeaderTimeout = 200 * time.Millisecond })
	for _, request := range []string{"", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ", "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\nslow"} {
		got := s.raw(request) // returns when the server closes
		if strings.Contains(got, "200 OK") {
			t.Errorf("%q: %q", request, got)
		}
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	s := newRealm(t).serve(func(o *Options) { o.Limits.IdleTimeout = 100 * time.Millisecond })
	got := s.raw("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("%q", got)
	}
}

// P60: a node that cannot work says that it is not ready, and not why.
func TestHealth(t *testing.T) {
	r := newRealm(t)
	var sick error
	s := r.serve(func(o *Options) { o.Ready = func(context.Context) error { return sick } })
	if a := s.ask("GET", "/healthz"); a.StatusCode != 200 {
		t.Errorf("healthz: %d", a.StatusCode)
	}
	if a := s.ask("GET", "/readyz"); a.StatusCode != 200 {
		t.Errorf("readyz: %d", a.StatusCode)
	}
	sick = fmt.Errorf("cannot write /var/lib/musen: %w", musen.ErrNoSpace)
	if a := s.ask("GET", "/readyz"); a.StatusCode != 503 || strings.Contains(string(a.body), "/var") {
		t.Errorf("readyz: %d %s", a.StatusCode, a.body)
	}
}

// H13, H54: the log tells the route, the CID and the outcome, and neither who
// asked nor with what.
func TestAccessLog(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(1000))
	s := r.serve(nil)
	token, link := r.token(), r.link("jazz", seg.CID)
	a := s.ask("GET", "/listen/"+seg.CID.String()+"?CAT="+link+"&secret=planted", "User-Agent", "agent-smith", "X-Forwarded-For", "203.0.113.77")
	line := s.log.await(`"msg":"request"`)
	for _, want := range []string{`"route":"/listen/:cid"`, `"status":200`, `"bytes":1000`, `"method":"GET"`, `"duration":`,
		`"cid":"` + seg.CID.String(), `"request":"` + a.Header.Get("X-Request-Id")} {
		if !strings.Contains(line, want) {
			t.Errorf("no %s in %s", want, line)
		}
	}
	s.ask("GET", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+token)
	s.ask("GET", "/listen/planted?planted", "Authorization", "Bearer "+token)
	s.ask("GET", "/planted/x?planted", "Cookie", "CTA-Common-Access-Token="+link)
	s.raw("PLANTED /planted HTTP/1.1\r\nHost: planted\r\nConnection: close\r\n\r\n")
	for range 4 {
		s.log.await(`"msg":"request"`)
	}
	for _, secret := range []string{token[:24], link[:24], link[len(link)-16:], "planted", "PLANTED", "agent-smith", "203.0.113.77", "127.0.0.1"} {
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
}

// P4
func TestCheckListener(t *testing.T) {
	proxies := parsePrefixes(t, "10.0.0.1/32")
	for _, addr := range []string{"127.0.0.1:80", "[::1]:80", "localhost:0", "127.9.9.9:1"} {
		check(t, CheckListener(addr, false, nil))
	}
	for _, addr := range []string{"0.0.0.0:80", ":80", "[::]:80", "192.0.2.1:80", "example.org:80", "[::ffff:192.0.2.1]:80"} {
		if err := CheckListener(addr, false, nil); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: %v", addr, err)
		}
		check(t, CheckListener(addr, true, nil))
		check(t, CheckListener(addr, false, proxies))
	}
	if CheckListener("nonsense", true, nil) == nil {
		t.Error("an address without a port is accepted")
	}
}

// H43: in plain, only loopback and the declared proxies are let in.
func TestPlainConnectionsAreGuarded(t *testing.T) {
	g := guardedListener{proxies: parsePrefixes(t, "10.0.0.0/24")}
	for addr, want := range map[string]bool{
		"127.0.0.1": true, "::1": true, "10.0.0.7": true, "::ffff:10.0.0.7": true, "10.0.1.7": false, "192.0.2.1": false, "::": false,
	} {
		if got := g.admits(&net.TCPAddr{IP: net.ParseIP(addr), Port: 1}); got != want {
			t.Errorf("%s: admitted %v", addr, got)
		}
	}
	if !g.admits(&net.UnixAddr{Name: "x"}) {
		t.Error("a unix socket is refused")
	}
}

func parsePrefixes(t *testing.T, s ...string) []netip.Prefix {
	t.Helper()
	var out []netip.Prefix
	for _, v := range s {
		p, err := netip.ParsePrefix(v)
		check(t, err)
		out = append(out, p)
	}
	return out
}
