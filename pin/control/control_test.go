package control

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/pin/member"
	"github.com/musenai/musen/pin/wire"
)

func TestOrdersReachAConnectedPeer(t *testing.T) {
	o, h, held := newOrigin(t), newHost(t), newShelfful()
	o.members.set(h.ID(), member.Replica)
	c := startClient(t, h, o, on(newDisk(), held))
	c.awaitReady(t)
	o.order(t, h.ID(), ins(Hold, 0, 3)...)
	held.w.until(t, "three segments are held", func() bool { return len(held.holds) == 3 })
	o.w.until(t, "three receipts", func() bool { return len(o.receipts[h.ID()]) == 3 })
	for _, r := range o.receipts[h.ID()] {
		if r.Outcome != Done || r.Verb != Hold || r.Seq == 0 {
			t.Errorf("receipt %+v", r)
		}
	}
	o.order(t, h.ID(), ins(Purge, 0, 1)...)
	held.w.until(t, "one is purged", func() bool { return held.purged[root(0)] && !held.holds[root(0)] })
	o.w.until(t, "its receipt", func() bool { return len(o.receipts[h.ID()]) == 4 })
}

func TestOrdersWaitForAPeerThatIsAway(t *testing.T) {
	o, h, held := newOrigin(t), newHost(t), newShelfful()
	o.members.set(h.ID(), member.Replica)
	if err := o.Order(context.Background(), h.ID(), ins(Hold, 0, 5)...); err != nil {
		t.Fatal(err)
	}
	o.order(t, h.ID(), ins(Purge, 0, 2)...)
	if n := len(o.waiting(t, h.ID())); n != 5 {
		t.Fatalf("%d orders wait", n)
	}
	if err := o.Order(context.Background(), h.ID(), ins(Hold, 1, 2)...); !errors.Is(err, ErrPurged) {
		t.Fatalf("hold of what is to be purged: %v", err)
	}
	c := startClient(t, h, o, on(newDisk(), held))
	c.awaitReady(t)
	held.w.until(t, "all are carried out", func() bool { return len(held.carried) == 5 })
	for _, r := range held.carried {
		if (r.Verb == Purge) != (r.Root == root(0) || r.Root == root(1)) {
			t.Errorf("carried out %s of %s", r.Verb, r.Root)
		}
	}
}

func TestAReturningPeerServesNothingBeforeItHasDropped(t *testing.T) {
	o, h, held := newOrigin(t), newHost(t), newShelfful()
	o.members.set(h.ID(), member.Replica)
	cue := make(chan struct{})
	held.carry = func(ctx context.Context, o Order) (Outcome, string) {
		select {
		case <-cue:
		case <-ctx.Done():
		}
		return Done, ""
	}
	o.order(t, h.ID(), ins(Hold, 0, 1000)...)
	o.order(t, h.ID(), ins(Drop, 1000, 1005)...)
	o.order(t, h.ID(), ins(Purge, 1005, 1010)...)
	c := startClient(t, h, o, on(newDisk(), held))
	poll(t, "all orders are received", func() bool { return c.Status().Waiting == 1010 })
	for range 9 {
		if c.CaughtUp() {
			t.Fatal("caught up before all is dropped")
		}
		cue <- struct{}{} // for a hold or a drop
	}
	close(cue)
	c.awaitReady(t)
	held.w.do(func() {
		gone := 0
		for _, o := range held.carried {
			if o.Verb.urgent() {
				gone++
			}
		}
		if gone != 10 {
			t.Errorf("ready after %d drops and purges", gone)
		}
	})
	if !c.CaughtUp() {
		t.Error("ready and not caught up")
	}
}

func TestReadyDoesNotWaitForHolds(t *testing.T) {
	o, h, held := newOrigin(t), newHost(t), newShelfful()
	o.members.set(h.ID(), member.Replica)
	held.carry = func(ctx context.Context, o Order) (Outcome, string) {
		if o.Verb == Hold {
			<-ctx.Done()
		}
		return Done, ""
	}
	o.order(t, h.ID(), ins(Hold, 0, 10)...)
	o.order(t, h.ID(), ins(Purge, 10, 500)...)
	startClient(t, h, o, on(newDisk(), held)).awaitReady(t)
	held.w.do(func() {
		if n := len(held.purged); n != 490 {
			t.Errorf("%d purged", n)
		}
	})
	// A purge of what is being fetched ends the fetch.
	running := cidOf(held)
	o.order(t, h.ID(), Instruction{Verb: Purge, Root: running})
	held.w.until(t, "a slow hold gives way to its purge", func() bool { return held.purged[running] })
}

