package pin

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
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
			if err := p.cluster.Close(); err != nil {
				t.Fatal(err)
			}
			if err := p.cluster.Close(); err != nil {
				t.Fatal(err)
			}
		}
		goleak.VerifyNone(t, before)
	}
}

// broken is a store that cannot list what is below a prefix.
type broken struct {
	datastore.Batching
	prefix string
}

var errBroken = errors.New("broken")

func (b broken) Query(ctx context.Context, q query.Query) (query.Results, error) {
	if strings.HasPrefix(q.Prefix, b.prefix) {
		return nil, errBroken
	}
	return b.Batching.Query(ctx, q)
}

// A cluster that cannot open leaves nothing behind either, and can be opened
// later.
func TestFailedOpenEndsAll(t *testing.T) {
	p := newPeer(t, newDepot(), "north")
	p.open(t, p)
	if err := p.cluster.Close(); err != nil {
		t.Fatal(err)
	}
	before := goleak.IgnoreCurrent()
	off, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(off, p.options(p)); !errors.Is(err, context.Canceled) {
		t.Errorf("called off, and says %v", err)
	}
	for _, prefix := range []string{crdtDone, crdtKey + "/h"} {
		o := p.options(p)
		if err := o.Store.Put(t.Context(), datastore.NewKey(storePrefix+openKey), nil); err != nil {
			t.Fatal(err)
		}
		o.Store = broken{p.store, storePrefix + prefix}
		if _, err := Open(t.Context(), o); !errors.Is(err, errBroken) {
			t.Errorf("on a broken store it says %v", err)
		}
		goleak.VerifyNone(t, before)
	}
	p.open(t, p)
	if err := p.cluster.Close(); err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t, before)
}
