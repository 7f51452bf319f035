package keep

import (
	"testing"
	"time"

	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/member"
)

// night is a replica that serves from 22:00 to 07:00 UTC; a test's clock begins
// at midnight.
func (w *world) night(n int) *machine {
	m := w.away(n, member.Replica, "")
	m.Contract.Hours = contract.Hours{From: 22 * 60, To: 7 * 60}
	w.arrive(m)
	return m
}

// A copy that is ordered outside of the hours of its host is fetched, waits for
// its proof until they begin, and is never said to fail.
func TestOrderedOutsideItsHours(t *testing.T) {
	story(t, func(w *world) {
		m := w.night(1)
		w.start()
		time.Sleep(12 * time.Hour)
		opens := time.Now().Add(10 * time.Hour)
		root := w.add(1, community(1))
		time.Sleep(time.Minute)
		for time.Now().Before(opens.Add(-time.Minute)) {
			time.Sleep(7 * time.Minute)
			h, _ := w.k.Health(root)
			c, ok := copyOn(h, m)
			if !ok || c.State != Held || c.Reason != "outside its hours until 22:00 UTC" {
				t.Fatalf("%+v", c)
			}
			want := "0 of 1 community copies proved; " + m.Name + " is outside its hours until 22:00 UTC"
			if h.Level != Durable || h.Reason != want || !h.Next.Equal(opens) {
				t.Fatalf("%v, %q, next %v", h.Level, h.Reason, h.Next)
			}
			if time.Now().After(opens.Add(-15 * time.Minute)) {
				break
			}
		}
		if n := w.seen(m, audit.Proved) + w.seen(m, audit.Late) + w.seen(m, audit.Missing); n != 0 {
			t.Errorf("challenged %d times outside its hours", n)
		}
		w.whole(root, time.Until(opens.Add(time.Minute)))
	})
}

// The same if the host is not there when it gets the order.
func TestOrderedAndAwayOutsideItsHours(t *testing.T) {
	story(t, func(w *world) {
		m := w.night(1)
		m.delay = time.Minute
		w.start()
		time.Sleep(12 * time.Hour)
		opens := time.Now().Add(10 * time.Hour)
		root := w.add(1, community(1))
		time.Sleep(10 * time.Second)
		w.leave(m)
		time.Sleep(9 * time.Hour)
		h, _ := w.k.Health(root)
		c, ok := copyOn(h, m)
		if !ok || c.State != Ordered || c.Reason != "outside its hours until 22:00 UTC" || !h.Next.Equal(opens) {
			t.Errorf("%+v, %q, next %v", c, h.Reason, h.Next)
		}
		time.Sleep(time.Until(opens) + time.Minute)
		w.arrive(m)
		w.whole(root, 5*time.Minute)
	})
}

// A host that is there, outside its hours, and sends no receipt has not failed.
func TestSilentOutsideItsHours(t *testing.T) {
	story(t, func(w *world) {
		m := w.night(1)
		m.delay = 3 * time.Hour
		w.start()
		time.Sleep(12 * time.Hour)
		root := w.add(1, community(1))
		for range 8 {
			time.Sleep(20 * time.Minute)
			if h, _ := w.k.Health(root); len(h.Copies) != 2 || h.Copies[1].State != Ordered {
				t.Fatalf("%+v", h)
			}
		}
		w.whole(root, 12*time.Hour)
	})
}

// New copies go to hosts that serve now, if there are enough of them; what those
// have that do not, they keep, and it counts.
func TestOpenHostsComeFirst(t *testing.T) {
	story(t, func(w *world) {
		nights := []*machine{w.night(1), w.night(2), w.night(3)}
		days := []*machine{w.join(11, member.Replica, ""), w.join(12, member.Replica, "")}
		w.start()
		time.Sleep(time.Minute)
		const segments = 40
		for n := range segments {
			w.add(n, community(2))
		}
		time.Sleep(10 * time.Minute)
		held := 0
		for _, m := range nights {
			held += w.held(m)
		}
		if held < segments/2 {
			t.Errorf("at night they hold %d of %d copies", held, 2*segments)
		}
		time.Sleep(12 * time.Hour)
		orders := w.counted().orders
		for n := range segments {
			w.sound(seg(n))
			w.add(segments+n, community(2))
		}
		time.Sleep(10 * time.Minute)
		for n := range segments {
			root := seg(segments + n)
			if w.sound(root); !w.has(days[0], root) || !w.has(days[1], root) {
				t.Errorf("%s is not with those who serve", root)
			}
		}
		if n := w.counted().orders - orders; n != 2*segments {
			t.Errorf("%d orders for %d copies", n, 2*segments)
		}
		root := w.add(1000, community(4)) // more than those who serve now
		time.Sleep(10 * time.Minute)
		if n := w.holders(root, member.Replica); n != 4 {
			t.Errorf("%d hold what four should", n)
		}
		time.Sleep(12 * time.Hour)
		w.sound(root)
	})
}
