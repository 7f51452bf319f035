package swarm

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/node"
	"github.com/musenai/musen/pin"
	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/keep"
	"github.com/musenai/musen/pin/member"
)

// holder is the origin's node as the pinset sees it. What is pinned here is the
// catalogue's business: the pinset can neither add to it nor take from it.
type holder struct{ *node.Node }

// Fetch implements pin.Holder.
func (h holder) Fetch(ctx context.Context, root cid.Cid, size int64) error {
	if held, err := h.Pinned(ctx, root); err != nil || held {
		return err
	}
	return errors.New("the origin holds what its catalogue has, and nothing else")
}

// Remove implements pin.Holder: it does nothing.
func (h holder) Remove(context.Context, cid.Cid) error { return nil }

// Space implements pin.Inventory.
func (h holder) Space(context.Context) (used, free int64, err error) {
	st, err := h.Stat()
	if err != nil {
		return 0, 0, err
	}
	return st.Used, st.Room(), nil
}

// Pins implements pin.Inventory.
func (h holder) Pins(ctx context.Context) iter.Seq2[cid.Cid, error] { return h.Node.Pins(ctx) }

// denied reports whether a segment was removed. Of nearly all that are asked
// about the cheaper look-up says that they live.
func (s *Swarm) denied(root cid.Cid) bool {
	ctx := context.Background()
	if _, live := s.o.Catalogue.SegmentOf(ctx, root.Hash()); live {
		return false
	}
	return s.o.Catalogue.Gone(ctx, root)
}

// local is the origin's own copies.
type local struct{ node *node.Node }

// Verify implements keep.Local.
func (l local) Verify(ctx context.Context, root cid.Cid) error {
	leaves, err := l.node.Leaves(ctx, root)
	if err != nil {
		return err
	}
	for _, leaf := range leaves {
		if err := l.node.Verify(ctx, leaf.CID); err != nil {
			return err
		}
	}
	return nil
}

// Mend implements keep.Local.
func (l local) Mend(ctx context.Context, root cid.Cid, _ int64) error { return l.node.Mend(ctx, root) }

// source is the origin's own blocks as audits read them. What they find missing
// the keeper is told.
type source struct{ s *Swarm }

// Leaves implements audit.Source.
func (s source) Leaves(ctx context.Context, root cid.Cid) ([]audit.Leaf, error) {
	leaves, err := s.s.node.Leaves(ctx, root)
	if err != nil {
		if ctx.Err() == nil {
			s.s.keeper.Found(root, err)
		}
		return nil, err
	}
	out := make([]audit.Leaf, len(leaves))
	for i, l := range leaves {
		out[i] = audit.Leaf(l)
	}
	return out, nil
}

// ReadBlockAt implements audit.Source.
func (s source) ReadBlockAt(ctx context.Context, c cid.Cid, p []byte, off int64) (int, error) {
	n, err := s.s.node.ReadLocalAt(ctx, c, p, off)
	if err != nil && ctx.Err() == nil && !errors.Is(err, io.EOF) {
		if root, live := s.s.o.Catalogue.SegmentOf(ctx, c.Hash()); live {
			s.s.keeper.Found(root, err)
		}
	}
	return n, err
}

// auditor gives the keeper what audits showed.
type auditor struct{ *audit.Auditor }

// Audit implements keep.Auditor.
func (a auditor) Audit(ctx context.Context, p peer.ID, roots []cid.Cid) ([]audit.Outcome, error) {
	results, err := a.Auditor.Audit(ctx, p, roots)
	if err != nil {
		return nil, err
	}
	outcomes := make([]audit.Outcome, len(results))
	for i, r := range results {
		outcomes[i] = r.Outcome
	}
	return outcomes, nil
}

// standings are those of the store.
type standings struct{ s *Swarm }

// Record implements keep.Standings.
func (t standings) Record(p peer.ID, o audit.Outcome, at time.Time) audit.Standing {
	return t.RecordAll(p, at, o)
}

// RecordAll records what a batch of challenges showed, with one write.
func (t standings) RecordAll(p peer.ID, at time.Time, outcomes ...audit.Outcome) audit.Standing {
	standing, err := t.s.standings.Record(context.Background(), p, at, outcomes...)
	if err != nil {
		t.s.o.Log.Error("record the outcomes of an audit", "peer", p.String(), "err", err)
	}
	return standing
}

// Get implements keep.Standings.
func (t standings) Get(p peer.ID) audit.Standing { return t.s.standings.Get(p).Standing }

// members is the ledger as the lines see it.
type members struct{ *member.Ledger }

// Role implements control.Members.
func (m members) Role(p peer.ID) (member.Role, bool) { return m.Gate().Role(p) }

// orders gives orders over the lines.
type orders struct{ s *Swarm }

// Order implements keep.Orders.
func (o orders) Order(ctx context.Context, to peer.ID, in control.Instruction) error {
	return o.OrderMany(ctx, to, in)
}

// OrderMany gives many orders with one write. control.ErrPurged is about some
// of them; the others were given, and giving one again changes nothing.
func (o orders) OrderMany(ctx context.Context, to peer.ID, ins ...control.Instruction) error {
	return o.s.lines.Order(ctx, to, ins...)
}

// pinset is the cluster as the keeper sees it, which may not be there yet.
type pinset struct{ s *Swarm }

// Pin implements keep.Pinset.
func (p pinset) Pin(ctx context.Context, w keep.Pin) error {
	c := p.s.cluster.Load()
	if c == nil {
		return nil
	}
	return c.Pin(ctx, w.Root, pin.Placement{Label: w.Label, Size: w.Size, Min: w.Min, Max: w.Max, Prefer: w.Holders, Avoid: w.Avoid})
}

// Unpin implements keep.Pinset.
func (p pinset) Unpin(ctx context.Context, root cid.Cid) error {
	c := p.s.cluster.Load()
	if c == nil {
		return nil
	}
	return c.Unpin(ctx, root)
}

// Pins implements keep.Pinset.
func (p pinset) Pins(ctx context.Context) iter.Seq2[keep.Pin, error] {
	return func(yield func(keep.Pin, error) bool) {
		c := p.s.cluster.Load()
		if c == nil {
			return
		}
		for x, err := range c.Pins(ctx) {
			if !yield(keep.Pin{Root: x.Root, Label: x.Label, Size: x.Size, Min: x.Min, Max: x.Max, Holders: x.Holders}, err) {
				return
			}
		}
	}
}

// Peers implements keep.Trusted.
func (p pinset) Peers(ctx context.Context) (all []keep.Metric) {
	c := p.s.cluster.Load()
	if c == nil {
		return nil
	}
	for _, m := range c.Peers(ctx) {
		all = append(all, keep.Metric(m))
	}
	return all
}

// Recover implements keep.Trusted.
func (p pinset) Recover(ctx context.Context, root cid.Cid) error {
	c := p.s.cluster.Load()
	if c == nil {
		return nil
	}
	return c.Recover(ctx, root)
}
