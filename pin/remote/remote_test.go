package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestKeptSegmentIsPinned(t *testing.T) {
	v := newServer(t)
	f := newFixture(t, v)
	f.Keep(seg(1), "k7zq") // before there is a service
	f.add(v, "first")
	f.until("pinned", f.is(seg(1), Pinned))
	f.Keep(seg(2), "k7zq")
	f.until("pinned", f.is(seg(2), Pinned))
	v.set(func() {
		for _, p := range v.pins {
			if p.Pin.Name != "k7zq" || len(p.Pin.Origins) != 1 {
				t.Errorf("asked for %+v", p.Pin)
			}
		}
	})
	f.Keep(seg(1), "k7zq")
	if all, _ := v.held(seg(1)); all != 1 || v.posts != 2 {
		t.Errorf("%d requests about one segment, %d in all", all, v.posts)
	}
	l := f.List()
	if len(l) != 1 || l[0].Copies[Pinned] != 2 || l[0].Error != "" || l[0].Name != "first" {
		t.Errorf("listed %+v", l)
	}
}

func TestDroppedSegmentIsUnpinned(t *testing.T) {
	v := newServer(t)
	f := newFixture(t, v)
	f.add(v, "first")
	f.Keep(seg(1), "")
	f.until("pinned", f.is(seg(1), Pinned))
	v.set(func() { v.status = http.StatusServiceUnavailable })
	f.Drop(seg(1))
	f.until("to be removed", func() bool { l := f.List(); return l[0].Error != "" && l[0].Copies[Removing] == 1 })
	v.set(func() { v.status = 0 })
	f.until("gone", func() bool { return len(f.Copies(seg(1))) == 0 })
	if all, _ := v.held(seg(1)); all != 0 {
		t.Error("the service still has it")
	}
}

func TestDropWhileAsked(t *testing.T) {
	v := newServer(t)
	f := newFixture(t, v)
	v.set(func() { v.slow = 20 * time.Millisecond })
	f.add(v, "first")
	f.Keep(seg(1), "")
	f.until("asked", func() bool { v.mu.Lock(); defer v.mu.Unlock(); return v.requests > 0 })
	f.Drop(seg(1))
	f.until("gone", func() bool { return len(f.Copies(seg(1))) == 0 })
	if all, _ := v.held(seg(1)); all != 0 {
		t.Error("the service still has it")
	}
}

func TestFailedPinIsAskedForAgain(t *testing.T) {
	v := newServer(t)
	v.fails = 2
	f := newFixture(t, v)
	f.add(v, "first")
	f.Keep(seg(1), "")
	f.until("failed", f.is(seg(1), Failed))
	if c := f.Copies(seg(1))[0]; strings.Contains(c.Reason, secret) {
		t.Errorf("the reason repeats the token: %q", c.Reason)
	}
	f.until("pinned", f.is(seg(1), Pinned))
	if all, _ := v.held(seg(1)); all != 1 {
		t.Errorf("%d requests are left, want 1", all)
	}
}

func TestLostAnswerMakesNoSecondRequest(t *testing.T) {
	v := newServer(t)
	v.lose = 1
	f := newFixture(t, v)
	f.add(v, "first")
	f.Keep(seg(1), "")
	f.until("pinned", f.is(seg(1), Pinned))
	if all, _ := v.held(seg(1)); all != 1 {
		t.Errorf("%d requests, want 1", all)
	}
}

func TestServiceThatForgetsIsAskedAgain(t *testing.T) {
	v := newServer(t)
	f := newFixture(t, v, func(o *Options) { o.Timing.Check = 5 * time.Millisecond })
	f.add(v, "first")
	f.Keep(seg(1), "")
	f.until("pinned", f.is(seg(1), Pinned))
	v.set(func() { clear(v.pins) })
	f.until("pinned again", func() bool { _, n := v.held(seg(1)); return n == 1 })
}

