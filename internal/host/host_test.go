package host

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/internal/host/local"
	"github.com/musenai/musen/internal/host/shelf"
	"github.com/musenai/musen/node"
	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
)

// A replica fetches what it is ordered to hold, serves it, proves it, drops it,
// and never serves again what was purged.
func TestReplicaCarriesOrdersOut(t *testing.T) {
	o := newOrigin(t)
	g := o.join(member.Replica, "one", contract.Contract{Disk: room})
	small, large := o.add(1, 1000), o.add(2, 600_000)
	for root, size := range map[cid.Cid]int{small: 1000, large: 600_000} {
		o.order(g.id, control.Hold, root, size)
		o.receipt(g.id, control.Hold, root, control.Done)
	}
	g.ready()
	if status, body := g.get(small, "raw"); status != 200 || !bytes.Equal(body, bytesOf(1, 1000)) {
		t.Errorf("GET: status %d, %d bytes", status, len(body))
	}
	if status, body := g.get(large, "car"); status != 200 || !bytes.Contains(body, bytesOf(2, 600_000)[:100]) {
		t.Errorf("GET CAR: status %d, %d bytes", status, len(body))
	}
	s, err := g.Status(t.Context())
	if err != nil || s.Held != 2 || !s.CaughtUp || !s.Origins[0].Up || s.Served < 600_000 || s.Used > room {
		t.Errorf("status: %+v, %v", s, err)
	}
	w, err := g.Why(t.Context(), small)
	if err != nil || !w.Held || w.Label != testLabel || w.Size != 1000 || w.Seq == 0 || w.Since == nil {
		t.Errorf("why: %+v, %v", w, err)
	}
	g.proves(small, audit.Proved)
	g.proves(large, audit.Proved)

	o.order(g.id, control.Drop, small, 0)
	o.receipt(g.id, control.Drop, small, control.Done)
	if status, _ := g.get(small, "raw"); status != 404 {
		t.Errorf("dropped: status %d", status)
	}
	o.order(g.id, control.Purge, large, 0)
	o.receipt(g.id, control.Purge, large, control.Done)
	for _, c := range []cid.Cid{large, cid.NewCidV0(large.Hash()), cid.NewCidV1(cid.Raw, large.Hash())} {
		if status, _ := g.get(c, "raw"); status != 410 {
			t.Errorf("purged, as %s: status %d", c, status)
		}
	}
	g.proves(large, audit.Missing)
	if log := g.Orders(10); len(log) != 4 || log[0].Verb != "purge" || log[0].Outcome != "done" {
		t.Errorf("orders: %+v", log)
	}
	o.report(g.id, "nothing held", func(r control.Report) bool { return r.Held == 0 && r.Served > 600_000 })
}

// proves has the origin audit the host.
func (g *guest) proves(root cid.Cid, want audit.Outcome) {
	g.t.Helper()
	a := audit.NewAuditor(audit.AuditorOptions{Host: g.o.node.Host(), Source: proofs{g.o.node, new(auditCount), time.Now}, Store: g.o.node.Store()})
	before, _ := g.audits.get()
	got, err := a.Audit(g.t.Context(), g.id, []cid.Cid{root})
	must(g.t, err)
	if after, _ := g.audits.get(); got[0].Outcome != want || after != before+1 {
		g.t.Errorf("audit of %s: %s, %v; %d challenges counted", root, got[0].Outcome, got[0].Err, after-before)
	}
}

// What was removed while a replica was away is not served when it comes back,
// neither before it has heard of that nor after.
func TestBackFromAbsence(t *testing.T) {
	o := newOrigin(t)
	g := o.join(member.Replica, "one", contract.Contract{Disk: room})
	kept, gone := o.add(1, 1000), o.add(2, 2000)
	for _, root := range []cid.Cid{kept, gone} {
		o.order(g.id, control.Hold, root, 0)
		o.receipt(g.id, control.Hold, root, control.Done)
	}
	g.end()
	o.order(g.id, control.Purge, gone, 0)
	must(t, o.lines.Close()) // the origin is away as well
	g.start()
	for _, root := range []cid.Cid{kept, gone} {
		if status, _ := g.get(root, "raw"); status != 503 {
			t.Errorf("before it has heard from the origin: status %d", status)
		}
	}
	if s, err := g.Status(t.Context()); err != nil || s.CaughtUp || s.Held != 2 {
		t.Errorf("status: %+v, %v", s, err)
	}
	o.serve()
	g.ready()
	if status, _ := g.get(gone, "raw"); status != 410 {
		t.Errorf("removed while it was away: status %d", status)
	}
	if status, _ := g.get(kept, "raw"); status != 200 {
		t.Errorf("what stayed: status %d", status)
	}
	o.receipt(g.id, control.Purge, gone, control.Done)
}

