package control

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/member"
	"github.com/musenai/musen/pin/wire"
)

// A log that is written to from many goroutines.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

// A peer that is removed while its line is up is told so, serves nothing more,
// and does not come back hot; when it is let in again it goes on.
func TestARemovedPeerIsTold(t *testing.T) {
	for what, tell := range map[string]func(o *origin, p peer.ID){
		"by the roster": func(o *origin, p peer.ID) { o.members.set(p, ""); o.PushRoster() },
		"beforehand":    func(o *origin, p peer.ID) { o.Farewell(context.Background(), p); o.members.set(p, "") },
	} {
		t.Run(what, func(t *testing.T) {
			o, h := newOrigin(t), newHost(t)
			o.members.set(h.ID(), member.Replica)
			var said log
			told := make(chan struct{}, 10)
			c := startClient(t, h, o, func(co *ClientOptions) {
				co.Return = 50 * time.Millisecond
				co.Removed = func() { told <- struct{}{} }
				co.Ousted = func(context.Context) bool { return true }
				co.Log = slog.New(slog.NewTextHandler(&said, nil))
			})
			c.awaitReady(t)
			if !c.CaughtUp() || !c.Status().Removed.IsZero() {
				t.Fatalf("before: %+v", c.Status())
			}
			tell(o, h.ID())
			select {
			case <-told:
			case <-time.After(patience):
				t.Fatal("it was not told")
			}
			poll(t, "it looks again", func() bool { return said.count("again_in") > 3 })
			if s := c.Status(); c.CaughtUp() || s.CaughtUp || s.Removed.IsZero() || s.Up {
				t.Errorf("after: %+v", s)
			}
			if len(told) != 0 || said.count("level=WARN") != 1 {
				t.Errorf("it was told %d times more; the log has\n%s", len(told), said.b.String())
			}
			o.members.set(h.ID(), member.Replica)
			poll(t, "it is back", func() bool { return c.CaughtUp() && c.Status().Removed.IsZero() })
		})
	}
}

// A peer that was away when it was removed hears so when it comes back, if it
// asks, and does not redial hot.
func TestAPeerThatWasRemovedWhileAway(t *testing.T) {
	o, h := newOrigin(t), newHost(t)
	told := make(chan struct{}, 1)
	c := startClient(t, h, o, func(co *ClientOptions) {
		co.Removed = func() { told <- struct{}{} }
		co.Ousted = func(context.Context) bool { return true }
	})
	select {
	case <-told:
	case <-time.After(patience):
		t.Fatal("it was not told")
	}
	if s := c.Status(); s.Removed.IsZero() || c.CaughtUp() {
		t.Errorf("status %+v", s)
	}
}

// A farewell to a peer without a line, or that does not listen, ends soon.
func TestFarewellEnds(t *testing.T) {
	o, h := newOrigin(t), newHost(t)
	o.members.set(h.ID(), member.Replica)
	o.Farewell(t.Context(), h.ID())
	r := greeted(t, h, o)
	done := make(chan struct{})
	go func() { defer close(done); o.Farewell(context.Background(), h.ID()) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("it waits for a peer that says nothing")
	}
	if f := r.read(); !f.Removed {
		for !f.Removed {
			f = r.read()
		}
	}
}

// A peer that refuses a roster shows the one that it follows, if that is not
// too long, and the line goes on.
func TestAPeerShowsTheRosterThatItFollows(t *testing.T) {
	o, h := newOrigin(t, func(so *ServerOptions) { so.OnRoster = nil }), newHost(t)
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	seen := make(chan wire.Envelope, 10)
	o.start(t, func(so *ServerOptions) { so.OnRoster = func(_ peer.ID, e wire.Envelope) { seen <- e } })
	o.members.set(h.ID(), member.Storage)
	newest, err := wire.Seal(keyOf(o.host), member.RosterKind, member.Roster{Realm: testRealm, Seq: 1000})
	if err != nil {
		t.Fatal(err)
	}
	known := newest
	var mu sync.Mutex
	c := startClient(t, h, o, func(co *ClientOptions) {
		co.Roster = func(wire.Envelope) error { return errors.New("it is older") }
		co.Known = func() wire.Envelope {
			mu.Lock()
			defer mu.Unlock()
			return known
		}
	})
	got := func() wire.Envelope {
		select {
		case e := <-seen:
			return e
		case <-time.After(patience):
			t.Fatal("nothing was shown")
		}
		return wire.Envelope{}
	}
	if e := got(); !bytes.Equal(e.Payload, newest.Payload) {
		t.Errorf("it shows %x", e.Payload)
	}
	c.awaitReady(t)
	mu.Lock()
	known = wire.Envelope{Payload: make([]byte, maxShown+1)}
	mu.Unlock()
	push := func() { o.members.set(newHost(t).ID(), member.Replica); o.PushRoster() }
	push()
	c.Nudge()
	poll(t, "a report comes behind it", func() bool {
		n := 0
		o.w.do(func() { n = len(o.reports[h.ID()]) })
		return n > 1
	})
	if len(seen) != 0 {
		t.Error("a roster that is too long was shown")
	}
	mu.Lock()
	known = newest
	mu.Unlock()
	push()
	got()
}
