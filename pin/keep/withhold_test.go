package keep

import (
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
)

// says has a peer send a receipt about an order to hold.
func (w *world) says(m *machine, root cid.Cid, o control.Outcome) {
	w.k.Receipt(m.ID, control.Receipt{Verb: control.Hold, Root: root, Outcome: o, At: time.Now()})
}

// Receipts about nothing that was ordered do not hold up the end of an order.
func TestIdleTalkIsNoProgress(t *testing.T) {
	for name, talk := range map[string]func(*world, *machine){
		"of what is unknown":   func(w *world, m *machine) { w.says(m, seg(1000), control.Lost) },
		"of what it has":       func(w *world, m *machine) { w.says(m, seg(2), control.Done) },
		"of what others carry": func(w *world, m *machine) { w.says(m, seg(3), control.Done) },
		"of a drop": func(w *world, m *machine) {
			w.k.Receipt(m.ID, control.Receipt{Verb: control.Drop, Root: seg(3), Outcome: control.Done})
		},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(w *world) {
				m := w.attracts(1)
				w.start()
				time.Sleep(time.Second)
				w.add(2, community(1))
				w.add(3)
				time.Sleep(time.Minute)
				w.set(func() { m.mute = true })
				root := w.add(1, community(1))
				time.Sleep(time.Second)
				honest := w.join(2, member.Replica, "")
				for range 4 {
					talk(w, m)
					time.Sleep(3 * time.Minute)
				}
				if w.sound(root); !w.has(honest, root) {
					t.Error("it was waited for in vain")
				}
			})
		})
	}
}

// Who does all that is ordered but one thing is not waited for without end.
func TestOneOrderIsWithheld(t *testing.T) {
	story(t, func(w *world) {
		m := w.attracts(1)
		w.start()
		time.Sleep(time.Second)
		w.set(func() { m.mute = true })
		root := w.add(1, community(1))
		time.Sleep(time.Second)
		honest := w.join(2, member.Replica, "")
		for n := range 25 {
			other := w.add(100+n, community(1))
			time.Sleep(3 * time.Minute)
			w.says(m, other, control.Done)
			if n < 10 && w.has(honest, root) {
				t.Fatal("it was not waited for, though it works")
			}
		}
		if w.sound(root); !w.has(honest, root) {
			t.Error("it was waited for in vain")
		}
	})
}

// Who works off many orders one after the other is let work.
func TestSlowPeerIsWaitedFor(t *testing.T) {
	story(t, func(w *world) {
		m := w.attracts(1)
		w.set(func() { m.mute = true })
		w.start()
		time.Sleep(time.Second)
		const segments = 200
		for n := range segments {
			w.add(n, community(1), func(x *Want) { x.Size = 16 << 20 })
		}
		time.Sleep(time.Second)
		honest := w.join(2, member.Replica, "")
		time.Sleep(5 * time.Minute)
		its := w.held(honest)     // what it suits better
		for n := range segments { // 16 MiB in three minutes, ten hours altogether
			time.Sleep(3 * time.Minute)
			w.says(m, seg(n), control.Done)
		}
		time.Sleep(time.Minute)
		if n := w.held(honest); n != its {
			t.Errorf("%d orders were given to another, %d more", n, n-its)
		}
		for n := range segments {
			w.sound(seg(n))
		}
	})
}
