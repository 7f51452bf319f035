package keep

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
)

// verbs are the orders that a machine was given about a segment.
func (w *world) verbs(m *machine, root cid.Cid) []control.Verb {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.asked[root][m.ID])
}

func (w *world) refuses(m *machine, root cid.Cid) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return m.denied[root]
}

func TestPurgeReachesAllWhoEverHeldIt(t *testing.T) {
	story(t, func(w *world) {
		var all []*machine
		for n := range 3 {
			all = append(all, w.join(n+1, member.Storage, ""))
		}
		for n := range 4 {
			all = append(all, w.join(n+10, member.Replica, ""))
		}
		w.start()
		time.Sleep(time.Second)
		root := w.add(1, func(x *Want) { x.Community = 2 })
		time.Sleep(time.Minute)
		first := all[3+slices.IndexFunc(all[3:], func(m *machine) bool { return w.has(m, root) })]
		w.leave(first)
		time.Sleep(2 * time.Hour) // its copy is given to another
		w.remove(root)
		time.Sleep(time.Minute)
		h, ok := w.k.Health(root)
		if !ok || !h.Gone || len(h.Copies) != 1 || h.Copies[0].Peer != first.ID || h.Copies[0].State != Purging ||
			!strings.Contains(h.Reason, "no receipt yet from "+first.Name) {
			t.Errorf("while one is away: %+v", h)
		}
		if s := w.k.Summary(""); s.Purging != 1 || s.Segments != 0 {
			t.Errorf("summary %+v", s)
		}
		if l := w.k.Unhealthy("", 10); len(l) != 1 || !l[0].Gone {
			t.Errorf("unhealthy %+v", l)
		}
		for _, m := range all {
			held := slices.Contains(w.verbs(m, root), control.Hold)
			if m != first && (m.Role == member.Storage || held) && (w.has(m, root) || !w.refuses(m, root)) {
				t.Errorf("%s holds it or would take it again", m.Name)
			}
			if m.Role == member.Replica && !held && len(w.verbs(m, root)) > 0 {
				t.Errorf("%s never held it and is told %v", m.Name, w.verbs(m, root))
			}
		}
		if _, ok := w.entry(root); ok {
			t.Error("it is pinned")
		}
		w.arrive(first)
		time.Sleep(time.Minute)
		if _, ok := w.k.Health(root); ok || w.has(first, root) || !w.refuses(first, root) {
			t.Error("the one that was away")
		}
	})
}

func TestPurgeIsRepeatedUntilTheReceiptIsIn(t *testing.T) {
	story(t, func(w *world) {
		m := w.join(1, member.Replica, "")
		w.start()
		root := w.add(1, community(1))
		time.Sleep(time.Minute)
		w.set(func() { m.mute = true })
		w.remove(root)
		time.Sleep(3 * time.Hour)
		n := 0
		for _, v := range w.verbs(m, root) {
			if v == control.Purge {
				n++
			}
		}
		if n < 3 || n > 20 {
			t.Errorf("ordered %d times in three hours", n)
		}
		// A restart does not forget it.
		w.stop()
		w.start()
		if h, ok := w.k.Health(root); !ok || !h.Gone || len(h.Copies) != 1 {
			t.Errorf("after a restart: %+v", h)
		}
		w.set(func() { m.mute = false })
		time.Sleep(12 * time.Hour)
		if h, ok := w.k.Health(root); ok {
			t.Errorf("after the receipt: %+v", h)
		}
		w.stop()
		w.start()
		if h, ok := w.k.Health(root); ok {
			t.Errorf("after the receipt and a restart: %+v", h)
		}
	})
}