// The disk of a contract is a hard bound, over all that the home takes, and a
// change of it takes effect at once. Nothing is deleted for it.
func TestQuota(t *testing.T) {
	o := newOrigin(t)
	g := o.join(member.Replica, "one", contract.Contract{Disk: 24 << 20})
	const size = 4 << 20
	var held, refused []cid.Cid
	for i := range byte(8) {
		root := o.add(i, size)
		o.order(g.id, control.Hold, root, size)
		outcome := g.answered(root)
		switch outcome {
		case control.Done:
			held = append(held, root)
		case control.Full:
			refused = append(refused, root)
		default:
			t.Errorf("segment %d: %s", i, outcome)
		}
		if taken := g.taken(); taken > 24<<20 {
			t.Errorf("%d bytes are taken after %d segments", taken, i+1)
		}
	}
	if len(held) < 3 || len(refused) < 2 {
		t.Errorf("%d held, %d refused", len(held), len(refused))
	}
	must(t, g.SetContract(t.Context(), contract.Contract{Disk: 64 << 20}))
	o.report(g.id, "more disk", func(r control.Report) bool { return r.Contract.Disk == 64<<20 && r.Free > 30<<20 })
	o.order(g.id, control.Hold, refused[0], size)
	o.receipt(g.id, control.Hold, refused[0], control.Done)

	must(t, g.SetContract(t.Context(), contract.Contract{Disk: contract.MinDisk}))
	o.report(g.id, "less disk", func(r control.Report) bool { return r.Used > r.Contract.Disk && r.Free == 0 })
	if s, err := g.Status(t.Context()); err != nil || s.Free >= 0 || s.Held != int64(len(held)+1) {
		t.Errorf("status: %+v, %v", s, err)
	}
	o.order(g.id, control.Hold, refused[1], size)
	o.receipt(g.id, control.Hold, refused[1], control.Full)
	g.proves(held[0], audit.Proved)
	must(t, errors.Join(g.badContract(contract.Contract{}), g.badContract(contract.Contract{Disk: 1})))
	g.end()
	g.start() // with the contract that was set last
	if c := g.live.Contract(); c.Disk != contract.MinDisk {
		t.Errorf("after a start the contract is %+v", c)
	}
}

// badContract returns an error if the host takes a contract that it must not.
func (g *guest) badContract(c contract.Contract) error {
	var refused *local.Error
	if err := g.SetContract(g.t.Context(), c); !errors.As(err, &refused) || refused.Code != "bad_contract" {
		return errors.New("took a contract that it cannot keep")
	}
	return nil
}

// answered waits for the answer to an order to hold.
func (g *guest) answered(root cid.Cid) (outcome control.Outcome) {
	g.t.Helper()
	g.o.until("an answer", func() bool {
		for _, r := range g.o.receipts[g.id] {
			if r.Root == root && r.Outcome != control.Failed {
				outcome = r.Outcome
			}
		}
		return outcome != ""
	})
	return outcome
}

