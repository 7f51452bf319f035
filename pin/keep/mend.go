package keep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/place"
)

// Recover has everything that failed tried again now: for the segments given,
// or for all. Of those that are given all who hold copies, this node included,
// are asked for a proof besides: once each, when they are there and it is their
// hours. ErrUnknown names the first that is not kept; the others are
// tried.
func (k *Keeper) Recover(ctx context.Context, roots ...cid.Cid) error {
	var failed error
	k.mu.Lock()
	named := len(roots) > 0
	if !named {
		for root, s := range k.segments {
			if !s.healthy {
				roots = append(roots, root)
			}
		}
	}
	var stuck []cid.Cid
	for _, root := range roots {
		s := k.segments[root]
		if s == nil {
			failed = cmp.Or(failed, fmt.Errorf("recover %s: %w", root, ErrUnknown))
			continue
		}
		if k.again(s, named) {
			stuck = append(stuck, root)
		}
	}
	k.hungry = true
	k.mu.Unlock()
	if k.o.Trusted == nil {
		return failed
	}
	for _, root := range stuck {
		if err := k.o.Trusted.Recover(ctx, root); err != nil {
			failed = errors.Join(failed, fmt.Errorf("recover %s: %w", root, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return failed
}

// again forgets that things failed with a segment, has those who proved their
// copies challenged now if all is set, and reports whether a trusted peer should
// have it and has not.
func (k *Keeper) again(s *segment, all bool) bool {
	now, stuck := k.nowNS(), false
	s.retry, s.tries = 0, 0
	for i := range s.slots {
		x := &s.slots[i]
		switch {
		case x.broken():
			x.tries, x.lates, x.due = 0, 0, now
			stuck = stuck || x.h.role.Trusted() && !x.h.self
		case x.stage == ordered:
			stuck = stuck || x.h.role.Trusted()
		case x.stage == held || all && x.stage == proved:
			x.due = now
		case x.stage == purging:
			x.told, x.tries = false, 0
		}
	}
	k.dirty(s)
	return stuck
}

// Rebalance has copies moved to the peers that suit their segments best by what
// room there is now, and returns how many that are. A copy goes when the one
// that replaces it is proved.
func (k *Keeper) Rebalance(ctx context.Context) (moved int, err error) {
	k.mu.Lock()
	all := make([]*segment, 0, len(k.segments))
	for _, s := range k.segments {
		all = append(all, s)
	}
	k.epoch++
	k.mu.Unlock()
	for part := range slices.Chunk(all, slice) {
		if err := ctx.Err(); err != nil {
			return moved, fmt.Errorf("rebalance: %w", err)
		}
		k.mu.Lock()
		now := k.nowNS()
		for _, s := range part {
			if !s.gone && k.segments[s.root] == s {
				moved += k.better(s, now)
				k.dirty(s)
			}
		}
		k.mu.Unlock()
	}
	return moved, nil
}

// better counts the copies of a segment that have a better place, and marks
// those on trusted peers for moving.
func (k *Keeper) better(s *segment, now int64) int {
	moved := 0
	for _, c := range k.bestReplicas(s, now) {
		if x := s.slotOf(k.holders[c.ID]); x == nil || !x.active() {
			moved++
		}
	}
	if !s.healthy {
		return moved
	}
	cs := k.scratch[:0]
	for _, h := range k.storages {
		if x := s.slotOf(h); x != nil && k.firm(x) || k.mayTake(s, h, false, now) {
			cs = append(cs, h.candidate())
		}
	}
	k.scratch = cs
	best := place.Choose(s.root, cs, k.goal(s)-1, []string{k.self.site}, s.spread)
	fresh := 0
	for _, c := range best {
		if x := s.slotOf(k.holders[c.ID]); x == nil || !k.firm(x) {
			fresh++
		}
	}
	for i := range s.slots {
		x := &s.slots[i]
		if fresh == 0 || x.h.self || !x.h.role.Trusted() || !k.firm(x) || isAmong(best, x.h.id) {
			continue
		}
		x.leave, s.unsaved = true, true
		fresh--
		moved++
	}
	return moved
}

func isAmong(cs []place.Candidate, id peer.ID) bool {
	return slices.ContainsFunc(cs, func(c place.Candidate) bool { return c.ID == id })
}

// Unhealthy gives at most limit of the segments of a station, or of all if
// label is empty, that are not as they should be: those furthest from it first.
func (k *Keeper) Unhealthy(label string, limit int) []Health {
	k.mu.Lock()
	defer k.mu.Unlock()
	var bad []*segment
	for _, s := range k.segments {
		if (label == "" || s.label == label) && (s.gone && k.outstanding(s) || !s.gone && !s.healthy) {
			bad = append(bad, s)
		}
	}
	slices.SortFunc(bad, func(a, b *segment) int {
		return cmp.Or(compare(a.gone, b.gone), cmp.Compare(a.level, b.level), cmp.Compare(a.root.KeyString(), b.root.KeyString()))
	})
	out := make([]Health, 0, min(len(bad), max(limit, 0)))
	for _, s := range bad[:min(len(bad), max(limit, 0))] {
		out = append(out, k.health(s))
	}
	return out
}

// Summary counts the segments of a station, or all if label is empty.
func (k *Keeper) Summary(label string) Summary {
	k.mu.Lock()
	defer k.mu.Unlock()
	sum := Summary{Strangers: k.survey.found, Surveyed: at(k.survey.last)}
	now := k.nowNS()
	for _, s := range k.segments {
		switch {
		case label != "" && s.label != label:
		case s.gone && k.outstanding(s):
			sum.Purging++
		case s.gone: // by all that is known
		default:
			k.sum(&sum, s, now)
		}
	}
	return sum
}

func (k *Keeper) sum(sum *Summary, s *segment, now int64) {
	t := k.tally(s, nil, now)
	level := k.levelOf(s, t)
	sum.Segments++
	sum.Bytes += s.size
	sum.Copies += t.trusted + t.replicas
	sum.Proved += t.trustedProved + t.replicasProved
	if !s.healthy {
		sum.Unhealthy++
	}
	if level == Durable && k.fewer(s, t) {
		sum.Fewer++
	}
	if level == None && s.away() {
		sum.Away++
	}
	for _, c := range []struct {
		l Level
		n *int
	}{{Stored, &sum.Stored}, {Replicated, &sum.Replicated}, {Durable, &sum.Durable}} {
		if level >= c.l {
			*c.n++
		}
	}
}
