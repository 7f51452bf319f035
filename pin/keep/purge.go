package keep

import (
	"slices"
	"time"

	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
)

// memory is for how long a removed segment is remembered when a peer that held
// it is not on the roster any more: should it come back, it is told.
const memory = 30 * 24 * time.Hour

// bury turns a segment into one that was removed: every peer that ever held it
// shall purge it, and so shall every storage peer, which may hold it without
// our having heard so.
func (k *Keeper) bury(s *segment, now int64) {
	if s.gone {
		return
	}
	kept := make([]slot, 0, len(s.slots)+len(k.storages))
	for i := range s.slots {
		x := s.slots[i]
		s.move(&x, purging, now)
		if !x.h.takesOrders() {
			continue
		}
		kept = append(kept, slot{h: x.h, since: now, stage: purging})
	}
	for _, h := range k.storages {
		if h.takesOrders() && !slices.ContainsFunc(kept, func(x slot) bool { return x.h == h }) {
			kept = append(kept, slot{h: h, since: now, stage: purging})
		}
	}
	s.slots = kept
	s.gone, s.repin, s.unsaved, s.since = true, true, true, now
	s.level, s.healthy, s.short, s.tries, s.retry = None, false, false, 0, 0
}

// unbury turns a segment that was taken down into one that is wanted. Whoever
// had to purge it has no copy, or gets rid of it: nobody waits for that any more.
func (k *Keeper) unbury(s *segment, now int64) {
	for i := range s.slots {
		x := &s.slots[i]
		s.move(x, former, now)
		x.told, x.tries, x.reason, x.due = true, 0, "", 0
	}
	s.gone, s.repin, s.unsaved, s.since = false, true, true, now
	s.tries, s.retry = 0, 0
	delete(k.problems, s)
}

// planGone unpins a removed segment and orders purges, again and again until
// there is a receipt from every peer.
func (k *Keeper) planGone(s *segment, j *job, now int64) {
	if now < s.retry {
		k.agenda.set(s, s.retry)
		return
	}
	j.unpin = s.repin && k.o.Pinset != nil
	left, next := 0, int64(0)
	for i := range s.slots {
		x := &s.slots[i]
		if x.stage != purging {
			continue
		}
		left++
		switch due := x.since + k.purgeAgain(x.tries); {
		case !x.h.enrolled || k.o.Orders == nil:
			next = sooner(next, s.since+int64(memory)+1)
		case !x.told || now >= due:
			j.orders = append(j.orders, order{x.h, control.Purge})
			x.told = false
		default:
			next = sooner(next, due)
		}
	}
	if left > 0 && now-s.since > int64(memory) && !k.anyEnrolled(s) {
		left = 0
	}
	if k.o.Services != nil && len(k.o.Services.Copies(s.root)) > 0 {
		k.o.Services.Drop(s.root) // as after a restart; it tells when it is done
		left++
		next = sooner(next, now+int64(k.timing.Stall))
	}
	if left == 0 && !j.unpin {
		k.forget(s)
		return
	}
	j.flush = s.unsaved
	k.agenda.set(s, next)
}

// purgeAgain is how long to wait for the receipt of a purge before it is
// ordered again.
func (k *Keeper) purgeAgain(tries uint8) int64 {
	d := k.timing.Stall
	for range min(tries, 6) {
		d *= 2
	}
	return int64(d)
}

// anyEnrolled reports whether a receipt can still come.
func (k *Keeper) anyEnrolled(s *segment) bool {
	for i := range s.slots {
		if x := &s.slots[i]; x.stage == purging && x.h.enrolled {
			return true
		}
	}
	return false
}

// outstanding reports whether something is still to be done, or waited for, to
// be rid of a removed segment. Peers that are members no more are not waited
// for: they are remembered, should they come back.
func (k *Keeper) outstanding(s *segment) bool {
	return s.repin && k.o.Pinset != nil || k.anyEnrolled(s) || k.o.Services != nil && len(k.o.Services.Copies(s.root)) > 0
}

// forget drops what is known of a removed segment.
func (k *Keeper) forget(s *segment) {
	delete(k.segments, s.root)
	delete(k.problems, s)
	k.agenda.set(s, 0)
	k.erased = append(k.erased, s.root)
	k.wakeSaver()
}

// revive is for a purge that a peer's new copy makes necessary again.
func (k *Keeper) revive(s *segment, h *holder, now int64) {
	x := s.addSlot(h)
	s.move(x, purging, now)
	x.told, x.tries = false, 0
	k.dirty(s)
}

// takesOrders reports whether a peer of the role of h does what it is ordered;
// another origin has its own catalogue.
func (h *holder) takesOrders() bool {
	return h.role == member.Replica || h.role == member.Storage
}
