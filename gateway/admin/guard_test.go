package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/policy"
)

// H10, P31: gin serves what the table declares, and the table declares what
// each route needs; a route that gets around the table is shut.
func TestEveryRouteIsDeclared(t *testing.T) {
	w := newWorld(t, func(o *Options) {})
	served := w.server.engine.Routes()
	if len(served) != len(routes()) {
		t.Errorf("gin serves %d routes, the table has %d", len(served), len(routes()))
	}
	for _, r := range served {
		row, ok := w.server.routes[r.Method+" "+r.Path]
		if !ok {
			t.Errorf("%s %s is not in the table", r.Method, r.Path)
			continue
		}
		if row.scope == 0 || row.handle == nil || (len(row.need) == 0) != (row.scope == onNothing) {
			t.Errorf("%s %s does not declare what it needs", r.Method, r.Path)
		}
		if row.scope == onNothing && r.Path != prefix+"/openapi.yaml" {
			t.Errorf("%s %s is open to every credential", r.Method, r.Path)
		}
	}
	w.server.engine.GET(prefix+"/stray", func(c *gin.Context) { c.String(http.StatusOK, "secret") })
	if status, p := w.do(newRequest(t, http.MethodGet, "http://socket"+prefix+"/stray", "")); status != 403 {
		t.Errorf("an undeclared route answers %d %s", status, p.Code)
	}
}

// Every route of the table is described, and nothing else is.
func TestEveryRouteIsDescribed(t *testing.T) {
	w := newWorld(t, nil)
	doc := newValidator(t, nil).doc
	described, parameter := map[string]bool{}, regexp.MustCompile(`:(\w+)`)
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			pattern := strings.NewReplacer("{", ":", "}", "").Replace(path)
			described[method+" "+prefix+pattern] = true
		}
	}
	for key, row := range w.server.routes {
		if !described[key] {
			t.Errorf("%s is not described", key)
		}
		path := parameter.ReplaceAllString(row.path, "{$1}")
		item := doc.Paths.Find(path)
		if item == nil {
			continue
		}
		var parameters []string
		for _, p := range item.GetOperation(row.method).Parameters {
			if p.Value.In == "query" {
				parameters = append(parameters, p.Value.Name)
			}
		}
		slices.Sort(parameters)
		known := slices.Sorted(slices.Values(row.query))
		if !slices.Equal(parameters, known) {
			t.Errorf("%s takes %v, openapi.yaml says %v", key, known, parameters)
		}
	}
	if len(described) != len(w.server.routes) {
		t.Errorf("%d operations are described, %d served", len(described), len(w.server.routes))
	}
}

// H28, H48: what can be the name of nothing is in the place of none, on any route.
func TestNamesOfNothing(t *testing.T) {
	w := newWorld(t, nil)
	token := w.token(nil, policy.Manage, policy.Audit)
	for _, r := range routes() {
		for _, value := range []string{"a%00b", "%ff", "%0d%0a", strings.Repeat("a", maxText+1)} {
			w.clock.Add(1) // who is refused too often is asked to wait
			path := regexp.MustCompile(":[a-z]+").ReplaceAllString(r.path, value)
			if status, code, _ := w.ask(r.method, path, "", token, ""); path != r.path && (status != 404 || code != "not_found") && !strings.Contains(r.path, ":cid") || status >= 500 {
				t.Errorf("%s %.40q: %d %s", r.method, path, status, code)
			}
		}
	}
}

