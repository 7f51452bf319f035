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

// The nodes of a service take each segment a few times together, however many
// there are, and what one took too much is not forgotten when another comes.
func TestTreats(t *testing.T) {
	const size = 100 << 10
	now := time.Unix(1e9, 0)
	l := newLimits(t.Context(), func() time.Time { return now }, slog.New(slog.DiscardHandler))
	first, second := root(t, "first"), root(t, "second")
	come := func(service string, from, to int) (bytes int) {
		for n := from; n < to; n++ {
			p := peer.ID(strconv.Itoa(n))
			for l.treat([]string{service}, p, first, size) {
				l.took(p, size/4)
				bytes += size / 4
			}
			l.parted(p)
		}
		return bytes
	}
	if n := come("a", 0, 100); n < (takes-1)*size || n > takes*(size+overhead)+size/4 { // the last one begins within what is allowed
		t.Errorf("%d bytes of a segment of %d", n, size)
	}
	if !l.treat([]string{"a"}, "other", second, size) || !l.treat([]string{"a", "b"}, "both", first, size) {
		t.Error("one segment, or service, takes from another")
	}
	l.parted("other")
	l.parted("both")
	now = now.Add(term - 1)
	if n := come("a", 100, 200); n != 0 {
		t.Errorf("%d bytes more in the same term", n)
	}
	now = now.Add(1)
	if n := come("a", 200, 300); n < (takes-1)*size {
		t.Errorf("%d bytes in the next term", n)
	}
	// Each asks for all at once, again and again, before anything is on its way.
	for n := range 100 {
		p := peer.ID(strconv.Itoa(n))
		asked := 0
		for range 3 {
			if l.treat([]string{"c"}, p, first, size) {
				asked++
			}
		}
		l.took(p, asked*size)
		l.parted(p)
		if n >= takes && asked > 0 {
			t.Errorf("node %d is given something", n)
		}
	}
	if len(l.stays) != 0 || len(l.purses) != 3 {
		t.Errorf("%d nodes and %d services are remembered", len(l.stays), len(l.purses))
	}
	now = now.Add(2 * term)
	l.treat([]string{"d"}, "x", first, size)
	if len(l.purses) != 1 {
		t.Errorf("%d services are remembered", len(l.purses))
	}
}
