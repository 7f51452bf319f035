package remote

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
)

func peerID(t testing.TB, n int) peer.ID {
	t.Helper()
	h, err := multihash.Sum(binary.BigEndian.AppendUint64(nil, uint64(n)), multihash.SHA2_256, -1)
	if err != nil {
		t.Fatal(err)
	}
	return peer.ID(h)
}

// door is who was let in.
type door struct {
	mu     sync.Mutex
	inside map[peer.ID]peer.AddrInfo
	ever   map[peer.ID]int
	most   int
}

func (d *door) Admit(_ context.Context, n peer.AddrInfo) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inside[n.ID] = n
	d.ever[n.ID]++
	d.most = max(d.most, len(d.inside))
}

func (d *door) Dismiss(id peer.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.inside, id)
}

func (d *door) has(id peer.ID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.inside[id]
	return ok
}

func (d *door) empty() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.inside) == 0
}

func newDoor() *door { return &door{inside: map[peer.ID]peer.AddrInfo{}, ever: map[peer.ID]int{}} }

// visited is a service that names a node on loopback and gets no further than
// pinning, and what it is to pin.
func visited(t *testing.T, change ...func(*Options)) (*server, *fixture, *door, peer.ID) {
	t.Helper()
	v, d, id := newServer(t), newDoor(), peerID(t, 1)
	v.hold, v.nodes = true, []string{"/ip4/127.0.0.1/tcp/4001/p2p/" + id.String(), "/ip4/10.0.0.1/tcp/1/p2p/" + peerID(t, 2).String()}
	f := newFixture(t, v, append([]func(*Options){func(o *Options) { o.Visitors = d }}, change...)...)
	f.add(v, "first")
	return v, f, d, id
}

// The nodes of a service may have what it is about to pin, and nothing else,
// until it has done with it.
func TestNodesFetchWhatTheirServicePins(t *testing.T) {
	v, f, d, id := visited(t)
	f.Keep(seg(1), "")
	f.until("let in", func() bool { return d.has(id) && f.is(seg(1), Pinning)() })
	if !f.MayFetch(id, seg(1)) || f.MayFetch(id, seg(2)) || f.MayFetch(peerID(t, 2), seg(1)) || f.MayFetch(peerID(t, 3), seg(1)) {
		t.Error("the wrong ones may fetch")
	}
	d.mu.Lock()
	if n := d.inside[id]; len(n.Addrs) != 1 || n.Addrs[0].String() != "/ip4/127.0.0.1/tcp/4001" || len(d.inside) != 1 {
		t.Errorf("let in: %v", d.inside)
	}
	d.mu.Unlock()
	f.Keep(seg(2), "")
	f.until("asked for the second", f.is(seg(2), Pinning))
	v.set(func() {
		for _, p := range v.pins {
			if p.Pin.CID == seg(1).String() {
				p.Status = "pinned"
			}
		}
	})
	f.until("the first is pinned", f.is(seg(1), Pinned))
	if f.MayFetch(id, seg(1)) || !f.MayFetch(id, seg(2)) || !d.has(id) {
		t.Error("what was open after the first one is not the second")
	}
	v.set(func() { v.hold = false })
	f.until("shown out", d.empty)
	if f.MayFetch(id, seg(2)) || !f.is(seg(2), Pinned)() {
		t.Error("it may still fetch")
	}
	f.Keep(seg(3), "")
	f.until("let in again and out", func() bool { return f.is(seg(3), Pinned)() && d.empty() })
	f.stop()
	if d.ever[id] < 2 || d.ever[peerID(t, 2)] != 0 {
		t.Errorf("let in: %v", d.ever)
	}
}

// Whatever else ends a request ends the visit.
func TestVisitEnds(t *testing.T) {
	for what, end := range map[string]func(*server, *fixture){
		"failed":  func(v *server, _ *fixture) { v.set(func() { v.hold, v.fails, v.nodes = false, 1, nil }) },
		"dropped": func(_ *server, f *fixture) { f.Drop(seg(1)) },
		"left":    func(_ *server, f *fixture) { f.Remove(context.Background(), "first") },
		"forgotten": func(_ *server, f *fixture) {
			f.Remove(context.Background(), "first")
			f.Remove(context.Background(), "first")
		},
		"closed": func(_ *server, f *fixture) { f.stop() },
	} {
		t.Run(what, func(t *testing.T) {
			v, f, d, id := visited(t)
			f.Keep(seg(1), "")
			f.until("let in", func() bool { return d.has(id) && f.is(seg(1), Pinning)() })
			end(v, f)
			if what != "failed" && f.MayFetch(id, seg(1)) {
				t.Error("it may still fetch")
			}
			f.until("shown out", d.empty)
			if f.MayFetch(id, seg(1)) {
				t.Error("it may fetch")
			}
		})
	}
}

