package keep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/member"
)

func TestHoursAndPausesAreNotHeldAgainstAPeer(t *testing.T) {
	story(t, func(w *world) {
		now := time.Now().UTC()
		m := w.away(1, member.Replica, "")
		m.Contract.Hours = contract.Hours{From: now.Hour() * 60, To: (now.Hour()*60 + 9*60) % (24 * 60)}
		w.arrive(m)
		spare := w.join(2, member.Replica, "")
		w.start()
		root := w.add(1, community(2))
		time.Sleep(time.Minute)
		w.sound(root)
		for range 5 { // nine hours there, fifteen away
			time.Sleep(9 * time.Hour)
			w.leave(m)
			asked := w.seen(m, audit.Proved)
			time.Sleep(15*time.Hour - time.Minute)
			w.sound(root)
			if w.seen(m, audit.Proved)+w.seen(m, audit.Offline) != asked {
				t.Error("challenged outside its hours")
			}
			w.arrive(m)
			time.Sleep(time.Minute)
		}
		// An announced absence counts for as long as a proof is good.
		r := w.reportOf(spare)
		r.Paused = time.Now().Add(200 * time.Hour)
		w.k.Report(spare.ID, r)
		w.leave(spare)
		time.Sleep(24 * time.Hour)
		if h, _ := w.k.Health(root); h.Level != Durable || h.Reason != "" {
			t.Errorf("a day after: %+v", h)
		}
		time.Sleep(24 * time.Hour)
		if h, _ := w.k.Health(root); h.Reason == "" {
			t.Errorf("two days after: %+v", h)
		}
		if bad := w.seen(spare, audit.Offline); bad != 0 {
			t.Errorf("challenged %d times in its absence", bad)
		}
	})
}

func TestReplicaMayBeAwayForAnHour(t *testing.T) {
	story(t, func(w *world) {
		var ms []*machine
		for n := range 4 {
			ms = append(ms, w.join(n+1, member.Replica, ""))
		}
		w.start()
		root := w.add(1, community(2))
		time.Sleep(time.Minute)
		gone := ms[slices.IndexFunc(ms, func(m *machine) bool { return w.has(m, root) })]
		orders := w.counted().orders
		w.leave(gone)
		time.Sleep(59 * time.Minute)
		w.sound(root)
		if w.counted().orders != orders {
			t.Error("replaced too soon")
		}
		time.Sleep(2 * time.Minute)
		if n := w.holders(root, member.Replica); n != 3 {
			t.Errorf("%d hold it after it was replaced, with the one away", n)
		}
		w.sound(root)
		w.arrive(gone)
		time.Sleep(5 * time.Minute)
		w.sound(root)
		if n := w.holders(root, member.Replica); n != 2 {
			t.Errorf("%d hold it after its return", n)
		}
	})
}

func TestDrainMovesFirstAndDropsThen(t *testing.T) {
	for _, role := range []member.Role{member.Storage, member.Replica} {
		t.Run(string(role), func(t *testing.T) {
			story(t, func(w *world) {
				var ms []*machine
				for n := range 4 {
					ms = append(ms, w.join(n+1, role, ""))
				}
				w.start()
				time.Sleep(time.Second)
				var roots []cid.Cid
				want := func(x *Want) { x.Min, x.Max = 2, 3 }
				if role == member.Replica {
					want = community(2)
				}
				for n := range 30 {
					roots = append(roots, w.add(n, want))
				}
				time.Sleep(time.Minute)
				dropping := func(_ peer.ID, root cid.Cid) {
					if h, _ := w.k.Health(root); h.Level != Durable || h.Reason != "" {
						t.Errorf("a copy was given up too soon: %+v", h)
					}
				}
				w.set(func() { w.dropping = dropping })
				before := w.held(ms[0])
				w.drain(ms[0])
				time.Sleep(10 * time.Minute)
				if n := w.held(ms[0]); n != 0 || before == 0 {
					t.Errorf("the drained peer held %d and holds %d", before, n)
				}
				for _, root := range roots {
					if h, _ := w.k.Health(root); h.Level != Durable {
						t.Errorf("%+v", h)
					}
				}
			})
		})
	}
}