// Nothing is waited for from a peer that is a member no more, and nothing is
// said to be under way; what it never confirmed is told apart.
func TestPurgeDoesNotWaitForThoseWhoWereRemoved(t *testing.T) {
	story(t, func(w *world) {
		stays, goes := w.join(1, member.Replica, ""), w.join(2, member.Replica, "")
		w.start()
		root := w.add(1, community(2))
		time.Sleep(time.Minute)
		w.sound(root)
		w.leave(stays)
		w.leave(goes)
		w.remove(root)
		time.Sleep(time.Minute)
		if h, _ := w.k.Health(root); h.Reason != "removed; no receipt yet from "+stays.Name+", "+goes.Name+"; tried again when "+stays.Name+", "+goes.Name+" are back" {
			t.Errorf("while both are silent: %q", h.Reason)
		}
		w.expel(goes)
		time.Sleep(time.Minute)
		h, _ := w.k.Health(root)
		if h.Reason != "removed; no receipt yet from "+stays.Name+"; tried again when "+stays.Name+" is back; never confirmed by "+goes.Name {
			t.Errorf("while one is silent: %q", h.Reason)
		}
		for _, c := range h.Copies {
			if c.Peer == goes.ID && c.Reason != "removed, not confirmed" {
				t.Errorf("copy %+v", c)
			}
		}
		if s := w.k.Summary(""); s.Purging != 1 {
			t.Errorf("summary %+v", s)
		}
		w.arrive(stays)
		time.Sleep(time.Minute)
		if h, _ := w.k.Health(root); h.Reason != "removed; never confirmed by "+goes.Name {
			t.Errorf("when one has answered: %q", h.Reason)
		}
		if s := w.k.Summary(""); s.Purging != 0 || len(w.k.Unhealthy("", 10)) != 0 {
			t.Errorf("summary %+v, unhealthy %+v", s, w.k.Unhealthy("", 10))
		}
	})
}

func TestPurgeReachesAPeerThatWasRemovedAndComesBack(t *testing.T) {
	story(t, func(w *world) {
		m := w.join(1, member.Replica, "")
		w.start(func(o *Options) { o.Timing.Tick = 20 * time.Second }) // it takes long
		root, other := w.add(1, community(1)), w.add(2, community(1))
		time.Sleep(time.Minute)
		w.expel(m)
		time.Sleep(time.Minute)
		w.remove(root)
		w.remove(other)
		time.Sleep(24 * time.Hour)
		w.mu.Lock()
		w.roster = append(w.roster, m.Peer)
		w.mu.Unlock()
		w.k.Members()
		w.arrive(m)
		time.Sleep(10 * time.Minute)
		if w.has(m, root) || !w.refuses(m, root) {
			t.Error("it came back, and holds what was removed")
		}
		w.join(2, member.Replica, "")
		third := w.add(3, community(2))
		time.Sleep(10 * time.Minute)
		w.expel(m)
		w.remove(third)
		time.Sleep(memory + time.Hour)
		if h, ok := w.k.Health(third); ok {
			t.Errorf("remembered for ever: %+v", h)
		}
	})
}

func TestUnpinWinsOverAConcurrentPin(t *testing.T) {
	story(t, func(w *world) {
		a, b := w.join(1, member.Storage, ""), w.join(2, member.Storage, "")
		w.start()
		time.Sleep(time.Second)
		root := w.add(1)
		w.reach(root, Durable, time.Minute)
		entry, _ := w.entry(root)
		w.leave(b)
		w.remove(root)
		w.k.Keep(Want{Root: root, Size: segmentSize, Label: "radio", Min: 2, Max: 3}) // an add that was slower
		time.Sleep(5 * time.Minute)
		if _, ok := w.entry(root); ok || w.has(a, root) {
			t.Fatal("still pinned")
		}
		// The other side of a partition had pinned it anew.
		w.mu.Lock()
		w.pins[root] = entry
		w.mu.Unlock()
		w.arrive(b)
		time.Sleep(time.Minute)
		w.mu.Lock()
		_, ok := w.pins[root]
		w.mu.Unlock()
		if ok || w.has(a, root) || w.has(b, root) {
			t.Error("it is pinned again a minute after the partition")
		}
		time.Sleep(time.Hour)
		// And once more, when all was forgotten.
		w.mu.Lock()
		w.pins[root] = entry
		w.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if _, ok := w.entry(root); ok {
			t.Error("it is pinned again long after")
		}
	})
}

