package pin

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"go.uber.org/goleak"
)

// stuck is a shelf whose fetches end with their context alone.
type stuck struct {
	*shelf
	began atomic.Int64
}

func (s *stuck) Fetch(ctx context.Context, _ cid.Cid, _ int64) error {
	s.began.Add(1)
	<-ctx.Done()
	return ctx.Err()
}

// Nothing of a cluster runs once it is closed, though its host stays open and
// its fetches were under way.
func TestCloseEndsAll(t *testing.T) {
	d := newDepot()
	ps := []*peerUnder{newPeer(t, d, "north"), newPeer(t, d, "south"), newPeer(t, d, "west")}
	connect(t, ps...)
	before := goleak.IgnoreCurrent()
	for round := range 2 {
		var slow *stuck
		for i, p := range ps {
			o := p.options(ps...)
			if i == 1 {
				slow = &stuck{shelf: p.shelf}
				o.Blocks = slow
			}
			p.openWith(t, o)
		}
		awaitAlive(t, len(ps), ps...)
		pin(t, d, ps[0], "closing", 50*(round+1), Placement{Min: 3, Max: 3})
		await(t, "fetches are under way", func() bool { return slow.began.Load() > 0 })
		for _, p := range ps {
			began := time.Now()
			if err := p.cluster.Close(); err != nil {
				t.Fatal(err)
			}
			if err := p.cluster.Close(); err != nil {
				t.Fatal(err)
			}
			t.Logf("closed in %v", time.Since(began))
		}
		goleak.VerifyNone(t, before)
	}
}

// A cluster that cannot open leaves nothing behind either.
func TestFailedOpenEndsAll(t *testing.T) {
	p := newPeer(t, newDepot(), "north")
	before := goleak.IgnoreCurrent()
	hosts := goleak.IgnoreAnyFunction("github.com/libp2p/go-libp2p/p2p/protocol/identify.(*idService).loop.func1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if c, err := Open(ctx, p.options(p)); err == nil {
		_ = c.Close()
		t.Fatal("opened though it was called off")
	}
	goleak.VerifyNone(t, before, hosts)
}
