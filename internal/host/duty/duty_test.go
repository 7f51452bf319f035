package duty

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen/internal/host/denylist"
	"github.com/musenai/musen/internal/host/shelf"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/control"
)

func root(n int) cid.Cid {
	mh, err := multihash.Sum(fmt.Append(nil, n), multihash.SHA2_256, -1)
	if err != nil {
		panic(err) // unreachable: the hash is known
	}
	return cid.NewCidV1(cid.Raw, mh)
}

// machine is one that holds segments in memory.
type machine struct {
	mu      sync.Mutex
	pinned  map[cid.Cid]bool
	fetches int
	fails   error         // of Fetch
	broken  error         // of Repair
	stuck   error         // of Purge
	began   chan struct{} // gets an element when a Fetch begins that waits
	wait    bool          // Fetch goes on until its context ends
}

func (m *machine) Fetch(ctx context.Context, root cid.Cid, _ int64) error {
	m.mu.Lock()
	m.fetches++
	wait, fails := m.wait, m.fails
	m.mu.Unlock()
	if wait {
		select {
		case m.began <- struct{}{}:
		case <-ctx.Done():
		}
		<-ctx.Done()
		return ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pinned[root] = fails == nil
	return fails
}

func (m *machine) Purge(_ context.Context, root cid.Cid) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stuck != nil {
		return m.stuck
	}
	delete(m.pinned, root)
	return nil
}

func (m *machine) Pinned(_ context.Context, root cid.Cid) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pinned[root], nil
}

func (m *machine) Repair(context.Context, cid.Cid) error { return m.broken }

// Parts gives a segment one block besides its root.
func (m *machine) Parts(_ context.Context, c cid.Cid) []cid.Cid {
	return []cid.Cid{c, leafOf(c)}
}

func leafOf(c cid.Cid) cid.Cid {
	mh, err := multihash.Sum(c.Bytes(), multihash.SHA2_256, -1)
	if err != nil {
		panic(err) // unreachable: the hash is known
	}
	return cid.NewCidV1(cid.Raw, mh)
}

// offer is what a host takes.
type offer struct {
	labels  []string
	leaving bool
}

func (o *offer) Contract() contract.Contract { return contract.Contract{Label: o.labels} }
func (o *offer) Leaving() bool               { return o.leaving }

type desk struct {
	*Desk
	m     *machine
	offer *offer
	store datastore.Batching
	seq   uint64
}

func start(t *testing.T) *desk {
	t.Helper()
	d := &desk{m: &machine{pinned: map[cid.Cid]bool{}, began: make(chan struct{})}, offer: &offer{}, store: dssync.MutexWrap(datastore.NewMapDatastore())}
	s, err := shelf.Open(t.Context(), d.store)
	if err != nil {
		t.Fatal(err)
	}
	l, err := denylist.Open(t.Context(), d.store)
	if err != nil {
		t.Fatal(err)
	}
	d.Desk = New(Options{Blocks: d.m, Checker: d.m, Terms: d.offer, Shelf: s, Denied: l, Now: time.Now})
	return d
}

// does gives an order and checks what becomes of it.
func (d *desk) does(t *testing.T, verb control.Verb, n int, want control.Outcome, words ...string) {
	t.Helper()
	d.seq++
	got, reason := d.Carry(t.Context(), control.Order{Seq: d.seq, Verb: verb, Root: root(n), Size: 10, Label: "jazz"})
	if got != want {
		t.Errorf("%s %d: %s (%s), want %s", verb, n, got, reason, want)
	}
	for _, w := range words {
		if !strings.Contains(reason, w) {
			t.Errorf("%s %d: the reason %q does not say %q", verb, n, reason, w)
		}
	}
	last, ok := d.Last(root(n))
	if !ok || last.Order.Seq != d.seq || last.Outcome != want || last.Reason != reason {
		t.Errorf("the last order is %+v", last)
	}
}

func TestHoldAndDrop(t *testing.T) {
	d := start(t)
	d.does(t, control.Hold, 1, control.Done)
	r, ok := d.o.Shelf.Get(root(1))
	if !ok || r.Label != "jazz" || r.Size != 10 || r.Seq != 1 || r.Since.IsZero() {
		t.Errorf("recorded %+v, %v", r, ok)
	}
	d.does(t, control.Hold, 1, control.Done)
	again, _ := d.o.Shelf.Get(root(1))
	if d.m.fetches != 1 || !again.Since.Equal(r.Since) || again.Seq != 2 {
		t.Errorf("a second order: %d fetches, recorded %+v", d.m.fetches, again)
	}
	d.does(t, control.Drop, 1, control.Done)
	d.does(t, control.Drop, 1, control.Done)
	if d.m.pinned[root(1)] || d.o.Shelf.Len() != 0 {
		t.Error("it is still held")
	}
	d.does(t, control.Hold, 1, control.Done) // a drop is not for ever
	if log := d.Log(2); len(log) != 2 || log[0].Order.Seq != 5 || log[1].Order.Verb != control.Drop {
		t.Errorf("the log is %+v", log)
	}
}