func TestLeavingReplicaWaitsForOthers(t *testing.T) {
	story(t, func(w *world) {
		m := w.join(1, member.Replica, "")
		w.start()
		root := w.add(1, func(x *Want) { x.Min, x.Max, x.Community = 2, 2, 1 })
		time.Sleep(time.Minute)
		w.goes(m)
		time.Sleep(time.Hour)
		if !w.has(m, root) {
			t.Fatal("the only copy was dropped")
		}
		if h, _ := w.k.Health(root); len(h.Copies) != 2 || h.Copies[1].Reason != "leaves when others hold its share" {
			t.Errorf("%+v", h)
		}
		w.join(2, member.Replica, "")
		time.Sleep(time.Minute)
		if w.has(m, root) {
			t.Error("it holds its copy though another does")
		}
		w.join(3, member.Storage, "")
		w.whole(root, time.Minute)
	})
}

// Community copies are more than is needed: the only replica may go.
func TestOnlyReplicaMayLeave(t *testing.T) {
	for how, do := range map[string]func(*world, *machine){
		"leave": (*world).goes,
		"drain": (*world).drain,
		"carry other stations": func(w *world, m *machine) {
			m.Contract.Label = []string{"other"}
			w.k.Report(m.ID, w.reportOf(m))
		},
	} {
		t.Run(how, func(t *testing.T) {
			story(t, func(w *world) {
				m := w.join(1, member.Replica, "")
				w.start()
				root := w.add(1, community(1))
				time.Sleep(time.Minute)
				if !w.has(m, root) {
					t.Fatal("the replica took nothing")
				}
				do(w, m)
				time.Sleep(time.Minute)
				if w.has(m, root) {
					t.Error("it still holds its copy")
				}
				if h, _ := w.k.Health(root); h.Level != Durable || h.Reason == "" {
					t.Errorf("%+v", h)
				}
				w.join(2, member.Replica, "")
				time.Sleep(time.Minute)
				w.sound(root)
			})
		})
	}
}

// Who can take the share of one that leaves does so first, also where there
// are too few of them.
func TestLeavingReplicaWaitsForWhoeverCanTakeOver(t *testing.T) {
	story(t, func(w *world) {
		first, second := w.join(1, member.Replica, ""), w.join(2, member.Replica, "")
		w.start()
		root := w.add(1, community(3))
		time.Sleep(time.Minute)
		third := w.away(3, member.Replica, "")
		third.delay = 3 * time.Minute
		w.arrive(third)
		w.goes(first)
		time.Sleep(2 * time.Minute)
		if !w.has(first, root) || !w.has(second, root) || w.has(third, root) {
			t.Errorf("two minutes later %v, %v and %v hold it", w.has(first, root), w.has(second, root), w.has(third, root))
		}
		time.Sleep(5 * time.Minute)
		if w.has(first, root) || !w.has(second, root) || !w.has(third, root) {
			t.Errorf("in the end %v, %v and %v hold it", w.has(first, root), w.has(second, root), w.has(third, root))
		}
	})
}

func TestRemovedPeerIsReplaced(t *testing.T) {
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
		w.expel(ms[0])
		time.Sleep(time.Minute)
		for n := range 20 {
			h := w.sound(seg(n))
			if _, ok := copyOn(h, ms[0]); ok || len(h.Copies) != 3 {
				t.Errorf("%+v", h)
			}
			if p, _ := w.entry(seg(n)); slices.Contains(p.Holders, ms[0].ID) || len(p.Holders) != 3 {
				t.Errorf("the pinset still names it: %+v", p)
			}
		}
	})
}

func TestSpreadAsksForSites(t *testing.T) {
	story(t, func(w *world) {
		for n := range 4 {
			w.join(n+1, member.Storage, "home")
		}
		w.start()
		time.Sleep(time.Second)
		root := w.add(1, func(x *Want) { x.Min, x.Max, x.Spread = 2, 3, true })
		time.Sleep(time.Minute)
		h, _ := w.k.Health(root)
		if h.Level != Replicated || !strings.Contains(h.Reason, "1 of 2 sites") {
			t.Errorf("all at one place: %+v", h)
		}
		far := w.join(5, member.Storage, "far")
		time.Sleep(time.Minute)
		if err := w.k.Recover(context.Background()); err != nil {
			t.Fatal(err)
		}
		w.reach(root, Durable, 5*time.Minute)
		if !w.has(far, root) {
			t.Error("the far peer has no copy")
		}
	})
}

