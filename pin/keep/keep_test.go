package keep

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
)

// reach waits for a level, at most limit.
func (w *world) reach(root cid.Cid, l Level, limit time.Duration) Health {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	h, err := w.k.Wait(ctx, root, l)
	if err != nil {
		w.t.Fatalf("not %v after %v: %v: %+v", l, limit, err, h)
	}
	return h
}

// sound fails unless a segment is as it should be.
func (w *world) sound(root cid.Cid) Health {
	w.t.Helper()
	h, ok := w.k.Health(root)
	if !ok || h.Reason != "" || h.Level != Durable {
		w.t.Errorf("not healthy: %+v", h)
	}
	return h
}

// whole waits until a segment is as it should be, at most limit.
func (w *world) whole(root cid.Cid, limit time.Duration) {
	w.t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Second) {
		if h, ok := w.k.Health(root); ok && h.Level == Durable && h.Reason == "" {
			return
		}
	}
	w.sound(root)
}

// copyOn finds the copy of a machine.
func copyOn(h Health, m *machine) (Copy, bool) {
	i := slices.IndexFunc(h.Copies, func(c Copy) bool { return c.Peer == m.ID })
	if i < 0 {
		return Copy{}, false
	}
	return h.Copies[i], true
}

func community(n int) func(*Want) {
	return func(w *Want) { w.Min, w.Max, w.Community = 1, 1, n }
}

func TestAddedSegmentBecomesDurable(t *testing.T) {
	story(t, func(w *world) {
		for n := range 4 {
			w.join(n+1, member.Storage, "")
		}
		w.start()
		time.Sleep(time.Second)
		root := w.add(1)
		h := w.reach(root, Stored, time.Second)
		if h.Level != Stored || h.Reason == "" || h.Next.IsZero() {
			t.Errorf("at first %+v", h)
		}
		h = w.reach(root, Replicated, time.Second)
		if h.Level != Replicated {
			t.Errorf("replicated at %v", h.Level)
		}
		w.reach(root, Durable, time.Second)
		time.Sleep(time.Second)
		if h = w.sound(root); len(h.Copies) != 3 || h.Copies[0].Peer != w.self {
			t.Errorf("at last %+v", h)
		}
		if n := w.holders(root, member.Storage); n != 2 {
			t.Errorf("%d storage peers hold it, want 2 besides the origin", n)
		}
		if w.counted().pins != 1 {
			t.Errorf("%d changes of the pinset, want 1", w.counted().pins)
		}
		if s := w.k.Summary("radio"); s.Segments != 1 || s.Durable != 1 || s.Copies != 3 || s.Proved != 3 || s.Unhealthy != 0 {
			t.Errorf("summary %+v", s)
		}
		if s := w.k.Summary("other"); s.Segments != 0 {
			t.Errorf("summary of another station %+v", s)
		}
	})
}

func TestOriginAloneIsDurableWithOneCopy(t *testing.T) {
	story(t, func(w *world) {
		w.start()
		root := w.add(1, func(x *Want) { x.Min, x.Max = 1, 1 })
		w.reach(root, Durable, time.Second)
		two := w.add(2)
		time.Sleep(5 * time.Minute)
		h, _ := w.k.Health(two)
		if h.Level != Stored || !strings.Contains(h.Reason, "1 of 2 copies proved; nobody else") || h.Next.Before(time.Now()) {
			t.Errorf("with nobody else there: %+v", h)
		}
		if w.counted().pins != 0 {
			t.Errorf("%d entries in a pinset of one peer", w.counted().pins)
		}
		if l := w.k.Unhealthy("", 10); len(l) != 1 || l[0].Root != two {
			t.Errorf("unhealthy: %+v", l)
		}
		// Long after, somebody comes.
		w.join(1, member.Storage, "")
		w.reach(two, Durable, time.Minute)
		w.sound(two)
	})
}

