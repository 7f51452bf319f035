package pin

import (
	"testing"
)

func TestPeersConverge(t *testing.T) {
	d, ps := trio(t)
	roots := pin(t, d, ps[0], "converge", 250, Placement{Label: "a1", Size: 160 << 10, Min: 2, Max: 2})
	await(t, "all held where the pinset says", func() bool { return settled(t, d, ps, roots) })

	got, ok, err := ps[2].cluster.Lookup(t.Context(), roots[7])
	if err != nil || !ok || got.Label != "a1" || got.Size != 160<<10 || got.Min != 2 || got.Max != 2 {
		t.Fatalf("looked up %+v, %v, %v", got, ok, err)
	}
	for _, p := range ps {
		if n := d.count(p.id); n < 120 || n > 215 {
			t.Errorf("a peer of three equal ones holds %d of 500 copies", n)
		}
	}
	for i := range roots[:100] {
		if err := ps[i%3].cluster.Unpin(t.Context(), roots[i]); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "what was unpinned is gone", func() bool {
		for _, root := range roots[:100] {
			if len(d.holders(root)) > 0 {
				return false
			}
		}
		return settled(t, d, ps, roots[100:])
	})
	if n := len(ps[1].pinset(t)); n != 150 {
		t.Errorf("%d pins are left of 150", n)
	}
}
