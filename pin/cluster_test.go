package pin

import (
	"errors"
	"slices"
	"testing"
	"time"

	capi "github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/peer"
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

func TestCopiesAreSpreadOverSites(t *testing.T) {
	d, ps := swarm(t, "north", "north", "north", "south")
	roots := pin(t, d, ps[1], "spread", 60, Placement{Min: 2, Max: 2})
	await(t, "all held where the pinset says", func() bool { return settled(t, d, ps, roots) })
	for _, root := range roots {
		if !slices.Contains(d.holders(root), ps[3].id) {
			t.Errorf("%s has both copies at one site", root)
		}
	}
	for _, p := range ps[:3] {
		if n := d.count(p.id); n < 8 || n > 36 {
			t.Errorf("a peer of three equal ones at a site holds %d of its 60 copies", n)
		}
	}
}

func TestLostCopiesComeBack(t *testing.T) {
	d, ps := trio(t)
	roots := pin(t, d, ps[0], "lost", 60, Placement{Min: 2, Max: 2})
	await(t, "all held where the pinset says", func() bool { return settled(t, d, ps, roots) })

	ps[2].kill(t)
	d.lose(ps[2].id)
	await(t, "two copies of each on those left", func() bool {
		for _, root := range roots {
			if len(d.holders(root)) != 2 {
				return false
			}
		}
		return settled(t, d, ps[:2], roots)
	})

	// A fourth comes long after, when the second is lost and nobody had room.
	ps[1].kill(t)
	d.lose(ps[1].id)
	await(t, "the loss is seen", func() bool { return len(alive(t, ps[0])) == 1 })
	four := newPeer(t, d, "east")
	if err := ps[0].cluster.Trust(t.Context(), four.id); err != nil {
		t.Fatal(err)
	}
	connect(t, ps[0], four)
	four.open(t, append(slices.Clone(ps), four)...) // it will learn by itself who is lost
	await(t, "two copies of each again", func() bool {
		for _, root := range roots {
			if len(d.holders(root)) != 2 {
				return false
			}
		}
		return settled(t, d, []*peerUnder{ps[0], four}, roots)
	})
}

// A peer whose clock is wrong is neither lost for it nor lives on by it.
func TestMetricsCountByOurOwnClock(t *testing.T) {
	_, ps := trio(t)
	m := ps[0].cluster.monitor
	say := func(at time.Time) {
		err := m.LogMetric(t.Context(), capi.Metric{Name: metricPing, Peer: ps[2].id, Valid: true, Expire: at.UnixNano()})
		if err != nil {
			t.Fatal(err)
		}
	}
	say(time.Unix(0, 0))
	if n := len(alive(t, ps[0])); n != 3 {
		t.Errorf("%d alive when a clock says 1970", n)
	}
	say(time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC))
	ps[2].kill(t)
	await(t, "the one that says 2099 is lost", func() bool { return len(alive(t, ps[0])) == 2 })
}

// Peers that reach each other through one alone are a cluster as well.
func TestStar(t *testing.T) {
	d := newDepot()
	ps := []*peerUnder{newPeer(t, d, "hub"), newPeer(t, d, "north"), newPeer(t, d, "south"), newPeer(t, d, "west")}
	for _, p := range ps {
		for _, q := range ps {
			p.wall.set(p != ps[0] && q != ps[0], q.id)
		}
	}
	for _, p := range ps[1:] {
		connect(t, ps[0], p)
	}
	for _, p := range ps {
		p.open(t, ps...)
	}
	awaitAlive(t, len(ps), ps...)
	roots := pin(t, d, ps[1], "star", 120, Placement{Min: 3, Max: 3})
	await(t, "all held", func() bool { return settled(t, d, ps, roots) })
	for _, root := range roots[:60] {
		if err := ps[3].cluster.Unpin(t.Context(), root); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "all agree", func() bool { return settled(t, d, ps, roots[60:]) && len(ps[1].pinset(t)) == 60 })
}

func TestRestartKeepsThePinset(t *testing.T) {
	d, ps := trio(t)
	roots := pin(t, d, ps[0], "restart", 30, Placement{Min: 3, Max: 3})
	await(t, "all held", func() bool { return settled(t, d, ps, roots) })
	for _, p := range ps {
		if err := p.cluster.Close(); err != nil {
			t.Fatal(err)
		}
	}
	d.lose(ps[2].id) // its disk was exchanged, the pinset was not
	if err := errors.Join(ps[0].cluster.Pin(t.Context(), roots[0], Placement{Min: 1, Max: 1}),
		ps[0].cluster.Flush(t.Context())); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed cluster says %v", err)
	}
	for _, p := range ps {
		p.open(t, ps...)
	}
	await(t, "all held again", func() bool { return settled(t, d, ps, roots) })
}

