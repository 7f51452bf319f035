package control

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/pin/member"
)

// A pair is an origin and a peer whose processes can be killed.
type pair struct {
	t    testing.TB
	r    *rand.Rand
	o    *origin
	c    *client
	held *shelfful
	own  *disk
}

func newPair(t testing.TB, seed uint64) *pair {
	p := &pair{t: t, r: rand.New(rand.NewPCG(seed, 1)), o: newOrigin(t), held: newShelfful(), own: newDisk()}
	h := newHost(t)
	p.o.members.set(h.ID(), member.Replica)
	p.c = startClient(t, h, p.o, on(p.own, p.held))
	return p
}

func (p *pair) killPeer() {
	left := p.own.kill(p.r)
	p.c.stop()
	p.own = left
	p.c = startClient(p.t, p.c.o.Host, p.o, on(left, p.held))
}

func (p *pair) killOrigin() {
	d, ok := p.o.store.(*disk)
	if !ok {
		p.t.Fatal("not a disk")
	}
	left := d.kill(p.r)
	_ = p.o.Close()
	p.o.store = left
	p.o.start(p.t)
}

// give gives an order as an origin does that may be killed: until it is told
// that the order is durable.
func (p *pair) give(i Instruction) (purged bool) {
	for range 100 {
		err := p.o.Order(context.Background(), p.c.self, i)
		switch {
		case err == nil:
			return false
		case errors.Is(err, ErrPurged):
			return true
		case errors.Is(err, errDead):
			p.killOrigin()
		default:
			p.t.Fatal(err)
		}
	}
	p.t.Fatal("an order cannot be given")
	return false
}

// settle waits until every order was answered.
func (p *pair) settle() {
	p.t.Helper()
	poll(p.t, "all orders are answered, and the peer knows", func() bool {
		st := p.c.Status()
		return len(p.o.waiting(p.t, p.c.self)) == 0 && st.Unsent+st.Waiting == 0
	})
}

// TestNothingIsLostWhenEitherSideIsKilled gives orders at random while the
// processes of both sides are killed at random, and whatever they had not
// synced is lost, in part or whole. In the end the peer is as the newest order
// about each segment says.
func TestNothingIsLostWhenEitherSideIsKilled(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			p := newPair(t, seed)
			const roots = 12
			want := map[cid.Cid]Verb{}
			purges := map[cid.Cid]int{}
			p.held.carry = func(ctx context.Context, o Order) (Outcome, string) {
				if rand.IntN(5) == 0 {
					return Failed, "bad luck"
				}
				return Done, ""
			}
			for range 150 {
				i := ins(Hold, 0, roots)[p.r.IntN(roots)]
				i.Verb = []Verb{Hold, Hold, Drop, Purge}[p.r.IntN(4)]
				if !p.give(i) {
					if want[i.Root] = i.Verb; i.Verb == Purge {
						purges[i.Root]++
					}
				}
				switch p.r.IntN(12) {
				case 0:
					p.killPeer()
				case 1:
					p.killOrigin()
				case 2:
					p.settle()
				}
			}
			p.settle()
			p.check(want, purges)
		})
	}
}

func (p *pair) check(want map[cid.Cid]Verb, purges map[cid.Cid]int) {
	t := p.t
	p.held.w.until(t, "nothing runs", func() bool { return len(p.held.running) == 0 })
	p.held.w.mu.Lock()
	defer p.held.w.mu.Unlock()
	for c, v := range want {
		if v == Drop && p.held.purged[c] {
			continue // a purge may have been waiting, and covered it
		}
		if p.held.holds[c] != (v == Hold) {
			t.Errorf("%s: holds it %v, but the newest order is %s", c, p.held.holds[c], v)
		}
		if v == Purge && !p.held.purged[c] {
			t.Errorf("%s was not purged", c)
		}
	}
	if p.held.twice {
		t.Error("two orders about one segment were carried out at once")
	}
	recorded, err := p.o.Receipts(context.Background(), p.c.self, 0)
	if err != nil {
		t.Fatal(err)
	}
	counts, last := map[cid.Cid]int{}, map[cid.Cid]Verb{}
	seqs := map[uint64]bool{}
	for _, r := range recorded {
		if seqs[r.Seq] || r.Outcome != Done || !r.Verb.urgent() {
			t.Errorf("recorded %+v", r)
		}
		seqs[r.Seq] = true
		if _, ok := last[r.Root]; !ok {
			last[r.Root] = r.Verb
		}
		if r.Verb == Purge {
			counts[r.Root]++
		}
	}
	for c, n := range counts {
		if n > purges[c] {
			t.Errorf("%s: %d receipts for %d purges", c, n, purges[c])
		}
	}
	for c, v := range want {
		if v == Purge && last[c] != Purge {
			t.Errorf("%s: the newest receipt is for %q", c, last[c])
		}
	}
}

// TestKilledWhileOrdersFlow kills both sides while many orders are on the way.
func TestKilledWhileOrdersFlow(t *testing.T) {
	const n = 2000
	p := newPair(t, 7)
	var carried atomic.Int64
	p.held.carry = func(context.Context, Order) (Outcome, string) {
		carried.Add(1)
		return Done, ""
	}
	p.o.order(t, p.c.self, ins(Hold, 0, n)...)
	p.o.order(t, p.c.self, ins(Purge, n, n+300)...)
	for k := range 8 {
		some := carried.Load() + int64(p.r.IntN(200))
		p.held.w.until(t, "some are carried out", func() bool { return carried.Load() >= min(some, n) })
		if k%2 == 0 {
			p.killPeer()
		} else {
			p.killOrigin()
		}
	}
	p.settle()
	want, purges := map[cid.Cid]Verb{}, map[cid.Cid]int{}
	for _, i := range append(ins(Hold, 0, n), ins(Purge, n, n+300)...) {
		want[i.Root] = i.Verb
		purges[i.Root] = 1
	}
	p.check(want, purges)
}
