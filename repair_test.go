package musen_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/testnet"
	"github.com/musenai/musen/policy"
)

// mender is a home as a Mender.
type mender struct {
	musen.BlockChecker
	h *testnet.Home
}

func (m mender) Heal(ctx context.Context, c cid.Cid) error { return m.h.Node.Heal(ctx, c) }

func (m mender) Inner(ctx context.Context, segment string) ([]cid.Cid, error) {
	return m.h.Rows.Inner(ctx, segment)
}

// A segment that lost or has rotten blocks, between root and leaves too, is
// whole again when a peer has them; when none has, the report says so.
func TestRepair(t *testing.T) {
	h := testnet.New(t, testnet.Uncached)
	o := h.Origin()
	jazz := station(t, o, "jazz")
	long, short := add(t, o, "jazz", wav(1, 175*musen.LeafSize)), add(t, o, "jazz", wav(2, 1000))
	inner, err := h.Rows.Inner(t.Context(), long.ID)
	must(t, err)
	if len(inner) != 2 {
		t.Fatalf("%d blocks between root and leaves", len(inner))
	}
	auditor, blocks := h.Grant(t, []policy.Action{policy.Audit}, jazz.ID), mender{h.Node, h}
	repair := func(s musen.Segment) musen.Report {
		t.Helper()
		r, err := h.Edge(t).Repair(t.Context(), auditor, blocks, s.CID)
		must(t, err)
		return r
	}
	if r := repair(long); r.Err != nil || r.Mended != 0 {
		t.Errorf("sound: %+v", r)
	}
	testnet.Connect(t, h.Node, append(inner, long.CID, long.Leaves[0], long.Leaves[1], long.Leaves[174])...)
	must(t, os.Remove(h.BlockFile(inner[1])))
	must(t, os.Remove(h.BlockFile(long.Leaves[0])))
	damage{"", 1, flip(70_000)}.strike(t, h, long)
	damage{"", 174, cutTo(5)}.strike(t, h, long)
	// The first leaf is fetched as soon as the segment is opened.
	if r := repair(long); r.Err != nil || r.Mended != 3 || r.Bytes != long.Size || r.Blocks != len(long.Leaves) {
		t.Errorf("repaired: %+v", r)
	}
	must(t, os.Remove(h.BlockFile(long.CID)))
	if r := repair(long); r.Err != nil || r.Mended != 1 {
		t.Errorf("its root repaired: %+v", r)
	}
	damage{"", 0, flip(500)}.strike(t, h, short)
	if r := repair(short); r.Err == nil || r.Mended != 0 || !strings.Contains(r.Err.Error(), short.CID.String()) {
		t.Errorf("nobody has it: %+v", r)
	}
	_, err = h.Edge(t).Repair(t.Context(), h.Grant(t, []policy.Action{policy.Audit}, short.ID), blocks, long.CID)
	wantErr(t, err, musen.ErrNotFound)
	_, err = h.Rows.Inner(t.Context(), jazz.ID)
	wantErr(t, err, musen.ErrNotFound)
}