func TestFewTrustedPeersLetReplicasCount(t *testing.T) {
	story(t, func(w *world) {
		for n := range 4 {
			w.join(n+1, member.Replica, fmt.Sprint("site", n))
		}
		w.start()
		want := func(community int) func(*Want) {
			return func(x *Want) { x.Min, x.Max, x.Community, x.Spread = 3, 3, community, true }
		}
		root := w.add(1, want(4))
		time.Sleep(time.Minute)
		if h, _ := w.k.Health(root); h.Level != Stored || !strings.Contains(h.Reason, "1 of 3 copies proved") {
			t.Errorf("with the community's copies alone: %+v", h)
		}
		w.add(1, want(2)) // two of those that are there are beyond
		w.reach(root, Durable, time.Minute)
		for n := range 2 {
			w.join(n+10, member.Storage, fmt.Sprint("rack", n))
		}
		// Now there are enough that the operator's own must hold it.
		time.Sleep(time.Minute)
		h := w.sound(root)
		trusted := 0
		for _, c := range h.Copies {
			if c.Role.Trusted() && c.State == Proved {
				trusted++
			}
		}
		if trusted != 3 {
			t.Errorf("%d trusted copies: %+v", trusted, h)
		}
	})
}

// A copy on a replica is not counted twice, whoever was removed.
func TestCommunityCopiesComeBesides(t *testing.T) {
	story(t, func(w *world) {
		var own []*machine
		for n := range 2 {
			own = append(own, w.join(n+1, member.Storage, fmt.Sprint("rack", n)))
		}
		w.join(3, member.Replica, "attic")
		w.start()
		time.Sleep(time.Second)
		root := w.add(1, func(x *Want) { x.Min, x.Max, x.Community, x.Spread = 2, 3, 1, true })
		time.Sleep(time.Minute)
		w.sound(root)
		for _, m := range own {
			w.expel(m)
		}
		time.Sleep(10 * time.Minute)
		h, _ := w.k.Health(root)
		if h.Level != Stored || !strings.Contains(h.Reason, "1 of 2 copies proved") {
			t.Errorf("with the origin and one replica: %+v", h)
		}
		if s := w.k.Summary(""); s.Durable != 0 || s.Replicated != 0 || s.Unhealthy != 1 {
			t.Errorf("summary %+v", s)
		}
	})
}

func TestWaitEnds(t *testing.T) {
	story(t, func(w *world) {
		w.start()
		root := w.add(1)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		h, err := w.k.Wait(ctx, root, Durable)
		if !errors.Is(err, context.DeadlineExceeded) || h.Level != Stored || h.Reason == "" || h.Root != root {
			t.Errorf("after its time: %+v, %v", h, err)
		}
		if _, err := w.k.Wait(context.Background(), seg(2), Stored); !errors.Is(err, ErrUnknown) {
			t.Errorf("for what is not kept: %v", err)
		}
		done := make(chan error, 2)
		go func() { _, err := w.k.Wait(context.Background(), root, Durable); done <- err }()
		synctest.Wait()
		w.remove(root)
		if err := <-done; !errors.Is(err, ErrGone) && !errors.Is(err, ErrUnknown) {
			t.Errorf("when it was removed: %v", err)
		}
		other := w.add(3)
		go func() { _, err := w.k.Wait(context.Background(), other, Durable); done <- err }()
		synctest.Wait()
		w.stop()
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("when the keeper stopped: %v", err)
		}
		w.k.mu.Lock()
		defer w.k.mu.Unlock()
		if n := len(w.k.waiting); n != 0 {
			t.Errorf("%d waits are remembered", n)
		}
	})
}

// A peer that dies between its receipt and the audit, and comes back, proves
// its copy then, and not a good while later.
func TestWhoComesBackIsAuditedAtOnce(t *testing.T) {
	for _, role := range []member.Role{member.Storage, member.Replica} {
		story(t, func(w *world) {
			m := w.join(1, role, "")
			w.start()
			w.set(func() { m.answer = audit.Offline })
			root := w.add(1, func(want *Want) {
				want.Min, want.Max = 2, 2
				if role == member.Replica {
					want.Min, want.Max, want.Community = 1, 1, 1
				}
			})
			time.Sleep(5 * time.Second)
			h, _ := w.k.Health(root)
			if c, _ := copyOn(h, m); c.State != Held || c.Outcome != audit.Offline {
				t.Fatalf("%s: %+v", role, c)
			}
			w.leave(m)
			w.set(func() { m.answer = "" })
			w.arrive(m)
			time.Sleep(5 * time.Second)
			w.sound(root)
		})
	}
}
