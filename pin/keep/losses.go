package keep

import (
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/member"
)

const (
	lossSpan   = time.Hour          // losses within it are one failure, if nothing is lost twice
	lossMemory = 7 * 24 * time.Hour // without a loss, after which a failure is the first
	lossBars   = 6                  // doublings of the time in which nothing new is ordered
	alarmRest  = 10 * time.Minute   // between two doubts of what a peer has; doubles while they change nothing
	alarmRests = 6                  // doublings of that
)

// failures is what is known of a peer's losses since the start.
type failures struct {
	count  int              // failures, the first of them forgiven
	since  int64            // when the last one began
	left   int64            // how many copies it had then and has not lost in it
	barred int64            // it gets nothing new until then
	owed   int              // that its standing does not know yet
	dodged map[cid.Cid]bool // copies lost while challenges were under way
}

// loses is for a copy that a peer said it has and now says it has not. What a
// disk loses in one failure is forgiven, and ordered anew at once. Who fails
// again soon, or loses what it was ordered anew, gets nothing new for a while,
// and its standing hears of it.
func (k *Keeper) loses(s *segment, x *slot, now int64) {
	h := x.h
	f := &h.failures
	if h.auditing {
		if f.dodged == nil {
			f.dodged = map[cid.Cid]bool{}
		}
		f.dodged[s.root] = true
	}
	if h.role != member.Replica {
		return
	}
	if f.left--; f.since != 0 && now-f.since < int64(lossSpan) && f.left >= 0 {
		return
	}
	if now-f.since > int64(lossMemory) {
		f.count = 0
	}
	f.since, f.left = now, h.holds-1
	if f.count++; f.count > 1 {
		f.owed++
		f.barred = now + int64(time.Hour)<<min(f.count-2, lossBars)
	}
}

// fair are the outcomes of a batch that count for the standing of h: those of
// copies that were not given up meanwhile. Who says that copies are lost when it
// has been challenged is held to the challenges, but a disk that fails counts
// once. The lock is held.
func (k *Keeper) fair(h *holder, roots []cid.Cid, got []audit.Outcome) (fair []audit.Outcome) {
	once := false
	for i := range min(len(got), len(roots)) {
		_, x := k.find(roots[i], h.id)
		switch {
		case x == nil || got[i] == "":
		case x.has():
			fair = append(fair, got[i])
		case !h.failures.dodged[roots[i]]:
		case got[i] == audit.Wrong:
			fair = append(fair, got[i])
		case (got[i] == audit.Missing || got[i] == audit.Late) && !once:
			once = true
			fair = append(fair, got[i])
		}
	}
	return fair
}

// ledger is how the number of copies that a peer says it has compares with ours.
type ledger struct {
	short  bool  // its last report said less
	before int64 // our number then
	alarms int   // doubts in a row that changed nothing
	next   int64 // no doubt before then
}

// compare doubts all copies of a peer that says, twice in a row, that it has
// fewer than it has by our books: its records may be damaged. Copies that came
// between the two reports are left out of account.
func (k *Keeper) compare(h *holder, says, now int64) {
	b := &h.ledger
	again := b.short && says < b.before
	b.short, b.before = says < h.holds && h.takesOrders(), h.holds
	if !b.short {
		b.alarms = 0
		return
	}
	if !again || now < b.next {
		return
	}
	b.next = now + int64(alarmRest)<<min(b.alarms, alarmRests)
	b.alarms++
	k.log.Warn("a peer has fewer copies than it proved, and is challenged for all of them", "peer", h.id, "says", says, "books", h.holds)
	k.doubt(h, now)
}
