package keep

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/pin/member"
)

// spoil breaks the own copy of a segment, and says nothing of it.
func (w *world) spoil(root cid.Cid, why string) {
	w.set(func() { w.broken[root] = errors.New(why) })
}

// ownCopy is the own copy of a segment.
func (w *world) ownCopy(root cid.Cid) (Health, Copy) {
	w.t.Helper()
	h, _ := w.k.Health(root)
	if len(h.Copies) == 0 || h.Copies[0].Peer != w.self {
		w.t.Fatalf("no own copy: %+v", h)
	}
	return h, h.Copies[0]
}

// An audit of the own copy that fails has it mended at once.
func TestOwnCopyIsMended(t *testing.T) {
	story(t, func(w *world) {
		w.mends = 10 * time.Second
		w.join(1, member.Storage, "")
		w.start()
		time.Sleep(time.Second)
		root := w.add(1)
		w.reach(root, Durable, time.Minute)
		w.spoil(root, "block 3 is rotten")
		for h := w.sound(root); h.Level == Durable; h, _ = w.k.Health(root) {
			time.Sleep(time.Second)
		}
		found := time.Now()
		if h, _ := w.k.Health(root); !strings.HasPrefix(h.Reason, "the origin's own copy: block 3 is rotten, being mended; ") || h.Next.IsZero() {
			t.Errorf("%+v", h)
		}
		w.reach(root, Durable, time.Minute)
		if took := time.Since(found); took > w.mends {
			t.Errorf("mended after %v, which takes %v", took, w.mends)
		}
		if w.sound(root); w.counted().mends != 1 {
			t.Errorf("mended %d times", w.counted().mends)
		}
	})
}

// What others find wrong with the own copy shows at once, however often they
// say so, and is mended at once.
func TestFoundShowsAtOnce(t *testing.T) {
	story(t, func(w *world) {
		w.mends = 10 * time.Second
		w.join(1, member.Storage, "")
		w.join(2, member.Storage, "")
		w.join(3, member.Storage, "")
		w.start()
		time.Sleep(time.Second)
		root := w.add(1) // 2 to 3 copies
		w.reach(root, Durable, time.Minute)
		time.Sleep(time.Second)
		orders := w.counted()
		w.spoil(root, "gone")
		w.k.Found(root, errors.New("block 3 is gone"))
		h, own := w.ownCopy(root)
		if own.State != Failed || own.Counts || own.Reason != "block 3 is gone" || own.Outcome == "proved" {
			t.Errorf("at once: %+v", own)
		}
		if h.Reason != "the origin's own copy: block 3 is gone, being mended" || h.Next.IsZero() || h.Next.After(time.Now()) {
			t.Errorf("at once: %q, next %v", h.Reason, h.Next)
		}
		if s := w.k.Summary(""); s.Unhealthy != 1 || s.Proved != 2 || len(w.k.Unhealthy("", 9)) != 1 {
			t.Errorf("at once: %+v", s)
		}
		time.Sleep(time.Second)
		for range 1000 {
			w.k.Found(root, errors.New("block 4 is gone"))
		}
		time.Sleep(2 * w.mends)
		w.sound(root)
		if _, own := w.ownCopy(root); own.State != Proved || own.Reason != "" {
			t.Errorf("at last: %+v", own)
		}
		c := w.counted()
		if c.mends != 2 { // once more for what was seen while it was mended
			t.Errorf("mended %d times", c.mends)
		}
		if c.pins != orders.pins {
			t.Errorf("%d changes of the pinset for a copy that is mended", c.pins-orders.pins)
		}
	})
}

// Found knows nobody but those who are kept.
func TestFoundOfNothing(t *testing.T) {
	story(t, func(w *world) {
		w.start()
		gone := w.add(1, func(x *Want) { x.Min, x.Max = 1, 1 })
		sane := w.add(2, func(x *Want) { x.Min, x.Max = 1, 1 })
		time.Sleep(time.Second)
		w.remove(gone)
		for _, root := range []cid.Cid{gone, seg(77), cid.Undef} {
			w.k.Found(root, errors.New("gone"))
		}
		w.k.Found(sane, nil)
		time.Sleep(time.Minute)
		if c := w.counted(); c.mends != 0 {
			t.Errorf("mended %d times", c.mends)
		}
		w.sound(sane)
	})
}

// A copy that nobody can mend is tried again, later each time, and at once when
// a peer is back; it keeps no other from being mended.
func TestOwnCopyThatNobodyCanMend(t *testing.T) {
	story(t, func(w *world) {
		w.mends = 10 * time.Second
		a := w.join(1, member.Storage, "")
		w.start()
		time.Sleep(time.Second)
		var roots []cid.Cid
		for n := range 40 {
			roots = append(roots, w.add(n))
		}
		time.Sleep(time.Minute)
		w.leave(a)
		time.Sleep(time.Minute)
		hopeless := roots[:39]
		for _, root := range hopeless {
			w.spoil(root, "gone")
			w.set(func() { w.mendErr[root] = errors.New("no peer has it") })
			w.k.Found(root, errors.New("gone"))
		}
		time.Sleep(20 * time.Minute)
		h, own := w.ownCopy(roots[0])
		if own.State != Failed || !strings.Contains(h.Reason, "the origin's own copy: no peer has it") || !h.Next.After(time.Now()) {
			t.Errorf("%q, %+v, next %v", h.Reason, own, h.Next)
		}
		last := roots[39]
		w.spoil(last, "gone")
		w.k.Found(last, errors.New("gone"))
		time.Sleep(2*w.mends + time.Second)
		if _, own := w.ownCopy(last); own.State != Proved {
			t.Errorf("one that can be mended waits for those that cannot: %+v", own)
		}
		w.set(func() { clear(w.mendErr) })
		w.arrive(a)
		time.Sleep(w.mends*(39/maxMends+2) + time.Second)
		for _, root := range roots {
			w.sound(root)
		}
	})
}

// Damage that was found is known after a restart.
func TestFoundBeforeARestart(t *testing.T) {
	story(t, func(w *world) {
		w.mends = time.Hour
		w.start()
		root := w.add(1, func(x *Want) { x.Min, x.Max = 1, 1 })
		time.Sleep(time.Minute)
		w.spoil(root, "gone")
		w.k.Found(root, errors.New("gone"))
		time.Sleep(time.Minute)
		w.stop()
		w.mends = time.Second
		w.start()
		if _, own := w.ownCopy(root); own.State != Failed || own.Reason != "gone" {
			t.Errorf("after a restart: %+v", own)
		}
		w.reach(root, Durable, time.Minute)
	})
}

func TestFoundByManyAtOnce(t *testing.T) {
	story(t, func(w *world) {
		w.join(1, member.Storage, "")
		w.start()
		time.Sleep(time.Second)
		root := w.add(1)
		w.reach(root, Durable, time.Minute)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		w.spoil(root, "gone")
		done := make(chan struct{})
		for range 8 {
			go func() {
				defer func() { done <- struct{}{} }()
				for ctx.Err() == nil && w.Verify(ctx, root) != nil {
					w.k.Found(root, errors.New("gone"))
					time.Sleep(time.Millisecond)
				}
			}()
		}
		for range 8 {
			<-done
		}
		time.Sleep(time.Second)
		w.sound(root)
	})
}
