package keep

import (
	"cmp"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
	"github.com/musenai/musen/pin/place"
)

// holder is a peer that holds segments, may, or did.
type holder struct {
	id       peer.ID
	role     member.Role
	name     string
	site     string
	self     bool
	enrolled bool
	draining bool // by the operator
	leaving  bool // by its own wish

	lined  bool // it had a line since the start; then the line tells whether it is there
	line   bool
	alive  bool  // by its metrics
	down   int64 // since when it is away; 0: it is there
	worked int64 // when it last came to hold what it was ordered

	contract contract.Contract
	renewed  bool // it is another one than when places were last chosen
	reported bool
	said     bool  // its line has told of room since it came up
	measured bool  // its metrics have told of room since they came again
	spoken   int64 // the room that its line told of
	quiet    int64 // when its metrics stopped coming
	free     int64 // bytes that it could take when it last said so, less what it took since
	promised int64 // bytes that were ordered and are not held yet
	peak     int64 // the most that were, in about a day
	peaked   int64 // when they were
	paused   int64 // absent by announcement until then
	standing audit.Standing

	present bool // its copies count
	missed  bool // it is away unannounced, which its standing does not know yet
	able    bool // it can be given more

	pending  []*segment // to be challenged
	auditing bool
	ready    bool // stands in the keeper's list of holders to challenge

	holds    int64 // copies that it says it has
	failures failures
	ledger   ledger
}

// up reports whether the peer can be reached, as far as is known.
func (h *holder) up() bool {
	if h.self {
		return true
	}
	if h.lined {
		return h.line
	}
	return h.alive
}

// shunned reports whether nothing that the peer says counts.
func (h *holder) shunned() bool {
	return h.standing == audit.Paused || h.standing == audit.Dropped
}

// parting reports whether its copies shall go elsewhere.
func (h *holder) parting() bool { return h.draining || h.leaving }

// maxPause bounds for how long a peer may announce to be away.
const maxPause = 30 * 24 * time.Hour

// excused reports whether a replica may be away.
func (h *holder) excused(now int64) bool {
	if h.role != member.Replica {
		return false
	}
	return h.paused > now || !h.contract.Hours.Open(at(now))
}

// opens is when a replica that is excused will serve again.
func (h *holder) opens(now int64) time.Time {
	return h.contract.Hours.Next(at(max(now, h.paused)))
}

// excuse says why a replica that may be away is not asked for anything.
func (h *holder) excuse(now int64) string {
	if h.paused > now {
		return "paused until " + h.opens(now).Format("2006-01-02 15:04 MST")
	}
	return "outside its hours until " + h.opens(now).Format("15:04 MST")
}

// unheard reports whether a peer has not said how much room it has since it was
// away, or never has.
func (h *holder) unheard() bool {
	if h.role == member.Replica {
		return !h.reported
	}
	return !h.measured && !h.said
}

// silence is since when nothing was heard from a peer that is missed.
func (h *holder) silence(now int64) string {
	since := h.quiet
	if !h.up() {
		since = h.down
	}
	if since == 0 || since > now {
		return "yet"
	}
	return "since " + at(since).Format(stamp)
}

// stamp is how a moment of the past is written.
const stamp = "2006-01-02 15:04:05 MST"

// challengeable reports whether it is fair and useful to audit it now.
func (h *holder) challengeable(now int64) bool {
	return h.self || h.enrolled && h.up() && !h.excused(now) && h.standing != audit.Dropped
}

// maxWeight bounds how much a host can attract by what it says it offers.
const maxWeight = 64 << 40

// weight is its part of all segments. For replicas it is what they offer, which
// does not change as they fill up: so copies stay where they are.
func (h *holder) weight() float64 {
	w := h.contract.Disk
	if h.role.Trusted() {
		w = h.free
	}
	f := float64(min(max(w, 0), maxWeight))
	if h.standing == audit.Warned {
		f /= 4
	}
	return f
}

// room reports whether size more bytes would fit.
func (h *holder) room(size int64) bool {
	free := h.free
	if h.role == member.Replica && !h.reported {
		free = h.contract.Disk
	}
	return free-h.promised >= size
}

// promise notes that h was ordered to hold so much more.
func (h *holder) promise(size, now int64) {
	h.promised += size
	if h.promised >= h.peak || now-h.peaked > int64(24*time.Hour) {
		h.peak, h.peaked = h.promised, now
	}
}

func (h *holder) candidate() place.Candidate {
	return place.Candidate{ID: h.id, Weight: h.weight(), Site: h.site}
}