// H28, H44: other spellings of a path, and other methods, reach nothing.
func TestOtherPathsAndMethods(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	for path, want := range map[string]int{
		"/api/v1/status/": 404, "/api/v1//status": 404, "/api/v1/./status": 404, "/API/v1/status": 404,
		"/api/v1/%73tatus": 404, "/api/v1/stations/jazz%2fsegments": 404, "/api/v1/stations/..": 404,
		"/api/v1/stations/%2e%2e%2fstatus": 404, "/api/v1/stations/jazz%00": 404, "/": 404, "/debug/pprof/": 404,
	} {
		req := newRequest(t, http.MethodGet, "http://socket/", "")
		raw, query, _ := strings.Cut(path, "?")
		req.URL = &url.URL{Scheme: "http", Host: "socket", Opaque: "//socket" + raw, RawQuery: query}
		if status, p := w.do(req); status != want || p.Code != "not_found" {
			t.Errorf("GET %s: %d %s", path, status, p.Code)
		}
	}
	for _, method := range []string{http.MethodPut, http.MethodTrace, http.MethodOptions, "BREW"} {
		if status, p := w.do(newRequest(t, method, "http://socket/api/v1/status", "")); status != 405 || p.Code != "method_not_allowed" {
			t.Errorf("%s: %d %s", method, status, p.Code)
		}
	}
	req := newRequest(t, http.MethodPost, "http://socket/api/v1/status", "")
	req.Header.Set("X-HTTP-Method-Override", "GET")
	if status, _ := w.do(req); status != 405 {
		t.Errorf("method override: %d", status)
	}
	for query, code := range map[string]string{
		"a=1": "unknown_parameter", "limit=1&limit=2": "bad_parameter", "limit=1;cursor=2": "bad_query", "%zz": "bad_query", "limit=0": "bad_parameter",
	} {
		if status, p := w.do(newRequest(t, http.MethodGet, "http://socket/api/v1/stations/jazz/segments?"+query, "")); status != 400 || p.Code != code {
			t.Errorf("?%s: %d %s, want 400 %s", query, status, p.Code, code)
		}
	}
}

// P29, H1, H10, H13: on TCP a request needs one good bearer token, whatever it asks
// for, and the credentials of listeners are none.
func TestCredentialsOnTCP(t *testing.T) {
	w := newWorld(t, nil)
	jazz := w.station("jazz")
	good := w.token(nil, policy.Manage, policy.Audit, policy.Add)
	link, _, err := w.issuer.Link(policy.LinkRequest{Station: jazz.ID, Epoch: 1, Path: "/api/v1/status", Download: true})
	must(t, err)
	revoked, jti, _, err := w.issuer.Token(policy.TokenRequest{Subject: "bob", Actions: []policy.Action{policy.Manage}, TTL: time.Hour})
	must(t, err)
	must(t, w.RevokeToken(t.Context(), jti))
	short, _, _, err := w.issuer.Token(policy.TokenRequest{Subject: "bob", Actions: []policy.Action{policy.Manage}, TTL: time.Second})
	must(t, err)
	w.clock.Store(600)

	for name, c := range map[string]struct {
		header http.Header
		query  string
		status int
		code   string
	}{
		"none":            {nil, "", 401, "credential_missing"},
		"good":            {http.Header{"Authorization": {"Bearer " + good}}, "", 200, ""},
		"lower-case":      {http.Header{"Authorization": {"bearer " + good}}, "", 200, ""},
		"twice":           {http.Header{"Authorization": {"Bearer " + good, "Bearer " + good}}, "", 401, "credential_malformed"},
		"basic":           {http.Header{"Authorization": {"Basic " + good}}, "", 401, "credential_malformed"},
		"empty":           {http.Header{"Authorization": {"Bearer "}}, "", 401, "credential_malformed"},
		"rubbish":         {http.Header{"Authorization": {"Bearer " + strings.Repeat(".", 9000)}}, "", 401, "credential_malformed"},
		"revoked":         {http.Header{"Authorization": {"Bearer " + revoked}}, "", 401, "credential_revoked"},
		"expired":         {http.Header{"Authorization": {"Bearer " + short}}, "", 401, "credential_expired"},
		"link as bearer":  {http.Header{"Authorization": {"Bearer " + link}}, "", 401, "credential_malformed"},
		"link as query":   {nil, "?CAT=" + link, 401, "credential_missing"},
		"link as header":  {http.Header{"Cta-Common-Access-Token": {link}}, "", 401, "credential_missing"},
		"link as cookie":  {http.Header{"Cookie": {"CTA-Common-Access-Token=" + link}}, "", 401, "credential_missing"},
		"token as cookie": {http.Header{"Cookie": {"token=" + good}}, "", 401, "credential_missing"},
		"token as query":  {nil, "?access_token=" + good, 401, "credential_missing"},
	} {
		for _, path := range []string{"/api/v1/status", "/api/v1/openapi.yaml", "/api/v1/unknown"} {
			req := newRequest(t, http.MethodGet, "http://"+w.tcp+path+c.query, "")
			req.Header = c.header
			status, p := w.do(req)
			if path == "/api/v1/unknown" && c.status == 200 {
				if status != 404 {
					t.Errorf("%s, %s: %d", name, path, status)
				}
			} else if status != c.status || p.Code != c.code {
				t.Errorf("%s, %s: %d %s, want %d %s", name, path, status, p.Code, c.status, c.code)
			}
		}
	}
	log := w.log.String()
	for _, secret := range []string{good, revoked, short, link} {
		for i := 0; i+8 <= len(secret); i += 8 {
			if i > 40 && strings.Contains(log, secret[i:i+8]) { // all tokens have the same header
				t.Fatal("part of a credential is in the log")
			}
		}
	}
	if strings.Contains(log, "127.0.0.1") {
		t.Error("an address is in the log")
	}
}