func cidOf(s *shelfful) (c cid.Cid) {
	s.w.do(func() {
		for c = range s.running {
			return
		}
	})
	return c
}

func TestALineThatComesBackMustCatchUp(t *testing.T) {
	o, h, held := newOrigin(t), newHost(t), newShelfful()
	o.members.set(h.ID(), member.Replica)
	c := startClient(t, h, o, on(newDisk(), held))
	c.awaitReady(t)
	_ = o.Close()
	o.start(t)
	cue := make(chan struct{})
	held.carry = func(context.Context, Order) (Outcome, string) { <-cue; return Done, "" }
	o.order(t, h.ID(), ins(Drop, 0, 1)...)
	held.w.until(t, "the drop has begun", func() bool { return len(held.running) == 1 })
	close(cue)
	o.w.until(t, "it is answered", func() bool { return len(o.receipts[h.ID()]) == 1 })
	poll(t, "caught up", c.CaughtUp)
}

func TestFailuresAreToldWhenTheyChange(t *testing.T) {
	o, h, held := newOrigin(t), newHost(t), newShelfful()
	o.members.set(h.ID(), member.Replica)
	tries := 0
	held.carry = func(context.Context, Order) (Outcome, string) {
		tries++
		switch {
		case tries <= 3:
			return Failed, "no peer has it"
		case tries <= 6:
			return Failed, "\x1b[31mdisk\n" + strings.Repeat("é", 300)
		}
		return Done, ""
	}
	startClient(t, h, o, on(newDisk(), held))
	o.order(t, h.ID(), ins(Hold, 0, 1)...)
	o.w.until(t, "it is done", func() bool {
		rs := o.receipts[h.ID()]
		return len(rs) > 0 && rs[len(rs)-1].Outcome == Done
	})
	poll(t, "nothing waits", func() bool { return len(o.waiting(t, h.ID())) == 0 })
	o.w.do(func() {
		rs := o.receipts[h.ID()]
		if len(rs) > 3 { // one that was not sent yet gives way to the next
			t.Errorf("%d receipts: %+v", len(rs), rs)
		}
		for _, r := range rs {
			if len(r.Reason) > maxReason || strings.ContainsRune(r.Reason, 0x1b) || !utf8.ValidString(r.Reason) {
				t.Errorf("reason %q", r.Reason)
			}
		}
	})
}

func TestRefusalsEndAnOrder(t *testing.T) {
	o, h, held := newOrigin(t), newHost(t), newShelfful()
	o.members.set(h.ID(), member.Replica)
	held.carry = func(_ context.Context, o Order) (Outcome, string) {
		if o.Root == root(0) {
			return Full, "200 GB are used"
		}
		return Outside, "not one of my stations"
	}
	startClient(t, h, o, on(newDisk(), held))
	o.order(t, h.ID(), ins(Hold, 0, 2)...)
	o.w.until(t, "both are answered", func() bool { return len(o.receipts[h.ID()]) == 2 })
	poll(t, "nothing waits", func() bool { return len(o.waiting(t, h.ID())) == 0 })
	kept, err := o.Receipts(context.Background(), h.ID(), 0)
	if err != nil || len(kept) != 0 {
		t.Errorf("kept receipts for holds: %v %v", kept, err)
	}
}