// holder finds or makes the holder of a peer.
func (k *Keeper) holder(id peer.ID) *holder {
	h := k.holders[id]
	if h == nil {
		h = &holder{id: id, role: member.Replica, down: k.started + int64(k.timing.StartGrace)}
		k.holders[id] = h
	}
	return h
}

// grace is how long a peer may be away before its copies stop counting.
func (k *Keeper) grace(h *holder) int64 {
	if h.role.Trusted() {
		return int64(k.timing.TrustedGrace)
	}
	return int64(k.timing.ReplicaGrace)
}

// presentNow reports whether the copies of h count.
func (k *Keeper) presentNow(h *holder, now int64) bool {
	switch {
	case h.self:
		return true
	case !h.enrolled || h.shunned():
		return false
	case h.up() || h.excused(now):
		return true
	default:
		return now-h.down < k.grace(h)
	}
}

// ableNow reports whether h can be given more.
func (k *Keeper) ableNow(h *holder) bool {
	if h.self || !h.enrolled || h.parting() || h.shunned() || !h.up() {
		return false
	}
	return !h.role.Trusted() || h.alive
}

// look brings what follows from the state of a holder up to date. The lock is
// held here and in all that follows in this file, unless said otherwise.
func (k *Keeper) look(h *holder, now int64) {
	switch up := h.up(); {
	case !up && (h.down == 0 || h.excused(now)): // the grace begins with the end of the excuse
		h.down = max(h.down, now)
	case up && h.down != 0:
		if now-h.down > k.grace(h) { // its copies counted no more: they count again when they are proved
			k.doubt(h, now)
		} else {
			k.returned(h, now)
		}
		if h.role.Trusted() && !h.self {
			k.surveySoon(now + int64(k.timing.Tick)*10)
		}
		h.down = 0
	}
	if p := k.presentNow(h, now); p != h.present {
		h.missed = !p && h.enrolled && !h.up()
		h.present = p
		k.touch(h)
	}
	if a := k.ableNow(h); a != h.able {
		h.able = a
		k.hungry = k.hungry || a
	}
	if len(h.pending) > 0 && h.challengeable(now) {
		k.makeReady(h)
	}
}

// doubt is for a peer that was away for longer than its grace: what it held
// must be proved again, and it may be the better place for what came in the
// meantime.
func (k *Keeper) doubt(h *holder, now int64) {
	for _, s := range k.segments {
		if x := s.slotOf(h); x != nil && x.has() {
			s.move(x, held, now)
			x.due = now
			k.mendSoon(s, now)
			k.dirty(s)
		}
	}
	k.rerank = true
}

// returned is for a peer that was away for a while: what it could not be asked
// in the meantime it is asked now.
func (k *Keeper) returned(h *holder, now int64) {
	for _, s := range k.segments {
		x := s.slotOf(h)
		if x == nil || !x.has() {
			continue
		}
		if x.outcome == outcomeIndex(audit.Offline) {
			x.due = now
			k.dirty(s)
		}
		k.mendSoon(s, now)
	}
}

// touch has all segments of h looked at.
func (k *Keeper) touch(h *holder) {
	for _, s := range k.segments {
		if s.slotOf(h) != nil {
			k.dirty(s)
		}
	}
}

// touchAll has all segments looked at, and the places of copies chosen anew.
func (k *Keeper) touchAll() {
	k.epoch++
	for _, s := range k.segments {
		for i := range s.slots {
			if x := &s.slots[i]; x.stage == failed && x.h.renewed {
				x.due = 0
			}
		}
		k.dirty(s)
	}
	for _, h := range k.holders {
		h.renewed = false
	}
}

// recount counts the trusted peers.
func (k *Keeper) recount() {
	trusted, able := 0, 0
	for _, h := range k.holders {
		if !h.role.Trusted() || !h.enrolled || h.parting() {
			continue
		}
		trusted++
		if !h.shunned() {
			able++
		}
	}
	if trusted != k.trusted || able != k.capable {
		k.trusted, k.capable = trusted, able
		k.rerank = true
	}
}

// enrol brings the holders in line with the roster.
func (k *Keeper) enrol(peers []member.Peer, standings map[peer.ID]audit.Standing, now int64) {
	on := make(map[peer.ID]bool, len(peers))
	for _, p := range peers {
		if p.ID == k.o.Self {
			k.self.name = clip(p.Name)
		}
		if p.Role == member.Guest || p.ID == k.o.Self {
			continue
		}
		on[p.ID] = true
		h := k.holder(p.ID)
		k.admit(h, p, now)
		h.standing = standings[p.ID]
	}
	for id, h := range k.holders {
		if h.enrolled && !h.self && !on[id] {
			h.enrolled, h.lined, h.line, h.alive = false, false, false, false
			k.rerank = true
			k.touch(h)
		}
	}
	k.groups()
	k.recount()
	for _, h := range k.holders {
		k.look(h, now)
	}
}