// H49: a name that was rebound to this machine, and a page of another site,
// reach nothing, with a good token or without.
func TestForeignHostsAndSites(t *testing.T) {
	w := newWorld(t, nil)
	good := w.token(nil, policy.Manage)
	for host, status := range map[string]int{
		w.tcp: 200, "localhost": 200, "LOCALHOST:1": 200, "[::1]:7071": 200, "127.0.0.2": 200, "admin.example": 200, "Admin.Example:443": 200,
		"evil.example": 403, "evil.example:80": 403, "127.0.0.1.evil.example": 403, "0.0.0.0": 403, "192.168.1.1": 403, "localhost.evil": 403, "": 200,
	} {
		req := newRequest(t, http.MethodGet, "http://"+w.tcp+"/api/v1/status", "")
		req.Host = host // empty: that of the URL
		req.Header.Set("Authorization", "Bearer "+good)
		if got, p := w.do(req); got != status || got == 403 && p.Code != "host_refused" {
			t.Errorf("Host %q: %d %s", host, got, p.Code)
		}
	}
	for _, base := range []string{"http://socket", "http://" + w.tcp} {
		for name, header := range map[string]http.Header{
			"cross-site": {"Sec-Fetch-Site": {"cross-site"}}, "same-site": {"Sec-Fetch-Site": {"same-site"}},
			"foreign origin": {"Origin": {"https://evil.example"}}, "null origin": {"Origin": {"null"}},
		} {
			req := newRequest(t, http.MethodPost, base+"/api/v1/gc", "")
			req.Header = header
			req.Header.Set("Authorization", "Bearer "+good)
			if status, p := w.do(req); status != 403 || p.Code != "cross_origin" {
				t.Errorf("%s on %s: %d %s", name, base, status, p.Code)
			}
		}
	}
}

// A probe is a request whose answer tells whether it was let in.
type probe struct {
	method, path, body string
	allowed            []policy.Action // on jazz
	node               bool            // must be held everywhere
	hidden             bool            // 404 for who does not cover jazz
}

