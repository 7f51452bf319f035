package keep

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
	"github.com/musenai/musen/pin/place"
)

// job is what a worker has to do for one segment. Its parts are done in the
// order of the fields.
type job struct {
	s       *segment
	flush   bool // what was planned must be durable first
	pin     *Pin
	unpin   bool
	recover bool // have the trusted peers try again
	orders  []order
}

type order struct {
	h    *holder
	verb control.Verb
}

func (j *job) empty() bool {
	return j.pin == nil && !j.unpin && !j.recover && len(j.orders) == 0
}

// plan compares what a segment needs with what it has and returns what to do.
// What follows from the plan is already noted in the segment, which is busy
// until done is called if there is anything to do.
func (k *Keeper) plan(s *segment, now int64) *job {
	j := &job{s: s}
	if s.gone {
		k.planGone(s, j, now)
	} else {
		k.prune(s, now)
		k.planTrusted(s, now)
		k.planReplicas(s, j, now)
		k.planPin(s, j, now)
		k.planOrders(s, j, now)
		k.planAudits(s, now)
	}
	k.settle(s, now)
	if s.unsaved {
		k.note(s)
	}
	s.busy = !j.empty()
	return j
}

// prune takes note of holders that are not on the roster any more, and of
// orders that nobody answers.
func (k *Keeper) prune(s *segment, now int64) {
	for i := range s.slots {
		x := &s.slots[i]
		switch {
		case x.h.self || x.stage == former && !x.h.enrolled:
		case !x.h.enrolled:
			s.move(x, former, now)
			x.told, x.reason = true, ""
		case x.stage == ordered && x.told && x.h.up() && !x.h.excused(now) && k.stalled(x, now):
			s.fail(x, failed, "no receipt after "+k.timing.Stall.String(), now)
			x.due = now + k.backoff(x.tries)
		case x.stage == ordered && x.reason != "" && x.due != 0 && now >= x.due: // it stumbled
			s.fail(x, failed, x.reason, now)
			x.due = now + k.rest(x)
		case k.regret(s, x, now):
			k.give(s, x.h, now)
			if x.pinned {
				x.told, x.due = true, k.probe(now)
			}
		}
	}
}

const (
	shortestOrder = 6        // stalls for which an order may wait at least while its peer works
	longestOrder  = 144      // the same at most: a day
	leastRate     = 64 << 10 // bytes a second at which a peer should work off its orders
)

// stalled reports whether an order was waited for long enough: the peer does
// nothing, or it does other things for longer than all that it was ordered takes.
func (k *Keeper) stalled(x *slot, now int64) bool {
	stall := int64(k.timing.Stall)
	if now-max(x.since, x.h.worked) > stall {
		return true
	}
	queue := x.h.peak / leastRate * int64(time.Second)
	return now-x.since > min(max(queue, shortestOrder*stall), longestOrder*stall)
}

// regret reports whether a copy was given up, the peer has not been told, and
// now it is needed after all. One that parts is asked only for what it had.
func (k *Keeper) regret(s *segment, x *slot, now int64) bool {
	if x.stage != former || x.h.parting() && x.proved == 0 || x.h.role.Trusted() && !x.pinned || x.h.role == member.Replica && x.told {
		return false
	}
	return k.levelOf(s, k.tally(s, nil, now)) < Durable
}

// backoff is how long to wait after so many failures.
func (k *Keeper) backoff(tries uint8) int64 {
	d := k.timing.Retry
	for range min(tries, 12) {
		d *= 2
	}
	return int64(min(d, max(time.Hour, k.timing.Retry)))
}

// firm reports whether a copy is, or will soon be, one that counts.
func (k *Keeper) firm(x *slot) bool {
	return x.active() && !x.broken() && x.h.present && !x.h.parting() && !x.leave
}

// goal is how many trusted copies there shall be.
func (k *Keeper) goal(s *segment) int { return max(min(int(s.max), k.capable), 1) }

func (k *Keeper) planTrusted(s *segment, now int64) {
	goal, n, away := k.goal(s), 0, 0
	for i := range s.slots {
		x := &s.slots[i]
		switch {
		case !x.active() || !x.h.role.Trusted():
		case k.firm(x):
			n++
		case x.mends():
			away++
		case !x.broken() && !x.h.parting() && !x.leave && !x.h.shunned() && now-x.h.down < int64(k.timing.ReplicaGrace):
			away++
		}
	}
	reached := n
	if n >= int(s.min) { // no hurry: who is away for a moment comes back
		reached += away
	}
	s.short = reached < goal
	if reached < goal {
		got := k.pickTrusted(s, goal-reached, false, now)
		if reached+got < goal {
			got += k.pickTrusted(s, goal-reached-got, true, now)
		}
		s.short = reached+got < goal
		return
	}
	if s.spread && k.pickSites(s, now) {
		return
	}
	k.trimTrusted(s, goal, now)
}