// A request that never ends lets nobody in for ever, not even across restarts;
// and the copy says so.
func TestVisitIsBounded(t *testing.T) {
	var mu sync.Mutex
	at := time.Date(2031, 1, 2, 3, 4, 5, 0, time.UTC)
	change := func(o *Options) {
		o.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return at }
		o.Timing.Visit = time.Hour
	}
	forward := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); at = at.Add(d) }
	v, f, d, id := visited(t, change)
	f.Keep(seg(1), "")
	f.until("let in", func() bool {
		forward(10 * time.Millisecond) // for the next look
		return d.has(id) && f.is(seg(1), Pinning)()
	})
	f.stop()
	if !d.empty() {
		t.Error("inside after the end")
	}
	f.open(v, change, func(o *Options) { o.Visitors = d })
	f.until("let in again", func() bool { return d.has(id) })
	forward(time.Hour)
	if f.MayFetch(id, seg(1)) {
		t.Error("it may fetch after its time")
	}
	f.stir()
	f.until("shown out", d.empty)
	f.until("said", func() bool {
		c := f.Copies(seg(1))[0]
		return c.State == Pinning && c.Reason == "not done in 1h0m0s; its nodes are let in no more"
	})
	f.stop()
	f.open(v, change, func(o *Options) { o.Visitors = d })
	f.until("looked", func() bool { return !f.List()[0].At.IsZero() })
	if !d.empty() || f.MayFetch(id, seg(1)) {
		t.Error("the restart let it in again")
	}
}

// A service that cannot be asked for a moment still fetches.
func TestVisitOutlastsTrouble(t *testing.T) {
	v, f, d, id := visited(t)
	f.Keep(seg(1), "")
	f.until("let in", func() bool { return d.has(id) && f.is(seg(1), Pinning)() })
	v.set(func() { v.status = http.StatusBadGateway })
	f.until("trouble", f.is(seg(1), Failed))
	if !f.MayFetch(id, seg(1)) || !d.has(id) {
		t.Error("the visit ended")
	}
	v.set(func() { v.status = 0; v.hold = false })
	f.until("pinned", func() bool { return f.is(seg(1), Pinned)() && d.empty() })
}

// A service that names other nodes each time has no more of them inside than
// one that does not.
func TestVisitorsAreBounded(t *testing.T) {
	v, f, d, _ := visited(t)
	next := 1000
	v.set(func() {
		v.raw = func(http.ResponseWriter, *http.Request) bool {
			for _, p := range v.pins {
				p.Delegates = nil
				for range 40 {
					next++
					p.Delegates = append(p.Delegates, "/p2p/"+peerID(t, next).String())
				}
			}
			return false
		}
	})
	f.Keep(seg(1), "")
	f.until("named many", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return len(d.ever) > 3*maxNodes })
	f.stop()
	if d.most > 2*maxNodes { // those that come are let in after those that go
		t.Errorf("%d nodes inside at once", d.most)
	}
	now := time.Now()
	all := visits{houses: map[string]*house{}, books: map[string]*book{}, inside: map[peer.ID]time.Time{}}
	for n := range maxServices {
		name := string(rune('a' + n))
		all.open(name, seg(1), now.Add(time.Hour))
		var nodes []peer.AddrInfo
		for i := range 2 * maxNodes {
			nodes = append(nodes, peer.AddrInfo{ID: peerID(t, 100*n+i)})
		}
		all.name(name, nil, nodes, now)
	}
	if in, _ := all.turn(now, time.Hour); len(in) != maxVisit {
		t.Errorf("%d nodes of all services", len(in))
	}
}