func TestServicesAndCopiesAreRemembered(t *testing.T) {
	v := newServer(t)
	f := newFixture(t, v)
	f.add(v, "first")
	for n := range 20 {
		f.Keep(seg(n), "k7zq")
	}
	f.until("pinned", func() bool { return f.List()[0].Copies[Pinned] == 20 })
	posts := v.posts
	f.stop()
	f.open(v)
	if l := f.List(); len(l) != 1 || l[0].Copies[Pinned] != 20 || l[0].Endpoint != v.URL+"/psa" {
		t.Fatalf("after a restart %+v", l)
	}
	for n := range 20 {
		f.Keep(seg(n), "k7zq")
	}
	f.Keep(seg(20), "k7zq")
	f.until("pinned", f.is(seg(20), Pinned))
	if v.posts != posts+1 {
		t.Errorf("%d requests after a restart, want 1", v.posts-posts)
	}
}

func TestRemovedServiceLosesItsCopies(t *testing.T) {
	v := newServer(t)
	f := newFixture(t, v)
	f.add(v, "first")
	f.Keep(seg(1), "")
	f.until("pinned", f.is(seg(1), Pinned))
	if err := f.Remove(context.Background(), "first"); err != nil {
		t.Fatal(err)
	}
	f.until("forgotten", func() bool { return len(f.List()) == 0 })
	if all, _ := v.held(seg(1)); all != 0 {
		t.Error("the service still has it")
	}
	if err := f.Remove(context.Background(), "first"); !errors.Is(err, ErrService) {
		t.Errorf("removed again: %v", err)
	}
	// One that cannot be reached is forgotten by asking twice.
	f.add(v, "second")
	f.until("pinned", f.is(seg(1), Pinned))
	v.set(func() { v.status = http.StatusInternalServerError })
	for range 2 {
		if err := f.Remove(context.Background(), "second"); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.List()) != 0 {
		t.Error("still there")
	}
	f.stop()
	f.open(v)
	if len(f.List()) != 0 || len(f.Copies(seg(1))) != 0 {
		t.Error("it came back with the restart")
	}
}

func TestTokenIsReadEachTime(t *testing.T) {
	v := newServer(t)
	f := newFixture(t, v)
	f.add(v, "first")
	f.Keep(seg(1), "")
	f.until("pinned", f.is(seg(1), Pinned))
	v.set(func() { v.token = "another" })
	f.Keep(seg(2), "")
	f.until("refused", f.is(seg(2), Failed))
	if c := f.Copies(seg(2))[0]; strings.Contains(c.Reason, secret) || !strings.Contains(c.Reason, "401") {
		t.Errorf("the reason is %q", c.Reason)
	}
	for _, bad := range []string{"", "two words", "line\nbreak", strings.Repeat("x", maxToken+1)} {
		if err := os.WriteFile(f.token, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readToken(f.token); err == nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("token %.20q: %v", bad, err)
		}
	}
	if err := os.WriteFile(f.token, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.until("pinned with the new token", f.is(seg(2), Pinned))
}

func TestServiceMayAskToBeLeftAlone(t *testing.T) {
	v := newServer(t)
	v.status, v.after, v.details = http.StatusTooManyRequests, "3600", "your token is "+secret
	f := newFixture(t, v)
	f.add(v, "first")
	for n := range 50 {
		f.Keep(seg(n), "")
	}
	f.until("refused", func() bool { return f.List()[0].Error != "" })
	f.until("left alone", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		n := f.services["first"]
		return n.busy == 0 && time.Until(n.resting) > 50*time.Minute
	})
	v.set(func() {
		if v.requests > perService {
			t.Errorf("%d requests to a service that asked for an hour of rest", v.requests)
		}
	})
	if e := f.List()[0].Error; strings.Contains(e, secret) || !strings.Contains(e, "429") {
		t.Errorf("the error is %q", e)
	}
}

