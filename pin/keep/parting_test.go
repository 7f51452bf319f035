package keep

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen/pin/member"
)

// Who is drained, or leaves, gets no copy of anything that it has not got, also
// when nobody else is there; what it has it keeps until others have it.
func TestPartingPeerGetsNothingNew(t *testing.T) {
	for how, do := range map[string]func(*world, *machine){"drain": (*world).drain, "leave": (*world).goes} {
		for _, role := range []member.Role{member.Storage, member.Replica} {
			t.Run(how+"/"+string(role), func(t *testing.T) {
				story(t, func(w *world) {
					m := w.join(1, role, "")
					w.start()
					time.Sleep(time.Second)
					two := func(x *Want) { x.Min, x.Max = 2, 2 }
					if role == member.Replica { // it is missed, also where nothing else can be had
						two = func(x *Want) { x.Min, x.Max, x.Community = 2, 2, 1 }
					}
					old := w.add(1, two)
					time.Sleep(time.Minute)
					do(w, m)
					time.Sleep(time.Minute)
					fresh := w.add(2, two)
					time.Sleep(time.Hour)
					if err := w.k.Recover(context.Background()); err != nil {
						t.Fatal(err)
					}
					if _, err := w.k.Rebalance(context.Background()); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Hour)
					if !w.has(m, old) || w.has(m, fresh) {
						t.Errorf("it holds the old one: %v, and a new one: %v", w.has(m, old), w.has(m, fresh))
					}
					h, _ := w.k.Health(fresh)
					if want := "nobody else can take it: the only peers there are being drained, or leave"; !strings.HasSuffix(h.Reason, want) || h.Next.IsZero() {
						t.Errorf("reason %q, next %v", h.Reason, h.Next)
					}
					other := w.join(2, role, "")
					time.Sleep(15 * time.Minute)
					if !w.has(other, fresh) {
						t.Error("the new one is not with who stays")
					}
					if w.has(m, old) || !w.has(other, old) {
						t.Errorf("the old one: %v, %v", w.has(m, old), w.has(other, old))
					}
				})
			})
		}
	}
}

// What the pinset gives a peer that is drained is taken back, before and after
// the peer has it.
func TestPinsetGivesAPartingPeerSomething(t *testing.T) {
	for _, fetched := range []bool{false, true} {
		story(t, func(w *world) {
			m, other := w.join(1, member.Storage, ""), w.join(2, member.Storage, "")
			w.start()
			time.Sleep(time.Second)
			root := w.add(1, func(x *Want) { x.Min, x.Max = 2, 2 })
			w.reach(root, Durable, time.Minute)
			if w.has(m, root) {
				m, other = other, m
			}
			w.drain(m)
			time.Sleep(time.Minute)
			w.set(func() {
				p := w.pins[root]
				p.Holders = append(slices.Clone(p.Holders), m.ID)
				w.pins[root] = p
			})
			if fetched {
				w.follow(root)
			}
			time.Sleep(5 * time.Minute)
			if p, _ := w.entry(root); slices.Contains(p.Holders, m.ID) || !slices.Contains(p.Avoid, m.ID) {
				t.Errorf("the pinset has %+v", p)
			}
			w.follow(root)
			if w.has(m, root) || !w.has(other, root) {
				t.Error("who is drained holds it")
			}
			w.sound(root)
		})
	}
}

// Before a peer has said how much room it has, it is not said to have none.
func TestPeerThatWasNotHeardOf(t *testing.T) {
	for _, role := range []member.Role{member.Storage, member.Replica} {
		story(t, func(w *world) {
			w.start()
			root := w.add(1, func(x *Want) { x.Min, x.Max, x.Community = 2, 2, 1 })
			m := w.away(1, role, "")
			w.set(func() { m.up, m.free = true, 0 })
			if role == member.Replica {
				w.set(func() { m.mute, m.Contract.Disk = true, 0; w.roster[0].Contract.Disk = 0 })
				w.k.Members()
			}
			w.k.Line(m.ID, true)
			time.Sleep(time.Minute)
			h, _ := w.k.Health(root)
			if strings.Contains(h.Reason, "no room") || !strings.Contains(h.Reason, m.Name+" is not heard from yet") {
				t.Errorf("before: %q", h.Reason)
			}
			w.k.Report(m.ID, w.reportOf(m))
			time.Sleep(time.Minute)
			h, _ = w.k.Health(root)
			if !strings.Contains(h.Reason, "1 of them have no room") || strings.Contains(h.Reason, "not heard from") {
				t.Errorf("after: %q", h.Reason)
			}
		})
	}
}
