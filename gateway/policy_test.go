package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

// P18, P64: policies that take a listener's right away cut the song that plays;
// a time that ran out does not.
func TestPolicyChangeCutsAStream(t *testing.T) {
	const morning = `@id("morning") permit (principal, action == Action::"listen", resource) when { context.now < datetime(%q) };`
	for _, withdrawn := range []bool{true, false} {
		r := newRealm(t)
		text := fmt.Sprintf(morning, r.clock.Now().Add(2*time.Hour).UTC().Format(time.RFC3339))
		check(t, r.engine.Load([]policy.File{{Name: "own", Text: []byte(text)}}))
		seg := r.add(musen.Segment{}, audioOf(600_000))
		s := r.serve(nil)
		token, _ := r.tokenFor("listener")
		r.hook(func(_ cid.Cid, off int64) error {
			r.clock.Add(3 * time.Hour) // the morning is over
			if withdrawn && off >= 65536 {
				return r.engine.Load([]policy.File{{Name: "own", Text: []byte(`@id("none") forbid (principal, action, resource);`)}})
			}
			return nil
		})
		req, err := http.NewRequest("GET", s.url+"/listen/"+seg.CID.String(), nil)
		check(t, err)
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := s.client.Do(req)
		var n int64
		if err == nil { // the cut can come before the client has read the header
			n, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		if cut := err != nil; cut != withdrawn || !cut && n != 600_000 || cut && n > 200_000 {
			t.Errorf("withdrawn %v: %d bytes, %v", withdrawn, n, err)
		}
	}
}

// P30: policies that say how many streams at a time are heard.
func TestPolicyLimitsStreams(t *testing.T) {
	r := newRealm(t)
	check(t, r.engine.Load([]policy.File{{Name: "own", Text: []byte(`@id("two") @streams("2") permit (principal, action, resource);`)}}))
	seg := r.add(musen.Segment{}, audioOf(1000))
	s := r.serve(nil)
	ann, _ := r.tokenFor("ann")
	bob, _ := r.tokenFor("bob")
	if a := s.ask("HEAD", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+ann); a.StatusCode != 200 {
		t.Fatalf("a first stream: %d", a.StatusCode)
	}
	reading, release := make(chan struct{}), make(chan struct{})
	r.hook(func(cid.Cid, int64) error { // its header was read: this is audio
		reading <- struct{}{}
		<-release
		return nil
	})
	done := make(chan int, 2)
	for range 2 {
		go func() {
			done <- s.ask("GET", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+ann).StatusCode
		}()
		<-reading
	}
	if a := s.ask("HEAD", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+ann); a.StatusCode != 429 {
		t.Errorf("a third stream: %d", a.StatusCode)
	}
	if a := s.ask("HEAD", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+bob); a.StatusCode != 200 {
		t.Errorf("somebody else's first: %d", a.StatusCode)
	}
	close(release)
	for range 2 {
		if status := <-done; status != 200 {
			t.Errorf("held stream: %d", status)
		}
	}
}

// P30: the links that a bearer mints with a token take from the streams of its
// subject; a link that was made for nobody has streams of its own.
func TestPolicyLimitsStreamsOfLinks(t *testing.T) {
	r := newRealm(t)
	check(t, r.engine.Load([]policy.File{{Name: "own", Text: []byte(`@id("all") permit (principal, action, resource);
@id("one") @streams("1") permit (principal, action == Action::"listen", resource);`)}}))
	seg := r.add(musen.Segment{}, audioOf(1000))
	s := r.serve(nil)
	token, _ := r.tokenFor("ann", "jazz")
	grant, err := r.verifier.Token(token)
	check(t, err)
	path := "/listen/" + seg.CID.String()
	link, _, err := r.issuer.LinkFor(grant, policy.LinkRequest{Station: "jazz", Epoch: 1, Path: path})
	check(t, err)
	if a := s.ask("HEAD", path+"?CAT="+link); a.StatusCode != 200 {
		t.Fatalf("a link of the token by itself: %d", a.StatusCode)
	}
	reading, release := make(chan struct{}), make(chan struct{})
	r.hook(func(cid.Cid, int64) error { // its header was read: this is audio
		reading <- struct{}{}
		<-release
		return nil
	})
	done := make(chan int)
	go func() { done <- s.ask("GET", path, "Authorization", "Bearer "+token).StatusCode }()
	<-reading
	if a := s.ask("HEAD", path+"?CAT="+link); a.StatusCode != 429 {
		t.Errorf("a link of the token beside its stream: %d", a.StatusCode)
	}
	if a := s.ask("HEAD", path+"?CAT="+r.link("jazz", seg.CID)); a.StatusCode != 200 {
		t.Errorf("a link of nobody: %d", a.StatusCode)
	}
	close(release)
	if status := <-done; status != 200 {
		t.Errorf("the stream: %d", status)
	}
}

// H13: why a credential is refused is in the log of an operator who looks
// closely, and counted by its code; nothing of the credential is.
func TestRefusedTokenIsExplainedInTheLog(t *testing.T) {
	r := newRealm(t)
	s := r.serve(nil)
	raw := r.token()
	r.clock.Add(24 * time.Hour)
	s.wantStatus(s.ask("GET", "/listen/x", "Authorization", "Bearer "+raw), 401, "an expired token")
	line := s.log.await("credential refused")
	if !strings.Contains(line, `"code":"credential_expired","why":"expired"`) || strings.Contains(line, raw[:8]) {
		t.Errorf("logged: %s", line)
	}
	s.log.await(`"msg":"request"`) // it was counted before
	for _, n := range s.server.Counts() {
		if n.Code == "credential_expired" && n.N == 1 {
			return
		}
	}
	t.Errorf("not counted: %+v", s.server.Counts())
}

// The region is what a declared proxy says, once and in one word; whatever
// anybody else says is ignored. A station and its list know it as a song does.
func TestRegion(t *testing.T) {
	r := newRealm(t)
	check(t, r.engine.Load([]policy.File{{Name: "own", Text: []byte(`@id("ee") permit (principal, action, resource) when { context.region == "ee" };`)}}))
	seg := r.add(musen.Segment{}, audioOf(1000))
	token, _ := r.tokenFor("ann")
	proxies := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	elsewhere := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	for name, c := range map[string]struct {
		proxies []netip.Prefix
		header  string
		sent    []string
		status  int
	}{
		"told":             {proxies, "X-Region", []string{"X-Region", "ee"}, 200},
		"in capitals":      {proxies, "X-Region", []string{"X-Region", "EE"}, 200},
		"another":          {proxies, "X-Region", []string{"X-Region", "us"}, 404},
		"not told":         {proxies, "X-Region", nil, 404},
		"twice":            {proxies, "X-Region", []string{"X-Region", "ee", "X-Region", "us"}, 404},
		"no word":          {proxies, "X-Region", []string{"X-Region", "ee, us"}, 404},
		"another header":   {proxies, "X-Region", []string{"X-Country", "ee"}, 404},
		"no header":        {proxies, "", []string{"X-Region", "ee"}, 404},
		"not a proxy":      {elsewhere, "X-Region", []string{"X-Region", "ee"}, 404},
		"no proxies known": {nil, "X-Region", []string{"X-Region", "ee"}, 404},
	} {
		s := r.open(hasher(t), func(o *Options) { o.Proxies, o.RegionHeader = c.proxies, c.header })
		for _, path := range []string{"/listen/" + seg.CID.String(), "/stations/jazz", "/stations/jazz/segments"} {
			req, err := http.NewRequestWithContext(context.Background(), "GET", s.url+path, nil)
			check(t, err)
			req.Header.Set("Authorization", "Bearer "+token)
			for i := 0; i < len(c.sent); i += 2 {
				req.Header.Add(c.sent[i], c.sent[i+1])
			}
			res, err := s.client.Do(req)
			check(t, err)
			res.Body.Close()
			if res.StatusCode != c.status {
				t.Errorf("%s: %s: %d, want %d", name, path, res.StatusCode, c.status)
			}
		}
	}
}

// P30: a policy that names a station applies to its segments and to its list.
func TestPolicyNamesStation(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(1000))
	token, _ := r.tokenFor("ann")
	s := r.open(hasher(t), nil)
	for name, status := range map[string]int{r.stations[seg.Station].Name: 404, "another": 200} {
		text := `@id("all") permit (principal, action, resource);
@id("quiet") forbid (principal, action == Action::"listen", resource) when { resource.name == "` + name + `" };`
		check(t, r.engine.Load([]policy.File{{Name: "own", Text: []byte(text)}}))
		for _, path := range []string{"/listen/" + seg.CID.String(), "/stations/" + seg.Station + "/segments"} {
			if a := s.ask("GET", path, "Authorization", "Bearer "+token); a.StatusCode != status {
				t.Errorf("GET %s with %q silent: %d, want %d", path, name, a.StatusCode, status)
			}
		}
	}
}