// pickSites gives the segment to trusted peers of further sites, if it is on
// too few. It reports whether it did.
func (k *Keeper) pickSites(s *segment, now int64) bool {
	taken := k.sitesOf(s)
	slices.Sort(taken)
	taken = slices.Compact(taken)
	missing := int(s.min) - len(taken)
	if missing <= 0 {
		return false
	}
	cs := k.scratch[:0]
	for _, h := range k.storages {
		if !slices.Contains(taken, h.site) && k.mayTake(s, h, false, now) {
			cs = append(cs, h.candidate())
		}
	}
	k.scratch = cs
	chosen := place.Choose(s.root, cs, missing, nil, true)
	for _, c := range chosen {
		k.give(s, k.holders[c.ID], now)
	}
	s.short = len(chosen) < missing
	return len(chosen) > 0
}

// pickTrusted gives n more trusted peers the segment, and returns how many it
// found. With again, those are asked that failed before.
func (k *Keeper) pickTrusted(s *segment, n int, again bool, now int64) int {
	cs := k.scratch[:0]
	for _, h := range k.storages {
		if k.mayTake(s, h, again, now) {
			cs = append(cs, h.candidate())
		}
	}
	k.scratch = cs
	chosen := place.Choose(s.root, cs, n, k.sitesOf(s), s.spread)
	for _, c := range chosen {
		k.give(s, k.holders[c.ID], now)
	}
	return len(chosen)
}

// mayTake reports whether h can be given a copy that it has not got. Whoever
// failed with this segment is left in peace for a while, and is asked again
// sooner only if there is nobody else.
func (k *Keeper) mayTake(s *segment, h *holder, again bool, now int64) bool {
	if !h.able || !h.room(s.size) || h.failures.barred > now {
		return false
	}
	x := s.slotOf(h)
	if x == nil || !x.active() {
		return !again
	}
	if !x.broken() {
		return false
	}
	if again {
		return now >= x.since+k.backoff(x.tries)
	}
	return now >= x.due
}

// give orders a holder to hold the segment.
func (k *Keeper) give(s *segment, h *holder, now int64) {
	x := s.addSlot(h)
	s.move(x, ordered, now)
	x.told, x.leave, x.lates, x.due, x.reason = false, false, 0, 0, ""
}

// sitesOf are the sites of the trusted copies that will stay.
func (k *Keeper) sitesOf(s *segment) []string {
	var sites []string
	for i := range s.slots {
		if x := &s.slots[i]; x.h.role.Trusted() && k.firm(x) {
			sites = append(sites, x.h.site)
		}
	}
	return sites
}

// trimTrusted gives up trusted copies that are not needed, if enough others are
// proved: those that failed first, then those on peers that part, then those
// that suit the segment least.
func (k *Keeper) trimTrusted(s *segment, goal int, now int64) {
	firm, sure := 0, 0
	for i := range s.slots {
		x := &s.slots[i]
		if !x.h.role.Trusted() || !k.firm(x) {
			continue
		}
		firm++
		if _, proof := k.counts(x, now); proof {
			sure++
		}
	}
	if sure < goal {
		return
	}
	for i := range s.slots {
		x := &s.slots[i]
		useless := x.broken() || x.h.parting() || x.leave || x.h.shunned() ||
			!x.h.present && now-x.h.down >= int64(k.timing.ReplicaGrace)
		if x.active() && x.h.role.Trusted() && !x.h.self && useless && k.spare(s, x, now) {
			s.move(x, former, now)
		}
	}
	for ; firm > goal; firm-- {
		x := k.leastSuited(s, goal, sure, now)
		if x == nil {
			return
		}
		if _, proof := k.counts(x, now); proof {
			sure--
		}
		s.move(x, former, now)
	}
}

// leastSuited is the trusted copy that can best be done without, if any. sure
// is how many are proved; goal of them must remain.
func (k *Keeper) leastSuited(s *segment, goal, sure int, now int64) *slot {
	var worst *slot
	lowest := 0.0
	for i := range s.slots {
		x := &s.slots[i]
		if x.h.self || !x.h.role.Trusted() || !k.firm(x) {
			continue
		}
		if _, proof := k.counts(x, now); proof && sure <= goal {
			continue
		}
		score := place.Score(s.root, x.h.candidate())
		if (worst == nil || score < lowest) && k.spare(s, x, now) {
			worst, lowest = x, score
		}
	}
	return worst
}

