package keep

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
)

// A peer's word is no copy that counts.
func TestOnlyProvedCopiesCount(t *testing.T) {
	story(t, func(w *world) {
		m := w.join(1, member.Storage, "")
		w.start()
		w.set(func() { m.answer = audit.Offline })
		root := w.add(1, func(x *Want) { x.Min, x.Max = 2, 2 })
		time.Sleep(10 * time.Second)
		h, _ := w.k.Health(root)
		if c, _ := copyOn(h, m); c.State != Held || c.Counts || c.Reason == "" {
			t.Errorf("held: %+v", c)
		}
		w.set(func() { m.answer = "" })
		w.whole(root, time.Hour)
		h, _ = w.k.Health(root)
		if c, _ := copyOn(h, m); c.State != Proved || !c.Counts || c.Reason != "" {
			t.Errorf("proved: %+v", c)
		} else if n := w.k.Census()[m.ID]; n.Proved != 1 || !n.Last.Equal(c.Proved) {
			t.Errorf("the census: %+v", n)
		}
	})
}

// Peers that come back are not said to be full before they have told of their
// room, and who has the segment is not said to be able to take it.
func TestPeersThatRestartAreNotFull(t *testing.T) {
	story(t, func(w *world) {
		one, two := w.join(1, member.Storage, ""), w.join(2, member.Storage, "")
		w.join(3, member.Replica, "")
		w.start()
		time.Sleep(time.Minute)
		w.leave(one)
		w.leave(two)
		since := time.Now().UTC().Format(stamp)
		time.Sleep(time.Minute)
		root := w.add(1, func(x *Want) { x.Community = 1 })
		time.Sleep(10 * time.Second)
		h, _ := w.k.Health(root)
		want := "nobody else can take it: the one peer that is there has it already; " +
			one.Name + " is not heard from since " + since + ", " + two.Name + " is not heard from since " + since
		if !strings.HasSuffix(h.Reason, want) {
			t.Errorf("while they are away: %q", h.Reason)
		}
		for _, m := range []*machine{one, two} {
			w.set(func() { m.up, m.free = true, 0 })
			w.k.Line(m.ID, true)
		}
		time.Sleep(metricTicks * time.Second)
		if h, _ = w.k.Health(root); strings.Contains(h.Reason, "no room") || !strings.Contains(h.Reason, "not heard from since") {
			t.Errorf("before their first word: %q", h.Reason)
		}
		for _, m := range []*machine{one, two} {
			w.set(func() { m.free = 1 << 40 })
			w.arrive(m)
		}
		w.reach(root, Durable, time.Minute)
	})
}

func TestReplicaOfOtherStationsIsTold(t *testing.T) {
	story(t, func(w *world) {
		m := w.away(1, member.Replica, "")
		m.Contract.Label = []string{"other"}
		w.arrive(m)
		w.start()
		root := w.add(1, community(1))
		time.Sleep(time.Minute)
		want := "0 storage peers and 0 replicas for this station are there; 1 do not offer this station"
		if h, _ := w.k.Health(root); !strings.HasSuffix(h.Reason, want) {
			t.Errorf("reason %q", h.Reason)
		}
	})
}

// What waits for a peer's return has no time for its next try.
func TestNextPurgeOfOneThatIsAway(t *testing.T) {
	story(t, func(w *world) {
		m := w.join(1, member.Replica, "")
		w.start()
		root := w.add(1, community(1))
		time.Sleep(time.Minute)
		w.leave(m)
		w.remove(root)
		time.Sleep(time.Minute)
		h, _ := w.k.Health(root)
		if !h.Next.IsZero() || !strings.HasSuffix(h.Reason, "tried again when "+m.Name+" is back") {
			t.Errorf("%q, next %v", h.Reason, h.Next)
		}
		w.set(func() { m.mute = true })
		w.arrive(m)
		time.Sleep(time.Second)
		h, _ = w.k.Health(root)
		if h.Next.Before(time.Now()) || h.Next.After(time.Now().Add(time.Hour)) || strings.Contains(h.Reason, "is back") {
			t.Errorf("when it is there and silent: %q, next %v", h.Reason, h.Next)
		}
	})
}

// Between Min and Max the time is told at which a copy is made elsewhere, and
// then it is made.
func TestNextTryBelowMax(t *testing.T) {
	story(t, func(w *world) {
		var ms []*machine
		for n := range 4 {
			ms = append(ms, w.join(n+1, member.Storage, ""))
		}
		w.start()
		time.Sleep(time.Second)
		for n := range 20 {
			w.add(n)
		}
		time.Sleep(time.Minute)
		if s := w.k.Summary(""); s.Fewer != 0 {
			t.Errorf("at first %+v", s)
		}
		w.leave(ms[0])
		grace := time.Now().Add(time.Hour)
		time.Sleep(time.Minute)
		held := w.held(ms[0])
		if s := w.k.Summary(""); s.Fewer != held || s.Unhealthy != 0 || s.Durable != 20 {
			t.Errorf("while one is away with %d: %+v", held, s)
		}
		for n := range 20 {
			h := w.sound(seg(n))
			if _, ok := copyOn(h, ms[0]); ok && (h.Next.IsZero() || h.Next.After(grace)) {
				t.Errorf("next try %v, after %v", h.Next, grace)
			}
		}
		time.Sleep(time.Until(grace) + 10*time.Second)
		if s := w.k.Summary(""); s.Fewer != 0 || held == 0 {
			t.Errorf("an hour later: %+v", s)
		}
	})
}