// probes are one for each route at least; id, station and share are of jazz, and
// so is what was taken down.
func probes(id, station, share, taken string, actions []policy.Action) []probe {
	use := []policy.Action{policy.Add, policy.Manage, policy.Audit}
	read, manage := []policy.Action{policy.Manage, policy.Audit}, []policy.Action{policy.Manage}
	see, moderate := []policy.Action{policy.Moderate, policy.Audit}, []policy.Action{policy.Moderate}
	return []probe{
		{"GET", "/openapi.yaml", "", actions, false, false},
		{"GET", "/status", "", read, true, false},
		{"POST", "/gc", "", manage, true, false},
		{"GET", "/stations", "", actions, false, false},
		{"POST", "/stations", `{"name":"%s"}`, manage, true, false},
		{"GET", "/stations/jazz", "", use, false, true},
		{"GET", "/stations/" + station, "", use, false, true},
		{"PATCH", "/stations/jazz", `{"description":"x"}`, manage, false, true},
		{"DELETE", "/stations/jazz?force=maybe", "", manage, false, true},
		{"GET", "/stations/jazz/shares", "", read, false, true},
		{"POST", "/stations/jazz/shares", `{"ttl":60}`, manage, false, true},
		{"POST", "/stations/jazz/shares/regenerate", "body", manage, false, true},
		{"GET", "/shares", "", actions, false, false},
		{"DELETE", "/shares/" + share, "body", manage, false, true},
		{"PUT", "/shares/" + share + "/password", `{"password":""}`, manage, false, true},
		{"GET", "/stations/jazz/segments", "", use, false, true},
		{"POST", "/stations/jazz/segments", `audio`, []policy.Action{policy.Add}, false, true},
		{"GET", "/segments/" + id, "", use, false, true},
		{"DELETE", "/segments/" + id, "body", manage, false, true},
		{"POST", "/segments/" + id + "/links", `{}`, manage, false, true},
		{"POST", "/verify", `{"cids":["` + id + `"]}`, []policy.Action{policy.Audit}, false, true},
		{"GET", "/segments/" + id + "/copies", "", read, false, true},
		{"GET", "/stations/jazz/replication", "", read, false, true},
		{"GET", "/replication", "", read, true, false},
		{"POST", "/pins/recover", `{"cids":["` + id + `"]}`, manage, false, true},
		{"POST", "/pins/recover", `{}`, manage, true, false},
		{"POST", "/pins/rebalance", "", manage, true, false},
		{"GET", "/services", "", read, true, false},
		{"POST", "/services", `{}`, manage, true, false},
		{"DELETE", "/services/x", "body", manage, true, false},
		{"GET", "/peers", "", read, true, false},
		{"POST", "/peers", `{}`, manage, true, false},
		{"DELETE", "/peers/x", "body", manage, true, false},
		{"POST", "/peers/x/drain", "body", manage, true, false},
		{"POST", "/peers/x/reinstate", `{}`, manage, true, false},
		{"GET", "/peers/invites", "", read, true, false},
		{"POST", "/peers/invites", `{}`, manage, true, false},
		{"DELETE", "/peers/invites/x", "body", manage, true, false},
		{"GET", "/takedowns", "", actions, false, false},
		{"POST", "/takedowns", `{"cid":"` + id + `"}`, moderate, false, true},
		{"GET", "/takedowns/" + taken, "", append(moderate, policy.Audit), false, true},
		{"POST", "/takedowns/" + taken + "/lift", `{}`, moderate, false, true},
		{"GET", "/tokens", "", read, true, false},
		{"POST", "/tokens", `{"subject":"s","actions":["manage"],"stations":["jazz"],"ttl":60}`, manage, false, true},
		{"POST", "/tokens", `{"subject":"s","actions":["manage"],"ttl":60}`, manage, true, false},
		{"POST", "/tokens/revoke", `{"jti":"j"}`, manage, true, false},
		{"GET", "/keys", "", read, true, false},
		{"POST", "/keys/rotate", `{"kind":"link"}`, manage, true, false},
		{"GET", "/alerts", "", read, true, false},
		{"GET", "/subjects", "", read, true, false},
		{"PUT", "/subjects", `{"subject":"eve","state":"limited","reason":"why"}`, manage, true, false},
		{"GET", "/roles", "", read, true, false},
		{"PUT", "/roles", `{"subject":"s","role":"king"}`, manage, true, false},
		{"POST", "/roles/revoke", `{"subject":"s","role":"king"}`, manage, true, false},
		{"GET", "/access", "", read, true, false},
		{"POST", "/access/reviews", `{"reviewer":"","digest":""}`, manage, true, false},
		{"GET", "/approvals", "", actions, false, false},
		{"POST", "/approvals/x/approve", "body", actions, false, false},
		{"POST", "/approvals/x/deny", "body", actions, false, false},
		{"GET", "/audit", "", []policy.Action{policy.Audit}, true, false},
		{"GET", "/audit/checkpoint", "", []policy.Action{policy.Audit}, true, false},
		{"GET", "/audit/review", "", []policy.Action{policy.Audit}, true, false},
		{"POST", "/audit/reviews", `{"reviewer":"","head":{"size":0,"hash":""}}`, manage, true, false},
		{"GET", "/reports", "", actions, false, false},
		{"GET", "/reports?station=jazz", "", see, false, true},
		{"GET", "/reports/" + station, "", see, false, true},
		{"POST", "/reports/" + station + "/take", "body", moderate, false, true},
		{"POST", "/reports/" + station + "/close", "{}", moderate, false, true},
		{"GET", "/policy", "", read, true, false},
		{"GET", "/policy/state", "", read, true, false},
		{"POST", "/policy/reload", "", manage, true, false},
		{"POST", "/policy/explain", `{"action":"listen","station":"jazz","subject":"s","actions":["listen"]}`, read, false, true},
		{"POST", "/policy/explain", `{"action":"listen","subject":"s","actions":["listen"]}`, read, true, false},
	}
}

