package keep

import (
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/audit"
)

// Times are kept as nanoseconds since 1970 UTC: a third of a time.Time, and
// there are several for each copy.

func at(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// stage is a State in one byte, with the stages that are not shown.
type stage uint8

const (
	former  stage = iota // held it, or might have; must hear of a purge
	ordered              // was told to hold it
	held
	proved
	failed
	lost
	purging // was or will be told to purge it
	purged  // has sent a receipt for that
)

func (s stage) state() State {
	switch s {
	case ordered:
		return Ordered
	case held:
		return Held
	case proved:
		return Proved
	case failed:
		return Failed
	case lost:
		return Lost
	default:
		return Purging
	}
}

// outcomes gives an audit.Outcome in one byte.
func outcomes() []audit.Outcome {
	return []audit.Outcome{"", audit.Proved, audit.Wrong, audit.Missing, audit.Late, audit.Offline}
}

func outcomeIndex(o audit.Outcome) uint8 {
	for i, x := range outcomes() {
		if x == o {
			return uint8(i)
		}
	}
	return 0
}

// slot is the copy of one holder.
type slot struct {
	h       *holder
	since   int64 // when it came to its stage
	proved  int64 // when it was last proved; 0: never
	due     int64 // when to challenge it, or what failed may be tried again
	reason  string
	stage   stage
	outcome uint8
	tries   uint8 // that failed in a row
	lates   uint8 // late answers in a row
	pinned  bool  // the pinset names the holder, as far as is known
	told    bool  // the order that belongs to the stage was given
	queued  bool  // waits in the holder's queue for a challenge
	leave   bool  // shall move to a better place
}

// active reports whether the holder is meant to have the segment.
func (x *slot) active() bool { return x.stage >= ordered && x.stage <= lost }

// broken reports whether the copy failed.
func (x *slot) broken() bool { return x.stage == failed || x.stage == lost }

// silent reports whether the pinset has given the segment to a peer that has
// not said anything about it. It may have had it all the time: after a while it
// is challenged, and nothing is held against it if it has not.
func (x *slot) silent() bool {
	return x.stage == ordered && x.told && x.due != 0 && x.reason == "" && x.h.role.Trusted()
}

// unheard reports whether a trusted peer shall hold the segment again that the
// pinset names already: it hears nothing of that unless it is told.
func (x *slot) unheard() bool {
	return x.stage == ordered && !x.told && x.pinned && x.h.role.Trusted() && !x.h.self
}

// has reports whether the holder says that it has the segment.
func (x *slot) has() bool { return x.stage == held || x.stage == proved }

// segment is all that is known of one root. There are many of them.
type segment struct {
	root      cid.Cid
	size      int64
	label     string // shared with the others of the station
	slots     []slot // the own one first, while the segment is wanted
	at        int64  // when to look at it again; 0: only on an event
	since     int64  // when it came, or was removed
	pinnedAt  int64  // when the pinset was last told
	retry     int64  // before then the pinset is not told again
	index     int32  // place in the agenda; -1: not there
	seen      uint32 // survey that last found it wanted
	listed    uint32 // survey that last found it pinned
	epoch     uint32 // state of the replicas for which its copies were placed
	min, max  uint8
	community uint8
	level     Level
	tries     uint8 // of telling the pinset
	spread    bool
	lifted    bool // peers that purged it are told that they may hold it again
	gone      bool // removed
	busy      bool // a worker carries out what was planned
	queued    bool // will be looked at
	again     bool // something happened while it was busy
	unsaved   bool // differs from what is stored
	saving    bool // stands in the list of those to store
	pinned    bool // the pinset has an entry for it, as far as is known
	repin     bool // the entry must be written, or removed, again
	short     bool // there was nobody to give a copy to
	healthy   bool
}

func (s *segment) want() Want {
	return Want{
		Root: s.root, Size: s.size, Label: s.label,
		Min: int(s.min), Max: int(s.max), Spread: s.spread, Community: int(s.community), Lifted: s.lifted,
	}
}

// slotOf finds the slot of a holder. It is valid until slots grow.
func (s *segment) slotOf(h *holder) *slot {
	for i := range s.slots {
		if s.slots[i].h == h {
			return &s.slots[i]
		}
	}
	return nil
}

// away reports whether a peer that is away, in good standing, has a copy.
func (s *segment) away() bool {
	return slices.ContainsFunc(s.slots, func(x slot) bool {
		return x.has() && !x.h.present && x.h.enrolled && !x.h.shunned()
	})
}

// addSlot is slotOf, and makes one if there is none.
func (s *segment) addSlot(h *holder) *slot {
	if x := s.slotOf(h); x != nil {
		return x
	}
	s.slots = append(s.slots, slot{h: h})
	return &s.slots[len(s.slots)-1]
}

// move brings a slot to a stage and keeps the books of its holder.
func (s *segment) move(x *slot, to stage, now int64) {
	if x.stage == ordered {
		x.h.promised -= s.size
	}
	if to == ordered {
		x.h.promise(s.size, now)
	} else if x.stage == ordered && (to == held || to == proved) {
		x.h.worked = now
	}
	if x.stage == ordered && to == held {
		x.h.free -= s.size
	}
	if x.stage != to || to == ordered {
		x.since = now
	}
	if x.has() {
		x.h.holds--
	}
	x.stage, s.unsaved = to, true
	if x.has() {
		x.h.holds++
	}
}

// fail is move to failed or lost, with what the peer or the auditor said.
func (s *segment) fail(x *slot, to stage, why string, now int64) {
	s.move(x, to, now)
	x.reason = clip(why)
	x.tries = min(x.tries+1, 60)
	x.leave = false
}

// clip bounds what a stranger said and keeps it on one line.
func clip(s string) string {
	b := make([]byte, 0, min(len(s), maxReason))
	for _, r := range s {
		if r < ' ' || r == 0x7f {
			r = ' '
		}
		if len(b)+4 > maxReason {
			break
		}
		b = append(b, string(r)...)
	}
	return string(b)
}

// tally counts the copies of a segment that count.
type tally struct {
	trusted, trustedProved   int
	replicas, replicasProved int
	services                 int
	sites                    int // of the proved ones that count for Min
}

// beyond is how many of n copies on replicas are more than Community asks for.
func (s *segment) beyond(n int) int { return max(n-int(s.community), 0) }

// staleAfter is how many audit cycles a proof is good for.
const staleAfter = 3

// counts reports whether a copy counts as held, and whether as proved.
func (k *Keeper) counts(x *slot, now int64) (says, proof bool) {
	if !x.has() || !x.h.present || x.stage == held && x.doubted() {
		return false, false
	}
	return true, x.stage == proved && now-x.proved <= int64(staleAfter*k.timing.Cycle)
}

// doubted reports whether the holder was asked to prove its copy, last time, and
// did not. Its word alone is worth nothing then.
func (x *slot) doubted() bool {
	switch outcomes()[x.outcome] {
	case audit.Wrong, audit.Missing, audit.Late:
		return true
	}
	return false
}

// tally counts what there is without one slot, or with all if that is nil.
func (k *Keeper) tally(s *segment, without *slot, now int64) tally {
	var t tally
	var sites [maxCopies + maxCommunity]string
	few := k.few(s)
	for i := range s.slots {
		x := &s.slots[i]
		if x == without {
			continue
		}
		says, proof := k.counts(x, now)
		if !says {
			continue
		}
		if x.h.role.Trusted() {
			t.trusted++
			if proof {
				t.trustedProved++
			}
		} else {
			t.replicas++
			if proof {
				t.replicasProved++
			}
		}
		if proof && s.spread && x.h.role.Trusted() {
			t.sites = addSite(&sites, t.sites, x.h.site)
		}
	}
	if spare := s.beyond(t.replicasProved); few && s.spread && spare > 0 {
		all := t.sites
		for i := range s.slots {
			x := &s.slots[i]
			if _, proof := k.counts(x, now); proof && x != without && !x.h.role.Trusted() {
				all = addSite(&sites, all, x.h.site)
			}
		}
		t.sites = min(all, t.sites+spare)
	}
	if k.o.Services != nil && few {
		for _, c := range k.o.Services.Copies(s.root) {
			if c.Pinned() {
				t.services++
			}
		}
	}
	return t
}

func addSite(sites *[maxCopies + maxCommunity]string, n int, site string) int {
	for _, other := range sites[:n] {
		if other == site {
			return n
		}
	}
	if n < len(sites) {
		sites[n] = site
		n++
	}
	return n
}

// few reports whether there are fewer trusted peers than the segment asks for.
func (k *Keeper) few(s *segment) bool { return k.trusted < int(s.max) }

// levelOf is the level that a tally amounts to.
func (k *Keeper) levelOf(s *segment, t tally) Level {
	says, proof := t.trusted, t.trustedProved
	if k.few(s) {
		says += s.beyond(t.replicas) + t.services
		proof += s.beyond(t.replicasProved)
	}
	need := int(s.min)
	switch {
	case proof >= need && (!s.spread || t.sites >= need):
		return Durable
	case says >= need:
		return Replicated
	case t.trusted+t.replicas+t.services > 0:
		return Stored
	default:
		return None
	}
}

// spare reports whether a segment stays Durable without a copy.
func (k *Keeper) spare(s *segment, x *slot, now int64) bool {
	return k.levelOf(s, k.tally(s, x, now)) == Durable
}

// find is the segment under a root and the slot of a peer, each nil if there is
// none.
func (k *Keeper) find(root cid.Cid, p peer.ID) (*segment, *slot) {
	s := k.segments[root]
	if s == nil {
		return nil, nil
	}
	h := k.holders[p]
	if h == nil {
		return s, nil
	}
	return s, s.slotOf(h)
}
