package keep

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
)

func TestHostThatJoinsTakesOnlyItsPart(t *testing.T) {
	story(t, func(w *world) {
		for n := range 8 {
			w.join(n+1, member.Replica, "")
		}
		w.start()
		const segments, copies = 600, 3
		for n := range segments {
			w.add(n, community(copies))
		}
		time.Sleep(5 * time.Minute)
		orders := w.counted().orders
		if orders != segments*copies {
			t.Errorf("%d orders for %d copies", orders, segments*copies)
		}
		dropping := func(_ peer.ID, root cid.Cid) {
			h, _ := w.k.Health(root)
			n := 0
			for _, c := range h.Copies {
				if c.Role == member.Replica && c.State == Proved && c.Counts {
					n++
				}
			}
			if n < copies {
				t.Errorf("a copy was dropped before the new one was proved: %+v", h)
			}
		}
		w.set(func() { w.dropping = dropping })
		fresh := w.join(9, member.Replica, "")
		time.Sleep(10 * time.Minute)
		share := segments * copies / 9
		if n := w.held(fresh); n < share*7/10 || n > share*13/10 {
			t.Errorf("the new host holds %d, its part is %d", n, share)
		}
		if moves := w.counted().orders - orders; moves != 2*w.held(fresh) {
			t.Errorf("%d orders to give %d copies to one host: each should be a hold and a drop", moves, w.held(fresh))
		}
		for n := range segments {
			if h := w.sound(seg(n)); len(h.Copies) != 1+copies {
				t.Errorf("%d copies: %+v", len(h.Copies), h)
			}
		}
		for _, m := range w.machines() {
			if n := w.held(m); n < share*7/10 || n > share*13/10 {
				t.Errorf("%s holds %d, its part is %d", m.Name, n, share)
			}
		}
	})
}

func TestRebalanceMovesToWhoeverHasRoom(t *testing.T) {
	story(t, func(w *world) {
		a := w.join(1, member.Storage, "")
		b := w.join(2, member.Storage, "")
		w.start()
		time.Sleep(time.Second)
		const segments = 200
		for n := range segments {
			w.add(n, func(x *Want) { x.Min, x.Max = 2, 2 })
		}
		time.Sleep(time.Minute)
		c := w.join(3, member.Storage, "")
		time.Sleep(30 * time.Minute)
		if n := w.held(c); n != 0 {
			t.Errorf("%d copies moved to a storage peer by themselves", n)
		}
		dropping := func(_ peer.ID, root cid.Cid) {
			if h, _ := w.k.Health(root); h.Level != Durable {
				t.Errorf("moved before it was proved: %+v", h)
			}
		}
		w.set(func() { w.dropping = dropping })
		moved, err := w.k.Rebalance(context.Background())
		if err != nil || moved < segments/5 || moved > segments/2 {
			t.Errorf("%d moved, %v", moved, err)
		}
		time.Sleep(10 * time.Minute)
		for n := range segments {
			w.sound(seg(n))
		}
		if n := w.held(c); n != moved || w.held(a)+w.held(b)+n != segments {
			t.Errorf("%d, %d and %d copies, %d moved", w.held(a), w.held(b), n, moved)
		}
		if again, err := w.k.Rebalance(context.Background()); again > segments/50 || err != nil {
			t.Errorf("%d moved again, %v", again, err)
		}
	})
}

func TestRestartKnowsWhatWasProved(t *testing.T) {
	story(t, func(w *world) {
		for n := range 3 {
			w.join(n+1, member.Storage, "")
			w.join(n+10, member.Replica, "")
		}
		w.start()
		time.Sleep(time.Second)
		const segments = 100
		for n := range segments {
			w.add(n, func(x *Want) { x.Community = 1 })
		}
		time.Sleep(10 * time.Minute)
		w.stop()
		before := w.counted()
		w.start()
		for n := range segments {
			if h, ok := w.k.Health(seg(n)); !ok || h.Level != Durable {
				t.Fatalf("right after a restart: %+v", h)
			}
		}
		time.Sleep(10 * time.Minute)
		if asked := w.counted().challenges - before.challenges; asked > 3*segments/20 {
			t.Errorf("%d challenges in ten minutes after a restart", asked)
		}
		if w.counted().pins != before.pins || w.counted().orders != before.orders {
			t.Errorf("%d pins and %d orders after a restart", w.counted().pins-before.pins, w.counted().orders-before.orders)
		}
		time.Sleep(13 * time.Hour)
		if asked := w.counted().challenges - before.challenges; asked < 3*segments || asked > 3*segments*3/2 {
			t.Errorf("%d challenges in a cycle of %d copies", asked, 3*segments)
		}
	})
}

func TestPeersMayTakeTheirTimeAfterARestart(t *testing.T) {
	story(t, func(w *world) {
		var ms []*machine
		for n := range 4 {
			ms = append(ms, w.join(n+1, member.Storage, ""))
		}
		w.start()
		time.Sleep(time.Second)
		for n := range 20 {
			w.add(n, func(x *Want) { x.Min, x.Max = 3, 3 })
		}
		time.Sleep(time.Minute)
		w.stop()
		for _, m := range ms {
			w.set(func() { m.up = false })
		}
		pins := w.counted().pins
		w.start()
		time.Sleep(40 * time.Second)
		for _, m := range ms {
			w.arrive(m)
		}
		time.Sleep(5 * time.Minute)
		if w.counted().pins != pins {
			t.Errorf("%d entries of the pinset changed", w.counted().pins-pins)
		}
	})
}

