package keep

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
	"github.com/musenai/musen/pin/remote"
)

// bought is pinning services that do as they are told.
type bought struct{ *world }

func (b bought) Keep(root cid.Cid, _ string) {
	b.smu.Lock()
	defer b.smu.Unlock()
	if _, ok := b.served[root]; !ok {
		b.served[root] = remote.Copy{Service: "bought", State: remote.Pinned}
	}
}

func (b bought) Drop(root cid.Cid) {
	b.smu.Lock()
	defer b.smu.Unlock()
	if c, ok := b.served[root]; ok {
		c.State = remote.Removing
		b.served[root] = c
	}
}

func (b bought) Copies(root cid.Cid) []remote.Copy {
	b.smu.Lock()
	defer b.smu.Unlock()
	if c, ok := b.served[root]; ok {
		return []remote.Copy{c}
	}
	return nil
}

func TestServicesCountAndAreNeverProved(t *testing.T) {
	story(t, func(w *world) {
		w.start(func(o *Options) { o.Services = bought{w} })
		root := w.add(1, func(x *Want) { x.Min, x.Max = 2, 2 })
		time.Sleep(time.Minute)
		h, _ := w.k.Health(root)
		if h.Level != Replicated || len(h.Copies) != 2 || h.Copies[1].Role != Service || h.Copies[1].State != Held {
			t.Errorf("%+v", h)
		}
		w.remove(root)
		time.Sleep(time.Hour)
		if h, ok := w.k.Health(root); !ok || !strings.Contains(h.Reason, "no receipt yet from bought") || h.Copies[0].State != Purging {
			t.Errorf("while it has not confirmed: %+v", h)
		}
		w.smu.Lock()
		delete(w.served, root)
		w.smu.Unlock()
		w.k.Look(root)
		time.Sleep(time.Minute)
		if _, ok := w.k.Health(root); ok {
			t.Error("remembered though the service has confirmed")
		}
	})
}

func TestStrangersWordsChangeNothing(t *testing.T) {
	story(t, func(w *world) {
		m, other := w.join(1, member.Replica, ""), w.join(2, member.Replica, "")
		w.start()
		root := w.add(1, community(1))
		time.Sleep(time.Minute)
		if w.has(other, root) {
			m, other = other, m
		}
		before, _ := w.k.Health(root)
		for _, out := range []control.Outcome{control.Done, control.Full, control.Outside, control.Failed, control.Lost, "nonsense"} {
			for _, verb := range []control.Verb{control.Hold, control.Drop, control.Purge, "nonsense"} {
				w.k.Receipt(other.ID, control.Receipt{Verb: verb, Root: root, Outcome: out}) // was never ordered to
				w.k.Receipt(id(99), control.Receipt{Verb: verb, Root: root, Outcome: out})   // is nobody
				w.k.Receipt(w.self, control.Receipt{Verb: verb, Root: root, Outcome: out})   // is us
				w.k.Receipt(m.ID, control.Receipt{Verb: verb, Root: seg(9), Outcome: out})   // is about nothing
			}
		}
		w.k.Line(id(99), true)
		w.k.Report(id(99), control.Report{Leaving: true})
		time.Sleep(time.Second)
		after, _ := w.k.Health(root)
		if len(after.Copies) != len(before.Copies) || after.Level != before.Level || after.Reason != before.Reason {
			t.Errorf("before %+v, after %+v", before, after)
		}
		r := w.reportOf(m)
		r.Free, r.Contract.Disk, r.Paused = -1, 1<<62, time.Now().Add(1e6*time.Hour)
		w.k.Report(m.ID, r)
		r.Contract.Disk, r.Paused = -1, time.Unix(-1<<40, 0)
		w.k.Report(m.ID, r)
		time.Sleep(time.Minute)
	})
}

