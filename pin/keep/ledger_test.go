package keep

import (
	"testing"
	"time"

	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/member"
)

// A host whose records lost something says that it holds less than it proved:
// it is challenged for all of it soon, not within its audit cycle.
func TestFewerThanItProvedIsChallenged(t *testing.T) {
	for _, role := range []member.Role{member.Replica, member.Storage} {
		story(t, func(w *world) {
			m := w.join(1, role, "")
			w.start(settledTimes)
			want := community(1)
			if role == member.Storage {
				want = func(x *Want) { x.Min, x.Max = 2, 2 }
			}
			for n := range 3 {
				w.add(n, want)
			}
			time.Sleep(time.Minute)
			for n := range 3 {
				w.sound(seg(n))
			}
			asked := w.counted().challenges
			w.set(func() { delete(m.holds, seg(0)); delete(m.holds, seg(1)) })
			w.k.Report(m.ID, w.reportOf(m))
			time.Sleep(10 * time.Second)
			if n := w.counted().challenges - asked; n != 0 {
				t.Errorf("%d challenges at its first word", n)
			}
			w.k.Report(m.ID, w.reportOf(m))
			time.Sleep(time.Minute)
			if w.seen(m, audit.Missing) != 2 {
				t.Errorf("%d copies were found to be missing", w.seen(m, audit.Missing))
			}
			for range 8 {
				time.Sleep(15 * time.Second)
				w.k.Report(m.ID, w.reportOf(m))
			}
			for n := range 3 {
				w.sound(seg(n))
			}
			if n := w.counted().challenges - asked; n != 5 {
				t.Errorf("%d challenges altogether", n)
			}
		})
	}
}

// Who says too little without end is not challenged without end.
func TestTooLittleIsSaidAgainAndAgain(t *testing.T) {
	story(t, func(w *world) {
		m := w.join(1, member.Replica, "")
		w.start()
		w.add(1, community(1))
		time.Sleep(time.Minute)
		asked := w.seen(m, audit.Proved)
		for range 24 * 60 * 4 {
			time.Sleep(15 * time.Second)
			r := w.reportOf(m)
			r.Held = -1
			w.k.Report(m.ID, r)
		}
		w.sound(seg(1))
		if n := w.seen(m, audit.Proved) - asked; n < 3 || n > 12 {
			t.Errorf("%d challenges in a day", n)
		}
	})
}

// Orders, drops and removals that are under way are no reason for a doubt.
func TestWhatIsUnderWayIsNoReasonForDoubt(t *testing.T) {
	story(t, func(w *world) {
		m := w.join(1, member.Replica, "")
		m.delay = 40 * time.Second
		w.start(settledTimes)
		time.Sleep(time.Second)
		for n := range 60 {
			w.add(n, community(1))
			if n > 20 {
				w.remove(seg(n - 20))
			}
			time.Sleep(7 * time.Second)
			w.k.Report(m.ID, w.reportOf(m))
		}
		time.Sleep(time.Minute)
		if n := w.seen(m, audit.Proved); n > 61 {
			t.Errorf("%d challenges for 60 copies", n)
		}
	})
}

// What a peer says of itself has segments looked at now and then, however often
// it changes its mind.
func TestWordsAreCheap(t *testing.T) {
	story(t, func(w *world) {
		m := w.join(1, member.Replica, "")
		w.start()
		for n := range 200 {
			w.add(n, community(1))
		}
		time.Sleep(time.Minute)
		looks := 0
		for n := range 600 {
			r := w.reportOf(m)
			r.Leaving, r.Contract.Disk = n%2 == 0, r.Contract.Disk+int64(n%2)
			w.k.mu.Lock()
			before := len(w.k.queue)
			w.k.report(w.k.holders[m.ID], r, w.k.nowNS())
			looks += len(w.k.queue) - before
			w.k.mu.Unlock()
			time.Sleep(100 * time.Millisecond)
		}
		if looks != 0 {
			t.Errorf("600 reports had %d segments looked at at once", looks)
		}
		w.goes(m)
		other := w.join(2, member.Replica, "")
		time.Sleep(time.Minute)
		if n, all := w.held(m), w.held(other); n != 0 || all != 200 {
			t.Errorf("who leaves holds %d, and the other %d", n, all)
		}
	})
}
