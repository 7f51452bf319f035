package pin

import (
	"errors"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// cut keeps two peers apart: their connections break and new ones are refused.
func cut(t *testing.T, d *depot, a, b *peerUnder) {
	t.Helper()
	a.wall.set(true, b.id)
	b.wall.set(true, a.id)
	if err := errors.Join(a.host.Network().ClosePeer(b.id), b.host.Network().ClosePeer(a.id)); err != nil {
		t.Fatal(err)
	}
}

func TestPartitionHeals(t *testing.T) {
	d, ps := trio(t)
	lone := ps[2]
	before := pin(t, d, ps[0], "before", 30, Placement{Min: 2, Max: 2})
	await(t, "all held", func() bool { return settled(t, d, ps, before) })

	parted := true
	d.mu.Lock()
	d.apart = func(a, b peer.ID) bool { return parted && (a == lone.id) != (b == lone.id) }
	d.mu.Unlock()
	for _, p := range ps[:2] {
		cut(t, d, lone, p)
	}
	await(t, "both sides see it", func() bool {
		return len(alive(t, ps[0])) == 2 && len(alive(t, ps[1])) == 2 && len(alive(t, lone)) == 1
	})

	// Both sides go on. One segment is unpinned here and pinned anew there: the
	// pin wins in the pinset, as the side that unpinned is told afterwards.
	ctx := t.Context()
	many := pin(t, d, ps[0], "majority", 30, Placement{Min: 2, Max: 2})
	few := pin(t, d, lone, "minority", 30, Placement{Min: 1, Max: 2})
	gone := append(slices.Clone(before[:5]), before[10:15]...)
	for _, root := range before[:5] {
		if err := ps[1].cluster.Unpin(ctx, root); err != nil {
			t.Fatal(err)
		}
	}
	for _, root := range before[10:15] {
		if err := lone.cluster.Unpin(ctx, root); err != nil {
			t.Fatal(err)
		}
	}
	both := before[20]
	if err := lone.cluster.Unpin(ctx, both); err != nil {
		t.Fatal(err)
	}
	ps[0].pin(t, both, Placement{Min: 2, Max: 2, Label: "anew"})
	await(t, "the majority agrees", func() bool { return settled(t, d, ps[:2], many) })
	await(t, "the minority holds its own", func() bool {
		for _, root := range few {
			if !slices.Contains(d.holders(root), lone.id) {
				return false
			}
		}
		return true
	})

	d.mu.Lock()
	parted = false
	d.mu.Unlock()
	for _, p := range ps[:2] {
		lone.wall.set(false, p.id)
		p.wall.set(false, lone.id)
	}
	connect(t, ps...)
	kept := slices.Concat(before[5:10], before[15:], many, few)
	await(t, "all agree, and nothing pinned is lost", func() bool { return settled(t, d, ps, kept) })
	// Copies that one side moved for being lost count as pinned anew, so what
	// the other side unpinned may be back. To unpin it once more is final.
	for _, root := range gone {
		if err := lone.cluster.Unpin(ctx, root); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the same pinset everywhere", func() bool {
		return settled(t, d, ps, kept) && len(ps[0].pinset(t)) == len(kept)
	})
	await(t, "what was unpinned is held by nobody", func() bool {
		return !slices.ContainsFunc(gone, func(root cid.Cid) bool { return len(d.holders(root)) > 0 })
	})
	if _, ok, err := lone.cluster.Lookup(ctx, both); !ok || err != nil {
		t.Errorf("pinned anew and unpinned at once, and lost: %v, %v", ok, err)
	}
}