func TestStrangersInThePinsetAreLeftAlone(t *testing.T) {
	story(t, func(w *world) {
		m := w.join(1, member.Storage, "")
		w.pins[seg(7)] = Pin{Root: seg(7), Holders: []peer.ID{m.ID}}
		w.start()
		w.add(1)
		time.Sleep(10 * time.Minute)
		if s := w.k.Summary(""); s.Strangers != 1 || s.Surveyed.IsZero() {
			t.Errorf("summary %+v", s)
		}
		if _, ok := w.entry(seg(7)); !ok || w.counted().unpins != 0 {
			t.Error("it was unpinned")
		}
	})
}

func TestWhatTheCatalogueRemovedIsDroppedAfterACrash(t *testing.T) {
	story(t, func(w *world) {
		a, b := w.join(1, member.Storage, ""), w.join(2, member.Replica, "")
		w.start()
		time.Sleep(time.Second)
		root, kept := w.add(1, func(x *Want) { x.Community = 1 }), w.add(2)
		time.Sleep(time.Minute)
		w.stop()
		// Removed, and killed before the keeper heard of it.
		w.mu.Lock()
		delete(w.want, root)
		w.gone[root] = true
		delete(w.want, kept) // the catalogue was lost, say: that is no removal
		w.mu.Unlock()
		w.start()
		time.Sleep(time.Minute)
		for _, m := range []*machine{a, b} {
			if w.has(m, root) || !w.refuses(m, root) {
				t.Errorf("%s holds it", m.Name)
			}
		}
		if !w.has(a, kept) {
			t.Error("what the catalogue knows nothing of was dropped")
		}
	})
}

func TestRemovedWhileOrdersFail(t *testing.T) {
	story(t, func(w *world) {
		m := w.join(1, member.Storage, "")
		w.start()
		time.Sleep(time.Second)
		root := w.add(1)
		w.reach(root, Durable, time.Minute)
		w.mu.Lock()
		w.pinErr, w.ordErr = errors.New("disk full"), errors.New("disk full")
		w.mu.Unlock()
		w.remove(root)
		time.Sleep(time.Minute)
		h, _ := w.k.Health(root)
		if !h.Gone || !strings.Contains(h.Reason, "disk full") || h.Next.Before(time.Now()) {
			t.Errorf("%+v", h)
		}
		w.mu.Lock()
		w.pinErr, w.ordErr = nil, nil
		w.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if _, ok := w.k.Health(root); ok || w.has(m, root) || !w.refuses(m, root) {
			t.Error("not purged")
		}
	})
}

