package gateway

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

// asked counts what the server asks of others to answer a request.
type asked struct {
	Opener
	Library
	musen.Decider
	opened, found, listed, decided int
}

func (a *asked) Open(ctx context.Context, g policy.Grant, action policy.Action, c cid.Cid) (Stream, error) {
	a.opened++
	return a.Opener.Open(ctx, g, action, c)
}

func (a *asked) Station(ctx context.Context, id string) (musen.Station, error) {
	a.found++
	return a.Library.Station(ctx, id)
}

func (a *asked) Segments(ctx context.Context, station, cursor string, limit int) ([]musen.Segment, string, error) {
	a.listed++
	return a.Library.Segments(ctx, station, cursor, limit)
}

func (a *asked) Decide(g policy.Grant, action policy.Action, r policy.Resource) policy.Decision {
	a.decided++
	return a.Decider.Decide(g, action, r)
}

// work is what was asked since the last look.
func (a *asked) work() (w [4]int) {
	w = [4]int{a.opened, a.found, a.listed, a.decided}
	a.opened, a.found, a.listed, a.decided = 0, 0, 0, 0
	return w
}

// P15, H10, H31: every route of a server that has them all is listed here. One that
// wants a credential wants a good one before it asks anybody anything, and with
// one that does not cover what is there it answers, and works, as for what is
// not.
func TestEveryRouteIsListed(t *testing.T) {
	r := newRealm(t)
	r.addStation("other", true)
	mine, theirs := r.add(musen.Segment{}, audioOf(100)), r.add(musen.Segment{Station: "other"}, audioOf(100))
	count := &asked{}
	s := r.open(hasher(t), func(o *Options) {
		count.Opener, count.Library, count.Decider = o.Opener, o.Pages.Library, o.Pages.Policy
		o.Opener, o.Pages.Library, o.Pages.Policy = count, count, count
		o.ClientHeader, o.Proxies, o.Pages.Reports = "", nil, newArchive(t)
		o.KeySet = func() ([]byte, error) { return []byte(`{"keys":[]}`), nil }
	})
	_, secret := r.share("jazz", nil)
	credentials := map[string][2]string{
		"token": {"Authorization", "Bearer " + r.token("jazz")}, "session": {"Cookie", cookie(s.enter(secret))},
	}
	gated := map[string][3]string{ // names of what may be had, is not covered, is not there
		"/listen/:cid":                {mine.CID.String(), theirs.CID.String(), unknownCID(cid.Raw).String()},
		"/stations/:station":          {"jazz", "other", "nowhere"},
		"/stations/:station/segments": {"jazz", "other", "nowhere"},
	}
	public := []string{"/ipfs/:cid", "/s/:share", "/web/:file", "/healthz", "/readyz", "/.well-known/jwks.json", "/reports", "/reports/:receipt"}
	for _, route := range s.server.engine.Routes() {
		names, wants := gated[route.Path]
		if !wants {
			if !slices.Contains(public, route.Path) {
				t.Errorf("%s is not listed", route.Path)
			}
			continue
		}
		at := func(name string) string {
			return strings.NewReplacer(":cid", name, ":station", name).Replace(route.Path)
		}
		count.work()
		for _, headers := range [][]string{nil, {"Authorization", "Bearer x"}, {"Cookie", cookie("x")}} {
			for _, name := range names {
				if a := s.ask(route.Method, at(name), headers...); a.StatusCode != http.StatusUnauthorized {
					t.Errorf("%s %s with %v: status %d", route.Method, at(name), headers, a.StatusCode)
				}
			}
		}
		if w := count.work(); w != [4]int{} {
			t.Errorf("%s %s: without a credential it asks %v", route.Method, route.Path, w)
		}
		for kind, header := range credentials {
			if a := s.ask(route.Method, at(names[0]), header[:]...); a.StatusCode != http.StatusOK {
				t.Errorf("%s %s with a %s: status %d", route.Method, at(names[0]), kind, a.StatusCode)
			}
			count.work()
			uncovered := s.ask(route.Method, at(names[1]), header[:]...)
			worked := count.work()
			absent := s.ask(route.Method, at(names[2]), header[:]...)
			if same := count.work(); same != worked {
				t.Errorf("%s %s with a %s: it asks %v for what is not covered, %v for what is not there", route.Method, route.Path, kind, worked, same)
			}
			if uncovered.StatusCode != http.StatusNotFound || withoutRequestID(uncovered) != withoutRequestID(absent) || sameHeaders(uncovered) != sameHeaders(absent) {
				t.Errorf("%s %s with a %s:\n%s\nnot there:\n%s", route.Method, route.Path, kind, uncovered.body, absent.body)
			}
		}
	}
}

// sameHeaders are the headers that do not differ between any two answers.
func sameHeaders(a answer) string {
	h := a.Header.Clone()
	h.Del("Date")
	h.Del("X-Request-Id")
	var b strings.Builder
	_ = h.Write(&b) // to memory
	return b.String()
}
