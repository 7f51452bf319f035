package keep

import (
	"context"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/pin/audit"
)

// maxMends is how many own copies are mended at once.
const maxMends = 4

// Found takes note of what is wrong with the own copy of a segment, as whoever
// read it saw. The copy is not proved any more, and mended at once. It does not
// block, may be called for every read, and keeps one reason for each segment.
func (k *Keeper) Found(root cid.Cid, wrong error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, x := k.find(root, k.o.Self)
	if x == nil || s.gone || !x.active() || wrong == nil {
		return
	}
	if x.broken() {
		if m := k.mending[s]; m != nil {
			m.damaged = true // what was read may be what was mended already, or not
		}
		return
	}
	k.hurt(s, x, wrong, k.nowNS())
}

// Sound takes note that whoever read all of the own copy of a segment found it
// whole. If it failed before it is looked at again at once: it is proved by what
// is seen then. Like Found, Sound does not block.
func (k *Keeper) Sound(root cid.Cid) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s, x := k.find(root, k.o.Self); x != nil {
		k.mendSoon(s, k.nowNS())
	}
}

// DoubtOwn has all own copies verified anew before they count as proved: for a
// machine that found its blocks gone when it started.
func (k *Keeper) DoubtOwn() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.doubt(k.self, k.nowNS())
}

// hurt notes that the own copy is not whole, and has it mended at once. The lock
// is held here and in what follows, unless said otherwise.
func (k *Keeper) hurt(s *segment, x *slot, wrong error, now int64) {
	x.tries = 0
	s.fail(x, failed, wrong.Error(), now)
	x.outcome, x.due, s.healthy = outcomeIndex(audit.Missing), now, false
	k.dirty(s)
}

// mendable queues an own copy that is to be mended: those that were never tried
// go first, so that no damage waits for one that nobody can mend.
func (k *Keeper) mendable(s *segment, x *slot) {
	if _, ok := k.mending[s]; ok {
		return
	}
	k.mending[s] = &attempt{}
	if x.tries <= 1 {
		k.wounds = append(k.wounds, s)
	} else {
		k.scars = append(k.scars, s)
	}
	k.wake()
}

// mendOwn mends own copies that wait for it, as many as may be at once.
func (k *Keeper) mendOwn(ctx context.Context) {
	for k.mends < maxMends {
		s := pop(&k.wounds)
		if s == nil {
			s = pop(&k.scars)
		}
		if s == nil {
			return
		}
		if k.segments[s.root] != s || s.gone {
			delete(k.mending, s)
			continue
		}
		k.mends++
		k.running.Go(func() { k.mendOne(ctx, s) })
	}
}

// pop takes the first of a queue; nil: it is empty.
func pop(q *[]*segment) *segment {
	if len(*q) == 0 {
		return nil
	}
	s := (*q)[0]
	(*q)[0] = nil
	if *q = (*q)[1:]; len(*q) == 0 {
		*q = nil
	}
	return s
}

// mendOne mends one own copy. It takes the lock itself.
func (k *Keeper) mendOne(ctx context.Context, s *segment) {
	k.mu.Lock()
	seen := &attempt{}
	k.mending[s] = seen
	size := s.size
	k.mu.Unlock()
	var err error
	if k.o.Local != nil {
		if err = k.o.Local.Mend(ctx, s.root, size); err == nil {
			err = k.o.Local.Verify(ctx, s.root)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mends--
	delete(k.mending, s)
	if ctx.Err() == nil {
		k.mended(s, err, *seen, k.nowNS())
	}
	k.wake()
}

// mended notes what became of mending the own copy. It is done once more if it
// was in vain and there is new hope, or if damage was seen while it was mended.
func (k *Keeper) mended(s *segment, err error, seen attempt, now int64) {
	x := s.slotOf(k.self)
	switch {
	case k.segments[s.root] != s || s.gone || x == nil || !x.active():
		return
	case err != nil:
		s.fail(x, failed, err.Error(), now)
		x.due = now + k.backoff(max(x.tries, 2)-2)
		if seen.hope {
			x.due = now
		}
	case seen.damaged:
		x.due = now
	default:
		k.prove(s, x, now)
		x.outcome = outcomeIndex(audit.Proved)
	}
	k.dirty(s)
}

// verifyOwn checks the origin's own copies. It takes the lock itself.
func (k *Keeper) verifyOwn(ctx context.Context, roots []cid.Cid) {
	for _, root := range roots {
		var err error
		if k.o.Local != nil {
			err = k.o.Local.Verify(ctx, root)
		}
		if ctx.Err() != nil {
			return
		}
		k.mu.Lock()
		if s, x := k.find(root, k.o.Self); x != nil && x.has() && !s.gone {
			k.judgeOwn(s, x, err, k.nowNS())
		}
		k.mu.Unlock()
	}
}

func (k *Keeper) judgeOwn(s *segment, x *slot, err error, now int64) {
	if err != nil {
		k.hurt(s, x, err, now)
		return
	}
	k.prove(s, x, now)
	x.outcome = outcomeIndex(audit.Proved)
}

// mendSoon has the own copy mended now, if it is to be: a peer is back which may
// have what is missing, or it was found to be whole.
func (k *Keeper) mendSoon(s *segment, now int64) {
	x := s.slotOf(k.self)
	if x == nil || !x.broken() || s.gone {
		return
	}
	if m := k.mending[s]; m != nil {
		m.hope = true
	}
	if x.due > now {
		x.due = now
		k.dirty(s)
	}
}

// attempt is what was heard of an own copy while it waits to be mended, or is.
type attempt struct {
	damaged bool // somebody saw damage
	hope    bool // it may go better now than when it began
}

// mends reports whether x is the own copy and it has only just been found not to
// be whole: it will be soon.
func (x *slot) mends() bool { return x.h.self && x.broken() && x.tries <= 1 }