// The permissions of every route, for each action held on a station, on
// another one, and everywhere.
func TestPermissions(t *testing.T) {
	w := newWorld(t, nil)
	jazz, rock := w.station("jazz"), w.station("rock")
	id := w.segment("jazz", "one").CID
	actions := []policy.Action{policy.Listen, policy.Download, policy.ReleaseKey, policy.Add, policy.Manage, policy.Moderate, policy.Audit, policy.Host}
	share, err := w.local.CreateShare(t.Context(), "jazz", wire.NewShare{})
	must(t, err)
	probes := probes(id, jazz.ID, share.ID, w.takenDown(jazz.ID), actions)
	if len(probes) < len(routes()) {
		t.Fatalf("%d probes for %d routes", len(probes), len(routes()))
	}
	n := 0
	for _, p := range probes {
		for _, action := range actions {
			for where, stations := range map[string][]string{"here": {jazz.ID}, "elsewhere": {rock.ID}, "everywhere": nil} {
				n++
				w.clock.Add(1) // else it is refused too often
				want := "allowed"
				switch may := slices.Contains(p.allowed, action); {
				case p.node && (where != "everywhere" || !may):
					want = "forbidden"
				case p.hidden && where == "elsewhere":
					want = "not_found"
				case !may:
					want = "forbidden"
				}
				body := p.body
				if strings.Contains(body, "%s") {
					body = fmt.Sprintf(body, fmt.Sprintf("new-%d", n))
				}
				req := newRequest(t, p.method, "http://"+w.tcp+prefix+p.path, body)
				req.Header.Set("Authorization", "Bearer "+w.token(stations, action))
				status, problem := w.do(req)
				got := problem.Code
				if status != 403 && status != 404 || got == "no_identity" { // done, or refused for what was sent, or for who sent it
					got = "allowed"
				}
				if got != want {
					t.Errorf("%s %s with %s %s: %d %s, want %s", p.method, p.path, action, where, status, problem.Code, want)
				}
			}
		}
	}
	if n := len(w.segments); n != 1 {
		t.Errorf("%d segments after the probes", n)
	}
}