func TestDropOfWhatWasNeverKept(t *testing.T) {
	story(t, func(w *world) {
		m := w.join(1, member.Storage, "")
		w.start()
		w.remove(seg(5))
		w.k.Drop(cid.Undef)
		time.Sleep(time.Minute)
		if !w.refuses(m, seg(5)) {
			t.Error("a storage peer may hold it: it was not told")
		}
		if _, err := w.k.Wait(context.Background(), seg(5), Stored); !errors.Is(err, ErrUnknown) {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// setBack changes what is stored of a peer's copy, as a crash leaves it that
// came after a receipt and before the keeper wrote it down.
func (w *world) setBack(root cid.Cid, m *machine, to stage) {
	w.t.Helper()
	b, err := w.store.Get(context.Background(), keyOf(root))
	var r record
	if err == nil {
		err = cbor.Unmarshal(b, &r)
	}
	for i := range r.Slots {
		if x := &r.Slots[i]; string(x.Peer) == string(m.ID) {
			x.Stage, x.Flags = uint8(to), x.Flags|flagTold
		}
	}
	if err == nil {
		b, err = cbor.Marshal(r)
	}
	if err == nil {
		err = w.store.Put(context.Background(), keyOf(root), b)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestReceiptLostInACrash(t *testing.T) {
	story(t, func(w *world) {
		m := w.join(1, member.Replica, "")
		w.start()
		root := w.add(1, community(1))
		time.Sleep(time.Minute)
		w.sound(root)
		w.stop()
		w.setBack(root, m, ordered)
		w.start()
		time.Sleep(time.Minute)
		w.sound(root)

		w.leave(m)
		w.remove(root)
		time.Sleep(10 * time.Second)
		w.stop()
		w.set(func() { m.queue = nil }) // it was done, and the receipt recorded
		w.setBack(root, m, purging)
		w.start()
		w.arrive(m)
		time.Sleep(2 * time.Minute)
		if h, ok := w.k.Health(root); ok {
			t.Errorf("a minute after the restart: %+v", h)
		}
	})
}

// lift makes a segment wanted again that was taken down.
func (w *world) lift(root cid.Cid, want Want) {
	want.Lifted = true
	w.mu.Lock()
	w.want[root] = want
	delete(w.gone, root)
	w.mu.Unlock()
	w.k.Keep(want)
}

// H50: what was taken down and is put back gets its copies again, on peers that
// have purged it, on those that were told nothing of it, and on those that were
// away the whole time; whether or not the keeper still waits for receipts, and
// also if it missed that it was lifted.
func TestLiftedIsKeptAgain(t *testing.T) {
	for name, c := range map[string]struct{ late, missed bool }{"at once": {}, "when all have purged": {late: true}, "after a restart": {missed: true}} {
		t.Run(name, func(t *testing.T) {
			story(t, func(w *world) {
				var all []*machine
				for n := range 2 {
					all = append(all, w.join(n+1, member.Storage, ""))
				}
				for n := range 3 {
					all = append(all, w.join(n+10, member.Replica, ""))
				}
				w.start()
				root := w.add(1, func(x *Want) { x.Community = 2 })
				w.whole(root, time.Minute)
				want := w.want[root]
				absent := all[2+slices.IndexFunc(all[2:], func(m *machine) bool { return w.has(m, root) })]
				w.leave(absent)
				w.remove(root)
				if c.late || c.missed {
					time.Sleep(time.Minute)
				}
				if c.missed {
					w.stop()
					want.Lifted = true
					w.set(func() { w.want[root] = want; delete(w.gone, root) })
					w.start()
				} else {
					w.lift(root, want)
				}
				w.arrive(absent)
				w.whole(root, 3*time.Hour)
				h, _ := w.k.Health(root)
				if h.Gone || len(h.Copies) < 5 {
					t.Errorf("put back: %+v", h)
				}
				w.remove(root) // it was right to take it down
				time.Sleep(time.Minute)
				for _, m := range all {
					if w.has(m, root) || !w.refuses(m, root) && m.Role == member.Storage {
						t.Errorf("%s holds it, or would take it again", m.Name)
					}
				}
				if _, ok := w.k.Health(root); ok {
					t.Error("somebody is waited for")
				}
			})
		})
	}
}

// H63: a takedown wins over wants that do not know of a lift.
func TestGoneStaysGoneUnlessLifted(t *testing.T) {
	story(t, func(w *world) {
		m := w.join(1, member.Storage, "")
		w.start()
		root := w.add(1)
		w.whole(root, time.Minute)
		want := w.want[root]
		w.set(func() { m.mute = true })
		w.remove(root)
		w.k.Keep(want)
		time.Sleep(5 * time.Minute)
		if h, ok := w.k.Health(root); !ok || !h.Gone || w.has(m, root) {
			t.Errorf("it came back: %+v", h)
		}
	})
}
