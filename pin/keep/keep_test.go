package keep

import (
	"context"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/pin/member"
)

// reach waits for a level, at most limit.
func (w *world) reach(root cid.Cid, l Level, limit time.Duration) Health {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	h, err := w.k.Wait(ctx, root, l)
	if err != nil {
		w.t.Fatalf("not %v after %v: %v: %+v", l, limit, err, h)
	}
	return h
}

func TestAddedSegmentBecomesDurable(t *testing.T) {
	story(t, func(w *world) {
		for n := range 4 {
			w.join(n+1, member.Storage, "")
		}
		w.start()
		time.Sleep(time.Second)
		root := w.add(1)
		h := w.reach(root, Stored, 0)
		if h.Level != Stored || h.Reason == "" || h.Next.IsZero() {
			t.Errorf("at first %+v", h)
		}
		h = w.reach(root, Replicated, time.Second)
		h = w.reach(root, Durable, time.Second)
		time.Sleep(time.Second)
		h, _ = w.k.Health(root)
		if h.Reason != "" || len(h.Copies) != 3 || h.Copies[0].Peer != w.self {
			t.Errorf("at last %+v", h)
		}
		if n := w.holders(root, member.Storage); n != 2 {
			t.Errorf("%d storage peers hold it, want 2 besides the origin", n)
		}
		if w.count.pins != 1 {
			t.Errorf("%d changes of the pinset, want 1", w.count.pins)
		}
	})
}
