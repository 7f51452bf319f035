package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

// H17: a segment that breaks in the middle is a broken connection, never a
// short success; one that cannot even begin is a 503.
func TestBrokenBlocks(t *testing.T) {
	r := newRealm(t)
	whole := r.add(musen.Segment{}, audioOf(600_000))
	s := r.serve(nil)
	check(t, r.store.DeleteBlock(context.Background(), whole.Leaves[1]))
	bearer := "Bearer " + r.token()
	path := "/listen/" + whole.CID.String()

	a := s.ask("GET", path, "Authorization", bearer)
	if a.StatusCode != 200 || a.err == nil || len(a.body) >= 600_000 {
		t.Errorf("whole: status %d, %d bytes, %v", a.StatusCode, len(a.body), a.err)
	}
	if line := s.log.await("stream cut"); !strings.Contains(line, "request") {
		t.Errorf("logged: %s", line)
	}
	s.log.await(`"cut":true`)

	a = s.ask("GET", path, "Authorization", bearer, "Range", "bytes=0-9,300000-300009")
	if a.err == nil { // so little was sent that it may not even have left
		t.Errorf("parts: status %d, %v", a.StatusCode, a.err)
	}
	a = s.ask("GET", path, "Authorization", bearer, "Range", "bytes=300000-")
	if a.StatusCode != 503 || !strings.Contains(string(a.body), `"unavailable"`) || a.Header.Get("Retry-After") == "" ||
		a.Header.Get("Content-Range") != "" || a.Header.Get("ETag") != "" {
		t.Errorf("first chunk: status %d, %v: %s", a.StatusCode, a.Header, a.body)
	}
	a = s.ask("GET", path, "Authorization", bearer, "Range", "bytes=0-99")
	if a.StatusCode != 206 || len(a.body) != 100 {
		t.Errorf("what is whole: status %d, %d bytes, %v", a.StatusCode, len(a.body), a.err)
	}
}

// P18: a token that is revoked while it plays stops playing; the clock moves
// only between chunks, so what is under way cannot have expired by chance.
func TestRevocationCutsAStream(t *testing.T) {
	for _, revoke := range []bool{true, false} {
		r := newRealm(t)
		seg := r.add(musen.Segment{}, audioOf(600_000))
		s := r.serve(nil)
		token, id := r.tokenFor("listener")
		r.hook(func(_ cid.Cid, off int64) error {
			r.clock.Add(time.Hour) // the token expires, which never breaks what plays
			if revoke && off >= 65536 {
				r.revoke(id)
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
		if cut := err != nil; cut != revoke || !cut && n != 600_000 || cut && n > 200_000 {
			t.Errorf("revoked %v: %d bytes, %v", revoke, n, err)
		}
	}
}

// A segment that is removed or taken down while it plays stops playing.
func TestRemovalCutsAStream(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(600_000))
	s := r.serve(nil)
	r.hook(func(_ cid.Cid, off int64) error {
		if off >= 65536 {
			gone := seg
			gone.State = musen.TakenDown
			r.put(gone)
		}
		return nil
	})
	a := s.ask("GET", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+r.token())
	if a.err == nil || len(a.body) >= 600_000 {
		t.Errorf("%d bytes, %v", len(a.body), a.err)
	}
}

// held is an Opener whose streams wait for a word.
type held struct {
	Opener
	opened, release chan struct{}
}

func (h held) Open(ctx context.Context, g policy.Grant, a policy.Action, c cid.Cid) (Stream, error) {
	st, err := h.Opener.Open(ctx, g, a, c)
	if err == nil {
		h.opened <- struct{}{}
		<-h.release
	}
	return st, err
}

func newHeld(o Opener) held { return held{o, make(chan struct{}), make(chan struct{})} }

func TestStreamsAreLimited(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(1000))
	h := newHeld(FromEdge(r.edge))
	s := r.serve(func(o *Options) {
		o.Opener = h
		o.Limits = Limits{Streams: 3, SubjectStreams: 2}
	})
	path := "/listen/" + seg.CID.String()
	done := make(chan int, 3)
	ann, _ := r.tokenFor("ann")
	bob, _ := r.tokenFor("bob")
	for _, token := range []string{ann, ann, bob} {
		go func() { done <- s.ask("GET", path, "Authorization", "Bearer "+token).StatusCode }()
		<-h.opened
	}
	for _, c := range []struct {
		token  string
		path   string
		status int
	}{
		{ann, path, 429}, {ann, "/listen/" + unknownCID(cid.Raw).String(), 429}, // not even that it is unknown
		{bob, path, 503}, {"", path, 401}, {bob, "/listen/x", 404},
	} {
		a := s.ask("GET", c.path, "Authorization", "Bearer "+c.token)
		if a.StatusCode != c.status || c.status > 428 && a.Header.Get("Retry-After") == "" {
			t.Errorf("%s: status %d, want %d", c.path, a.StatusCode, c.status)
		}
	}
	close(h.release)
	for range 3 {
		if status := <-done; status != 200 {
			t.Errorf("held stream: status %d", status)
		}
	}
	go func() { done <- s.ask("GET", path, "Authorization", "Bearer "+ann).StatusCode }()
	<-h.opened
	if status := <-done; status != 200 {
		t.Errorf("after they ended: status %d", status)
	}
}

// H40, P11: a client that stops reading is dropped after a time, holds little of
// the memory of the system meanwhile, and others
// never notice.
func TestSlowReader(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(12<<20)) // more than the system buffers
	s := r.serve(func(o *Options) { o.Limits.WriteTimeout = 300 * time.Millisecond })
	c, err := net.Dial("tcp", s.addr)
	check(t, err)
	defer c.Close()
	token := r.token()
	_, err = io.WriteString(c, "GET /listen/"+seg.CID.String()+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+token+"\r\n\r\n")
	check(t, err)
	res, err := http.ReadResponse(bufio.NewReader(c), nil) // it plays, and then nothing is read
	check(t, err)
	if res.StatusCode != 200 {
		t.Fatalf("status %d", res.StatusCode)
	}
	a := s.ask("GET", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+token)
	if a.StatusCode != 200 || len(a.body) != 12<<20 {
		t.Errorf("another client: status %d, %d bytes", a.StatusCode, len(a.body))
	}
	line := s.log.await(`"cut":true`)
	var logged struct{ Bytes int }
	check(t, json.Unmarshal([]byte(line), &logged))
	if logged.Bytes > 1<<20 {
		t.Errorf("the system took %d bytes for a client that reads nothing", logged.Bytes)
	}
	if _, err := io.Copy(io.Discard, res.Body); err == nil {
		t.Error("the slow client got a whole answer")
	}
}

