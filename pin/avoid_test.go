package pin

import (
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
)

// A peer to avoid gets nothing, preferred or not; what it has it keeps for as
// long as it is preferred.
func TestPeersToAvoid(t *testing.T) {
	d, ps := trio(t)
	ctx, self, other, parts := t.Context(), ps[0].id, ps[1].id, ps[2].id
	fresh, old := rootN(t, "avoid", 0), rootN(t, "avoid", 1)
	d.add(self, fresh)
	d.add(self, old)
	holders := func(what string, root int, pl Placement, want ...peer.ID) {
		t.Helper()
		r := fresh
		if root == 1 {
			r = old
		}
		if err := ps[0].cluster.Pin(ctx, r, pl); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		got, _, err := ps[0].cluster.Lookup(ctx, r)
		slices.Sort(want)
		slices.Sort(got.Holders)
		if err != nil || !slices.Equal(got.Holders, want) {
			t.Errorf("%s: held by %v, not %v, %v", what, got.Holders, want, err)
		}
	}
	holders("alone in need", 0, Placement{Min: 1, Max: 3, Avoid: []peer.ID{parts}}, self, other)
	holders("preferred", 0, Placement{Min: 1, Max: 3, Prefer: []peer.ID{self, parts}, Avoid: []peer.ID{parts}}, self, other)

	holders("before", 1, Placement{Min: 1, Max: 2, Prefer: []peer.ID{self, parts}}, self, parts)
	await(t, "it is held", func() bool { return slices.Contains(d.holders(old), parts) })
	keeps := Placement{Min: 1, Max: 3, Prefer: []peer.ID{self, parts, other}, Avoid: []peer.ID{parts}}
	holders("it has it", 1, keeps, self, other, parts)
	holders("it is let go", 1, Placement{Min: 1, Max: 3, Prefer: []peer.ID{self, other}, Avoid: []peer.ID{parts}}, self, other)
	await(t, "it is dropped", func() bool { return !slices.Contains(d.holders(old), parts) })
}
