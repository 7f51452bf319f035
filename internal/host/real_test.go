package host

import (
	"testing"

	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
)

// What is told of an offer is never more than there is, and does not follow
// each byte.
func TestBounded(t *testing.T) {
	const gib = 1 << 30
	for _, x := range []struct{ told, offer, room, want int64 }{
		{0, 10 * gib, 58 * gib, 10 * gib},          // what is offered is there
		{0, 2000 * gib, 58 * gib, 56 * gib},        // it is not: rounded down
		{56 * gib, 2000 * gib, 57 * gib, 56 * gib}, // a little more or less
		{56 * gib, 2000 * gib, 80 * gib, 56 * gib}, // changes nothing
		{56 * gib, 2000 * gib, 90 * gib, 88 * gib}, // much more does
		{56 * gib, 2000 * gib, 55 * gib, 52 * gib}, // and less
		{56 * gib, 60 * gib, 61 * gib, 56 * gib},   // just enough, for now
		{56 * gib, 60 * gib, 80 * gib, 60 * gib},   // enough
		{60 * gib, 60 * gib, 60 * gib, 60 * gib},   // stays
		{60 * gib, 60 * gib, 59 * gib, 56 * gib},   // no longer
		{0, 100 * gib, 5 << 20, contract.MinDisk},  // next to nothing
		{100 * gib, 20 * gib, 500 * gib, 20 * gib}, // another offer
		{56 * gib, 40 * gib, 57 * gib, 40 * gib},   // a smaller one
		{0, contract.MinDisk, 2 << 20, contract.MinDisk},
	} {
		if got := bounded(x.told, x.offer, x.room); got != x.want {
			t.Errorf("told %d before, %d are offered and %d there: told %d, want %d", x.told, x.offer, x.room, got, x.want)
		}
	}
}

// An offer of more than the disk has is kept, and the origin hears of what there
// is.
func TestReportsRealDisk(t *testing.T) {
	o := newOrigin(t)
	const offer = 1 << 55
	g := o.join(member.Replica, "one", contract.Contract{Disk: offer})
	o.report(g.id, "the disk that is there", func(r control.Report) bool {
		return r.Contract.Disk >= contract.MinDisk && r.Contract.Disk < offer && r.Contract.Disk <= r.Used+r.Free+16<<20
	})
	s, err := g.Status(t.Context())
	if err != nil || s.Contract.Disk != offer || s.Disk >= offer {
		t.Errorf("status: %+v, %v", s, err)
	}
}
