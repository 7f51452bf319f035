package keep

import (
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/member"
	"github.com/musenai/musen/pin/place"
)

// planReplicas gives copies to the replicas that suit the segment best, and
// takes them from others once enough of the best have proved theirs. A replica
// that comes takes only its own part that way, and no copy goes before the new
// one is there.
func (k *Keeper) planReplicas(s *segment, j *job, now int64) {
	if k.o.Orders == nil || k.settled(s, now) {
		return
	}
	s.epoch = k.epoch
	best := k.bestReplicas(s, now)
	for _, c := range best {
		h := k.holders[c.ID]
		if x := s.slotOf(h); x == nil || !x.active() || x.broken() {
			k.give(s, h, now)
		}
	}
	if missing := int(s.community) - len(best); missing > 0 {
		missing -= k.askAgain(s, missing, now)
		s.short = s.short || missing > 0
	}
	k.trimReplicas(s, best, now)
}

// settled reports whether there is nothing to do about the replicas, without
// looking at all of them.
func (k *Keeper) settled(s *segment, now int64) bool {
	sure := 0
	for i := range s.slots {
		x := &s.slots[i]
		if x.h.role != member.Replica || !x.active() {
			continue
		}
		if _, proof := k.counts(x, now); !proof || !k.fits(s, x.h) {
			return false
		}
		sure++
	}
	return sure == int(s.community) && (s.epoch == k.epoch || sure == 0)
}

// fits reports whether the contract of h is for the segment and h stays.
func (k *Keeper) fits(s *segment, h *holder) bool {
	return h.enrolled && !h.parting() && !h.shunned() && h.contract.Carries(s.label)
}

// bestReplicas are those that shall have the copies, the best first. Who is
// outside its hours, or has paused, keeps what counts, and gets something new
// only if there are not enough others: it would be proved no sooner than it
// opens.
func (k *Keeper) bestReplicas(s *segment, now int64) []place.Candidate {
	if s.community == 0 {
		return nil
	}
	has := func(h *holder) bool {
		x := s.slotOf(h)
		return x != nil && k.firm(x) && !k.idle(x, now)
	}
	best := k.ranked().ChooseOf(s.root, int(s.community), nil, s.spread, func(c place.Candidate) bool {
		h := k.holders[c.ID]
		return k.fits(s, h) && (has(h) || !h.excused(now) && k.mayTake(s, h, false, now))
	})
	missing := int(s.community) - len(best)
	if missing <= 0 {
		return best
	}
	sites := make([]string, len(best))
	for i, c := range best {
		sites[i] = c.Site
	}
	return append(best, k.ranked().ChooseOf(s.root, missing, sites, s.spread, func(c place.Candidate) bool {
		h := k.holders[c.ID]
		return h.excused(now) && k.fits(s, h) && !has(h) && k.mayTake(s, h, false, now)
	})...)
}

// idle reports whether a copy on a replica that may be away counts no more, or
// never did after the time that an order may take: it is made elsewhere, and
// welcome when it is proved.
func (k *Keeper) idle(x *slot, now int64) bool {
	if !x.h.excused(now) {
		return false
	}
	switch x.stage {
	case proved:
		return now-x.proved > int64(staleAfter*k.timing.Cycle)
	case ordered:
		return k.stalled(x, now)
	default:
		return now-x.since > int64(k.timing.Stall)
	}
}

// ranked is all replicas, ready to choose from. It is made anew when one comes
// or goes, or has another weight or site.
func (k *Keeper) ranked() *place.Table {
	if k.table == nil {
		cs := make([]place.Candidate, len(k.replicas))
		for i, h := range k.replicas {
			cs[i] = h.candidate()
		}
		k.table = place.NewTable(cs)
	}
	return k.table
}

// askAgain gives n more copies to replicas that failed before, since there is
// nobody else.
func (k *Keeper) askAgain(s *segment, n int, now int64) int {
	asked := 0
	for i := range s.slots {
		x := &s.slots[i]
		if asked < n && x.h.role == member.Replica && x.broken() && k.fits(s, x.h) && k.mayTake(s, x.h, true, now) {
			k.give(s, x.h, now)
			asked++
		}
	}
	return asked
}

// trimReplicas drops the copies of replicas that are not among the best, once
// those are proved and there are as many as are wanted. Where there are fewer,
// since nobody else can take the segment, a replica that leaves, or whose
// contract is for others now, is not made to wait for more than Min, nor for
// Min where others have its share. Whose standing is paused, or whose announced
// absence outlasts its proof, keeps what it has, so that it can prove itself.
func (k *Keeper) trimReplicas(s *segment, best []place.Candidate, now int64) {
	among := func(id peer.ID) bool { return isAmong(best, id) }
	sure := 0
	for i := range s.slots {
		if x := &s.slots[i]; among(x.h.id) {
			if _, proof := k.counts(x, now); proof {
				sure++
			}
		}
	}
	if sure < len(best) {
		return
	}
	for i := range s.slots {
		x := &s.slots[i]
		if x.h.role != member.Replica || !x.active() || among(x.h.id) || x.h.shunned() {
			continue
		}
		enough, fits := sure >= int(s.community), k.fits(s, x.h)
		if fits && x.has() && k.idle(x, now) {
			continue
		}
		if enough && !fits || (enough || !fits) && k.spare(s, x, now) {
			s.move(x, former, now)
			x.told, x.leave, x.reason = false, false, ""
		}
	}
}
