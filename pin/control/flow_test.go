package control

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/musenai/musen/pin/member"
)

// TestManyOrdersComeInTheirOrder has more wait than a line keeps in memory,
// gives more while they flow, and a purge that overtakes them all.
func TestManyOrdersComeInTheirOrder(t *testing.T) {
	const before, during = 3*window + 7, 2000
	o, h := newOrigin(t), newHost(t)
	_ = o.Close()
	o.store = newJournal(t)
	o.start(t)
	t.Cleanup(func() { _ = o.Close() })
	o.members.set(h.ID(), member.Replica)
	o.order(t, h.ID(), ins(Hold, 0, before)...)
	w := o.waiting(t, h.ID())
	if len(w) != before || !slices.IsSortedFunc(w, func(a, b Order) int { return int(a.Seq) - int(b.Seq) }) {
		t.Fatalf("%d orders wait, or not in their order", len(w))
	}
	held := newShelfful()
	cue := make(chan struct{})
	held.carry = func(ctx context.Context, o Order) (Outcome, string) {
		if o.Verb == Hold {
			select {
			case <-cue:
			case <-ctx.Done():
			}
		}
		return Done, ""
	}
	c := startClient(t, h, o, func(co *ClientOptions) { co.Store, co.Handler, co.Holds = newJournal(t), held, 1 })
	for i := before; i < before+during; i += 10 {
		o.order(t, h.ID(), ins(Hold, i, i+10)...)
	}
	o.order(t, h.ID(), ins(Purge, before+during, before+during+1)...)
	held.w.until(t, "the purge is carried out while one hold is", func() bool { return held.purged[root(before+during)] })
	if n := c.Status().Waiting; n < before+during {
		t.Errorf("%d holds wait", n)
	}
	if few, err := c.Orders(context.Background(), 5); err != nil || len(few) != 5 || few[0].Peer != h.ID() {
		t.Errorf("orders at the peer: %+v, %v", few, err)
	}
	close(cue)
	poll(t, "all are answered", func() bool { return c.Status().Unsent+c.Status().Waiting == 0 })
	if n := len(o.waiting(t, h.ID())); n != 0 {
		t.Errorf("%d orders wait at the origin", n)
	}
	held.w.do(func() {
		holds := slices.DeleteFunc(slices.Clone(held.carried), func(o Order) bool { return o.Verb != Hold })
		if len(holds) != before+during {
			t.Errorf("%d holds were carried out", len(holds))
		}
		if !slices.IsSortedFunc(holds, func(a, b Order) int { return int(a.Seq) - int(b.Seq) }) {
			t.Error("not in the order in which they were given")
		}
	})
}

// TestRestartOnLevelDB ends both sides as they should end, on the store that
// nodes have.
func TestRestartOnLevelDB(t *testing.T) {
	o, h, held := newOrigin(t), newHost(t), newShelfful()
	_ = o.Close()
	o.store = newJournal(t)
	o.start(t)
	t.Cleanup(func() { _ = o.Close() })
	o.members.set(h.ID(), member.Replica)
	own := newJournal(t)
	held.carry = func(ctx context.Context, o Order) (Outcome, string) {
		if o.Verb == Hold {
			<-ctx.Done()
			return Failed, "stopped"
		}
		return Done, ""
	}
	c := startClient(t, h, o, on(own, held))
	o.order(t, h.ID(), ins(Hold, 0, 20)...)
	o.order(t, h.ID(), ins(Purge, 20, 30)...)
	poll(t, "what can be done is done", func() bool { return c.Status().Waiting == 20 && c.Status().Unsent == 0 })
	c.stop()
	_ = o.Close()
	o.start(t)
	o.order(t, h.ID(), ins(Drop, 0, 5)...)
	again := newShelfful()
	c = startClient(t, h, o, on(own, again))
	c.awaitReady(t)
	poll(t, "the rest is done", func() bool { return len(o.waiting(t, h.ID())) == 0 })
	again.w.do(func() {
		held := 0
		for _, h := range again.holds {
			if h {
				held++
			}
		}
		if held != 15 || len(again.purged) == 0 && len(again.carried) == 0 {
			t.Errorf("holds %d", held)
		}
	})
	if kept, err := o.Receipts(context.Background(), h.ID(), 0); err != nil || len(kept) != 15 {
		t.Errorf("%d receipts: %v", len(kept), err)
	}
}

// TestManyPeersAtOnce orders for all peers while they come and go.
func TestManyPeersAtOnce(t *testing.T) {
	const peers, each = 12, 40
	o := newOrigin(t)
	var held []*shelfful
	var clients []*client
	for range peers {
		h, s := newHost(t), newShelfful()
		o.members.set(h.ID(), member.Replica)
		held = append(held, s)
		clients = append(clients, startClient(t, h, o, on(newDisk(), s)))
	}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := i * each; j < (i+1)*each; j += 8 {
				if err := o.OrderAll(context.Background(), ins(Purge, j, j+8)...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for i, c := range clients {
		held[i].w.until(t, fmt.Sprintf("peer %d has purged all", i), func() bool { return len(held[i].purged) == 4*each })
		c.awaitReady(t)
	}
	if l := o.Lines(); len(l) != peers || slices.ContainsFunc(l, func(l Line) bool { return !l.Up }) {
		t.Errorf("lines %+v", l)
	}
}

// TestOutboxSendsTheNewest drives an outbox over lines that break at any time:
// in the end nothing is left, and the newest receipt of each key went out last.
func TestOutboxSendsTheNewest(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	o := newOutbox()
	newest, got := map[outKey]uint64{}, map[outKey]uint64{}
	deliver := func() {
		some := o.next()
		o.flight = append(o.flight, some...)
		for _, s := range some {
			got[s.key] = s.version
		}
	}
	forget := func(n int) {
		over, err := o.ack(o.acked + uint64(n))
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range over {
			o.remove(k)
		}
	}
	for range 20_000 {
		switch r.IntN(6) {
		case 0, 1, 2:
			k := outKey{[]string{answers, told}[r.IntN(2)], fmt.Sprint(r.IntN(3 * maxBatch))}
			o.add(k)
			newest[k] = o.version
		case 3:
			deliver()
		case 4:
			forget(r.IntN(len(o.flight) + 1))
		case 5:
			if r.IntN(100) == 0 {
				o.restart()
			}
		}
		if len(o.flight) > 2*maxBatch {
			t.Fatalf("%d under way", len(o.flight))
		}
	}
	if _, err := o.ack(o.acked + uint64(len(o.flight)) + 1); err == nil {
		t.Error("more acknowledged than sent")
	}
	for o.restart(); len(o.keys) > 0; forget(len(o.flight)) {
		deliver()
	}
	for k, v := range newest {
		if got[k] != v {
			t.Errorf("%v: sent version %d, the newest is %d", k, got[k], v)
		}
	}
}

func TestBackoffGrows(t *testing.T) {
	wait := growing(time.Second, time.Minute)
	for attempt, most := range map[int]time.Duration{0: time.Second, 1: time.Second, 3: 4 * time.Second, 7: time.Minute, 1 << 40: time.Minute} {
		for range 100 {
			if d := wait(attempt); d > most || d < most/2 {
				t.Fatalf("attempt %d waits %s", attempt, d)
			}
		}
	}
}