func TestDamagedRecordIsFoundAgain(t *testing.T) {
	story(t, func(w *world) {
		w.join(1, member.Storage, "")
		w.start()
		time.Sleep(time.Second)
		root, other := w.add(1), w.add(2)
		time.Sleep(time.Minute)
		w.stop()
		for _, k := range []datastore.Key{keyOf(root), datastore.NewKey("/keep/s/what")} {
			if err := w.store.Put(context.Background(), k, []byte("\xa1junk")); err != nil {
				t.Fatal(err)
			}
		}
		w.start()
		if _, ok := w.k.Health(other); !ok {
			t.Error("the other is forgotten")
		}
		w.k.Keep(w.want[root])
		w.reach(root, Durable, 5*time.Minute)
	})
}

func TestPinsetThatHelpedItselfIsBelieved(t *testing.T) {
	story(t, func(w *world) {
		a, b := w.join(1, member.Storage, ""), w.join(2, member.Storage, "")
		w.start()
		time.Sleep(time.Second)
		root := w.add(1, func(x *Want) { x.Min, x.Max = 2, 2 })
		w.reach(root, Durable, time.Minute)
		from, to := a, b
		if w.has(b, root) {
			from, to = b, a
		}
		time.Sleep(time.Minute)
		// The pinset notices that a peer is away before we do, and moves its copy.
		w.mu.Lock()
		from.up = false
		w.pins[root] = Pin{Root: root, Min: 2, Max: 2, Holders: []peer.ID{w.self, to.ID}}
		w.mu.Unlock()
		w.follow()
		w.k.Line(from.ID, false)
		w.reach(root, Durable, 2*time.Minute)
		time.Sleep(5 * time.Minute)
		h := w.sound(root)
		if c, ok := copyOn(h, to); !ok || c.State != Proved {
			t.Errorf("%+v", h)
		}
		// An entry that is missing is made again, one that names a stranger mended.
		w.mu.Lock()
		delete(w.pins, root)
		w.mu.Unlock()
		time.Sleep(2 * time.Minute)
		w.mu.Lock()
		p := w.pins[root]
		w.pins[root] = Pin{Root: root, Min: 1, Max: 2, Holders: append(slices.Clone(p.Holders), id(77))}
		w.mu.Unlock()
		if !slices.Contains(p.Holders, to.ID) {
			t.Errorf("the entry that was lost: %+v", p)
		}
		time.Sleep(2 * time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		if slices.Contains(w.pins[root].Holders, id(77)) {
			t.Errorf("a stranger holds it: %+v", w.pins[root])
		}
	})
}

func TestOnlyStoragePeerIsAskedAgain(t *testing.T) {
	story(t, func(w *world) {
		m := w.join(1, member.Storage, "")
		w.start()
		time.Sleep(time.Second)
		root := w.add(1, func(x *Want) { x.Min, x.Max = 2, 2 })
		w.reach(root, Durable, time.Minute)
		w.mu.Lock()
		delete(m.holds, root) // its disk failed, and it does not know
		w.mu.Unlock()
		w.k.Receipt(m.ID, control.Receipt{Verb: control.Hold, Root: root, Outcome: control.Lost, Reason: "rotten"})
		time.Sleep(time.Second)
		if h, _ := w.k.Health(root); h.Level != Stored || !strings.Contains(h.Reason, "rotten") {
			t.Errorf("%+v", h)
		}
		w.reach(root, Durable, 2*time.Minute)
		if !w.has(m, root) || w.counted().recovers == 0 {
			t.Errorf("recovered %d times", w.counted().recovers)
		}
	})
}

func TestPinsetThatFailsIsTriedAgain(t *testing.T) {
	story(t, func(w *world) {
		w.join(1, member.Storage, "")
		w.start()
		time.Sleep(time.Second)
		w.mu.Lock()
		w.pinErr = errors.New("no quorum of disks")
		w.mu.Unlock()
		root := w.add(1)
		time.Sleep(3 * time.Minute)
		if h, _ := w.k.Health(root); !strings.Contains(h.Reason, "no quorum") || h.Next.Before(time.Now()) {
			t.Errorf("%+v", h)
		}
		w.mu.Lock()
		w.pinErr = nil
		w.mu.Unlock()
		w.reach(root, Durable, 5*time.Minute)
	})
}

func TestWishesOfAStationMayChange(t *testing.T) {
	story(t, func(w *world) {
		for n := range 4 {
			w.join(n+1, member.Storage, "")
			w.join(n+10, member.Replica, "")
		}
		w.start()
		time.Sleep(time.Second)
		root := w.add(1, func(x *Want) { x.Min, x.Max, x.Community = 4, 4, 3 })
		w.reach(root, Durable, time.Minute)
		time.Sleep(time.Minute)
		w.sound(root)
		w.add(1, func(x *Want) { x.Min, x.Max, x.Community = 1, 2, 1 })
		time.Sleep(5 * time.Minute)
		if s, r := w.holders(root, member.Storage), w.holders(root, member.Replica); s != 1 || r != 1 {
			t.Errorf("after fewer were wanted: %d and %d", s, r)
		}
		w.sound(root)
		w.add(1, func(x *Want) { x.Min, x.Max, x.Community = 0, 0, -1 })
		time.Sleep(5 * time.Minute)
		if s, r := w.holders(root, member.Storage), w.holders(root, member.Replica); s != 0 || r != 0 {
			t.Errorf("after none were wanted: %d and %d", s, r)
		}
		w.sound(root)
	})
}