func TestOneThatWasKilledMissesNothing(t *testing.T) {
	d, ps := trio(t)
	roots := pin(t, d, ps[0], "killed", 30, Placement{Min: 3, Max: 3})
	await(t, "all held", func() bool { return settled(t, d, ps, roots) })
	p := ps[2]
	if err := p.cluster.Close(); err != nil {
		t.Fatal(err)
	}
	// It had noted the newest change as worked in when it was killed, but not
	// got to the others.
	ctx := t.Context()
	forget(t, p.store, storePrefix+crdtKey+"/s")
	forget(t, p.store, storePrefix+crdtKey+"/h")
	if err := p.store.Put(ctx, datastore.NewKey(storePrefix+openKey), nil); err != nil {
		t.Fatal(err)
	}
	p.open(t, ps...)
	await(t, "the pinset is whole again", func() bool { return settled(t, d, ps, roots) })
}

func TestLateJoinerGetsThePinset(t *testing.T) {
	d, ps := trio(t)
	roots := pin(t, d, ps[0], "late", 150, Placement{Min: 1, Max: 1})
	await(t, "all held", func() bool { return settled(t, d, ps, roots) })

	// Connected long before its cluster opens, and trusted by the others before
	// it trusts them.
	late := newPeer(t, d, "east")
	connect(t, append(slices.Clone(ps), late)...)
	for _, p := range ps {
		if err := p.cluster.Trust(t.Context(), late.id); err != nil {
			t.Fatal(err)
		}
	}
	late.open(t, append(slices.Clone(ps), late)...)
	await(t, "the pinset at the late one", func() bool { return settled(t, d, append(slices.Clone(ps), late), roots) })
}