// P15, H31: what a caller's token does not cover answers exactly as what is not
// there, and is not listed.
func TestUncoveredLooksAbsent(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	rock := w.station("rock")
	id := w.segment("jazz", "one").CID
	removed := w.segment("jazz", "two").CID
	req := newRequest(t, http.MethodDelete, "http://socket/api/v1/segments/"+removed, "")
	if status, _ := w.do(req); status != 204 {
		t.Fatalf("remove: %d", status)
	}
	unknown := "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
	token := w.token([]string{rock.ID}, policy.Manage, policy.Audit, policy.Add)
	ask := func(method, path, body string) client.Error {
		req := newRequest(t, method, "http://"+w.tcp+prefix+path, body)
		req.Header.Set("Authorization", "Bearer "+token)
		_, p := w.do(req)
		p.RequestID = ""
		return p
	}
	absent := ask("GET", "/segments/"+unknown, "")
	if absent.Code != "not_found" {
		t.Fatalf("unknown segment: %+v", absent)
	}
	for _, c := range [][3]string{
		{"GET", "/segments/" + id}, {"GET", "/segments/" + removed}, {"DELETE", "/segments/" + id}, {"POST", "/segments/" + id + "/links", "{}"},
		{"GET", "/segments/" + id + "/copies"}, {"GET", "/segments/" + removed + "/copies"}, {"GET", "/stations/jazz/replication"},
		{"POST", "/pins/recover", `{"cids":["` + id + `"]}`}, {"POST", "/pins/recover", `{"cids":["` + unknown + `"]}`},
		{"POST", "/verify", `{"cids":["` + id + `"]}`}, {"POST", "/verify", `{"cids":["` + unknown + `"]}`},
		{"GET", "/stations/jazz"}, {"GET", "/stations/unknown"}, {"POST", "/stations/jazz/segments", "audio"}, {"POST", "/stations/unknown/segments", "audio"},
		{"POST", "/tokens", `{"subject":"s","actions":["add"],"stations":["jazz"]}`}, {"POST", "/tokens", `{"subject":"s","actions":["add"],"stations":["unknown"]}`},
		{"POST", "/policy/explain", `{"action":"listen","station":"jazz","subject":"s","actions":["listen"]}`},
		{"POST", "/policy/explain", `{"action":"listen","station":"rock","cid":"` + id + `","subject":"s","actions":["listen"]}`},
		{"POST", "/policy/explain", `{"action":"listen","station":"rock","subject":"s","actions":["listen"],"stations":["jazz"]}`},
	} {
		if got := ask(c[0], c[1], c[2]); got != absent {
			t.Errorf("%s %s: %+v, want %+v", c[0], c[1], got, absent)
		}
	}
	for _, c := range [][4]string{ // the operator is told what is not there
		{"GET", "/stations/unknown", "", `no station "unknown"`}, {"POST", "/stations/unknown/segments", "audio", `no station "unknown"`},
		{"GET", "/segments/" + unknown, "", `no segment "` + unknown + `"`}, {"POST", "/verify", `{"cids":["` + unknown + `"]}`, unknown},
		{"POST", "/tokens", `{"subject":"s","actions":["add"],"stations":["jazz","unknown"]}`, `no station "unknown"`},
		{"POST", "/policy/explain", `{"action":"listen","station":"unknown","subject":"s","actions":["listen"]}`, `no station "unknown"`},
		{"POST", "/policy/explain", `{"action":"listen","station":"rock","cid":"` + id + `","subject":"s","actions":["listen"]}`, id},
	} {
		if status, p := w.do(newRequest(t, c[0], "http://socket"+prefix+c[1], c[2])); status != 404 || p.Code != "not_found" || !strings.Contains(p.Detail, c[3]) {
			t.Errorf("%s %s: %d %+v, want %q", c[0], c[1], status, p, c[3])
		}
	}
	list, err := w.remote(token).Stations(t.Context())
	if must(t, err); len(list) != 1 || list[0].Name != "rock" {
		t.Errorf("stations %+v", list)
	}
	for r, err := range w.remote(token).Verify(t.Context()) {
		t.Errorf("verify of all: %+v, %v", r, err)
	}
}

// Nobody gets more out of a token than they have: no other action, no longer
// time. P33.
func TestTokensOnlyShrink(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	c := w.remote(w.token(nil, policy.Manage, policy.Listen))
	_, err := c.IssueToken(t.Context(), wire.TokenRequest{Subject: "s", Actions: []string{"listen", "audit"}, TTL: 60})
	refused(t, err, 403, "grant_exceeded")
	_, err = c.IssueToken(t.Context(), wire.TokenRequest{Subject: "s", Actions: []string{"listen"}, TTL: 3601})
	refused(t, err, 403, "grant_exceeded")
	_, err = c.IssueToken(t.Context(), wire.TokenRequest{Subject: "s", Actions: []string{"listen"}, TTL: 3600})
	must(t, err)
	_, err = w.local.Revoke(t.Context(), wire.Revocation{Subject: "ann"})
	must(t, err)
	_, err = c.Stations(t.Context())
	refused(t, err, 401, "credential_revoked")
}
