package keep

import (
	"context"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
)

// survey is what the comparison of all there is knows.
type survey struct {
	number    uint32           // counts the surveys
	began     int64            // when the present one did
	soon      int64            // when one is needed besides the regular ones; 0: not
	gone      map[cid.Cid]bool // dropped since the present one began
	strangers int              // entries of nobody that it has found
	last      int64            // when the last one ended
	found     int              // entries of nobody that the last one found
}

func (v *survey) dropped(root cid.Cid) {
	if v.gone != nil {
		v.gone[root] = true
	}
}

const (
	surveySlice = 256 // segments that are compared before others get the lock
	surveyPause = 5 * time.Millisecond
	surveyShare = 200 // a survey takes at most one part in so many of the time
	settleTicks = 10  // ticks after which a change of the pinset is seen in it
)

// surveySoon has a survey made at a time, or earlier. The lock is held.
func (k *Keeper) surveySoon(when int64) {
	if k.survey.soon != 0 && when >= k.survey.soon {
		return
	}
	k.survey.soon = when
	select {
	case k.sooner <- struct{}{}:
	default:
	}
}

// surveys compares everything at the start, then regularly, and some time after
// a trusted peer came back: what both sides of a partition did comes together
// then. Should surveys take long they are made less often.
func (k *Keeper) surveys(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		began := k.now()
		if err := k.surveyAll(ctx); err != nil && ctx.Err() == nil {
			k.log.Warn("wanted and pinned segments could not be compared", "err", err)
		}
		next := k.now().Add(max(k.timing.Pass, surveyShare*k.now().Sub(began)))
		for waiting := true; waiting; {
			timer.Reset(k.untilSurvey(next))
			select {
			case <-ctx.Done():
				return
			case <-k.sooner:
			case <-timer.C:
				waiting = false
			}
		}
	}
}

// untilSurvey is how long it is until the next survey, which is regularly due
// then.
func (k *Keeper) untilSurvey(next time.Time) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if soon := k.survey.soon; soon != 0 && soon < next.UnixNano() {
		next = at(soon)
	}
	return next.Sub(k.now())
}

// surveyAll compares the catalogue, the pinset and what is known.
func (k *Keeper) surveyAll(ctx context.Context) error {
	k.mu.Lock()
	v := &k.survey
	v.number++
	v.began, v.soon, v.strangers, v.gone = k.nowNS(), 0, 0, map[cid.Cid]bool{}
	k.mu.Unlock()
	err := k.surveyWants(ctx)
	if err == nil && k.o.Pinset != nil {
		err = k.surveyPins(ctx)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	v.gone = nil
	if err == nil {
		v.last, v.found = k.nowNS(), v.strangers
	}
	return err
}

// breathe lets others work.
func (k *Keeper) breathe(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(k.pause):
		return nil
	}
}

func (k *Keeper) surveyWants(ctx context.Context) error {
	some := make([]Want, 0, surveySlice)
	for w, err := range k.o.Wants.All(ctx) {
		if err != nil {
			return err
		}
		if some = append(some, w); len(some) < surveySlice {
			continue
		}
		k.meet(some)
		some = some[:0]
		if err := k.breathe(ctx); err != nil {
			return err
		}
	}
	k.meet(some)
	for _, root := range k.unseen() {
		if k.o.Wants.Gone(ctx, root) {
			k.Drop(root)
		}
	}
	return ctx.Err()
}

// meet takes note of segments that the catalogue wants.
func (k *Keeper) meet(wants []Want) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.nowNS()
	for _, w := range wants {
		if k.survey.gone[w.Root] {
			continue
		}
		if s, _ := k.want(w, now); s != nil && k.o.Services != nil {
			k.o.Services.Keep(s.root, s.label)
		}
	}
}

// unseen are the segments that we keep and the catalogue did not name.
func (k *Keeper) unseen() []cid.Cid {
	k.mu.Lock()
	defer k.mu.Unlock()
	var roots []cid.Cid
	for root, s := range k.segments {
		if !s.gone && s.seen != k.survey.number && s.since < k.survey.began {
			roots = append(roots, root)
		}
	}
	return roots
}

func (k *Keeper) surveyPins(ctx context.Context) error {
	some := make([]Pin, 0, surveySlice)
	for p, err := range k.o.Pinset.Pins(ctx) {
		if err != nil {
			return err
		}
		if some = append(some, p); len(some) < surveySlice {
			continue
		}
		k.comparePins(ctx, some)
		some = some[:0]
		if err := k.breathe(ctx); err != nil {
			return err
		}
	}
	k.comparePins(ctx, some)
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.segments {
		if s.pinned && s.listed != k.survey.number && !k.settling(s, k.survey.began) {
			k.unlisted(s)
		}
	}
	return ctx.Err()
}

// comparePins takes note of entries of the pinset. Those of removed segments go
// again, those of nobody are counted.
func (k *Keeper) comparePins(ctx context.Context, pins []Pin) {
	var strange []cid.Cid
	k.mu.Lock()
	now := k.nowNS()
	for _, p := range pins {
		if s := k.segments[p.Root]; s != nil {
			k.comparePin(s, p, now)
		} else {
			strange = append(strange, p.Root)
		}
	}
	k.mu.Unlock()
	for _, root := range strange {
		if k.o.Wants.Gone(ctx, root) {
			k.Drop(root)
			continue
		}
		k.mu.Lock()
		k.survey.strangers++
		k.mu.Unlock()
	}
}

// settling reports whether the pinset need not show yet what it was told.
func (k *Keeper) settling(s *segment, now int64) bool {
	return s.busy || now-s.pinnedAt < settleTicks*int64(k.timing.Tick)
}

func (k *Keeper) comparePin(s *segment, p Pin, now int64) {
	s.listed = k.survey.number
	if s.gone {
		s.pinned, s.repin = true, true
		k.dirty(s)
		return
	}
	if k.settling(s, now) {
		return
	}
	differs := !s.pinned
	s.pinned = true
	for _, id := range p.Holders {
		h := k.holders[id]
		if h == nil || !h.enrolled || !h.role.Trusted() {
			s.repin, differs = true, true
			continue
		}
		x := s.addSlot(h)
		if !x.active() && h.parting() && x.proved == 0 { // it gets nothing new: the entry is written without it
			x.pinned, x.told, differs = true, true, true
			continue
		}
		if !x.active() { // the pinset has helped itself
			s.move(x, ordered, now)
			x.told, x.reason, x.due, differs = true, "", k.probe(now), true
		}
		differs = differs || !x.pinned
		x.pinned = true
	}
	for i := range s.slots {
		x := &s.slots[i]
		if !x.pinned || slices.Contains(p.Holders, x.h.id) {
			continue
		}
		x.pinned, differs = false, true
		if x.active() && !x.h.present { // it drops its copy when it is back
			s.move(x, former, now)
		}
	}
	if differs {
		s.unsaved = true
		k.dirty(s)
	}
}

// unlisted is for a segment whose entry is missing from the pinset.
func (k *Keeper) unlisted(s *segment) {
	s.pinned, s.unsaved = false, true
	if !s.gone {
		s.repin = true
	}
	for i := range s.slots {
		s.slots[i].pinned = false
	}
	k.dirty(s)
}
