package gateway

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
)

// P15: a station that was just made is heard and seen by nobody who was not let
// in, and nothing that answers strangers names it.
func TestNewStationIsPrivate(t *testing.T) {
	r := newRealm(t)
	const id, name = "zzzzzzzzzzzzzzzzzzzzzzzzzz", "Harbour Nights"
	s := r.open(hasher(t), nil)
	r.mu.Lock()
	r.stations[id] = musen.Station{ID: id, Name: name, Epoch: 1}
	r.mu.Unlock()
	song := r.add(musen.Segment{Station: id, Title: name}, audioOf(100))
	elsewhere := "Bearer " + r.token("jazz")
	for _, path := range []string{
		"/", "/stations", "/stations/", "/stations/" + id, "/stations/" + id + "/segments", "/listen/" + song.CID.String(),
		"/listen", "/listen/", "/s", "/s/", "/s/" + id, "/web/", "/robots.txt", "/sitemap.xml", "/healthz", "/readyz",
	} {
		for _, headers := range [][]string{nil, {"Authorization", elsewhere}} {
			a := s.ask("GET", path, headers...)
			if a.StatusCode == http.StatusOK && path != "/healthz" && path != "/readyz" {
				t.Errorf("%s with %d headers: status %d", path, len(headers), a.StatusCode)
			}
			if strings.Contains(string(a.body), name) || strings.Contains(string(a.body), id) {
				t.Errorf("%s names the station:\n%s", path, a.body)
			}
		}
	}
	s.ask("GET", "/listen/"+song.CID.String(), "Authorization", "Bearer "+r.token(id)).want(t, http.StatusOK)
}

// P29: who comes in anew has a session of their own, whatever cookie they
// brought; it can be ended here; and neither it nor a token is ever in an
// address.
func TestSessionsAreTheirOwn(t *testing.T) {
	r := newRealm(t)
	r.addStation("rock", true)
	song := r.add(musen.Segment{}, audioOf(100))
	s := r.open(hasher(t), nil)
	_, secret := r.share("jazz", nil)
	_, other := r.share("rock", nil)
	first, second := s.enter(secret), s.enter(secret)
	a := s.ask("GET", "/s/"+other, "Cookie", cookie(first)) // planted by somebody else
	third := s.cookieOf(a)
	if first == second || first == third || second == third {
		t.Error("two visits have one session")
	}
	if to := a.Header.Get("Location"); to != "/stations/rock" {
		t.Errorf("sent to %q", to)
	}
	for _, path := range []string{"/stations/jazz", "/stations/jazz/segments"} {
		a := s.ask("GET", path, "Cookie", cookie(first))
		a.want(t, http.StatusOK)
		if body := string(a.body); strings.Contains(body, first) || strings.Contains(body, secret) {
			t.Errorf("%s holds the session or the share:\n%s", path, body)
		}
	}
	token, listen := r.token("jazz"), "/listen/"+song.CID.String()
	s.ask("GET", listen, "Authorization", "Bearer "+token).want(t, http.StatusOK)
	for _, query := range []string{"CAT=" + token, "CAT=" + first, "access_token=" + token, "token=" + token, "session=" + first, "__Host-musen=" + first} {
		s.ask("GET", listen+"?"+query).want(t, http.StatusUnauthorized)
		s.ask("GET", "/stations/jazz?"+query).want(t, http.StatusUnauthorized)
	}
	g, err := r.verifier.Session(first)
	check(t, err)
	r.revoke(g.ID())
	s.ask("GET", listen, "Cookie", cookie(first)).want(t, http.StatusUnauthorized)
	s.ask("GET", listen, "Cookie", cookie(second)).want(t, http.StatusOK)
}

// P60: refused credentials, errors and answers beyond a limit are counted, each
// for what it is; and who asks whether the node can work is told.
func TestAnswersAreCounted(t *testing.T) {
	r := newRealm(t)
	song, broken := r.add(musen.Segment{}, audioOf(100)), r.add(musen.Segment{}, audioOf(200))
	r.hook(func(c cid.Cid, _ int64) error {
		if c.Equals(broken.CID) {
			return errors.New("the disk is gone")
		}
		return nil
	})
	var sick error
	s := r.serve(func(o *Options) { o.Ready = func(context.Context) error { return sick } })
	bearer, listen := "Bearer "+r.token(), "/listen/"+song.CID.String()
	revoked, id := r.tokenFor("gone")
	r.revoke(id)
	old := r.link("jazz", song.CID)
	s.ask("GET", listen, "Authorization", bearer)
	s.ask("GET", listen)
	s.ask("GET", listen)
	s.ask("GET", listen, "Authorization", "Bearer x")
	s.ask("GET", listen, "Authorization", "Bearer "+revoked)
	s.ask("GET", "/listen/"+unknownCID(cid.Raw).String(), "Authorization", bearer)
	s.ask("GET", "/listen/"+broken.CID.String(), "Authorization", bearer)
	s.ask("GET", "/readyz")
	sick = musen.ErrNoSpace
	s.ask("GET", "/readyz")
	r.clock.Add(30 * time.Minute)
	s.ask("GET", listen+"?CAT="+old)
	for range 10 { // what is logged is counted
		s.log.await(`"msg":"request"`)
	}
	got := map[string]uint64{}
	for _, c := range s.server.Counts() {
		got[c.Route+" "+http.StatusText(c.Status)+" "+c.Code] += c.N
	}
	for what, n := range map[string]uint64{
		"/listen/:cid OK ": 1,
		"/listen/:cid Unauthorized credential_missing":   2,
		"/listen/:cid Unauthorized credential_malformed": 1,
		"/listen/:cid Unauthorized credential_revoked":   1,
		"/listen/:cid Unauthorized credential_expired":   1,
		"/listen/:cid Not Found not_found":               1,
		"/listen/:cid Service Unavailable unavailable":   1,
		"/readyz OK ":                      1,
		"/readyz Service Unavailable busy": 1,
	} {
		if got[what] != n {
			t.Errorf("%s: %d, want %d", what, got[what], n)
		}
	}
	if t.Failed() {
		t.Logf("counted %v", got)
	}
}
