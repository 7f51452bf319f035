package host

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen/internal/host/duty"
	"github.com/musenai/musen/internal/host/scrub"
	"github.com/musenai/musen/internal/host/shelf"
	"github.com/musenai/musen/internal/host/trustless"
	"github.com/musenai/musen/node"
	"github.com/musenai/musen/pin"
	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
)

var (
	_ duty.Blocks     = blocks{}
	_ duty.Checker    = checker{}
	_ duty.Terms      = offer{}
	_ control.Handler = hands{}
	_ scrub.Disk      = disk{}
	_ scrub.Segments  = segments{}
	_ scrub.Mender    = mender{}
	_ audit.Source    = proofs{}
	_ pin.Blocks      = pinset{}
	_ trustless.Terms = serving{}
)

// blocks is a node with the errors of duty.
type blocks struct{ *node.Node }

// Fetch implements duty.Blocks.
func (b blocks) Fetch(ctx context.Context, root cid.Cid, size int64) error {
	err := b.Node.Fetch(ctx, root, size)
	if errors.Is(err, node.ErrNoSpace) {
		return fmt.Errorf("%w: %w", duty.ErrFull, err)
	}
	return err
}

// checker looks into the segments of a node.
type checker struct{ *node.Node }

// Repair implements duty.Checker.
func (c checker) Repair(ctx context.Context, root cid.Cid) error { return c.Mend(ctx, root) }

// Parts implements duty.Checker. The block that every node has is none.
func (c checker) Parts(ctx context.Context, root cid.Cid) []cid.Cid {
	parts := []cid.Cid{root}
	leaves, err := c.Leaves(ctx, root)
	if err != nil {
		return parts // those that are not known are deleted all the same
	}
	for _, l := range leaves {
		if l.Size > 0 {
			parts = append(parts, l.CID)
		}
	}
	return parts
}

// offer is what a replica takes.
type offer struct {
	*contract.Live
	state *state
}

// Leaving implements duty.Terms.
func (o offer) Leaving() bool { return o.state.get().Leaving }

// disk is a node as it is checked.
type disk struct{ *node.Node }

// scrubError has the errors of scrub.
func scrubError(err error) error {
	switch {
	case errors.Is(err, node.ErrRotten):
		return fmt.Errorf("%w: %w", scrub.ErrRotten, err)
	case errors.Is(err, node.ErrNotFound):
		return fmt.Errorf("%w: %w", scrub.ErrMissing, err)
	}
	return err
}

// Size implements scrub.Disk.
func (d disk) Size(ctx context.Context, c cid.Cid) (int64, error) {
	n, err := d.Offline().Blockstore().GetSize(ctx, c)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", scrub.ErrMissing, err)
	}
	return int64(n), nil
}

// Verify implements scrub.Disk.
func (d disk) Verify(ctx context.Context, c cid.Cid) error { return scrubError(d.Node.Verify(ctx, c)) }

// segments are those that a host holds.
type segments struct {
	node  *node.Node
	shelf *shelf.Shelf
}

// Roots implements scrub.Segments.
func (s segments) Roots(context.Context) iter.Seq2[cid.Cid, error] {
	return func(yield func(cid.Cid, error) bool) {
		for _, r := range s.shelf.All() {
			if !yield(r.Root, nil) {
				return
			}
		}
	}
}

// Leaves implements scrub.Segments. What was dropped meanwhile has none.
func (s segments) Leaves(ctx context.Context, root cid.Cid) ([]cid.Cid, error) {
	leaves, err := s.node.Leaves(ctx, root)
	if _, held := s.shelf.Get(root); !held {
		return nil, nil
	}
	if err != nil {
		return nil, scrubError(err)
	}
	out := make([]cid.Cid, len(leaves))
	for i, l := range leaves {
		out[i] = l.CID
	}
	return out, nil
}

// mender replaces blocks, and tells what cannot be.
type mender struct{ h *Host }

// Heal implements scrub.Mender.
func (m mender) Heal(ctx context.Context, c cid.Cid) error {
	err := m.heal(ctx, c)
	if err != nil {
		m.h.bad.add(c)
	}
	return err
}

func (m mender) heal(ctx context.Context, c cid.Cid) error {
	if m.h.denies.Denied(c.Hash()) {
		return errors.New("it was purged, or is on a denylist")
	}
	if m.h.member.Role == member.Replica {
		return scrub.ErrOrdered // nobody serves what it is believed to have
	}
	return m.h.node.Heal(ctx, c)
}