// Hours, pauses and chosen stations hold at once, for peers and over HTTP, and
// the origin is told.
func TestTerms(t *testing.T) {
	o := newOrigin(t)
	noon := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	g := o.join(member.Replica, "one", contract.Contract{Disk: room}, func(opts *Options) { opts.Now = func() time.Time { return noon } })
	root := o.add(1, 1000)
	o.order(g.id, control.Hold, root, 0)
	o.receipt(g.id, control.Hold, root, control.Done)
	g.ready()
	is := func(what string, want int) {
		t.Helper()
		if status, _ := g.get(root, "raw"); status != want {
			t.Errorf("%s: status %d, want %d", what, status, want)
		}
		if served := g.serves(o.node.Host().ID(), root); served != (want == 200) {
			t.Errorf("%s: served to peers: %v", what, served)
		}
	}
	is("at first", 200)
	must(t, g.SetContract(t.Context(), contract.Contract{Disk: room, Hours: contract.Hours{From: 22 * 60, To: 7 * 60}}))
	is("outside its hours", 503)
	o.report(g.id, "hours", func(r control.Report) bool { return r.Contract.Hours.From == 22*60 })
	must(t, g.SetContract(t.Context(), contract.Contract{Disk: room}))
	must(t, g.Pause(t.Context(), noon.Add(time.Hour)))
	is("paused", 503)
	o.report(g.id, "the pause", func(r control.Report) bool { return r.Paused.Equal(noon.Add(time.Hour)) })
	if err := g.Pause(t.Context(), noon.Add(-time.Hour)); err == nil {
		t.Error("a pause that is over is taken")
	}
	g.end()
	g.start()
	g.ready()
	is("paused, after a start", 503)
	must(t, g.Pause(t.Context(), time.Time{}))
	is("resumed", 200)
	if g.serves(peer.ID("stranger"), root) {
		t.Error("a stranger is served")
	}

	must(t, g.SetContract(t.Context(), contract.Contract{Disk: room, Label: []string{"other"}}))
	other := o.add(2, 1000)
	o.order(g.id, control.Hold, other, 0)
	o.receipt(g.id, control.Hold, other, control.Outside)
	must(t, g.Appeal(t.Context(), "my line was cut"))
	o.report(g.id, "the appeal", func(r control.Report) bool { return r.Appeal == "my line was cut" })
}

// A host that leaves takes nothing more, and is empty once the origin has moved
// what it held.
func TestLeave(t *testing.T) {
	o := newOrigin(t)
	g := o.join(member.Replica, "one", contract.Contract{Disk: room})
	root, other := o.add(1, 300_000), o.add(2, 1000)
	o.order(g.id, control.Hold, root, 0)
	o.receipt(g.id, control.Hold, root, control.Done)
	must(t, g.Leave(t.Context(), true))
	o.report(g.id, "the wish to leave", func(r control.Report) bool { return r.Leaving })
	o.order(g.id, control.Hold, other, 0)
	o.receipt(g.id, control.Hold, other, control.Outside)
	if status, _ := g.get(root, "car"); status != 200 {
		t.Errorf("what is still here is not served: %d", status)
	}
	o.order(g.id, control.Drop, root, 0)
	o.receipt(g.id, control.Drop, root, control.Done)
	if s, err := g.Status(t.Context()); err != nil || s.Held != 0 || !s.Leaving {
		t.Errorf("status: %+v, %v", s, err)
	}
	leaves, err := o.node.Leaves(t.Context(), root)
	must(t, err)
	for _, c := range []cid.Cid{root, leaves[0].CID, leaves[1].CID} {
		if _, err := g.node.Offline().Blockstore().GetSize(t.Context(), c); err == nil {
			t.Errorf("block %s is left", c)
		}
	}
	must(t, g.Leave(t.Context(), false))
	o.report(g.id, "to stay", func(r control.Report) bool { return !r.Leaving })
}

// damage changes a byte of a block on the disk of a host.
func (g *guest) damage(c cid.Cid) {
	g.t.Helper()
	files, err := filepath.Glob(filepath.Join(g.home, "ipfs", "blocks", "*", "*.data"))
	must(g.t, err)
	want, err := g.o.node.Offline().Blockstore().Get(g.t.Context(), c)
	must(g.t, err)
	for _, f := range files {
		b, err := os.ReadFile(f)
		must(g.t, err)
		if bytes.Equal(b, want.RawData()) {
			b[len(b)/2] ^= 1
			must(g.t, os.WriteFile(f, b, 0o600))
			return
		}
	}
	g.t.Fatalf("no block %s", c)
}

// A storage peer mends rot from a peer; a replica, like a storage peer to which
// nobody gives the block, tells it, and a new order mends it.
func TestScrub(t *testing.T) {
	for _, role := range []member.Role{member.Storage, member.Replica} {
		t.Run(string(role), func(t *testing.T) { testScrub(t, role) })
	}
}

