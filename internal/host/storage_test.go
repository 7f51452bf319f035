package host

import (
	"context"
	"errors"
	"iter"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/node"
	"github.com/musenai/musen/pin"
	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
)

// own are the origin's blocks as its pinset sees them: the pinset changes
// nothing there.
type own struct{ *node.Node }

func (o own) Fetch(ctx context.Context, root cid.Cid, _ int64) error {
	if held, err := o.Pinned(ctx, root); err != nil || held {
		return err
	}
	return errors.New("not here")
}

func (own) Remove(context.Context, cid.Cid) error { return nil }

func (o own) Space(context.Context) (used, free int64, err error) {
	st, err := o.Stat()
	return st.Used, st.Room(), err
}

func (o own) Pins(ctx context.Context) iter.Seq2[cid.Cid, error] { return o.Node.Pins(ctx) }

// cluster joins the origin to the pinset.
func (o *origin) cluster(trusted ...peer.ID) *pin.Cluster {
	o.t.Helper()
	h := o.node.Host()
	c, err := pin.Open(o.t.Context(), pin.Options{
		Host: h, Store: o.node.Store(), Name: "origin", Realm: testRealm, Trusted: append(trusted, h.ID()), Blocks: own{o.node},
		Timing: fast(),
	})
	must(o.t, err)
	o.t.Cleanup(func() { must(o.t, c.Close()) })
	return c
}

// A storage peer holds what the pinset gives it, tells so, proves it, lets it
// go when the pinset does, and purges on order, whatever the pinset says then.
func TestStorageFollowsThePinset(t *testing.T) {
	o := newOrigin(t)
	g := o.join(member.Storage, "store", contract.Contract{})
	g.ready()
	c := o.cluster(g.id)
	kept, gone, purged := o.add(1, 600_000), o.add(2, 1000), o.add(3, 1000)
	for _, root := range []cid.Cid{kept, gone, purged} {
		o.pin(c, root, g.id)
		o.receipt(g.id, control.Hold, root, control.Done)
		g.proves(root, audit.Proved)
	}
	if s, err := g.Status(t.Context()); err != nil || s.Held != 3 || s.Role != "storage" {
		t.Errorf("status: %+v, %v", s, err)
	}
	if w, err := g.Why(t.Context(), kept); err != nil || !w.Held || w.Seq != 0 {
		t.Errorf("why: %+v, %v", w, err)
	}
	must(t, c.Unpin(t.Context(), gone))
	o.report(g.id, "one less", func(r control.Report) bool { return r.Held == 2 })
	if _, err := g.node.Leaves(t.Context(), gone); !errors.Is(err, node.ErrNotFound) {
		t.Errorf("what was unpinned: %v", err)
	}
	o.order(g.id, control.Purge, purged, 0)
	o.receipt(g.id, control.Purge, purged, control.Done)
	if status, _ := g.get(purged, "raw"); status != 410 {
		t.Errorf("purged: status %d", status)
	}
	o.receipt(g.id, control.Hold, kept, control.Done)
}

// pin has the pinset give a segment to a peer, once that is known to be alive.
func (o *origin) pin(c *pin.Cluster, root cid.Cid, to peer.ID) {
	o.t.Helper()
	p := pin.Placement{Label: testLabel, Min: 1, Max: 1, Prefer: []peer.ID{to}}
	for {
		err := c.Pin(o.t.Context(), root, p)
		if err == nil {
			if got, ok, err := c.Lookup(o.t.Context(), root); err == nil && ok && len(got.Holders) == 1 && got.Holders[0] == to {
				return
			}
		} else if !errors.Is(err, pin.ErrFewPeers) {
			o.t.Fatal(err)
		}
	}
}
