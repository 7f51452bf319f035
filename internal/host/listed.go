package host

import (
	"context"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/pin/control"
)

// heed tells the origin which of the segments that are held here are as good as
// lost, since a denylist of the host names them, so that they are held
// elsewhere, and which are named no more. That a storage peer says by itself, a
// replica when it is asked again. What is held stays: a list may name it by
// mistake.
func (h *Host) heed(ctx context.Context) {
	tick := time.NewTicker(h.o.Timing.Lists)
	defer tick.Stop()
	listed := map[string]bool{} // by multihash: the origin was told
	for {
		h.heedOnce(ctx, listed)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (h *Host) heedOnce(ctx context.Context, listed map[string]bool) {
	held := map[string]bool{}
	for _, r := range h.shelf.All() {
		name := string(r.Root.Hash())
		held[name] = true
		rule, denied := h.o.Lists.Why(r.Root.Hash())
		if denied == listed[name] {
			continue
		}
		told := control.Receipt{Root: r.Root, Outcome: control.Done}
		if denied {
			told.Outcome, told.Reason = control.Lost, "it is on a denylist of this host"
			h.o.Log.Warn("a denylist names what is held: it stays, and is not served", "cid", r.Root.String(), "rule", rule.String())
		} else if !h.whole(ctx, r.Root) {
			continue
		}
		if err := h.line.Tell(ctx, told); err != nil {
			if ctx.Err() == nil {
				h.o.Log.Error("tell that a segment is on a denylist, or no more", "cid", r.Root.String(), "err", err)
			}
			continue
		}
		listed[name] = denied
	}
	for name := range listed {
		if !held[name] {
			delete(listed, name)
		}
	}
}

// whole reports whether a segment is still held.
func (h *Host) whole(ctx context.Context, root cid.Cid) bool {
	pinned, err := h.node.Pinned(ctx, root)
	return err == nil && pinned && !h.lost.has(root)
}
