package host

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/musenai/musen/node"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
)

// relaysOf are the addresses of an origin that a host behind a home router can
// be reached through.
func relaysOf(origin peer.AddrInfo) []string {
	var public []string
	for _, a := range origin.Addrs {
		if manet.IsPublicAddr(a) {
			public = append(public, a.String()+"/p2p/"+origin.ID.String())
		}
	}
	return public
}

// trusted are the peers that may change the pinset.
func trusted(r member.Roster, m member.Membership) []peer.ID {
	ids := []peer.ID{m.Self}
	for _, p := range append(slices.Clone(m.Origins), r.Peers...) {
		if p.Role.Trusted() && !slices.Contains(ids, p.ID) {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

// follow keeps connections to the trusted peers of the newest roster, and no
// others, until ctx ends. A host that was removed keeps none: the line to the
// origin alone is tried, now and then.
func (h *Host) follow(ctx context.Context) {
	for {
		changed := h.o.Book.Changed()
		h.connect(ctx, h.o.Book.Roster())
		select {
		case <-changed:
		case <-h.out:
			h.leave()
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// leave gives up the connections that are kept. They are made again with the
// next roster.
func (h *Host) leave() {
	for id := range h.kept {
		h.node.Unpeer(id)
	}
	clear(h.kept)
}

// removed is told that this host was removed.
func (h *Host) removed() {
	select {
	case h.out <- struct{}{}:
	default:
	}
}

// ousted asks the origin, which took the connection and no line, whether this
// host was removed.
func (h *Host) ousted(ctx context.Context) bool {
	return errors.Is(member.Ousted(ctx, h.node.Host(), h.o.Book.Origin().ID), member.ErrRemoved)
}

// regarded hears what the origin thinks. An appeal that was answered is taken
// back.
func (h *Host) regarded(r control.Regard) {
	if appeal := h.state.get().Appeal; appeal == "" || appeal != r.Answered {
		return
	}
	if err := h.state.change(context.Background(), func(m *memory) { m.Appeal = "" }); err != nil {
		h.o.Log.Warn("take back an appeal that was answered", "err", err)
		return
	}
	h.o.Log.Info("the origin answered the appeal", "standing", r.Standing, "reason", r.Reason)
	h.line.Nudge()
}

// connect makes the connections those of a roster.
func (h *Host) connect(ctx context.Context, r member.Roster) {
	origin := h.o.Book.Origin()
	wanted := map[peer.ID]peer.AddrInfo{origin.ID: origin}
	for _, p := range r.Peers {
		if p.Role.Trusted() && p.ID != h.member.Self && p.ID != origin.ID {
			wanted[p.ID] = p.AddrInfo()
		}
	}
	for id, info := range wanted {
		addrs := spell(info)
		old, known := h.kept[id]
		if !known && h.cluster != nil {
			h.trust(ctx, id)
		}
		h.kept[id] = addrs
		if addrs != "" && old != addrs {
			h.node.Peer(info)
		}
	}
	for id := range h.kept {
		if _, stays := wanted[id]; stays {
			continue
		}
		delete(h.kept, id)
		if h.cluster != nil {
			if err := h.cluster.Distrust(ctx, id); err != nil && ctx.Err() == nil {
				h.o.Log.Error("distrust a peer", "peer", id, "err", err)
			}
		}
		h.node.Unpeer(id)
	}
}

func (h *Host) trust(ctx context.Context, id peer.ID) {
	if err := h.cluster.Trust(ctx, id); err != nil && ctx.Err() == nil {
		h.o.Log.Error("trust a peer", "peer", id, "err", err)
	}
}

// spell is the addresses of a peer in one text, to be compared.
func spell(info peer.AddrInfo) string {
	addrs := make([]string, len(info.Addrs))
	for i, a := range info.Addrs {
		addrs[i] = a.String()
	}
	slices.Sort(addrs)
	return strings.Join(addrs, " ")
}

// tell sends the origin a receipt for what the pinset had this peer do.
func (h *Host) tell(root cid.Cid, err error) {
	r := control.Receipt{Verb: control.Hold, Root: root, Outcome: control.Done, At: h.o.Now()}
	if err != nil {
		r.Outcome, r.Reason = control.Failed, err.Error()
	}
	h.telling.Go(func() {
		if err := h.line.Tell(context.Background(), r); err != nil {
			h.o.Log.Error("tell the origin of a segment", "cid", root.String(), "err", err)
		}
	})
}

// real is a contract whose disk is no more than the machine has, so that
// segments are placed by what can be kept. What is told is rounded down, and
// does not follow each byte: a change of it moves segments.
func (h *Host) real(c contract.Contract, st node.Stat) contract.Contract {
	if h.member.Role != member.Replica || st.Used == 0 {
		return c
	}
	c.Disk = h.storageMax(c)
	h.told.Lock()
	defer h.told.Unlock()
	h.told.disk = bounded(h.told.disk, c.Disk, st.Used+max(0, st.Free-st.Reserved))
	c.Disk = h.told.disk
	return c
}

// bounded is what to tell of an offer on a disk that has room for so much, if
// told was told before; 0: nothing was.
func bounded(told, offer, room int64) int64 {
	whole := room >= offer
	if told > 0 && told < offer { // it was less than the offer, and is until there is clearly more
		whole = room-offer/8 >= offer
	}
	if whole {
		return offer
	}
	if told > 0 && told < offer && told <= room && room-told <= told/2 {
		return told
	}
	step := int64(1)
	for step<<4 <= room {
		step <<= 1
	}
	return min(offer, max(contract.MinDisk, room/step*step))
}

// report is what the origin is told about the host.
func (h *Host) report() control.Report {
	st, err := h.node.Stat()
	if err != nil {
		h.o.Log.Warn("look how much room there is", "err", err)
	}
	m := h.state.get()
	r := control.Report{
		Contract: h.real(h.live.Contract(), st), Held: h.held(), Used: st.Used, Free: st.Room(),
		Served: h.state.total(h.live.Served()), Paused: h.live.Paused(), Leaving: m.Leaving, Appeal: m.Appeal, Version: h.o.Version,
	}
	for _, a := range h.node.Host().Addrs() {
		r.Addrs = append(r.Addrs, a.String())
	}
	return r
}
