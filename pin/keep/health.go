package keep

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/remote"
)

// Wait returns when the segment has reached the level, or ctx ends. The Health
// is how it is then; the error is that of ctx, ErrUnknown, ErrGone or ErrClosed.
func (k *Keeper) Wait(ctx context.Context, root cid.Cid, level Level) (Health, error) {
	for {
		h, changed, err := k.reached(root, level)
		if changed == nil {
			return h, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			err = ctx.Err()
		case <-k.closed:
			err = ErrClosed
		}
		if err != nil {
			k.leave(root, changed)
			h, _ = k.Health(root)
			return h, fmt.Errorf("wait for copies of %s: %w", root, err)
		}
	}
}

// reached is the health of a segment and, if it is below the level, a channel
// that is closed when that may have changed.
func (k *Keeper) reached(root cid.Cid, level Level) (Health, chan struct{}, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.segments[root]
	switch {
	case s == nil:
		return Health{}, nil, fmt.Errorf("%w: %s", ErrUnknown, root)
	case s.gone:
		return k.health(s), nil, fmt.Errorf("%w: %s", ErrGone, root)
	}
	now := k.nowNS()
	if k.levelOf(s, k.tally(s, nil, now)) >= level {
		return k.health(s), nil, nil
	}
	ch := make(chan struct{})
	k.waiting[s] = append(k.waiting[s], ch)
	return Health{}, ch, nil
}

// leave takes back what reached left behind.
func (k *Keeper) leave(root cid.Cid, ch chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for s, all := range k.waiting {
		if s.root != root {
			continue
		}
		all = slices.DeleteFunc(all, func(c chan struct{}) bool { return c == ch })
		if k.waiting[s] = all; len(all) == 0 {
			delete(k.waiting, s)
		}
	}
}

func (k *Keeper) tellWaiting(s *segment) {
	for _, ch := range k.waiting[s] {
		close(ch)
	}
	delete(k.waiting, s)
}

// Health is how a segment is, and whether anything is known of it.
func (k *Keeper) Health(root cid.Cid) (Health, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.segments[root]
	if s == nil {
		return Health{Root: root}, false
	}
	return k.health(s), true
}

// health is Health. The lock is held, as in all that follows but Unhealthy and
// Summary.
func (k *Keeper) health(s *segment) Health {
	now := k.nowNS()
	h := Health{Root: s.root, Want: s.want(), Gone: s.gone}
	if s.at > 0 {
		h.Next = at(s.at)
	}
	for i := range s.slots {
		x := &s.slots[i]
		if s.gone && x.stage == purging || !s.gone && x.active() {
			h.Copies = append(h.Copies, k.copyOf(x, now))
		}
	}
	slices.SortStableFunc(h.Copies, func(a, b Copy) int {
		return cmp.Or(-compare(a.Peer == k.o.Self, b.Peer == k.o.Self), -compare(a.Role.Trusted(), b.Role.Trusted()), strings.Compare(a.Name, b.Name))
	})
	if k.o.Services != nil {
		for _, c := range k.o.Services.Copies(s.root) {
			h.Copies = append(h.Copies, Copy{
				Name: c.Service, Role: Service, State: serviceState(c), Since: c.Since, Reason: c.Reason,
			})
		}
	}
	if s.gone {
		h.Reason, h.Next = k.goneReason(s), k.goneNext(s, now)
		return h
	}
	t := k.tally(s, nil, now)
	h.Level = k.levelOf(s, t)
	h.Reason = k.reason(s, h.Level, now)
	if h.Reason == "" {
		if k.fewer(s, t) {
			h.Next = k.soonest(s, h.Next, now)
		}
		return h
	}
	if h.Next.IsZero() || h.Next.After(at(now+int64(k.timing.Pass))) {
		h.Next = at(now + int64(k.timing.Pass))
	}
	if coming, failing, opens := k.awaiting(s, now); len(coming)+len(failing) == 0 && !opens.IsZero() {
		h.Next = opens
	}
	if own := s.slotOf(k.self); own != nil && own.broken() && own.due < h.Next.UnixNano() {
		h.Next = at(max(own.due, now))
	}
	return h
}

// serviceState is the state of a service's copy in our words.
func serviceState(c remote.Copy) State {
	switch c.State {
	case remote.Pinned:
		return Held
	case remote.Failed:
		return Failed
	case remote.Removing:
		return Purging
	default:
		return Ordered
	}
}

func compare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func (k *Keeper) copyOf(x *slot, now int64) Copy {
	says, proof := k.counts(x, now)
	c := Copy{
		Peer: x.h.id, Name: x.h.name, Site: x.h.site, Role: x.h.role, State: x.stage.state(), Counts: proof,
		Since: at(x.since), Proved: at(x.proved), Outcome: outcomes()[x.outcome], Reason: x.reason,
	}
	if why := k.why(x, now); c.Reason == "" {
		c.Reason = why
	} else if why != "" && x.stage == purging {
		c.Reason += "; " + why
	}
	if c.Reason == "" && says && !proof {
		c.Reason = unproved(x)
	}
	return c
}

// unproved says why a copy that is held does not count.
func unproved(x *slot) string {
	switch {
	case x.outcome == outcomeIndex(audit.Offline):
		return "was not there when it was asked for a proof"
	case x.proved == 0:
		return "not proved yet"
	}
	return "its proof is too old, and it is asked for another"
}

