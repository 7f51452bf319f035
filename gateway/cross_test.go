package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

// A key is a credential of any kind, and what it was made for.
type key struct {
	name     string
	headers  []string
	path     string // a link opens this one path, and is in it
	stations []string
	epochs   map[string]uint64 // nil: it ends with no epoch
}

// opens reports whether a key must open a path of a station.
func (k key) opens(r *realm, station, path string) bool {
	if k.path != "" && !strings.HasPrefix(k.path, path+"?") || !slices.Contains(k.stations, station) {
		return false
	}
	epoch, bound := k.epochs[station]
	return !bound || epoch == r.stations[station].Epoch
}

// P23, H11: over all pairs of a credential and a segment, of tokens, links,
// sessions, and links that were minted for tokens and sessions: none opens what
// it was not made for, nor anything of an epoch that is over.
func TestNoCrossStationAccess(t *testing.T) {
	r := newRealm(t)
	stations := []string{"jazz", "rock", "folk", "news"}
	paths := map[string]string{} // to the station
	for i, id := range stations {
		r.addStation(id, i%2 == 0)
		for range 3 {
			paths["/listen/"+r.add(musen.Segment{Station: id}, audioOf(50+i)).CID.String()] = id
		}
		paths["/stations/"+id], paths["/stations/"+id+"/segments"] = id, id
	}
	s := r.open(hasher(t), func(o *Options) { o.Rates = unlimited() })
	keys := &keychain{realm: r, site: s}
	check := func(t interface{ Errorf(string, ...any) }, k key) {
		for path, station := range paths {
			target := path
			if k.path != "" {
				_, query, _ := strings.Cut(k.path, "?")
				target += "?" + query
			}
			a := s.ask("GET", target, k.headers...)
			if want := k.opens(r, station, path); (a.StatusCode == http.StatusOK) != want {
				t.Errorf("%s on %s of %s: %s, want open: %v", k.name, path, station, a.Status, want)
			} else if !want && a.StatusCode != http.StatusNotFound && a.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s on %s of %s: %s", k.name, path, station, a.Status)
			}
		}
	}
	var all []key
	rapid.Check(t, func(t *rapid.T) {
		if rapid.IntRange(0, 9).Draw(t, "regenerate") == 0 {
			r.regenerate(rapid.SampledFrom(stations).Draw(t, "station"))
		}
		made := keys.draw(t, stations, paths)
		for _, k := range made {
			check(t, k)
		}
		if len(all) < 200 {
			all = append(all, made...)
		}
	})
	for _, k := range all { // once more, in the end
		check(t, k)
	}
}

// keychain makes keys.
type keychain struct {
	*realm
	site *site
	n    int
}

// draw makes a credential of a kind, with what can be made of it.
func (k *keychain) draw(t *rapid.T, stations []string, paths map[string]string) []key {
	k.n++
	station := rapid.SampledFrom(stations).Draw(t, "of")
	epoch := map[string]uint64{station: k.stations[station].Epoch}
	switch rapid.SampledFrom([]string{"token", "link", "session"}).Draw(t, "kind") {
	case "token":
		some := rapid.SliceOfNDistinct(rapid.SampledFrom(stations), 1, 3, rapid.ID).Draw(t, "stations")
		raw, _ := k.tokenFor(fmt.Sprintf("subject %d", k.n), some...)
		token := key{name: fmt.Sprint("token for ", some), headers: []string{"Authorization", "Bearer " + raw}, stations: some}
		return append([]key{token}, k.minted(token, some[0])...)
	case "link":
		var of []string
		for path, owner := range paths {
			if owner == station && strings.HasPrefix(path, "/listen/") {
				of = append(of, path)
			}
		}
		slices.Sort(of)
		path := rapid.SampledFrom(of).Draw(t, "path")
		raw, _, err := k.issuer.Link(policy.LinkRequest{Station: station, Epoch: epoch[station], Path: path})
		check(k.t, err)
		return []key{{name: "link to " + station, path: path + "?CAT=" + raw, stations: []string{station}, epochs: epoch}}
	default:
		_, secret := k.share(station, nil)
		session := key{name: "session of " + station, headers: []string{"Cookie", cookie(k.site.enter(secret))}, stations: []string{station}, epochs: epoch}
		return append([]key{session}, k.minted(session, station)...)
	}
}

// minted are the links that a key gets of a station.
func (k *keychain) minted(of key, station string) (links []key) {
	epoch := map[string]uint64{station: k.stations[station].Epoch}
	for _, l := range k.site.list(station, "", of.headers...).Segments {
		links = append(links, key{name: "link minted for " + of.name, path: l.URL, stations: []string{station}, epochs: epoch})
	}
	return links
}

// H11, P17: a regeneration ends links that were fetched before, sessions, on
// connections that were open before it, and a stream that runs on one.
func TestRegenerationEndsWhatRuns(t *testing.T) {
	const size = 24 << 20 // more than a system buffers
	r := newRealm(t)
	song := r.add(musen.Segment{}, audioOf(size))
	path := "/listen/" + song.CID.String()
	for name, credential := range map[string]func(s *site, secret string) (target, header string){
		"session": func(s *site, secret string) (string, string) {
			return path, "Cookie: " + cookie(s.enter(secret)) + "\r\n"
		},
		"link of a session": func(s *site, secret string) (string, string) {
			return s.list("jazz", "", "Cookie", cookie(s.enter(secret))).Segments[0].URL, ""
		},
		"link with its session": func(s *site, secret string) (string, string) {
			session := cookie(s.enter(secret))
			return s.list("jazz", "", "Cookie", session).Segments[0].URL, "Cookie: " + session + "\r\n"
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := r.open(hasher(t), nil)
			_, secret := r.share("jazz", nil)
			target, header := credential(s, secret)
			dial := func() (net.Conn, *bufio.Reader) {
				c, err := net.Dial("tcp", s.addr)
				check(t, err)
				t.Cleanup(func() { c.Close() })
				return c, bufio.NewReader(c)
			}
			get := func(c net.Conn, in *bufio.Reader, more string) *http.Response {
				_, err := io.WriteString(c, "GET "+target+" HTTP/1.1\r\nHost: x\r\n"+header+more+"\r\n")
				check(t, err)
				res, err := http.ReadResponse(in, nil)
				check(t, err)
				return res
			}
			kept, keptIn := dial() // has had an answer, and is kept alive
			res := get(kept, keptIn, "Range: bytes=0-9\r\n")
			if b, err := io.ReadAll(res.Body); res.StatusCode != http.StatusPartialContent || len(b) != 10 {
				t.Fatalf("before: %s, %v", res.Status, err)
			}
			running, in := dial()
			res = get(running, in, "")
			if _, err := io.CopyN(io.Discard, res.Body, 1<<20); res.StatusCode != http.StatusOK || err != nil {
				t.Fatalf("stream: %s, %v", res.Status, err)
			}

			r.regenerate("jazz")
			r.clock.Add(2 * time.Second) // the recheck interval
			if n, err := io.Copy(io.Discard, res.Body); err == nil || n >= size-1<<20 {
				t.Errorf("the stream went on for %d bytes, %v", n, err)
			}
			if res := get(kept, keptIn, "Range: bytes=0-9\r\n"); res.StatusCode != http.StatusUnauthorized {
				t.Errorf("on a kept connection: %s", res.Status)
			}
			s.ask("GET", "/s/"+secret).want(t, http.StatusForbidden, "This link was ended.")
			r.change(secret, func(s *musen.Share) { s.Revoked = r.clock.Now() })
		})
	}
}
