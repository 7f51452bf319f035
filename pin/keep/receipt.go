package keep

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
)

// Receipt takes note of what a peer says it did. It is the peer's word: a copy
// counts as held by it, and as proved only after an audit.
func (k *Keeper) Receipt(p peer.ID, r control.Receipt) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h, s := k.holders[p], k.segments[r.Root]
	if h == nil || !h.enrolled || h.self {
		return
	}
	if s == nil {
		return
	}
	now := k.nowNS()
	switch {
	case s.gone && r.Verb == control.Purge:
		k.receiptPurge(s, h, r, now)
	case s.gone && r.Outcome == control.Done && r.Verb == control.Hold:
		k.revive(s, h, now)
	case s.gone:
	case r.Verb == control.Hold:
		k.receiptHold(s, h, r, now)
	case r.Verb == control.Drop:
		k.receiptDrop(s, h, r, now)
	}
}

func (k *Keeper) receiptPurge(s *segment, h *holder, r control.Receipt, now int64) {
	x := s.slotOf(h)
	if x == nil || x.stage != purging {
		return
	}
	if r.Outcome != control.Done {
		x.reason, s.unsaved = clip(r.Reason), true
		k.dirty(s)
		return
	}
	s.move(x, purged, now)
	k.dirty(s)
}

// receiptHold is about a copy that should be held. Only a storage peer may have
// one that we did not ask it for: the pinset moved it there.
func (k *Keeper) receiptHold(s *segment, h *holder, r control.Receipt, now int64) {
	x := s.slotOf(h)
	if x == nil || !x.active() {
		if h.role != member.Storage || r.Outcome != control.Done {
			return
		}
		x = s.addSlot(h)
		s.move(x, ordered, now)
		x.told, x.pinned = true, true
	}
	k.dirty(s)
	if x.has() && r.Outcome != control.Done {
		k.loses(s, x, now)
	}
	switch r.Outcome {
	case control.Done:
		if x.has() {
			return
		}
		s.move(x, held, now)
		x.due, x.tries, x.reason, x.told = now, 0, "", true
	case control.Full:
		s.fail(x, failed, reasonOr(r.Reason, "its disk is full"), now)
		h.free = min(h.free, s.size-1)
		x.due = now + max(int64(10*time.Minute), k.backoff(x.tries))
	case control.Outside:
		s.fail(x, failed, reasonOr(r.Reason, "its contract does not cover it"), now)
		x.due = now + k.rest(x)
	case control.Lost:
		s.fail(x, lost, reasonOr(r.Reason, "it lost its copy"), now)
		x.due = now + k.rest(x)
	case control.Failed:
		k.stumble(s, x, r, now)
	}
}

// stumble is for a peer that could not fetch a segment and tries again by
// itself: it is waited for a little before another is asked.
func (k *Keeper) stumble(s *segment, x *slot, r control.Receipt, now int64) {
	if x.stage != ordered {
		s.fail(x, failed, reasonOr(r.Reason, "it could not fetch it"), now)
		x.due = now + k.rest(x)
		return
	}
	x.reason, s.unsaved = clip(reasonOr(r.Reason, "it could not fetch it")), true
	if x.due == 0 {
		x.due = now + int64(k.timing.Stall)/patience
	}
}

// patience is the part of Timing.Stall for which a peer may try again that says
// it could not do what it was ordered.
const patience = 10

func (k *Keeper) receiptDrop(s *segment, h *holder, r control.Receipt, now int64) {
	x := s.slotOf(h)
	if x == nil {
		return
	}
	if x.active() && r.Outcome == control.Done {
		// Ordered to hold it again in the meantime: that order is answered next.
		if x.has() {
			k.loses(s, x, now)
			s.fail(x, lost, "dropped", now)
			k.dirty(s)
		}
		return
	}
	x.told, s.unsaved = true, true
	k.dirty(s)
}

func reasonOr(reason, otherwise string) string {
	if reason == "" {
		return otherwise
	}
	return reason
}
