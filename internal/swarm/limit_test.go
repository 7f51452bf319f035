package swarm

import (
	"context"
	"log/slog"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// A replica takes what it was ordered to hold a few times, whatever it asks
// for, and gets more for each further order, and again in the next term.
func TestGrants(t *testing.T) {
	const size = 100 << 10
	now := time.Unix(1e9, 0)
	l := newLimits(t.Context(), func() time.Time { return now }, slog.New(slog.DiscardHandler))
	first, second := root(t, "first"), root(t, "second")
	take := func(p peer.ID, times int) (granted int) {
		for range times {
			if l.grant(p, first, size) {
				l.took(p, size)
				granted++
			}
		}
		return granted
	}
	if n := take("a", 100); n != takes+1 { // the last one begins within what is allowed
		t.Errorf("an order is granted %d times", n)
	}
	if n := take("b", 1); n != 1 {
		t.Error("one peer takes from another")
	}
	now = now.Add(term - 1)
	if l.grant("a", first, size) {
		t.Error("more in the same term")
	}
	if !l.grant("a", second, size) {
		t.Error("nothing for a second order")
	}
	now = now.Add(1)
	if n := take("a", 100); n != takes+1 {
		t.Errorf("in the next term an order is granted %d times", n)
	}
	l.took("trusted", size)
	if len(l.peers) != 2 {
		t.Errorf("%d peers are remembered", len(l.peers))
	}
}

// What is remembered is bounded by who came lately.
func TestLimitsForget(t *testing.T) {
	now := time.Unix(1e9, 0)
	l := newLimits(t.Context(), func() time.Time { return now }, slog.New(slog.DiscardHandler))
	for i := range 1000 {
		l.grant(peer.ID(strconv.Itoa(i)), root(t, "x"), 1)
		now = now.Add(term / 100)
	}
	if n := len(l.peers); n > 201 {
		t.Errorf("%d peers are remembered", n)
	}
}

// Wants are looked up at once, then at a pace, each peer's for itself; and who
// waits is let go at the end.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		l := newLimits(ctx, time.Now, slog.New(slog.DiscardHandler))
		began := time.Now()
		for range wantBurst {
			l.pace("a")
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the first wants wait %s", took)
		}
		for range 10 * wantRate {
			if !l.pace("a") {
				t.Fatal("refused")
			}
		}
		if took := time.Since(began); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("wants of ten seconds take %s", took)
		}
		if !l.pace("b") {
			t.Error("one peer waits for another")
		}
		stop()
		if l.pace("a") {
			t.Error("served after the end")
		}
	})
}