// Lost implements scrub.Mender.
func (m mender) Lost(ctx context.Context, root cid.Cid, reason string) {
	m.h.lost.add(root)
	if _, held := m.h.shelf.Get(root); !held { // dropped in the meantime
		m.h.lost.remove(root)
		return
	}
	err := m.h.line.Tell(ctx, control.Receipt{Verb: control.Hold, Root: root, Outcome: control.Lost, Reason: reason, At: m.h.o.Now()})
	if err != nil && ctx.Err() == nil {
		m.h.o.Log.Error("tell that a segment is lost", "cid", root.String(), "err", err)
	}
}

// auditCount counts challenges that were answered.
type auditCount struct {
	mu   sync.Mutex
	n    int64
	last time.Time
}

func (a *auditCount) add(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.n++
	a.last = at
}

func (a *auditCount) get() (int64, time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.n, a.last
}

// proofs are the blocks of this disk, for audits.
type proofs struct {
	node  *node.Node
	count *auditCount
	now   func() time.Time
}

// Leaves implements audit.Source.
func (p proofs) Leaves(ctx context.Context, root cid.Cid) ([]audit.Leaf, error) {
	p.count.add(p.now())
	leaves, err := p.node.Leaves(ctx, root)
	if err != nil {
		return nil, err
	}
	out := make([]audit.Leaf, len(leaves))
	for i, l := range leaves {
		out[i] = audit.Leaf{CID: l.CID, Size: l.Size}
	}
	return out, nil
}

// ReadBlockAt implements audit.Source.
func (p proofs) ReadBlockAt(ctx context.Context, c cid.Cid, b []byte, off int64) (int, error) {
	return p.node.ReadLocalAt(ctx, c, b, off)
}

// pinset is a host as the cluster sees it.
type pinset struct{ h *Host }

// Fetch implements pin.Blocks.
func (p pinset) Fetch(ctx context.Context, root cid.Cid, size int64) error {
	if p.h.parting() {
		if held, err := p.Pinned(ctx, root); err != nil || !held {
			return errors.Join(err, errors.New("the host gives away what it has, and takes nothing"))
		}
	}
	if err := p.h.proves(ctx); err != nil {
		return err
	}
	return p.h.desk.Hold(ctx, shelf.Record{Root: root, Size: size})
}

// parting reports whether a storage peer is leaving, or being drained.
func (h *Host) parting() bool { return h.state.get().Leaving || h.drained() }

// drained reports whether the roster says that the operator drains this host. It
// tells of storage peers alone.
func (h *Host) drained() bool {
	return slices.ContainsFunc(h.o.Book.Roster().Peers, func(p member.Peer) bool {
		return p.ID == h.member.Self && p.Draining
	})
}

// Remove implements pin.Blocks.
func (p pinset) Remove(ctx context.Context, root cid.Cid) error { return p.h.desk.Drop(ctx, root) }

// Pinned implements pin.Blocks.
func (p pinset) Pinned(ctx context.Context, root cid.Cid) (bool, error) {
	return p.h.node.Pinned(ctx, root)
}

// Space implements pin.Blocks. A host that gives away what it has, has none.
func (p pinset) Space(context.Context) (used, free int64, err error) {
	st, err := p.h.node.Stat()
	if p.h.parting() {
		return st.Used, 0, err
	}
	return st.Used, st.Room(), err
}

// Pins implements pin.Blocks.
func (p pinset) Pins(ctx context.Context) iter.Seq2[cid.Cid, error] { return p.h.node.Pins(ctx) }

// serving is a host as its HTTP listener sees it.
type serving struct{ h *Host }

// Closed implements trustless.Terms.
func (s serving) Closed() (time.Duration, bool) {
	if opens := s.h.live.Opens(); !opens.IsZero() {
		return opens.Sub(s.h.o.Now()), true
	}
	return 5 * time.Second, !s.h.caughtUp()
}

// Denied implements trustless.Terms.
func (s serving) Denied(mh multihash.Multihash) bool { return s.h.denies.Denied(mh) }

// WaitN implements trustless.Terms.
func (s serving) WaitN(ctx context.Context, n int) error { return s.h.live.WaitN(ctx, n) }
