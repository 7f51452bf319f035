package control

import (
	"context"
	"errors"
	"testing"

	"github.com/musenai/musen/pin/member"
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