func TestDeniedIsNeverFetched(t *testing.T) {
	d, ps := trio(t)
	bad := rootN(t, "denied", 0)
	ps[1].mu.Lock()
	ps[1].denied[bad] = true
	ps[1].mu.Unlock()
	d.add(ps[0].id, bad)
	ps[0].pin(t, bad, Placement{Min: 3, Max: 3})
	await(t, "the others hold it", func() bool { return len(d.holders(bad)) == 2 })
	rounds(t, d, ps, 3)
	if err := ps[0].cluster.Recover(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(d.holders(bad), ps[1].id) {
		t.Error("fetched what is denied")
	}
	ps[1].mu.Lock()
	defer ps[1].mu.Unlock()
	if _, told := ps[1].held[bad]; told {
		t.Error("told of something that is denied")
	}
}

func TestFailuresAreToldAndTriedAgain(t *testing.T) {
	d, ps := trio(t)
	late := rootN(t, "nobody has it yet", 0)
	ps[0].pin(t, late, Placement{Min: 3, Max: 3})
	told := func(want error) func() bool {
		return func() bool {
			for _, p := range ps {
				p.mu.Lock()
				err, ok := p.held[late]
				p.mu.Unlock()
				if !ok || !errors.Is(err, want) {
					return false
				}
			}
			return true
		}
	}
	await(t, "all tell that they failed", told(errNobody))
	d.add(ps[1].id, late)
	await(t, "all tell that they hold it", told(nil))
	if n := len(d.holders(late)); n != 3 {
		t.Errorf("%d of 3 hold it", n)
	}
}

func TestPinIsAsGoodAsItsPeers(t *testing.T) {
	d, ps := trio(t)
	ctx := t.Context()
	root := rootN(t, "few", 0)
	d.add(ps[0].id, root)
	if err := ps[0].cluster.Pin(ctx, root, Placement{Min: 4, Max: 4}); !errors.Is(err, ErrFewPeers) {
		t.Errorf("four copies on three peers: %v", err)
	}
	pl := Placement{Label: "x", Min: 1, Max: 4, Prefer: []peer.ID{ps[2].id, rogue(t)}}
	if err := ps[0].cluster.Pin(ctx, root, pl); err != nil {
		t.Fatal(err)
	}
	got, _, err := ps[0].cluster.Lookup(ctx, root)
	if err != nil || len(got.Holders) != 3 || got.Holders[0] != ps[2].id {
		t.Fatalf("held by %v, %v", got.Holders, err)
	}
	// The same again costs nothing; less drops all but who is preferred.
	if err := ps[0].cluster.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	before := size(t, ps[0].store)
	for range 50 {
		if err := errors.Join(ps[0].cluster.Pin(ctx, root, pl), ps[0].cluster.Flush(ctx)); err != nil {
			t.Fatal(err)
		}
	}
	if grown := size(t, ps[0].store) - before; grown != 0 {
		t.Errorf("the same pin again took %d bytes", grown)
	}
	pl.Max = 1
	if err := ps[0].cluster.Pin(ctx, root, pl); err != nil {
		t.Fatal(err)
	}
	await(t, "one copy", func() bool { return slices.Equal(d.holders(root), []peer.ID{ps[2].id}) })
}

func TestFullPeerIsNoCandidate(t *testing.T) {
	d, ps := trio(t)
	d.mu.Lock()
	d.full[ps[1].id] = true
	d.mu.Unlock()
	await(t, "it is known to be full", func() bool {
		for _, m := range ps[0].cluster.Peers(t.Context()) {
			if m.ID == ps[1].id {
				return m.Alive && m.Free == 0 && m.Site == "south"
			}
		}
		return false
	})
	roots := pin(t, d, ps[0], "full", 40, Placement{Min: 1, Max: 2})
	await(t, "all held", func() bool { return settled(t, d, ps, roots) })
	if n := d.count(ps[1].id); n != 0 {
		t.Errorf("a full peer was given %d copies", n)
	}
}

func TestChangesOfOneBatchReadBack(t *testing.T) {
	d, ps := trio(t)
	ctx, c := t.Context(), ps[0].cluster
	root, other := rootN(t, "batch", 0), rootN(t, "batch", 1)
	d.add(ps[0].id, root)
	for range 3 {
		if err := errors.Join(c.Pin(ctx, root, Placement{Min: 2, Max: 2}), c.Unpin(ctx, root), c.Unpin(ctx, other)); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := c.Lookup(ctx, root); ok || err != nil {
			t.Fatalf("still there after unpin: %v", err)
		}
	}
	if err := c.Pin(ctx, root, Placement{Min: 3, Max: 3, Label: "last"}); err != nil {
		t.Fatal(err)
	}
	if got, ok, err := c.Lookup(ctx, root); !ok || err != nil || got.Label != "last" {
		t.Fatalf("looked up %+v, %v, %v", got, ok, err)
	}
	await(t, "all held", func() bool { return settled(t, d, ps, []cid.Cid{root}) && len(d.holders(root)) == 3 })
}

func TestOnePeerAlone(t *testing.T) {
	d, ps := swarm(t, "only")
	roots := pin(t, d, ps[0], "alone", 20, Placement{Min: 1, Max: 3})
	await(t, "all held", func() bool { return settled(t, d, ps, roots) })
	// A second one comes: the same request fills up.
	two := newPeer(t, d, "other")
	if err := ps[0].cluster.Trust(t.Context(), two.id); err != nil {
		t.Fatal(err)
	}
	two.open(t, ps[0], two)
	connect(t, ps[0], two)
	awaitAlive(t, 2, ps[0], two)
	pin(t, d, ps[0], "alone", 20, Placement{Min: 1, Max: 3})
	await(t, "two copies of each", func() bool {
		return settled(t, d, []*peerUnder{ps[0], two}, roots) && d.count(two.id) == len(roots)
	})
}

// alive are the peers that p believes to live.
func alive(t testing.TB, p *peerUnder) []peer.ID {
	t.Helper()
	var l []peer.ID
	for _, m := range p.cluster.Peers(t.Context()) {
		if m.Alive {
			l = append(l, m.ID)
		}
	}
	return l
}

// forget deletes all keys under a prefix.
func forget(t testing.TB, ds datastore.Batching, prefix string) {
	t.Helper()
	found, err := ds.Query(t.Context(), query.Query{Prefix: prefix, KeysOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	all, err := found.Rest()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("nothing under " + prefix)
	}
	for _, e := range all {
		if err := ds.Delete(t.Context(), datastore.NewKey(e.Key)); err != nil {
			t.Fatal(err)
		}
	}
}

// rogue is a peer that nobody trusts.
func rogue(t testing.TB) peer.ID {
	t.Helper()
	return newPeer(t, newDepot(), "").id
}

// rounds has the peers agree on something new n times: whatever else was on its
// way has come by then.
func rounds(t testing.TB, d *depot, ps []*peerUnder, n int) {
	t.Helper()
	for i := range n {
		root := rootN(t, t.Name()+" round", i)
		p := ps[i%len(ps)]
		d.add(p.id, root)
		p.pin(t, root, Placement{Min: len(ps), Max: len(ps)})
		await(t, "agreement", func() bool { return len(d.holders(root)) == len(ps) })
		if err := p.cluster.Unpin(t.Context(), root); err != nil {
			t.Fatal(err)
		}
		await(t, "agreement", func() bool { return len(d.holders(root)) == 0 && same(t, ps...) })
	}
}