// why says what is the matter with a holder, if anything.
func (k *Keeper) why(x *slot, now int64) string {
	h := x.h
	switch {
	case h.self:
		return ""
	case !h.enrolled && x.stage == purging:
		return "removed, not confirmed"
	case !h.enrolled:
		return "not on the roster"
	case h.shunned():
		return "its standing is " + string(h.standing)
	case h.excused(now):
		return h.excuse(now)
	case !h.up() && h.down > now:
		return "not back yet"
	case !h.up():
		return "away since " + at(h.down).Format("2006-01-02 15:04:05 MST")
	case h.parting():
		return "leaves when others hold its share"
	case x.leave:
		return "moves to a better place"
	}
	return ""
}

// label is what a peer is called.
func label(h *holder) string {
	if h.name != "" {
		return h.name
	}
	return h.id.String()
}

// some lists at most five.
func some(names []string) string {
	slices.Sort(names)
	if len(names) > 5 {
		return fmt.Sprintf("%s and %d others", strings.Join(names[:5], ", "), len(names)-5)
	}
	return strings.Join(names, ", ")
}

// reason says what is not as it should be with a wanted segment, the most
// important first. It is empty if all is well.
func (k *Keeper) reason(s *segment, level Level, now int64) string {
	t := k.tally(s, nil, now)
	own, mends := ownReason(s.slotOf(k.self))
	enough := level >= Durable && t.replicasProved >= int(s.community)
	if mends && enough {
		return own
	}
	var parts []string
	if own != "" {
		parts = append(parts, own)
	}
	if level == None {
		parts = append(parts, k.nowhere(s))
	}
	if level < Durable {
		parts = append(parts, k.shortfall(s, t, now))
	}
	if t.replicasProved < int(s.community) {
		parts = append(parts, fmt.Sprintf("%d of %d community copies proved", t.replicasProved, s.community))
	}
	if len(parts) == 0 {
		return ""
	}
	if p := k.problems[s]; p != "" {
		parts = append(parts, p)
	}
	if !enough { // else no peer is missing
		parts = append(parts, k.awaited(s, now)...)
	}
	return strings.Join(parts, "; ")
}

// nowhere says what it is that no copy counts: they are away, or there are none.
func (k *Keeper) nowhere(s *segment) string {
	if s.away() {
		return "no whole copy can be reached now"
	}
	return "no whole copy is known"
}

// ownReason says what is the matter with the own copy, if anything, and whether
// it is about to be mended.
func ownReason(own *slot) (why string, mends bool) {
	switch {
	case own == nil:
		return "the origin's own copy: missing", false
	case !own.broken():
		return "", false
	case own.mends():
		return "the origin's own copy: " + reasonOr(own.reason, "missing") + ", being mended", true
	}
	return "the origin's own copy: " + reasonOr(own.reason, "missing"), false
}

func (k *Keeper) shortfall(s *segment, t tally, now int64) string {
	proof := t.trustedProved
	if k.few(s) {
		proof += s.beyond(t.replicasProved)
	}
	if proof >= int(s.min) {
		return fmt.Sprintf("copies on %d of %d sites", t.sites, s.min)
	}
	return fmt.Sprintf("%d of %d copies proved", proof, s.min)
}

// awaiting names the peers whose copies are under way, and those whose are not.
// opens is when the first opens of those that are waited for and may be away.
func (k *Keeper) awaiting(s *segment, now int64) (coming, failing []string, opens time.Time) {
	for i := range s.slots {
		x := &s.slots[i]
		says, proof := k.counts(x, now)
		switch {
		case !x.active() || proof || x.h.self:
		case x.broken():
			failing = append(failing, label(x.h)+" failed: "+reasonOr(x.reason, "no reason given"))
		case (x.stage == ordered || says) && x.h.excused(now):
			if next := x.h.opens(now); opens.IsZero() || next.Before(opens) {
				opens = next
			}
		case x.stage == ordered || says:
			coming = append(coming, label(x.h))
		default:
			failing = append(failing, label(x.h)+" is "+reasonOr(k.why(x, now), "not counted"))
		}
	}
	return coming, failing, opens
}

// shut names the peers that are waited for and may be away.
func (k *Keeper) shut(s *segment, now int64) (names []string) {
	for i := range s.slots {
		x := &s.slots[i]
		if says, proof := k.counts(x, now); (x.stage == ordered || says) && !proof && x.h.excused(now) {
			names = append(names, label(x.h)+" is "+x.h.excuse(now))
		}
	}
	return names
}

// awaited says who is waited for, who is not, and who is missing.
func (k *Keeper) awaited(s *segment, now int64) []string {
	coming, failing, _ := k.awaiting(s, now)
	closed := k.shut(s, now)
	var parts []string
	if len(coming) > 0 {
		parts = append(parts, "waiting for "+some(coming))
	}
	for _, names := range [][]string{closed, failing} {
		if len(names) > 0 {
			parts = append(parts, some(names))
		}
	}
	switch {
	case len(coming)+len(closed) > 0:
	case s.queued || s.busy:
		parts = append(parts, "peers for it are being chosen")
	default:
		parts = append(parts, k.nobody(s, now))
	}
	return parts
}