// An operator who names a segment has all its holders challenged.
func TestRecoverOfASegmentChallenges(t *testing.T) {
	story(t, func(w *world) {
		m, r := w.join(1, member.Storage, ""), w.join(2, member.Replica, "")
		w.start(settledTimes)
		time.Sleep(time.Second)
		root := w.add(1, func(x *Want) { x.Min, x.Max, x.Community = 2, 2, 1 })
		w.add(2, func(x *Want) { x.Min, x.Max, x.Community = 2, 2, 1 })
		time.Sleep(time.Minute)
		before := w.counted().challenges
		if err := w.k.Recover(context.Background()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if n := w.counted().challenges; n != before {
			t.Errorf("%d challenges for nothing", n-before)
		}
		for range 5 {
			if err := w.k.Recover(context.Background(), root); err != nil {
				t.Fatal(err)
			}
		}
		asked := time.Now()
		time.Sleep(time.Minute)
		if n := w.counted().challenges - before; n != 2 {
			t.Errorf("%d challenges for two holders", n)
		}
		h := w.sound(root)
		for _, c := range h.Copies {
			if c.Proved.Before(asked) {
				t.Errorf("not asked: %+v", c)
			}
		}
		if len(h.Copies) != 3 || w.seen(m, audit.Proved) != 3 || w.seen(r, audit.Proved) != 3 {
			t.Errorf("%+v", h)
		}
	})
}

// Why a peer cannot delete something is told, also after a restart.
func TestPurgeThatFailsIsTold(t *testing.T) {
	story(t, func(w *world) {
		m := w.join(1, member.Replica, "")
		w.start()
		root := w.add(1, community(1))
		time.Sleep(time.Minute)
		w.set(func() { m.mute = true })
		w.remove(root)
		time.Sleep(time.Second)
		why := "no space left on device"
		w.k.Receipt(m.ID, control.Receipt{Verb: control.Purge, Root: root, Outcome: control.Failed, Reason: why})
		told := func(when string) {
			t.Helper()
			time.Sleep(time.Second)
			h, _ := w.k.Health(root)
			if c, _ := copyOn(h, m); c.State != Purging || c.Reason != why || !strings.Contains(h.Reason, m.Name+" ("+why+")") {
				t.Errorf("%s: %q, %+v", when, h.Reason, c)
			}
		}
		told("at once")
		w.stop()
		w.start()
		told("after a restart")
	})
}

// When only the own copy is not as it should be, nobody is said to be missing;
// and when all who are there have a segment, that is what is said.
func TestNobodyIsMissingWhoHasIt(t *testing.T) {
	story(t, func(w *world) {
		for n := range 3 {
			w.join(n+1, member.Storage, "")
		}
		w.start()
		time.Sleep(time.Second)
		enough, few := w.add(1), w.add(2, func(x *Want) { x.Min, x.Max = 4, 4 })
		time.Sleep(time.Minute)
		w.hopeless(enough, few)
		time.Sleep(time.Minute)
		if h, _ := w.k.Health(enough); h.Reason != "the origin's own copy: no peer has it" || h.Next.IsZero() {
			t.Errorf("enough others: %q, next %v", h.Reason, h.Next)
		}
		want := "the origin's own copy: no peer has it; 3 of 4 copies proved; nobody else can take it: all 3 peers that are there have it already"
		if h, _ := w.k.Health(few); h.Reason != want {
			t.Errorf("not enough others: %q", h.Reason)
		}
	})
}

// What is away is not lost.
func TestCopiesThatAreAwayAreNotLost(t *testing.T) {
	story(t, func(w *world) {
		m := w.join(1, member.Storage, "")
		w.start()
		time.Sleep(time.Second)
		away := w.add(1)
		time.Sleep(time.Minute)
		w.leave(m)
		lost := w.add(2)
		w.hopeless(away, lost)
		time.Sleep(time.Minute)
		if s := w.k.Summary(""); s.Segments != 2 || s.Stored != 0 || s.Away != 1 {
			t.Errorf("%+v", s)
		}
		for root, want := range map[cid.Cid]string{away: "no whole copy can be reached now", lost: "no whole copy is known"} {
			if h, _ := w.k.Health(root); h.Level != None || !strings.Contains(h.Reason, want+"; 0 of 2 copies proved") {
				t.Errorf("want %q: %v, %q", want, h.Level, h.Reason)
			}
		}
	})
}
