package host

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/internal/host/duty"
	"github.com/musenai/musen/internal/host/local"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
)

var _ local.Node = (*Host)(nil)

// maxPause is the longest pause that an origin excuses.
const maxPause = 30 * 24 * time.Hour

// Status tells how the host is.
func (h *Host) Status(context.Context) (local.Status, error) {
	st, err := h.node.Stat()
	if err != nil {
		return local.Status{}, err
	}
	line, m := h.line.Status(), h.state.get()
	s := local.Status{
		PeerID: h.member.Self.String(), Role: string(h.member.Role), Name: h.member.Name, Site: h.member.Site,
		Realm: h.member.Realm, Version: h.o.Version, Peer: h.node.Addrs(), HTTP: h.HTTP(),
		Origins:  []local.Line{{Peer: line.Origin.String(), Up: line.Up, Since: line.Since, Reason: line.Fault}},
		CaughtUp: h.caughtUp(), Removed: moment(line.Removed), Opens: moment(h.live.Opens()), Paused: moment(h.live.Paused()),
		Leaving: m.Leaving, Draining: line.Regard.Draining || h.drained(), Appeal: m.Appeal, Contract: h.live.Contract(),
		Held: h.held(), Lost: h.lost.len(), Bad: h.bad.len(), Working: int64(h.desk.Working()), Waiting: int64(line.Waiting), Unsent: int64(line.Unsent),
		Used: st.Used, Free: st.Room(), Disk: st.Used + max(0, st.Free-st.Reserved), Served: h.state.total(h.live.Served()),
	}
	if r := line.Regard; r.Standing != "" {
		s.Standing = &local.Standing{Is: r.Standing, Since: moment(r.Since), Reason: r.Reason, Audit: r.Audit, Audited: moment(r.Audited)}
	}
	if st.Max > 0 && st.Used > st.Max {
		s.Free = st.Max - st.Used
	}
	var last time.Time
	s.Audits, last = h.audits.get()
	s.Audited = moment(last)
	if !m.Scrub.Ended.IsZero() {
		s.Scrub = &m.Scrub
	}
	if h.o.Lists != nil {
		s.Denylists = h.o.Lists.State()
	}
	return s, nil
}

// moment is nil for the zero time.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// HTTP is the address of the HTTP listener, or "".
func (h *Host) HTTP() string {
	switch {
	case h.o.HTTP == nil:
		return ""
	case h.o.HTTP.CertFile != "":
		return "https://" + h.o.HTTP.Listener.Addr().String()
	}
	return "http://" + h.o.HTTP.Listener.Addr().String()
}

// Peer returns the multiaddrs, peer ID included, that peers can dial.
func (h *Host) Peer() []string { return h.node.Addrs() }

// Why tells why the host has a segment, or has not.
func (h *Host) Why(_ context.Context, c cid.Cid) (local.Why, error) {
	w := local.Why{CID: c.String(), Denied: h.denies.Denied(c.Hash())}
	r, held := h.shelf.Get(c)
	if held {
		w.CID, w.Held, w.Label, w.Size, w.Seq, w.Since = r.Root.String(), true, r.Label, r.Size, r.Seq, moment(r.Since)
	}
	last, ordered := h.desk.Last(c)
	if ordered {
		o := orderOf(last)
		w.Last = &o
	}
	if w.Reason = reason(w, r.Seq > 0, ordered, last); w.Denied && !h.denied.Has(c) {
		w.Reason = "it is on a denylist of this host, which neither takes nor serves it: " + h.listed(c)
	} else if held && h.lost.has(c) {
		w.Held, w.Reason = false, "it is not whole on the disk: the origin was told, and orders it anew if it shall be here"
	}
	return w, nil
}

// listed is the rule of a denylist that denies a block.
func (h *Host) listed(c cid.Cid) string {
	if h.o.Lists == nil {
		return ""
	}
	r, _ := h.o.Lists.Why(c.Hash())
	return r.String()
}