// A connection that is kept alive works again after a long stream: a deadline
// of one answer does not reach the next.
func TestDeadlinesDoNotOutliveAnAnswer(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(200_000))
	s := r.serve(func(o *Options) { o.Limits.WriteTimeout = 200 * time.Millisecond })
	timer := time.NewTimer(400 * time.Millisecond)
	for range 2 {
		a := s.ask("GET", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+r.token())
		if a.StatusCode != 200 || a.err != nil {
			t.Fatalf("status %d, %v", a.StatusCode, a.err)
		}
		<-timer.C
		timer.Reset(0)
	}
}

// H74: what plays is played to its end while the server shuts down; what is
// not done in time is cut.
func TestShutdownDrains(t *testing.T) {
	for _, patient := range []bool{true, false} {
		r := newRealm(t)
		seg := r.add(musen.Segment{}, audioOf(400_000))
		s := r.serve(nil)
		reached, goOn := make(chan struct{}), make(chan struct{})
		r.hook(func(c cid.Cid, off int64) error {
			if off == 65536 && c.Equals(seg.Leaves[0]) {
				close(reached)
				<-goOn
			}
			return nil
		})
		got := make(chan answer, 1)
		go func() { got <- s.ask("GET", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+r.token()) }()
		<-reached
		ctx, cancel := context.WithCancel(context.Background())
		stopped := make(chan error, 1)
		go func() { stopped <- s.server.Shutdown(ctx) }()
		if !patient {
			cancel()
			if err := <-stopped; !errors.Is(err, context.Canceled) {
				t.Errorf("shutdown: %v", err)
			}
		}
		close(goOn)
		a := <-got
		if whole := a.err == nil && len(a.body) == 400_000; whole != patient {
			t.Errorf("patient %v: %d bytes, %v", patient, len(a.body), a.err)
		}
		if patient {
			check(t, <-stopped)
		}
		cancel()
	}
}

// panicky is an Opener that fails in a way nobody thought of.
type panicky struct{}

func (panicky) Open(context.Context, policy.Grant, policy.Action, cid.Cid) (Stream, error) {
	panic("a secret")
}

func TestPanicIsA500(t *testing.T) {
	r := newRealm(t)
	s := r.serve(func(o *Options) { o.Opener = panicky{} })
	a := s.ask("GET", "/listen/"+unknownCID(cid.Raw).String(), "Authorization", "Bearer "+r.token())
	if a.StatusCode != 500 || !strings.Contains(string(a.body), `"internal"`) {
		t.Errorf("status %d: %s", a.StatusCode, a.body)
	}
	s.log.await("handler panicked")
	if strings.Contains(s.log.String()+string(a.body), "a secret") {
		t.Error("what was panicked with is told")
	}
}
