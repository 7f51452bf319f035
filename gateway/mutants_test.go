package gateway

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/cidpath"
	"github.com/musenai/musen/internal/mutant"
)

// A line is a connection on which requests are sent that no client would spell;
// it is made anew when the server has closed it.
type line struct {
	s    *site
	conn net.Conn
	in   *bufio.Reader
}

func (s *site) line() *line {
	l := &line{s: s}
	s.t.Cleanup(func() {
		if l.conn != nil {
			l.conn.Close()
		}
	})
	return l
}

// get sends a GET of a target, with further header lines, byte for byte.
func (l *line) get(target, header string) *http.Response {
	l.s.t.Helper()
	if l.conn == nil {
		var err error
		l.conn, err = net.Dial("tcp", l.s.addr)
		check(l.s.t, err)
		l.in = bufio.NewReader(l.conn)
	}
	_, err := io.WriteString(l.conn, "GET "+target+" HTTP/1.1\r\nHost: x\r\n"+header+"\r\n")
	check(l.s.t, err)
	res, err := http.ReadResponse(l.in, nil)
	if err != nil {
		l.s.t.Fatalf("%q %q: %v", target, header, err)
	}
	_, err = io.Copy(io.Discard, res.Body)
	check(l.s.t, err)
	if res.Close {
		l.conn.Close()
		l.conn = nil
	}
	return res
}

// oneLine reports whether a text can stand in a request line or a header
// field: others are another request, not another URL.
func oneLine(text string, alsoNot string) bool { return !strings.ContainsAny(text, "\r\n"+alsoNot) }

// opens reports whether a target is the link's own: the one credential, letter
// for letter, on a path that names the same segment.
func opens(target, link string, c cid.Cid) bool {
	path, query, _ := strings.Cut(target, "?")
	name, ok := strings.CutPrefix(path, "/listen/")
	named, isCID := cidpath.Parse(name)
	if !ok || !isCID || string(named.Hash()) != string(c.Hash()) {
		return false
	}
	params := strings.Split(query, "&")
	links := 0
	for _, p := range params {
		key, _, _ := strings.Cut(p, "=")
		if key, err := url.QueryUnescape(key); err != nil || key == linkQuery {
			links++
		}
	}
	return links == 1 && slices.Contains(params, linkQuery+"="+link)
}

// H8: of 20,000 mutants of a URL with a link in it, sent as they are, none is
// served unless it has the link as it was made, once, on a path that spells the
// same segment; and none makes the server fail or redirect.
func TestMutantsOfAURL(t *testing.T) {
	r := newRealm(t)
	seg, other := r.add(musen.Segment{}, audioOf(100)), r.add(musen.Segment{}, audioOf(200))
	s := r.serve(func(o *Options) { o.Log = discard() })
	link, otherLink := r.link("jazz", seg.CID), r.link("jazz", other.CID)
	good := "/listen/" + seg.CID.String() + "?CAT=" + link
	foreign := "/listen/" + other.CID.String() + "?CAT=" + otherLink
	l := s.line()
	if res := l.get(good, ""); res.StatusCode != 200 {
		t.Fatalf("the link itself: status %d", res.StatusCode)
	}
	tried, statuses := map[string]bool{foreign: true}, map[int]int{}
	for _, all := range []iter.Seq[mutant.Mutant]{
		mutant.Edits(good), mutant.Mixes(8, 9000, good, foreign), escapes(good), tricks(good, link, otherLink),
	} {
		for m := range all {
			if tried[m.Text] || !oneLine(m.Text, " ") {
				continue
			}
			tried[m.Text] = true
			res := l.get(m.Text, "")
			statuses[res.StatusCode]++
			if res.StatusCode >= 500 || res.StatusCode/100 == 3 {
				t.Errorf("%s: status %d: %q", m.Way, res.StatusCode, m.Text)
			}
			if res.StatusCode == 200 && !opens(m.Text, link, seg.CID) {
				t.Errorf("%s: served: %q", m.Way, m.Text)
			}
		}
	}
	if len(tried) < 20_000 || statuses[200] > len(tried)/100 || statuses[429] > 0 {
		t.Errorf("%d mutants: %v", len(tried), statuses)
	}
}

// escapes are the text with each byte spelled as an escape, in both cases, and
// as an escape of an escape.
func escapes(good string) iter.Seq[mutant.Mutant] {
	return func(yield func(mutant.Mutant) bool) {
		for i := range len(good) {
			for _, format := range []string{"%%%02x", "%%%02X", "%%25%02x", "%%u%04x"} {
				text := good[:i] + fmt.Sprintf(format, good[i]) + good[i+1:]
				if !yield(mutant.Mutant{Way: fmt.Sprintf("byte %d as "+format, i, good[i]), Text: text}) {
					return
				}
			}
		}
	}
}

