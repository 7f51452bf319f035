package keep

import (
	"testing"
	"time"

	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
)

// attracts is a replica that offers so much that it is the first choice.
func (w *world) attracts(n int) *machine {
	m := w.away(n, member.Replica, "")
	m.Contract.Disk, m.free = 64<<40, 64<<40
	w.arrive(m)
	return m
}

// pauses has a peer announce that it is away for so long.
func (w *world) pauses(m *machine, d time.Duration) {
	r := w.reportOf(m)
	if d > 0 {
		r.Paused = time.Now().Add(d)
	}
	w.k.Report(m.ID, r)
}

// A copy whose proof became too old in an announced absence is made elsewhere,
// however often the absence is announced; it is welcome again when it is proved.
func TestPauseDoesNotKeepAPlace(t *testing.T) {
	for _, cycle := range []time.Duration{12 * time.Hour, 10 * time.Minute} {
		story(t, func(w *world) {
			m := w.attracts(1)
			w.start(func(o *Options) { o.Timing.Cycle = cycle })
			root := w.add(1, community(1))
			w.whole(root, time.Minute)
			honest := w.join(2, member.Replica, "")
			time.Sleep(time.Minute)
			w.pauses(m, 29*24*time.Hour)
			w.leave(m)
			time.Sleep(2 * cycle)
			if w.sound(root); w.has(honest, root) {
				t.Error("replaced though its proof is good")
			}
			w.pauses(m, 29*24*time.Hour)
			time.Sleep(cycle + 2*time.Minute)
			if w.sound(root); !w.has(honest, root) {
				t.Error("not replaced when its proof was too old")
			}
			time.Sleep(3 * 24 * time.Hour)
			if w.sound(root); !w.has(m, root) {
				t.Error("the copy of who is paused was dropped unseen")
			}
			w.arrive(m)
			time.Sleep(15 * time.Minute)
			if w.sound(root); !w.has(m, root) || w.holders(root, member.Replica) != 1 {
				t.Errorf("after its return %d hold it", w.holders(root, member.Replica))
			}
		})
	}
}

// Who says that it holds a segment, or that it will, and is then away by
// announcement, is not waited for.
func TestPauseAfterAnOrder(t *testing.T) {
	for _, says := range []bool{false, true} {
		story(t, func(w *world) {
			m := w.attracts(1)
			w.set(func() { m.mute = true })
			w.start()
			time.Sleep(time.Second)
			root := w.add(1, community(1))
			time.Sleep(time.Second)
			honest := w.join(2, member.Replica, "")
			w.pauses(m, 29*24*time.Hour)
			if says {
				w.k.Receipt(m.ID, control.Receipt{Verb: control.Hold, Root: root, Outcome: control.Done, At: time.Now()})
			}
			time.Sleep(5 * time.Minute)
			if w.has(honest, root) {
				t.Error("it was not waited for")
			}
			time.Sleep(7 * time.Minute)
			if w.sound(root); !w.has(honest, root) {
				t.Error("it was waited for in vain")
			}
		})
	}
}

// Who serves by night keeps its place by day.
func TestNightlyReplicaKeepsItsPlace(t *testing.T) {
	story(t, func(w *world) {
		m := w.attracts(1)
		m.Contract.Hours = contract.Hours{From: 22 * 60, To: 7 * 60}
		w.start()
		root := w.add(1, community(1))
		w.whole(root, time.Minute)
		day := w.join(2, member.Replica, "")
		for range 10 * 24 {
			time.Sleep(time.Hour)
			if w.sound(root); w.has(day, root) {
				t.Fatal("replaced by day")
			}
		}
	})
}