func (k *Keeper) admit(h *holder, p member.Peer, now int64) {
	drains := p.Draining != h.draining
	if !h.enrolled || drains || h.role != p.Role || h.site != p.Site {
		k.rerank = true
		k.touch(h)
	}
	if !h.enrolled && h.down < now {
		h.down = now
	}
	h.enrolled, h.role, h.name, h.draining = true, p.Role, clip(p.Name), p.Draining
	h.site = clip(p.Site)
	if !h.reported {
		k.agree(h, p.Contract)
	}
}

// groups keeps the holders that can be chosen in a fixed order.
func (k *Keeper) groups() {
	k.storages, k.replicas, k.table = k.storages[:0], k.replicas[:0], nil
	for _, h := range k.holders {
		if !h.enrolled || h.self {
			continue
		}
		if h.role.Trusted() {
			k.storages = append(k.storages, h)
		} else {
			k.replicas = append(k.replicas, h)
		}
	}
	order := func(a, b *holder) int { return cmp.Compare(a.id, b.id) }
	slices.SortFunc(k.storages, order)
	slices.SortFunc(k.replicas, order)
}

// standings asks for the standings of peers. The lock is not held.
func (k *Keeper) standings(ids []peer.ID) map[peer.ID]audit.Standing {
	out := make(map[peer.ID]audit.Standing, len(ids))
	if k.o.Standings == nil {
		return out
	}
	for _, id := range ids {
		out[id] = k.o.Standings.Get(id)
	}
	return out
}

// roster asks who belongs to the swarm, and for their standings. The lock is
// not held.
func (k *Keeper) roster() ([]member.Peer, map[peer.ID]audit.Standing) {
	peers := k.o.Roster.Peers()
	ids := make([]peer.ID, len(peers))
	for i, p := range peers {
		ids[i] = p.ID
	}
	return peers, k.standings(ids)
}

// stand takes note of a standing.
func (k *Keeper) stand(h *holder, s audit.Standing, now int64) {
	if s == h.standing {
		return
	}
	before := h.weight()
	h.standing = s
	if h.weight() != before && h.role == member.Replica {
		k.table, k.rerank = nil, true
	}
	k.recount()
	k.look(h, now)
}

// agree takes note of a contract. What the peer refused under another one may
// be tried again when places are next chosen.
func (k *Keeper) agree(h *holder, c contract.Contract) {
	if h.contract.Disk == c.Disk && h.contract.Hours == c.Hours && slices.Equal(h.contract.Label, c.Label) {
		return
	}
	h.contract = c
	if h.role != member.Replica {
		return
	}
	k.table, k.rerank, h.renewed = nil, true, true
}

// report takes note of what a peer says about itself.
func (k *Keeper) report(h *holder, r control.Report, now int64) {
	more := r.Free > h.free
	h.reported, h.said, h.spoken = true, true, max(r.Free, 0)
	if h.role == member.Replica {
		h.free = max(r.Free, 0)
		k.agree(h, r.Contract)
		k.hungry = k.hungry || more && h.able
	}
	h.paused = 0
	if !r.Paused.IsZero() {
		h.paused = min(r.Paused.Unix(), (now+int64(maxPause))/1e9) * 1e9
	}
	k.compare(h, r.Held, now)
	if r.Leaving != h.leaving {
		h.leaving, k.rerank = r.Leaving, true // which has its segments looked at soon, and not for each word
		k.recount()
	}
	k.look(h, now)
}

// measure takes note of the metrics of the trusted peers.
func (k *Keeper) measure(ms []Metric, now int64) {
	known := make(map[peer.ID]Metric, len(ms))
	for _, m := range ms {
		known[m.ID] = m
	}
	for _, h := range k.storages {
		m := known[h.id]
		switch {
		case !m.Alive && h.alive:
			h.measured, h.quiet = false, now
		case m.Alive && m.Free > 0:
			h.measured = true
		case m.Alive && !h.measured && h.said: // its first word of room has not come
			m.Free = h.spoken
		}
		k.hungry = k.hungry || m.Free > h.free+h.free/8 // its first word of room may come after it was seen to be alive
		h.alive, h.free = m.Alive, m.Free
		if h.site == "" {
			h.site = clip(m.Site)
		}
	}
}