func TestHolderThatDiesIsReplaced(t *testing.T) {
	story(t, func(w *world) {
		var ms []*machine
		for n := range 4 {
			ms = append(ms, w.join(n+1, member.Storage, ""))
		}
		w.start()
		time.Sleep(time.Second)
		root := w.add(1, func(x *Want) { x.Min, x.Max = 3, 3 })
		w.reach(root, Durable, 5*time.Second)
		dead := ms[slices.IndexFunc(ms, func(m *machine) bool { return w.has(m, root) })]
		w.leave(dead)
		time.Sleep(10 * time.Second)
		w.sound(root) // still within the grace
		began := time.Now()
		for {
			if h, _ := w.k.Health(root); h.Level < Durable {
				if h.Reason == "" || h.Next.IsZero() {
					t.Errorf("%+v", h)
				}
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		w.reach(root, Durable, 10*time.Second)
		if d := time.Since(began); d > 20*time.Second {
			t.Errorf("restored %v after the death was noticed", d)
		}
		w.sound(root)
		// It comes back: one copy too many goes, and three stay proved.
		w.arrive(dead)
		time.Sleep(5 * time.Minute)
		w.sound(root)
		if n := w.holders(root, member.Storage); n != 2 {
			t.Errorf("%d storage peers hold it after the return, want 2", n)
		}
	})
}

func TestLostCopiesComeBackWhenSomebodyJoins(t *testing.T) {
	story(t, func(w *world) {
		a, b := w.join(1, member.Storage, ""), w.join(2, member.Storage, "")
		w.start()
		time.Sleep(time.Second)
		var roots []cid.Cid
		for n := range 50 {
			roots = append(roots, w.add(n, func(x *Want) { x.Min, x.Max = 3, 3 }))
		}
		w.reach(roots[49], Durable, 10*time.Second)
		w.expel(a)
		w.leave(b)
		time.Sleep(72 * time.Hour)
		for _, h := range w.k.Unhealthy("", 1000) {
			if h.Level != Stored || h.Reason == "" || h.Next.Before(time.Now()) {
				t.Fatalf("%+v", h)
			}
		}
		if n := len(w.k.Unhealthy("", 1000)); n != 50 {
			t.Fatalf("%d unhealthy, want all", n)
		}
		w.join(3, member.Storage, "")
		w.join(4, member.Storage, "")
		for _, root := range roots {
			w.reach(root, Durable, time.Minute)
		}
	})
}

func TestLiarStopsCountingAndIsReplaced(t *testing.T) {
	for _, lie := range []audit.Outcome{audit.Wrong, audit.Missing} {
		t.Run(string(lie), func(t *testing.T) {
			story(t, func(w *world) {
				var ms []*machine
				for n := range 6 {
					ms = append(ms, w.join(n+1, member.Replica, ""))
				}
				w.start()
				root := w.add(1, community(2))
				w.whole(root, 10*time.Second)
				liar := ms[slices.IndexFunc(ms, func(m *machine) bool { return w.has(m, root) })]
				w.set(func() { liar.answer = lie })
				time.Sleep(12*time.Hour + 2*time.Minute) // one cycle
				h := w.sound(root)
				if c, ok := copyOn(h, liar); ok && c.Counts {
					t.Errorf("the liar counts: %+v", c)
				}
				if w.seen(liar, lie) == 0 {
					t.Error("the liar was not challenged")
				}
				if n := w.holders(root, member.Replica); n < 2 {
					t.Errorf("%d replicas hold it", n)
				}
			})
		})
	}
}

func TestPausedPeerCountsForNothing(t *testing.T) {
	story(t, func(w *world) {
		for n := range 4 {
			w.join(n+1, member.Replica, "")
		}
		w.start()
		var roots []cid.Cid
		for n := range 20 {
			roots = append(roots, w.add(n, community(2)))
		}
		time.Sleep(time.Minute)
		bad := w.peers[id(1)]
		w.smu.Lock()
		w.stands[bad.ID] = audit.Paused
		w.smu.Unlock()
		time.Sleep(10 * time.Minute)
		for _, root := range roots {
			h := w.sound(root)
			if c, ok := copyOn(h, bad); ok && (c.Counts || c.Reason != "its standing is paused") {
				t.Errorf("counted all the same: %+v", c)
			}
		}
		orders := w.counted().orders
		more := w.add(100, community(4))
		time.Sleep(10 * time.Minute)
		if w.has(bad, more) || orders == w.counted().orders {
			t.Error("a paused peer was given more, or nobody was")
		}
	})
}

// A copy that was never proved is given up sooner than one that was: nothing
// speaks for it.
func TestLateAnswers(t *testing.T) {
	story(t, func(w *world) {
		m := w.join(1, member.Replica, "")
		other := w.join(2, member.Replica, "")
		other.refuse = func(control.Order) (control.Outcome, string) { return control.Outside, "not mine" }
		w.start()
		w.set(func() { m.answer = audit.Late })
		root := w.add(1, community(1))
		time.Sleep(30 * time.Second)
		h, _ := w.k.Health(root)
		if c, _ := copyOn(h, m); w.seen(m, audit.Late) < maxFirstLates || c.Counts || c.State != Failed {
			t.Errorf("late from the beginning, %d times: %+v", w.seen(m, audit.Late), c)
		}
		w.set(func() { m.answer = "" })
		time.Sleep(2 * time.Hour)
		w.sound(root)
		before := w.seen(m, audit.Late)
		w.set(func() { m.answer = audit.Late })
		time.Sleep(25 * time.Hour)
		h, _ = w.k.Health(root)
		if c, _ := copyOn(h, m); w.seen(m, audit.Late) < before+maxLates || c.Counts {
			t.Errorf("late after it was proved, %d times: %+v", w.seen(m, audit.Late)-before, c)
		}
	})
}

func TestRefusalGoesToTheNext(t *testing.T) {
	for _, why := range []control.Outcome{control.Full, control.Outside, control.Failed} {
		t.Run(string(why), func(t *testing.T) {
			story(t, func(w *world) {
				for n := range 3 {
					m := w.join(n+1, member.Replica, "")
					if n > 0 {
						m.refuse = func(control.Order) (control.Outcome, string) { return why, "because" }
					}
				}
				w.start()
				for n := range 20 {
					w.add(n, community(1))
				}
				time.Sleep(12 * time.Minute)
				for n := range 20 {
					w.sound(seg(n))
				}
				if n := w.counted().orders; n > 80 {
					t.Errorf("%d orders for 20 copies", n)
				}
			})
		})
	}
}

func TestNobodyAcceptsIsSaid(t *testing.T) {
	story(t, func(w *world) {
		m := w.join(1, member.Replica, "")
		m.refuse = func(control.Order) (control.Outcome, string) { return control.Full, "200 GB are taken\n\x1b[31m" }
		w.start()
		root := w.add(1, community(1))
		time.Sleep(time.Minute)
		h, _ := w.k.Health(root)
		if !strings.Contains(h.Reason, "200 GB are taken") || strings.ContainsAny(h.Reason, "\n\x1b") || h.Next.Before(time.Now()) {
			t.Errorf("reason %q, next %v", h.Reason, h.Next)
		}
		w.set(func() { m.refuse = nil })
		w.k.Report(m.ID, w.reportOf(m))
		if err := w.k.Recover(context.Background(), root); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		w.sound(root)
		if err := w.k.Recover(context.Background(), seg(99)); !errors.Is(err, ErrUnknown) {
			t.Errorf("recovered what is not kept: %v", err)
		}
	})
}

// Whoever waits for a copy reads that the peers are there and full.
func TestNobodyHasRoomIsSaid(t *testing.T) {
	story(t, func(w *world) {
		for n, role := range []member.Role{member.Replica, member.Storage} {
			m := w.away(n+1, role, "")
			m.free = segmentSize / 2
			w.arrive(m)
		}
		w.start()
		root := w.add(1, community(1))
		time.Sleep(time.Minute)
		h, _ := w.k.Health(root)
		if !strings.Contains(h.Reason, "1 storage peers and 1 replicas for this station are there, and 2 of them have no room") {
			t.Errorf("reason %q", h.Reason)
		}
	})
}

func TestContractsAreRespected(t *testing.T) {
	story(t, func(w *world) {
		all := w.join(1, member.Replica, "")
		other := w.away(2, member.Replica, "")
		other.Contract.Label = []string{"classical"}
		small := w.away(3, member.Replica, "")
		small.free = segmentSize * 5 / 2
		none := w.away(4, member.Replica, "")
		none.Contract.Disk = 0
		w.arrive(other)
		w.arrive(small)
		w.arrive(none)
		w.start()
		for n := range 10 {
			w.add(n, community(3))
		}
		time.Sleep(10 * time.Minute)
		held := map[*machine]int{}
		for n := range 10 {
			for _, m := range []*machine{all, other, small, none} {
				if w.has(m, seg(n)) {
					held[m]++
				}
			}
		}
		if held[all] != 10 || held[other] != 0 || held[small] != 2 || held[none] != 0 {
			t.Errorf("held %d, %d, %d and %d", held[all], held[other], held[small], held[none])
		}
		// The label joins the contract: at once it carries its share.
		other.Contract.Label = []string{"classical", "radio"}
		w.k.Report(other.ID, w.reportOf(other))
		time.Sleep(time.Minute)
		if n := w.held(other); n != 10 {
			t.Errorf("after the contract changed it holds %d", n)
		}
	})
}

// held counts the segments of a machine.
func (w *world) held(m *machine) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(m.holds)
}