func TestImpossibleServices(t *testing.T) {
	f := newFixture(t, nil)
	for _, v := range []Service{
		{Name: "", Endpoint: "https://example.org", TokenFile: "/t"},
		{Name: "Two words", Endpoint: "https://example.org", TokenFile: "/t"},
		{Name: "a/b", Endpoint: "https://example.org", TokenFile: "/t"},
		{Name: strings.Repeat("a", maxName+1), Endpoint: "https://example.org", TokenFile: "/t"},
		{Name: "a", Endpoint: "https://example.org", TokenFile: "relative"},
		{Name: "a", Endpoint: "https://example.org"},
		{Name: "a", Endpoint: "http://example.org", TokenFile: "/t"},
		{Name: "a", Endpoint: "http://localhost", TokenFile: "/t"},
		{Name: "a", Endpoint: "https://10.0.0.1/psa", TokenFile: "/t"},
		{Name: "a", Endpoint: "https://[fd00::1]:8443", TokenFile: "/t"},
		{Name: "a", Endpoint: "https://169.254.169.254", TokenFile: "/t"},
		{Name: "a", Endpoint: "https://[::ffff:192.168.0.1]/", TokenFile: "/t"},
		{Name: "a", Endpoint: "https://user:" + secret + "@example.org", TokenFile: "/t"},
		{Name: "a", Endpoint: "https://example.org/?token=" + secret, TokenFile: "/t"},
		{Name: "a", Endpoint: "https://example.org/#x", TokenFile: "/t"},
		{Name: "a", Endpoint: "https://", TokenFile: "/t"},
		{Name: "a", Endpoint: "https:opaque", TokenFile: "/t"},
		{Name: "a", Endpoint: "example.org", TokenFile: "/t"},
		{Name: "a", Endpoint: "", TokenFile: "/t"},
		{Name: "a", Endpoint: "https://%zz" + secret, TokenFile: "/t"},
		{Name: "a", Endpoint: "https://example.org/{x}", TokenFile: "/t"},
		{Name: "a", Endpoint: "https://example.org/" + strings.Repeat("x", maxURL), TokenFile: "/t"},
		{Name: "a", Endpoint: "file:///etc/passwd", TokenFile: "/t"},
		{Name: "a", Endpoint: "gopher://example.org/", TokenFile: "/t"},
		{Name: "a", Endpoint: "unix:///run/docker.sock", TokenFile: "/t"},
		{Name: "a", Endpoint: "ftp://example.org/", TokenFile: "/t"},
		{Name: "origin", Endpoint: "https://example.org", TokenFile: f.token},
	} {
		err := f.Add(context.Background(), v)
		if !errors.Is(err, ErrInvalid) || strings.Contains(err.Error(), secret) {
			t.Errorf("%.60q at %.60q: %v", v.Name, v.Endpoint, err)
		}
	}
	ok := Service{Name: "a", Endpoint: "https://example.org", TokenFile: f.token}
	if err := f.Add(context.Background(), ok); err != nil {
		t.Fatal(err)
	}
	if err := f.Add(context.Background(), ok); !errors.Is(err, ErrExists) {
		t.Errorf("added twice: %v", err)
	}
	ok.Name, ok.Endpoint = "b", "https://example.org/"
	if err := f.Add(context.Background(), ok); !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), `with that endpoint, "a"`) {
		t.Errorf("another with the same endpoint: %v", err)
	}
	for n := 1; n < maxServices; n++ {
		ok.Name, ok.Endpoint = "a"+strings.Repeat("a", n), fmt.Sprintf("https://example.org/%d", n)
		if err := f.Add(context.Background(), ok); err != nil {
			t.Fatal(err)
		}
	}
	ok.Name, ok.Endpoint = "b", "https://example.org/b"
	if err := f.Add(context.Background(), ok); !errors.Is(err, ErrInvalid) {
		t.Errorf("one more than there may be: %v", err)
	}
}