func TestStandingHearsOfAbsenceOnce(t *testing.T) {
	story(t, func(w *world) {
		m := w.join(1, member.Replica, "")
		l := listening{standings{w}, map[audit.Outcome]int{}}
		heard := func(o audit.Outcome) int { w.smu.Lock(); defer w.smu.Unlock(); return l.heard[o] }
		w.start(func(o *Options) { o.Standings = l })
		w.add(1, community(1))
		time.Sleep(time.Minute)
		w.leave(m)
		time.Sleep(30 * time.Minute)
		if heard(audit.Offline) != 0 {
			t.Error("within the grace")
		}
		time.Sleep(24 * time.Hour)
		if heard(audit.Offline) != 1 || heard(audit.Proved) == 0 {
			t.Errorf("heard %d times offline, %d times proved", heard(audit.Offline), heard(audit.Proved))
		}
	})
}

type listening struct {
	standings
	heard map[audit.Outcome]int
}

func (l listening) Record(p peer.ID, o audit.Outcome, at time.Time) audit.Standing {
	l.smu.Lock()
	l.heard[o]++
	l.smu.Unlock()
	return l.standings.Record(p, o, at)
}

func TestKeeperNeedsItsParts(t *testing.T) {
	w := newWorld(t)
	for _, o := range []Options{{}, {Self: w.self, Store: w.store, Wants: w}, {Store: w.store, Wants: w, Roster: w}} {
		if _, err := New(o); err == nil {
			t.Errorf("made with %+v", o)
		}
	}
	k, err := New(Options{Self: w.self, Store: w.store, Wants: w, Roster: w})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := k.Run(ctx); err != nil {
		t.Error(err)
	}
	if err := k.Run(ctx); err == nil {
		t.Error("ran twice")
	}
}

func TestLevelsHaveNames(t *testing.T) {
	for l := None; l <= Durable; l++ {
		b, err := l.MarshalText()
		var back Level
		if err != nil || back.UnmarshalText(b) != nil || back != l {
			t.Errorf("%v as %q gives %v", l, b, back)
		}
	}
	var l Level
	if err := l.UnmarshalText([]byte("proved")); err == nil {
		t.Error("a level that there is not")
	}
	if Level(9).String() != "level 9" {
		t.Error(Level(9))
	}
}

// inBulk are orders and standings that take many at once.
type inBulk struct {
	standings
	calls, orders, outcomes int
	refuse                  cid.Cid
}

func (b *inBulk) Order(context.Context, peer.ID, control.Instruction) error {
	return errors.New("one by one")
}

func (b *inBulk) OrderMany(ctx context.Context, to peer.ID, ins ...control.Instruction) error {
	b.mu.Lock()
	b.calls++
	b.orders += len(ins)
	b.mu.Unlock()
	for _, in := range ins {
		if in.Root == b.refuse {
			return errors.New("not that one")
		}
	}
	time.Sleep(time.Millisecond) // meanwhile others come
	for _, in := range ins {
		if err := b.world.Order(ctx, to, in); err != nil {
			return err
		}
	}
	return nil
}

func (b *inBulk) RecordAll(p peer.ID, _ time.Time, outcomes ...audit.Outcome) audit.Standing {
	b.smu.Lock()
	defer b.smu.Unlock()
	b.outcomes += len(outcomes)
	return b.get(p)
}

func TestManyOrdersAreGivenAtOnce(t *testing.T) {
	story(t, func(w *world) {
		for n := range 3 {
			w.join(n+1, member.Replica, "")
		}
		bulk := &inBulk{standings: standings{w}, refuse: seg(7)}
		w.start(func(o *Options) { o.Orders, o.Standings = bulk, bulk })
		for n := range 500 {
			w.add(n, community(2))
		}
		time.Sleep(time.Minute)
		if s := w.k.Summary(""); s.Unhealthy != 1 {
			t.Errorf("%+v", s)
		}
		if h, _ := w.k.Health(seg(7)); !strings.Contains(h.Reason, "not that one") {
			t.Errorf("the one that was refused: %+v", h)
		}
		if bulk.orders < 1000 || bulk.calls > bulk.orders/5 || bulk.outcomes != 998 {
			t.Errorf("%d orders in %d calls, %d outcomes", bulk.orders, bulk.calls, bulk.outcomes)
		}
	})
}