// Two services that name one node: each gives it what it pins itself.
func TestOneNodeOfTwoServices(t *testing.T) {
	now, id := time.Now(), peerID(t, 1)
	all := visits{houses: map[string]*house{}, books: map[string]*book{}, inside: map[peer.ID]time.Time{}}
	for n, name := range []string{"a", "b"} {
		all.open(name, seg(n), now.Add(time.Hour))
		all.name(name, nil, []peer.AddrInfo{{ID: id}}, now)
	}
	if in, out := all.turn(now, time.Hour); len(in) != 1 || len(out) != 0 {
		t.Errorf("in %v, out %v", in, out)
	}
	all.shut("a", seg(0))
	if in, out := all.turn(now, time.Hour); len(in) != 0 || len(out) != 0 || all.mayFetch(id, seg(0), now) || !all.mayFetch(id, seg(1), now) {
		t.Errorf("in %v, out %v", in, out)
	}
	all.end("b")
	if _, out := all.turn(now, time.Hour); len(out) != 1 {
		t.Errorf("out %v", out)
	}
}

// rotates has a service name others at each answer, and go to and fro between
// queued and pinning.
func rotates(t *testing.T, v *server) (answers func() int) {
	n := 0
	v.set(func() {
		v.raw = func(http.ResponseWriter, *http.Request) bool {
			n++
			for _, p := range v.pins {
				p.Status, p.Delegates = []string{"queued", "pinning"}[n%2], nil
				for i := range maxNodes {
					p.Delegates = append(p.Delegates, "/p2p/"+peerID(t, 1000+maxNodes*n+i).String())
				}
			}
			return false
		}
	})
	return func() (m int) { v.set(func() { m = n }); return m }
}

// A service that names other nodes each time has so many let in within a term,
// the copy says so, and in the next term it has as many again.
func TestNodesOfATermAreBounded(t *testing.T) {
	var mu sync.Mutex
	at := time.Date(2031, 1, 2, 3, 4, 5, 0, time.UTC)
	now := func() time.Time { mu.Lock(); defer mu.Unlock(); return at }
	forward := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); at = at.Add(d) }
	v, f, d, _ := visited(t, func(o *Options) { o.Now = now })
	answers := rotates(t, v)
	f.Keep(seg(1), "")
	ever := func() int { d.mu.Lock(); defer d.mu.Unlock(); return len(d.ever) }
	settled := func(some int) func() bool {
		return func() bool {
			forward(time.Minute / 10)
			f.stir()
			return answers() > some && strings.Contains(f.Copies(seg(1))[0].Reason, "it named more than 64 nodes; no other one is let in until 2031-01-02T")
		}
	}
	f.until("the copy says so", settled(6))
	if n := ever(); n != maxNames {
		t.Errorf("%d nodes were let in", n)
	}
	forward(term)
	f.until("the next term", func() bool { forward(time.Minute / 10); f.stir(); return ever() > maxNames })
	f.until("the copy says so again", settled(answers()+6))
	if n := ever(); n != 2*maxNames {
		t.Errorf("%d nodes were let in within two terms", n)
	}
}

// A service that goes to and fro is asked no more often than one that waits.
func TestFlappingIsNotAskedOften(t *testing.T) {
	s := &Services{o: Options{Now: time.Now}, timing: Timing{}.withDefaults()}
	n, p := &service{}, &pin{index: -1, begun: time.Now(), state: Waiting}
	var pauses []time.Duration
	now := time.Now()
	for i := range 12 {
		s.follow(n, p, answer{state: []State{Queued, Pinning}[i%2]}, now)
		pauses = append(pauses, p.next.Sub(now))
	}
	if got, want := fmt.Sprint(pauses), "[5s 5s 10s 20s 40s 1m20s 2m40s 5m20s 10m0s 10m0s 10m0s 10m0s]"; got != want {
		t.Errorf("asked after %s, want %s", got, want)
	}
}

// A node that two services name fetches for both.
func TestFetchesFor(t *testing.T) {
	v, f, d, id := visited(t)
	other := Service{Name: "other", Endpoint: v.URL + "/%70sa", TokenFile: f.token} // another spelling of the same
	if err := f.Add(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	f.Keep(seg(1), "")
	f.until("let in by both", func() bool { return d.has(id) && len(f.FetchesFor(id, seg(1))) == 2 })
	if got := f.FetchesFor(id, seg(1)); fmt.Sprint(got) != "[first other]" || f.FetchesFor(id, seg(2)) != nil {
		t.Errorf("fetches for %q", got)
	}
}
