package keep

import (
	"context"
	"hash/fnv"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/pin/audit"
)

const (
	batch         = 64 // challenges to one peer at once
	maxAudits     = 16 // peers challenged at once
	maxLates      = 3  // late answers in a row that make a copy a failed one
	maxFirstLates = 2  // the same for a copy that was never proved
	leastPause    = time.Minute
)

// planAudits queues the copies of a segment whose time to be challenged has
// come, and the own one if it is to be mended.
func (k *Keeper) planAudits(s *segment, now int64) {
	for i := range s.slots {
		x := &s.slots[i]
		if x.h.self && x.broken() && x.due <= now {
			k.mendable(s, x)
			continue
		}
		if !x.has() && !x.silent() || x.queued || x.due > now {
			continue
		}
		if k.o.Auditor == nil && !x.h.self {
			continue
		}
		x.queued = true
		x.h.pending = append(x.h.pending, s)
		if x.h.challengeable(now) {
			k.makeReady(x.h)
		}
	}
}

func (k *Keeper) makeReady(h *holder) {
	if !h.ready && !h.auditing {
		h.ready = true
		k.ready = append(k.ready, h)
		k.wake()
	}
}

// launch challenges those who are ready, as many as may be at once, and mends.
func (k *Keeper) launch(ctx context.Context, now int64) {
	k.mendOwn(ctx)
	for len(k.ready) > 0 && k.auditing < maxAudits {
		h := k.ready[0]
		k.ready = k.ready[1:]
		h.ready = false
		roots := k.takePending(h)
		if len(roots) == 0 || !h.challengeable(now) {
			continue
		}
		h.auditing = true
		k.auditing++
		k.running.Go(func() { k.challenge(ctx, h, roots) })
	}
}

// takePending takes a batch of those roots out of the queue of h that it is
// still meant to hold. If h cannot be challenged they stay there.
func (k *Keeper) takePending(h *holder) []cid.Cid {
	if !h.challengeable(k.nowNS()) {
		return nil
	}
	var roots []cid.Cid
	n := 0
	for n < len(h.pending) && len(roots) < batch {
		s := h.pending[n]
		n++
		x := s.slotOf(h)
		if k.segments[s.root] != s || x == nil || !x.queued {
			continue
		}
		if !x.has() && !x.silent() {
			x.queued = false
			continue
		}
		roots = append(roots, s.root)
	}
	clear(h.pending[:n])
	h.pending = h.pending[n:]
	if len(h.pending) == 0 {
		h.pending = nil
	}
	return roots
}

// challenge runs one batch. It takes the lock itself.
func (k *Keeper) challenge(ctx context.Context, h *holder, roots []cid.Cid) {
	var got []audit.Outcome
	var err error
	if h.self {
		k.verifyOwn(ctx, roots)
	} else {
		got, err = k.o.Auditor.Audit(ctx, h.id, roots)
	}
	standing := k.record(h, roots, got)
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.nowNS()
	for i, root := range roots {
		s, x := k.find(root, h.id)
		if x == nil {
			continue
		}
		x.queued = false
		switch {
		case h.self || ctx.Err() != nil:
		case err != nil || i >= len(got) || got[i] == "":
			x.tries = min(x.tries+1, 60)
			x.due = now + k.backoff(x.tries)
			x.reason = "could not be audited"
			if err != nil {
				x.reason = clip(x.reason + ": " + err.Error())
			}
		default:
			k.judge(s, x, got[i], now)
		}
		k.dirty(s)
	}
	if standing != "" {
		k.stand(h, standing, now)
	}
	h.auditing, h.failures.dodged = false, nil
	k.auditing--
	if len(h.pending) > 0 && h.challengeable(now) {
		k.makeReady(h)
	}
	k.wake()
}

// record tells the outcomes to who keeps the standings, save those about copies
// that were given up meanwhile. It returns the new standing; empty: as before.
func (k *Keeper) record(h *holder, roots []cid.Cid, got []audit.Outcome) (st audit.Standing) {
	if k.o.Standings == nil || len(got) == 0 {
		return ""
	}
	k.mu.Lock()
	fair := k.fair(h, roots, got)
	k.mu.Unlock()
	if len(fair) == 0 {
		return ""
	}
	if all, ok := k.o.Standings.(recordAll); ok {
		return all.RecordAll(h.id, k.now(), fair...)
	}
	for _, o := range fair {
		st = k.o.Standings.Record(h.id, o, k.now())
	}
	return st
}

// judge draws the consequences of one outcome for one copy.
func (k *Keeper) judge(s *segment, x *slot, o audit.Outcome, now int64) {
	if x.silent() && o != audit.Proved { // it never said that it has it
		x.due = now + int64(k.timing.Stall)/2
		return
	}
	if !x.has() && !x.silent() { // meanwhile given up, lost or removed
		return
	}
	x.outcome, s.unsaved = outcomeIndex(o), true
	switch o {
	case audit.Proved:
		k.prove(s, x, now)
	case audit.Late:
		x.lates++
		pause, most := min(leastPause, k.timing.Cycle), maxLates
		if x.proved == 0 { // nothing speaks for it yet
			pause, most = 0, maxFirstLates
		}
		x.due = now + max(k.backoff(x.lates), int64(pause))
		if int(x.lates) >= most {
			s.fail(x, failed, "answered too late, several times", now)
			x.due = now + k.rest(x)
		}
	case audit.Offline:
		x.due = now + int64(min(10*leastPause, k.timing.Cycle))
		if x.proved == 0 { // somebody may wait for it
			x.tries = min(x.tries+1, 60)
			x.due = min(x.due, now+k.backoff(x.tries))
		}
	default:
		s.fail(x, failed, "audit: "+string(o), now)
		x.due = now + k.rest(x)
	}
}

// prove notes a proof and when the next is due.
func (k *Keeper) prove(s *segment, x *slot, now int64) {
	if x.stage != proved {
		s.move(x, proved, now)
	}
	x.proved, x.tries, x.lates, x.reason = now, 0, 0, ""
	x.due = k.nextAudit(s, x, now)
}

// nextAudit is the next challenge of a copy: each has its own moment of the
// cycle, so that all of them together are spread evenly. Those of about the
// same moment are put together.
func (k *Keeper) nextAudit(s *segment, x *slot, now int64) int64 {
	h := fnv.New64a()
	h.Write(k.salt[:])
	h.Write(s.root.Bytes())
	h.Write([]byte(x.h.id))
	cycle := int64(k.timing.Cycle)
	moment := int64(h.Sum64() % uint64(cycle))
	step := max(cycle/720, 1)
	next := now - now%cycle + moment
	for next <= now {
		next += cycle
	}
	return next + step - next%step
}

// rest is for how long a peer that failed with a segment is not the first to
// be asked for it.
func (k *Keeper) rest(x *slot) int64 { return max(int64(time.Hour), k.backoff(x.tries)) }