// reason says in words why a segment is held, or is not.
func reason(w local.Why, ordered, known bool, last duty.Entry) string {
	switch {
	case w.Denied:
		return "it was removed or taken down: this host deleted it and will not serve it again"
	case w.Held && ordered:
		return fmt.Sprintf("the origin ordered it: order %d, under station label %s", w.Seq, w.Label)
	case w.Held:
		return "the pinset gives it to this host"
	case !known:
		return "no order for it is known: this host never held it, dropped it before it was last started, or lost it"
	case last.Outcome == control.Done:
		return "the origin ordered to drop it"
	}
	return fmt.Sprintf("the origin ordered it, and it is not here: %s", last.Reason)
}

func orderOf(e duty.Entry) local.Order {
	return local.Order{
		Seq: e.Order.Seq, Verb: string(e.Order.Verb), CID: e.Order.Root.String(), Label: e.Order.Label, Size: e.Order.Size,
		Outcome: string(e.Outcome), Reason: e.Reason, At: e.At,
	}
}

// Orders lists the newest orders that were carried out or tried since the
// start.
func (h *Host) Orders(limit int) []local.Order {
	log := h.desk.Log(limit)
	out := make([]local.Order, len(log))
	for i, e := range log {
		out[i] = orderOf(e)
	}
	return out
}

// acceptable refuses a contract that a host of this role cannot have.
func (h *Host) acceptable(c contract.Contract) error {
	if err := c.Check(); err != nil {
		return err
	}
	if c.Disk == 0 && h.member.Role == member.Replica {
		return fmt.Errorf("%w: a replica offers some disk", contract.ErrInvalid)
	}
	return nil
}

// membered refuses what needs an origin that listens to this host.
func (h *Host) membered() error {
	if h.line.Status().Removed.IsZero() {
		return nil
	}
	return local.Refuse(http.StatusForbidden, local.Removed, "the origin removed this host from the swarm: nobody there listens to it any more")
}

// SetContract puts another contract in force, durably and at once: less disk
// takes nothing more until enough was given away, a cap and hours hold for what
// is being sent. The origin is told, and moves what is no longer covered; until
// it says so nothing is deleted.
func (h *Host) SetContract(_ context.Context, c contract.Contract) error {
	if err := h.acceptable(c); err != nil {
		return local.Refuse(http.StatusBadRequest, "bad_contract", "%s", err)
	}
	h.setting.Lock()
	defer h.setting.Unlock()
	if err := contract.Save(h.o.ContractFile, c); err != nil {
		return err
	}
	h.node.SetStorageMax(h.storageMax(c))
	if err := h.live.Set(c); err != nil {
		return err
	}
	h.line.Nudge()
	return nil
}

// Pause stops serving until then, durably, and announces it to the origin; the
// zero time resumes.
func (h *Host) Pause(ctx context.Context, until time.Time) error {
	if err := h.membered(); err != nil && !until.IsZero() {
		return err
	}
	if now := h.o.Now(); !until.IsZero() && (!until.After(now) || until.After(now.Add(maxPause))) {
		return local.Refuse(http.StatusBadRequest, "bad_pause", "a pause ends in the future, and within %d days", int(maxPause.Hours()/24))
	}
	if err := h.state.change(ctx, func(m *memory) { m.Paused = until }); err != nil {
		return err
	}
	h.live.Pause(until)
	h.line.Nudge()
	return nil
}

// Leave asks the origin to give all that the host holds to others, durably, and
// takes nothing more; or no longer.
func (h *Host) Leave(ctx context.Context, leaving bool) error {
	if err := h.membered(); err != nil {
		return err
	}
	if err := h.state.change(ctx, func(m *memory) { m.Leaving = leaving }); err != nil {
		return err
	}
	h.line.Nudge()
	return nil
}

// Appeal tells the origin what the host has to say against its standing; ""
// takes that back. White space is made one blank.
func (h *Host) Appeal(ctx context.Context, text string) error {
	if err := h.membered(); err != nil {
		return err
	}
	text = strings.Join(strings.Fields(text), " ")
	if strings.ContainsFunc(text, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) {
		return local.Refuse(http.StatusBadRequest, "bad_appeal", "an appeal is text")
	}
	if err := h.state.change(ctx, func(m *memory) { m.Appeal = text }); err != nil {
		return err
	}
	h.line.Nudge()
	return nil
}