func testScrub(t *testing.T, role member.Role) {
	o := newOrigin(t)
	g := o.join(role, "one", contract.Contract{Disk: room})
	root := o.add(1, 600_000)
	o.order(g.id, control.Hold, root, 0)
	o.receipt(g.id, control.Hold, root, control.Done)
	leaves, err := o.node.Leaves(t.Context(), root)
	must(t, err)
	leaf := leaves[1].CID
	g.damage(leaf)
	if role == member.Storage {
		r, err := g.scrubber().Pass(t.Context())
		if err != nil || r.Healed != 1 || r.Lost != 0 {
			t.Errorf("a pass: %+v, %v", r, err)
		}
		must(t, g.node.Verify(t.Context(), leaf))
		g.damage(leaf)
		must(t, o.node.Purge(t.Context(), root))
	}
	if r, err := g.scrubber().Pass(t.Context()); err != nil || r.Lost != 1 {
		t.Errorf("a pass when nobody gives it: %+v, %v", r, err)
	}
	o.receipt(g.id, control.Hold, root, control.Lost)
	o.add(1, 600_000)
	o.order(g.id, control.Hold, root, 0)
	o.receipt(g.id, control.Hold, root, control.Done)
	must(t, g.node.Verify(t.Context(), leaf))
	g.proves(root, audit.Proved)
}

// A power cut may take pins and records; what was answered is there again after
// the start.
func TestReconcile(t *testing.T) {
	o := newOrigin(t)
	g := o.join(member.Replica, "one", contract.Contract{Disk: room})
	a, b := o.add(1, 1000), o.add(2, 1000)
	for _, root := range []cid.Cid{a, b} {
		o.order(g.id, control.Hold, root, 0)
		o.receipt(g.id, control.Hold, root, control.Done)
	}
	must(t, errors.Join(g.node.Remove(t.Context(), a), g.shelf.Delete(t.Context(), b)))
	g.end()
	g.start()
	g.ready()
	for _, root := range []cid.Cid{a, b} {
		pinned, err := g.node.Pinned(t.Context(), root)
		if _, known := g.shelf.Get(root); err != nil || !pinned || !known {
			t.Errorf("%s: pinned %v, recorded %v, %v", root, pinned, known, err)
		}
	}
}

// An enrolled peer gets blocks from a storage peer; a replica and a stranger do
// not.
func TestWhoIsServed(t *testing.T) {
	o := newOrigin(t)
	g := o.join(member.Storage, "store", contract.Contract{})
	root := o.add(1, 1000)
	g.ready()
	must(t, g.desk.Hold(t.Context(), shelf.Record{Root: root}))
	replica := o.join(member.Replica, "one", contract.Contract{Disk: room})
	g.knows(replica.id)
	if !g.serves(o.node.Host().ID(), root) || g.serves(replica.id, root) {
		t.Error("the origin is served, a replica is not")
	}
	must(t, o.node.Purge(t.Context(), root))
	if err := g.wants(o.node, root); err != nil {
		t.Errorf("the origin: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "stranger")
	_, err := node.Init(dir)
	must(t, err)
	stranger, err := node.Open(t.Context(), node.Options{Dir: dir, FetchTimeout: time.Second})
	must(t, err)
	defer stranger.Close()
	if err := g.wants(stranger, root); err == nil {
		t.Error("a stranger got a block")
	}
}

// knows waits until the host's roster names a peer.
func (g *guest) knows(p peer.ID) {
	g.t.Helper()
	limit := time.After(patience)
	for {
		changed := g.o.ledgerChanged(g)
		if _, ok := g.Host.o.Book.Gate().Role(p); ok {
			return
		}
		select {
		case <-changed:
		case <-limit:
			g.t.Fatalf("%s never heard of %s", g.id, p)
		}
	}
}

func (o *origin) ledgerChanged(g *guest) <-chan struct{} {
	o.lines.PushRoster()
	return g.Host.o.Book.Changed()
}

func TestOpenRefuses(t *testing.T) {
	if _, err := Open(context.Background(), Options{}); err == nil {
		t.Error("opened with nothing")
	}
}
