package keep

import (
	"slices"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
)

// loses has a peer wipe a segment and say so.
func (w *world) loses(m *machine, root cid.Cid) {
	w.set(func() { delete(m.holds, root) })
	w.says(m, root, control.Lost)
}

// listen starts the keeper and returns how often the standings heard of an
// outcome.
func (w *world) listen() func(audit.Outcome) int {
	l := listening{standings{w}, map[audit.Outcome]int{}}
	w.start(func(o *Options) { o.Standings = l })
	return func(o audit.Outcome) int {
		w.smu.Lock()
		defer w.smu.Unlock()
		return l.heard[o]
	}
}

// Saying that a copy is lost when it has been challenged does not make the
// challenge undone.
func TestLostWhenChallengedIsMissing(t *testing.T) {
	story(t, func(w *world) {
		m := w.attracts(1)
		heard := w.listen()
		root := w.add(1, community(1))
		w.whole(root, time.Minute)
		w.set(func() {
			delete(m.holds, root)
			w.learn = func(root cid.Cid, p peer.ID, good bool) {
				if p == m.ID && !good {
					w.says(m, root, control.Lost)
				}
			}
		})
		time.Sleep(13 * time.Hour)
		if n := heard(audit.Missing); n != 1 {
			t.Errorf("its standing heard of %d missing copies", n)
		}
	})
}

// Who loses the same copy again and again is asked for it ever more rarely, its
// standing hears of it, and another has the segment meanwhile.
func TestCopyIsLostAgainAndAgain(t *testing.T) {
	story(t, func(w *world) {
		m := w.attracts(1)
		heard := w.listen()
		root := w.add(1, community(1))
		w.whole(root, time.Minute)
		for range 10 * 24 * 2 { // ten days
			time.Sleep(30 * time.Minute)
			if w.has(m, root) {
				w.loses(m, root)
			}
		}
		w.mu.Lock()
		orders := len(w.asked[root][m.ID])
		w.mu.Unlock()
		if orders > 15 {
			t.Errorf("it was ordered to hold it %d times", orders)
		}
		if n := heard(audit.Missing); n < 3 {
			t.Errorf("its standing heard of %d missing copies in %d losses", n, orders)
		}
		honest := w.join(2, member.Replica, "")
		for range 24 {
			time.Sleep(time.Hour)
			if w.has(m, root) {
				w.loses(m, root)
			}
		}
		if w.sound(root); !w.has(honest, root) {
			t.Error("nobody else has it")
		}
	})
}

// A disk that fails with all that is on it, once, is no offence: everything is
// ordered anew at once.
func TestDiskThatFailsOnceIsForgiven(t *testing.T) {
	story(t, func(w *world) {
		m := w.join(1, member.Replica, "")
		heard := w.listen()
		var roots []cid.Cid
		for n := range 200 {
			roots = append(roots, w.add(n, community(1)))
		}
		time.Sleep(time.Minute)
		for some := range slices.Chunk(roots, 10) {
			for _, root := range some {
				w.loses(m, root)
			}
			time.Sleep(10 * time.Second)
		}
		time.Sleep(5 * time.Minute)
		for _, root := range roots {
			if w.sound(root); !w.has(m, root) {
				t.Fatal("it was not asked again")
			}
		}
		if n := heard(audit.Missing); n != 0 {
			t.Errorf("its standing heard of %d missing copies", n)
		}
	})
}

// The same if the failure is found by a batch of challenges.
func TestFailureFoundByAChallengeCountsOnce(t *testing.T) {
	story(t, func(w *world) {
		m := w.join(1, member.Replica, "")
		heard := w.listen()
		for n := range 200 {
			w.add(n, community(1))
		}
		time.Sleep(time.Minute)
		if err := w.k.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.set(func() {
			clear(m.holds)
			w.learn = func(_ cid.Cid, p peer.ID, good bool) {
				if p != m.ID || good {
					return
				}
				w.learn = nil
				for n := range 200 {
					w.says(m, seg(n), control.Lost)
				}
			}
		})
		var all []cid.Cid
		for n := range 200 {
			all = append(all, seg(n))
		}
		if err := w.k.Recover(t.Context(), all...); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		for n := range 200 {
			w.sound(seg(n))
		}
		if n := heard(audit.Missing); n != 1 {
			t.Errorf("its standing heard of %d missing copies", n)
		}
	})
}