func TestStoragePeersTellWhatTheyHold(t *testing.T) {
	o, storage, replica := newOrigin(t), newHost(t), newHost(t)
	o.members.set(storage.ID(), member.Storage)
	o.members.set(replica.ID(), member.Replica)
	ctx := context.Background()
	store := newDisk()
	early, err := NewClient(ctx, ClientOptions{Host: storage, Origin: info(o.host), Key: keyOf(storage), Realm: testRealm, Store: store})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 50 { // before there is a line, and from many at once
		all.Go(func() {
			if err := early.Tell(ctx, Receipt{Root: root(i), Outcome: Done}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := early.Tell(ctx, Receipt{Root: root(0), Outcome: Lost, Reason: "rotten"}); err != nil {
		t.Fatal(err)
	}
	if err := early.Tell(ctx, Receipt{Root: root(0), Outcome: Full}); !errors.Is(err, ErrInvalid) {
		t.Errorf("told what nobody asked: %v", err)
	}
	left := store.kill(rand.New(rand.NewPCG(1, 1))) // what was told is durable
	c := startClient(t, storage, o, on(left, newShelfful()))
	o.w.until(t, "all is told", func() bool { return len(o.receipts[storage.ID()]) == 50 })
	o.w.do(func() {
		for _, r := range o.receipts[storage.ID()] {
			if r.Seq != 0 || (r.Root == root(0)) != (r.Outcome == Lost) {
				t.Errorf("told %+v", r)
			}
		}
	})
	poll(t, "the peer knows that", func() bool { return c.Status().Unsent == 0 })

	r := startClient(t, replica, o)
	if err := r.Tell(ctx, Receipt{Root: root(1), Outcome: Done}); err != nil {
		t.Fatal(err)
	}
	if err := r.Tell(ctx, Receipt{Root: root(2), Outcome: Lost}); err != nil {
		t.Fatal(err)
	}
	poll(t, "both are acknowledged", func() bool { return r.Status().Unsent == 0 })
	o.w.do(func() {
		if rs := o.receipts[replica.ID()]; len(rs) != 1 || rs[0].Outcome != Lost {
			t.Errorf("a replica told %+v", rs)
		}
	})
}

func TestReportsRostersAndNudges(t *testing.T) {
	o, h := newOrigin(t, func(so *ServerOptions) { so.Heartbeat = 50 * time.Millisecond }), newHost(t)
	o.members.set(h.ID(), member.Replica)
	var held, rosters atomic.Int64
	c := startClient(t, h, o, func(co *ClientOptions) {
		co.Heartbeat = 50 * time.Millisecond
		co.Report = func() Report { return Report{Held: held.Load(), Free: -5, Version: "v1\n", Addrs: []string{"x"}} }
		co.Roster = func(wire.Envelope) error { rosters.Add(1); return errors.New("known") }
	})
	last := func() Report { rs := o.reports[h.ID()]; return rs[len(rs)-1] }
	o.w.until(t, "a first report", func() bool { return len(o.reports[h.ID()]) == 1 })
	held.Store(7)
	c.Nudge()
	o.w.until(t, "a report by nudge", func() bool { return last().Held == 7 })
	held.Store(8)
	o.w.until(t, "a report by heartbeat", func() bool { return last().Held == 8 })
	before := rosters.Load()
	o.members.set(newHost(t).ID(), member.Guest)
	o.PushRoster()
	poll(t, "a roster", func() bool { return rosters.Load() > before })
	lines := o.Lines()
	if len(lines) != 1 || !lines[0].Up || lines[0].Report.Held != 8 || lines[0].Report.Free != 0 || lines[0].LastHeard.IsZero() {
		t.Errorf("lines %+v", lines)
	}
	if s := c.Status(); !s.Up || s.Heard.IsZero() {
		t.Errorf("status %+v", s)
	}
	c.stop()
	o.w.until(t, "the line is down", func() bool { return !o.isUp(h.ID()) })
	_ = o.Close()
	o.start(t, func(so *ServerOptions) { so.Now = func() time.Time { return time.Now().Add(time.Hour) } })
	if l := o.Silent(time.Minute); len(l) != 1 || l[0].Up || l[0].Report.Held != 8 || l[0].LastHeard.IsZero() {
		t.Errorf("after a restart, silent: %+v", l)
	}
	if l := o.Silent(2 * time.Hour); len(l) != 0 {
		t.Errorf("silent for two hours: %+v", l)
	}
}

func TestANewerLineReplacesAnOlderOne(t *testing.T) {
	o, h := newOrigin(t), newHost(t)
	o.members.set(h.ID(), member.Replica)
	first := greeted(t, h, o)
	second := speak(t, h, o)
	second.send(up{Hello: &hello{Realm: testRealm}})
	first.refused()
	if f := second.read(); f.Welcome == nil {
		t.Error("no welcome")
	}
	o.w.until(t, "down and up again", func() bool { return slices.Equal(o.lines[h.ID()], []bool{true, false, true}) })
}

func TestTwoOriginsAreTwoClients(t *testing.T) {
	a, b, h, store := newOrigin(t), newOrigin(t), newHost(t), newDisk()
	heldA, heldB := newShelfful(), newShelfful()
	a.members.set(h.ID(), member.Storage)
	b.members.set(h.ID(), member.Storage)
	a.order(t, h.ID(), ins(Purge, 0, 20)...)
	b.order(t, h.ID(), ins(Purge, 10, 40)...)
	startClient(t, h, a, on(store, heldA)).awaitReady(t)
	startClient(t, h, b, on(store, heldB)).awaitReady(t)
	a.w.until(t, "the receipts to one", func() bool { return len(a.receipts[h.ID()]) == 20 })
	b.w.until(t, "the receipts to the other", func() bool { return len(b.receipts[h.ID()]) == 30 })
	if len(heldA.purged) != 20 || len(heldB.purged) != 30 {
		t.Errorf("purged %d and %d", len(heldA.purged), len(heldB.purged))
	}
}

func TestOrderAll(t *testing.T) {
	o, one, two, guest := newOrigin(t), newHost(t), newHost(t), newHost(t)
	o.members.set(one.ID(), member.Replica)
	o.members.set(two.ID(), member.Storage)
	o.members.set(guest.ID(), member.Guest)
	o.order(t, one.ID(), ins(Hold, 0, 3)...)
	if err := o.OrderAll(context.Background(), ins(Purge, 0, 2)...); err != nil {
		t.Fatal(err)
	}
	if got := o.waiting(t, one.ID()); !slices.Equal(verbs(got), []Verb{Hold, Purge, Purge}) {
		t.Errorf("waiting: %v", verbs(got))
	}
	if got := o.waiting(t, two.ID()); !slices.Equal(verbs(got), []Verb{Purge, Purge}) {
		t.Errorf("waiting: %v", verbs(got))
	}
	if got := o.waiting(t, guest.ID()); len(got) != 0 {
		t.Errorf("a guest is to %v", verbs(got))
	}
}

func TestTheNewestOrderCounts(t *testing.T) {
	o, h := newOrigin(t), newHost(t)
	o.members.set(h.ID(), member.Replica)
	i := ins(Hold, 0, 1)[0]
	with := func(v Verb) Instruction { j := i; j.Verb = v; return j }
	lifted := func(v Verb) Instruction { j := with(v); j.Lifted = true; return j }
	for _, step := range []struct {
		is   []Instruction
		want Verb
		seq  uint64
		err  error
	}{
		{[]Instruction{with(Hold)}, Hold, 1, nil},
		{[]Instruction{with(Hold)}, Hold, 1, nil}, // is waiting already
		{[]Instruction{with(Drop)}, Drop, 2, nil},
		{[]Instruction{with(Hold), with(Drop), with(Hold)}, Hold, 5, nil},
		{[]Instruction{with(Purge), with(Drop)}, Purge, 6, nil},
		{[]Instruction{with(Drop)}, Purge, 6, nil},
		{[]Instruction{with(Hold)}, Purge, 6, ErrPurged},
		{[]Instruction{lifted(Purge)}, Purge, 6, ErrInvalid},
		{[]Instruction{lifted(Hold)}, Hold, 7, nil},
		{[]Instruction{lifted(Hold)}, Hold, 7, nil},
		{[]Instruction{with(Purge)}, Purge, 8, nil},
		{[]Instruction{{Verb: "burn", Root: root(0)}}, Purge, 8, ErrInvalid},
		{[]Instruction{{Verb: Hold}}, Purge, 8, ErrInvalid},
		{[]Instruction{{Verb: Hold, Root: root(0), Size: -1}}, Purge, 8, ErrInvalid},
	} {
		if err := o.Order(context.Background(), h.ID(), step.is...); !errors.Is(err, step.err) {
			t.Errorf("order %v: %v", step.is, err)
		}
		w := o.waiting(t, h.ID())
		if len(w) != 1 || w[0].Verb != step.want || w[0].Seq != step.seq || w[0].Peer != h.ID() {
			t.Errorf("after %v: %+v", step.is, w)
		}
	}
}

func TestForget(t *testing.T) {
	o, h := newOrigin(t), newHost(t)
	o.members.set(h.ID(), member.Replica)
	held, store := newShelfful(), newDisk()
	startClient(t, h, o, on(store, held)).awaitReady(t)
	o.order(t, h.ID(), ins(Purge, 0, 5)...)
	o.w.until(t, "receipts", func() bool { return len(o.receipts[h.ID()]) == 5 })
	o.members.set(h.ID(), "")
	if err := o.Forget(context.Background(), h.ID()); err != nil {
		t.Fatal(err)
	}
	o.w.until(t, "the line is down", func() bool { return !o.isUp(h.ID()) })
	if kept, err := o.Receipts(context.Background(), h.ID(), 0); err != nil || len(kept) > 0 {
		t.Errorf("kept %v %v", kept, err)
	}
	// It enrols again, and its orders are counted anew.
	o.members.set(h.ID(), member.Replica)
	o.order(t, h.ID(), ins(Hold, 5, 8)...)
	o.w.until(t, "new orders are carried out", func() bool { return len(o.receipts[h.ID()]) == 8 })
}

func TestAPeerSetBackToAnOldStatePurgesAgain(t *testing.T) {
	o, h, held, store := newOrigin(t), newHost(t), newShelfful(), newDisk()
	o.members.set(h.ID(), member.Replica)
	c := startClient(t, h, o, on(store, held))
	o.order(t, h.ID(), ins(Hold, 0, 5)...)
	poll(t, "all are held", func() bool { return len(o.waiting(t, h.ID())) == 0 && c.Status().Unsent == 0 })
	old := store.copied()
	o.order(t, h.ID(), ins(Purge, 0, 2)...)
	poll(t, "two are purged", func() bool { return len(o.waiting(t, h.ID())) == 0 })
	c.stop()
	again := newShelfful()
	startClient(t, h, o, on(old, again)).awaitReady(t)
	if !again.purged[root(0)] || !again.purged[root(1)] || len(again.carried) != 2 {
		t.Errorf("carried out %v", again.carried)
	}
}

func TestAnOriginSetBackToAnOldStateIsHeard(t *testing.T) {
	o, h, held := newOrigin(t), newHost(t), newShelfful()
	o.members.set(h.ID(), member.Replica)
	c := startClient(t, h, o, on(newDisk(), held))
	c.awaitReady(t)
	o.order(t, h.ID(), ins(Hold, 0, 5)...)
	d, ok := o.store.(*disk)
	if !ok {
		t.Fatal("not a disk")
	}
	old := d.copied()
	o.order(t, h.ID(), ins(Hold, 5, 3000)...)
	poll(t, "all is answered", func() bool { return len(o.waiting(t, h.ID())) == 0 })
	_ = o.Close()
	o.store = old
	o.start(t)
	o.order(t, h.ID(), ins(Purge, 0, 1)...)
	held.w.until(t, "its purge is carried out", func() bool { return held.purged[root(0)] })
	poll(t, "what it took as waiting is answered", func() bool { return len(o.waiting(t, h.ID())) == 0 })
}

func TestReceiptsAreBounded(t *testing.T) {
	const n = keptMost + 2*keptSlack
	o, h, ctx := newOrigin(t), newHost(t), context.Background()
	o.members.set(h.ID(), member.Replica)
	o.order(t, h.ID(), ins(Purge, 0, n)...)
	a, err := o.account(h.ID())
	if err != nil {
		t.Fatal(err)
	}
	for some := range slices.Chunk(o.waiting(t, h.ID()), maxBatch) {
		var news []answer
		for _, w := range some {
			r := Receipt{Seq: w.Seq, Verb: Purge, Root: w.Root, Outcome: Done}
			news = append(news, answer{r, wire.Envelope{Payload: encoded(t, []Receipt{r})}})
		}
		if err := o.record(ctx, a, news, a.latest()); err != nil {
			t.Fatal(err)
		}
	}
	if w := o.waiting(t, h.ID()); len(w) > 0 {
		t.Errorf("%d orders wait", len(w))
	}
	kept, err := o.Receipts(ctx, h.ID(), 0)
	if err != nil || len(kept) < keptMost || len(kept) > keptMost+keptSlack {
		t.Fatalf("kept %d: %v", len(kept), err)
	}
	newest, err := o.Receipts(ctx, h.ID(), 3)
	if err != nil || len(newest) != 3 || newest[0].Root != root(n-1) || newest[2].Root != root(n-3) {
		t.Errorf("newest %+v: %v", newest, err)
	}
}
