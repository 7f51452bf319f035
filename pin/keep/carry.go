package keep

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/control"
)

// workers is how many segments are seen to at once: pins and orders are made
// durable in groups, so that many can wait for one write.
const workers = 128

// work carries out jobs until ctx ends.
func (k *Keeper) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-k.jobs:
			k.carry(ctx, j)
		}
	}
}

// carry does one job and notes what became of it.
func (k *Keeper) carry(ctx context.Context, j *job) {
	err := k.tellPinset(ctx, j)
	if err == nil {
		err = k.giveOrders(ctx, j)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	s := j.s
	s.busy, s.again = false, false
	switch {
	case err == nil:
		s.tries, s.retry = 0, 0
		delete(k.problems, s)
	case ctx.Err() == nil:
		s.tries = min(s.tries+1, 60)
		s.retry = k.nowNS() + k.backoff(s.tries-1)
		k.problems[s] = clip(err.Error())
		k.log.Warn("copies of a segment could not be arranged", "root", s.root, "err", err, "next", at(s.retry))
	}
	k.dirty(s)
}

// tellPinset makes durable what must be known after a crash, namely who may
// come to hold the segment and that it was removed, and changes the pinset.
func (k *Keeper) tellPinset(ctx context.Context, j *job) error {
	if j.flush {
		if err := k.flush(ctx); err != nil {
			return err
		}
	}
	if j.unpin {
		if err := k.o.Pinset.Unpin(ctx, j.s.root); err != nil {
			return err
		}
		k.unpinned(j.s)
	}
	if j.pin != nil {
		if err := k.o.Pinset.Pin(ctx, *j.pin); err != nil {
			return err
		}
		k.pinned(j)
	}
	if j.recover && k.o.Trusted != nil {
		if err := k.o.Trusted.Recover(ctx, j.s.root); err != nil {
			return err
		}
	}
	if j.recover {
		k.recovered(j.s)
	}
	return nil
}

// recovered notes that the trusted peers were told to try again, those at least
// that get no order besides.
func (k *Keeper) recovered(s *segment) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.nowNS()
	for i := range s.slots {
		if x := &s.slots[i]; x.unheard() && (k.o.Orders == nil || !x.h.takesOrders()) {
			x.told, x.since, x.due = true, now, k.probe(now)
		}
	}
}

func (k *Keeper) unpinned(s *segment) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s.pinned, s.repin = false, false
	for i := range s.slots {
		s.slots[i].pinned = false
	}
}

func (k *Keeper) pinned(j *job) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, now := j.s, k.nowNS()
	s.pinned, s.pinnedAt = true, now
	if s.gone { // meanwhile: it is unpinned next
		return
	}
	s.repin = false
	for i := range s.slots {
		x := &s.slots[i]
		x.pinned = slices.Contains(j.pin.Holders, x.h.id)
		if x.pinned && x.stage == ordered && !x.told && !s.lifted { // else an order has to say so
			x.told, x.since, x.due = true, now, k.probe(now)
		}
	}
}

// probe is when to challenge a peer that was given a segment by the pinset and
// does not say anything.
func (k *Keeper) probe(now int64) int64 { return now + int64(k.timing.Stall)/20 }

func (k *Keeper) giveOrders(ctx context.Context, j *job) error {
	errs := make([]error, len(j.orders))
	var posted sync.WaitGroup
	for i, o := range j.orders {
		in := control.Instruction{Verb: o.verb, Root: j.s.root, Size: j.s.size, Label: j.s.label, Lifted: j.s.lifted && o.verb == control.Hold}
		if len(j.orders) == 1 {
			errs[i] = k.order(ctx, o.h.id, in)
			break
		}
		posted.Go(func() { errs[i] = k.order(ctx, o.h.id, in) })
	}
	posted.Wait()
	for i, o := range j.orders {
		if errs[i] == nil {
			k.ordered(j.s, o)
		}
	}
	return errors.Join(errs...)
}

// order gives one order, together with others to the same peer if that can be.
func (k *Keeper) order(ctx context.Context, to peer.ID, in control.Instruction) error {
	if _, ok := k.o.Orders.(orderMany); !ok {
		return k.o.Orders.Order(ctx, to, in)
	}
	l := letter{to, in, make(chan error, 1)}
	select {
	case k.letters <- l:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-l.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// letter is an order on its way.
type letter struct {
	to   peer.ID
	in   control.Instruction
	done chan error
}

// post gives the orders that came while it gave those before, until ctx ends.
func (k *Keeper) post(ctx context.Context, many orderMany) {
	for {
		var first letter
		select {
		case <-ctx.Done():
			return
		case first = <-k.letters:
		}
		bags := map[peer.ID][]letter{first.to: {first}}
		for more := true; more; {
			select {
			case l := <-k.letters:
				bags[l.to] = append(bags[l.to], l)
			default:
				more = false
			}
		}
		var given sync.WaitGroup
		for to, bag := range bags {
			given.Go(func() { deliver(ctx, many, to, bag) })
		}
		given.Wait()
	}
}

func deliver(ctx context.Context, many orderMany, to peer.ID, bag []letter) {
	ins := make([]control.Instruction, len(bag))
	for i, l := range bag {
		ins[i] = l.in
	}
	err := many.OrderMany(ctx, to, ins...)
	for i, l := range bag {
		if err != nil && len(bag) > 1 { // whose fault is it?
			l.done <- many.OrderMany(ctx, to, ins[i])
		} else {
			l.done <- err
		}
	}
}

// ordered notes that an order was given, if it is still the right one.
func (k *Keeper) ordered(s *segment, o order) {
	k.mu.Lock()
	defer k.mu.Unlock()
	x := s.slotOf(o.h)
	if x == nil {
		return
	}
	switch {
	case o.verb == control.Hold && x.stage == ordered:
		x.told = true
		if x.h.role.Trusted() {
			x.due = k.probe(k.nowNS())
		}
	case o.verb == control.Drop && x.stage == former:
		x.told = true
	case o.verb == control.Purge && x.stage == purging:
		x.told = true
		x.tries = min(x.tries+1, 60)
	default:
		return
	}
	x.since, s.unsaved = k.nowNS(), true
}