func TestRefusals(t *testing.T) {
	d := start(t)
	d.m.fails = fmt.Errorf("fetch: %w", ErrFull)
	d.does(t, control.Hold, 1, control.Full, "no room")
	d.m.fails = errors.New("no peer has it")
	d.does(t, control.Hold, 1, control.Failed, "no peer")
	d.m.fails = nil
	d.offer.labels = []string{"blues"}
	d.does(t, control.Hold, 1, control.Outside, "station")
	d.offer.labels = []string{"blues", "jazz"}
	d.offer.leaving = true
	d.does(t, control.Hold, 1, control.Outside, "leaving")
	d.offer.leaving = false
	d.does(t, control.Hold, 1, control.Done)
	d.m.broken = errors.New("leaf 3 is rotten")
	d.does(t, control.Hold, 1, control.Failed, "leaf 3")
	d.does(t, "sing", 1, control.Outside)
	d.m.stuck = errors.New("disk error")
	d.does(t, control.Drop, 1, control.Failed, "disk error")
	if _, ok := d.o.Shelf.Get(root(1)); !ok {
		t.Error("forgotten, although it is still there")
	}
}

// What was purged is never held again, with all its blocks, also by a host that
// started anew, and also when it could not be deleted.
func TestPurgeIsForEver(t *testing.T) {
	d := start(t)
	d.does(t, control.Hold, 1, control.Done)
	d.m.stuck = errors.New("disk error")
	d.does(t, control.Purge, 1, control.Failed, "disk error")
	d.does(t, control.Hold, 1, control.Outside, "purged")
	d.m.stuck = nil
	d.does(t, control.Purge, 1, control.Done)
	d.does(t, control.Purge, 2, control.Done) // it was never here
	d.does(t, control.Hold, 2, control.Outside, "purged")
	l, err := denylist.Open(t.Context(), d.store)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []cid.Cid{root(1), root(2), leafOf(root(1)), cid.NewCidV0(root(1).Hash())} {
		if !l.Has(c) {
			t.Errorf("%s is not denied after a start", c)
		}
	}
	if d.m.pinned[root(1)] || d.o.Shelf.Len() != 0 {
		t.Error("it is still held")
	}
}

// A drop or purge does not wait for a fetch of the same segment, and a fetch
// that was overtaken leaves nothing.
func TestOvertaken(t *testing.T) {
	for _, verb := range []control.Verb{control.Drop, control.Purge} {
		d := start(t)
		d.m.wait = true
		done := make(chan string)
		go func() {
			outcome, reason := d.Carry(context.Background(), control.Order{Seq: 1, Verb: control.Hold, Root: root(1)})
			done <- string(outcome) + " " + reason
		}()
		<-d.m.began
		if d.Working() != 1 {
			t.Errorf("%d at work", d.Working())
		}
		d.does(t, verb, 1, control.Done)
		if got := <-done; got != "failed overtaken by another order" {
			t.Errorf("overtaken by %s: %s", verb, got)
		}
		if d.o.Shelf.Len() != 0 || d.Working() != 0 {
			t.Error("something is left")
		}
	}
}

// Who waits for another order about the same segment ends with its context.
func TestWaitEnds(t *testing.T) {
	d := start(t)
	d.m.wait = true
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- d.Hold(ctx, shelf.Record{Root: root(1)}) }()
	<-d.m.began
	go func() { done <- d.Hold(ctx, shelf.Record{Root: root(1)}) }()
	cancel()
	for range 2 {
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
}

func TestLogIsBounded(t *testing.T) {
	d := start(t)
	for i := range maxLog + 5 {
		d.does(t, control.Drop, i, control.Done)
	}
	if n := len(d.Log(2 * maxLog)); n != maxLog {
		t.Errorf("%d orders are remembered", n)
	}
	if _, ok := d.Last(root(0)); ok {
		t.Error("the oldest is remembered")
	}
}

// H50: what was purged is held again once the origin lifts that, with all its
// blocks, and no sooner.
func TestLiftedIsHeldAgain(t *testing.T) {
	d := start(t)
	for range 2 {
		d.does(t, control.Hold, 1, control.Done)
		d.does(t, control.Purge, 1, control.Done)
		d.does(t, control.Purge, 2, control.Done)
		d.does(t, control.Hold, 1, control.Outside, "purged")
		d.seq++
		o := control.Order{Seq: d.seq, Verb: control.Hold, Root: root(1), Size: 10, Label: "jazz", Lifted: true}
		if got, why := d.Carry(t.Context(), o); got != control.Done {
			t.Fatalf("lifted: %s, %s", got, why)
		}
		l, err := denylist.Open(t.Context(), d.store)
		if err != nil {
			t.Fatal(err)
		}
		for _, list := range []*denylist.List{l, d.o.Denied} {
			if list.Has(root(1)) || list.Has(leafOf(root(1))) || !list.Has(root(2)) || !list.Has(leafOf(root(2))) {
				t.Error("what was lifted is denied, or what was not is not")
			}
		}
		d.does(t, control.Drop, 1, control.Done)
	}
}