// planPin has the pinset name the trusted holders, if it does not.
func (k *Keeper) planPin(s *segment, j *job, now int64) {
	if k.o.Pinset == nil {
		return
	}
	differs, there := s.repin, 0
	var holders []peer.ID
	for i := range s.slots {
		x := &s.slots[i]
		if !x.h.role.Trusted() {
			continue
		}
		if x.active() {
			holders = append(holders, x.h.id)
			if x.h.up() {
				there++
			}
		}
		differs = differs || x.active() != x.pinned
		j.recover = j.recover || x.unheard() && now >= s.retry
	}
	if !differs || len(holders) == 0 || len(holders) == 1 && !s.pinned && !s.repin || now < s.retry {
		return
	}
	j.flush = j.flush || s.unsaved
	j.pin = &Pin{
		Root: s.root, Label: s.label, Size: s.size,
		Min: min(int(s.min), max(there, 1)), Max: len(holders), Holders: holders, Avoid: k.parting(),
	}
}

// parting are the trusted peers that give away what they have.
func (k *Keeper) parting() (ids []peer.ID) {
	for _, h := range k.storages {
		if h.parting() {
			ids = append(ids, h.id)
		}
	}
	return ids
}

// planOrders collects the orders that the stages of the slots ask for and that
// have not been given.
func (k *Keeper) planOrders(s *segment, j *job, now int64) {
	for i := range s.slots {
		x := &s.slots[i]
		if x.told || x.h.self || k.o.Orders == nil || !x.h.enrolled {
			continue
		}
		switch {
		case x.stage == ordered && (x.h.role == member.Replica || x.unheard() && x.h.takesOrders()):
			j.orders = append(j.orders, order{x.h, control.Hold})
			j.flush = true
		case x.stage == former && x.h.role == member.Replica:
			j.orders = append(j.orders, order{x.h, control.Drop})
		}
	}
	if now < s.retry {
		j.orders = nil
	}
}

// settle notes the level of a segment and when to look at it again.
func (k *Keeper) settle(s *segment, now int64) {
	if s.gone {
		k.tellWaiting(s)
		return
	}
	t := k.tally(s, nil, now)
	level := k.levelOf(s, t)
	own := s.slotOf(k.self)
	s.healthy = level == Durable && t.replicasProved >= int(s.community) && own != nil && !own.broken()
	if level != s.level {
		s.level = level
		k.tellWaiting(s)
	}
	next := int64(0)
	if !s.healthy {
		next = now + int64(k.timing.Pass)
	}
	for i := range s.slots {
		x := &s.slots[i]
		if x.active() && !x.queued && x.due > now {
			next = sooner(next, x.due)
		}
		if x.stage == proved && !x.h.challengeable(now) {
			if end := x.proved + int64(staleAfter*k.timing.Cycle) + 1; end > now {
				next = sooner(next, end)
			}
		}
	}
	if s.retry > now {
		next = sooner(next, s.retry)
	}
	if when := k.replacement(s, now); when > now {
		next = sooner(next, when)
	}
	k.agenda.set(s, next)
}

// replacement is when a trusted copy that is missing, and that is no hurry, may
// be made elsewhere, or by whoever failed; 0: there is none.
func (k *Keeper) replacement(s *segment, now int64) int64 {
	firm, next := 0, int64(0)
	for i := range s.slots {
		x, when := &s.slots[i], int64(0)
		switch {
		case !x.active() || !x.h.role.Trusted():
		case k.firm(x):
			firm++
		case x.h.self || x.h.parting() || x.leave || x.h.shunned():
		case x.broken():
			when = min(x.due, x.since+k.backoff(x.tries))
		default:
			when = x.h.down + int64(k.timing.ReplicaGrace)
		}
		if when > now {
			next = sooner(next, when)
		}
	}
	if firm >= k.goal(s) {
		return 0
	}
	return next
}

// fewer reports whether a segment is on fewer trusted peers than it could be.
func (k *Keeper) fewer(s *segment, t tally) bool { return t.trustedProved < k.goal(s) }

// soonest is when a segment is looked at that has fewer copies than it could
// have, and is planned for then.
func (k *Keeper) soonest(s *segment, planned time.Time, now int64) time.Time {
	next := int64(0)
	switch {
	case s.queued || s.busy:
		next = now
	case k.rerank: // all places are about to be chosen anew
		next = max(now, k.reranked+rerankTicks*int64(k.timing.Tick))
	}
	if next != 0 && (planned.IsZero() || at(next).Before(planned)) {
		return at(next)
	}
	return planned
}

func sooner(a, b int64) int64 {
	if a == 0 || b < a {
		return b
	}
	return a
}