// tricks are the ways to say a URL twice, around a corner, or to a proxy.
func tricks(good, link, otherLink string) iter.Seq[mutant.Mutant] {
	path, query, _ := strings.Cut(good, "?")
	bad := link[:len(link)-4] + "AAAA"
	texts := []string{
		path, path + "?", path + "?cat=" + link, path + "?Cat=" + link, path + "?CAT[]=" + link, path + "?CAT%20=" + link, path + "?%43AT=" + link,
		path + "?C%41T=" + link, path + "?CAT%3d" + link, path + "?CAT==" + link, path + "?CAT=" + link + "=", path + "?CAT=" + link + "%3d",
		path + "?CAT=+" + link, path + "?CAT=" + link + "+", path + "?CAT=%20" + link, path + "?CAT=%22" + link + "%22", path + "?CAT=Bearer+" + link,
		path + ";CAT=" + link, path + "&CAT=" + link, path + "#CAT=" + link, path + "?x=1;CAT=" + link, path + "?" + query + ";x=1", path + "??" + query,
		path + "%3f" + query, path + "?" + query + "#x", path + "?" + query + "%26download=1", path + "?" + query + "%00", path + "?%00" + query,
	}
	for _, second := range []string{link, bad, otherLink, "", "x"} {
		for _, name := range []string{"CAT", "%43AT", "C%41T"} {
			texts = append(texts, path+"?"+query+"&"+name+"="+second, path+"?"+name+"="+second+"&"+query, path+"?x&"+query+"&x&"+name+"="+second)
		}
	}
	for i := range len(path) + 1 {
		for _, s := range []string{"/", "//", "/./", "/../", "/x/../", "%2f", "%2F", "%252f", "%5c", "\\", ";x", ";x=1", "%3b", ".", "..", "%2e", "%00", "*", ":", "?", "#", "%", "@", "http://x/"} {
			texts = append(texts, path[:i]+s+path[i:]+"?"+query)
		}
	}
	return func(yield func(mutant.Mutant) bool) {
		for _, text := range texts {
			if !yield(mutant.Mutant{Way: "trick", Text: text}) {
				return
			}
		}
	}
}

// H1 to H8: what carries a credential beside the URL is read no more loosely.
func TestMutantsOfCredentialHeaders(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(100))
	s := r.servePages()
	_, secret := r.share("jazz", nil)
	session := s.enter(secret)
	path, link, token := "/listen/"+seg.CID.String(), r.link("jazz", seg.CID), r.token("jazz")
	l := s.line()
	for name, c := range map[string]struct{ before, good, none string }{
		"bearer":  {"Authorization: Bearer ", token, " \t"},
		"header":  {linkHeader + ": ", link, " \t"},
		"cookie":  {"Cookie: " + linkHeader + "=", link, " \t;"},
		"session": {"Cookie: " + sessionCookie + "=", session, " \t;"},
	} {
		if res := l.get(path, c.before+c.good+"\r\n"); res.StatusCode != 200 {
			t.Fatalf("%s: status %d", name, res.StatusCode)
		}
		tried := 0
		for _, all := range []iter.Seq[mutant.Mutant]{mutant.Edits(c.good), mutant.Mixes(9, 4000, c.good, r.token())} {
			for m := range all {
				if !oneLine(m.Text, c.none) {
					continue
				}
				tried++
				if res := l.get(path, c.before+m.Text+"\r\n"); res.StatusCode/100 != 4 || res.StatusCode == 429 {
					t.Errorf("%s: %s: status %d: %q", name, m.Way, res.StatusCode, m.Text)
				}
			}
		}
		if tried < 10_000 {
			t.Errorf("%s: only %d mutants", name, tried)
		}
	}
	for _, cookie := range []string{linkHeader + "=\"" + link, sessionCookie + "=\"" + session} {
		if res := l.get(path, "Cookie: "+cookie+"\"\r\n"); res.StatusCode != 401 {
			t.Errorf("a cookie in quotes: status %d", res.StatusCode)
		}
	}
}

// servePages starts a Server with pages for many clients behind one address.
func (r *realm) servePages() *site {
	r.t.Helper()
	return r.open(hasher(r.t), func(o *Options) { o.ClientHeader, o.Proxies, o.Log = "", nil, discard() })
}

// H8, H76: of the mutants of a share's address none opens it: there is one
// spelling of a secret, and of the path to it.
func TestMutantsOfAShare(t *testing.T) {
	r := newRealm(t)
	s := r.servePages()
	_, secret := r.share("jazz", nil)
	_, other := r.share("jazz", nil)
	good := "/s/" + secret
	l := s.line()
	if res := l.get(good, ""); res.StatusCode != http.StatusSeeOther || len(res.Cookies()) != 1 {
		t.Fatalf("the share itself: status %d", res.StatusCode)
	}
	tried := 0
	for _, all := range []iter.Seq[mutant.Mutant]{mutant.Edits(good), mutant.Mixes(10, 4000, good, "/s/"+other), escapes(good), tricks(good+"?x=1", secret, other)} {
		for m := range all {
			if !oneLine(m.Text, " ") || m.Text == "/s/"+other {
				continue
			}
			path, _, _ := strings.Cut(m.Text, "?")
			tried++
			res := l.get(m.Text, "")
			if opened := len(res.Cookies()) > 0 || res.StatusCode/100 == 3; opened && path != good || res.StatusCode >= 500 {
				t.Errorf("%s: status %d, %v: %q", m.Way, res.StatusCode, res.Cookies(), m.Text)
			}
		}
	}
	if tried < 5000 {
		t.Errorf("only %d mutants", tried)
	}
}
