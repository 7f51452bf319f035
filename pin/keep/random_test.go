package keep

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"

	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
	"github.com/musenai/musen/pin/place"
)

// event is something that happens to a swarm.
type event struct {
	what, who, root int
	after           time.Duration // until the next
}

func (e event) String() string {
	return fmt.Sprintf("%s machine %d segment %d then %v", names()[e.what], e.who, e.root, e.after)
}

func names() []string {
	return []string{
		"add", "add", "add", "remove", "leave", "leave", "arrive", "arrive", "arrive", "lie", "be honest", "lose", "tell of a loss",
		"mute", "speak", "drain", "expel", "join", "pins fail", "orders fail", "all works", "restart", "lose an entry",
		"pause standing", "change wishes", "rebalance", "recover", "find damage", "find damage",
	}
}

// Whatever happens, no peer is made to give up its copy while fewer than Min
// others are known to be good; and when nothing happens any more, every segment
// gets the copies it asks for, and nobody keeps what was removed.
func TestRandomEvents(t *testing.T) {
	durations := rapid.SampledFrom([]time.Duration{
		0, time.Second, 7 * time.Second, 20 * time.Second, time.Minute, 11 * time.Minute, 70 * time.Minute, 5 * time.Hour, 14 * time.Hour,
	})
	events := rapid.Custom(func(t *rapid.T) event {
		return event{
			rapid.IntRange(0, len(names())-1).Draw(t, "what"), rapid.IntRange(1, 10).Draw(t, "who"),
			rapid.IntRange(0, 11).Draw(t, "root"), durations.Draw(t, "after"),
		}
	})
	rapid.Check(t, func(rt *rapid.T) {
		all := rapid.SliceOfN(events, 5, 60).Draw(rt, "events")
		var wrong []string
		synctest.Test(t, func(t *testing.T) { wrong = history(t, all) })
		if len(wrong) > 0 {
			rt.Fatalf("%s", wrong[0])
		}
	})
}

// belief is what is known of the copies, as the peers told and proved it.
type belief struct {
	*world
	mu    sync.Mutex
	good  map[cid.Cid]map[peer.ID]bool
	wrong []string
}

func (b *belief) learn(root cid.Cid, p peer.ID, good bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.good[root] == nil {
		b.good[root] = map[peer.ID]bool{}
	}
	b.good[root][p] = good
}

// giveUp checks that a copy may be given up.
func (b *belief) giveUp(p peer.ID, root cid.Cid) {
	b.world.mu.Lock()
	want, wanted := b.want[root]
	whole := b.broken[root] == nil
	known := slices.ContainsFunc(b.roster, func(m member.Peer) bool { return m.ID == p })
	b.world.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !wanted || !known {
		return
	}
	others := 0
	if whole { // the origin's own
		others++
	}
	for q, good := range b.good[root] {
		if good && q != p {
			others++
		}
	}
	if others < want.Min {
		b.wrong = append(b.wrong, fmt.Sprintf("%v gives up a copy of %v at %v, when %d others are good, of %d", p, root, time.Now(), others, want.Min))
	}
	delete(b.good[root], p)
}

func history(t *testing.T, all []event) []string {
	w := newWorld(t)
	b := &belief{world: w, good: map[cid.Cid]map[peer.ID]bool{}}
	w.dropping, w.learn = b.giveUp, b.learn
	for n := 1; n <= 10; n++ {
		m := w.join(n, role(n), fmt.Sprint("site", n%3))
		m.delay = time.Duration(100+n) * time.Millisecond
	}
	start := func() { w.start(func(o *Options) { o.Timing.Tick, o.Timing.Pass = 5*time.Second, 5*time.Minute }) }
	start()
	time.Sleep(10 * time.Second)
	for _, e := range all {
		synctest.Wait()
		w.happen(e, start)
		time.Sleep(e.after)
	}
	synctest.Wait()
	w.calm()
	time.Sleep(28 * time.Hour)
	wrong := append(b.wrong, w.converged()...)
	w.stop()
	return wrong
}

func role(n int) member.Role {
	if n <= 4 {
		return member.Storage
	}
	return member.Replica
}

// happen makes one event come true.
func (w *world) happen(e event, start func()) {
	m, root := w.peers[id(e.who)], seg(e.root)
	member := slices.ContainsFunc(w.Peers(), func(p member.Peer) bool { return p.ID == m.ID })
	set := func(f func()) { w.mu.Lock(); defer w.mu.Unlock(); f() }
	switch names()[e.what] {
	case "add", "change wishes":
		if !w.gone[root] {
			w.add(e.root, func(x *Want) {
				x.Min, x.Max, x.Community, x.Spread = 1+e.who%3, 1+e.who%3+e.root%2, e.who%4, e.who%5 == 0
			})
		}
	case "remove":
		w.remove(root)
	case "leave":
		w.leave(m)
	case "arrive":
		if member {
			w.arrive(m)
		}
	case "lie":
		set(func() { m.answer = []audit.Outcome{audit.Wrong, audit.Missing, audit.Late}[e.root%3] })
	case "be honest":
		set(func() { m.answer = "" })
	case "lose":
		set(func() { delete(m.holds, root) })
	case "tell of a loss":
		if w.has(m, root) {
			set(func() { delete(m.holds, root) })
			w.learn(root, m.ID, false)
			w.k.Receipt(m.ID, control.Receipt{Verb: control.Hold, Root: root, Outcome: control.Lost})
		}
	case "mute", "speak":
		set(func() { m.mute = names()[e.what] == "mute" })
	case "drain":
		if member && e.root < 3 {
			w.drain(m)
		}
	case "expel":
		if member && e.root < 2 {
			for n := range 12 {
				w.learn(seg(n), m.ID, false)
			}
			w.expel(m)
		}
	case "join":
		if !member {
			w.mu.Lock()
			w.roster = append(w.roster, m.Peer)
			w.mu.Unlock()
			w.k.Members()
			w.arrive(m)
		}
	case "pins fail":
		set(func() { w.pinErr = errors.New("pins fail") })
	case "orders fail":
		set(func() { w.ordErr = errors.New("orders fail") })
	case "all works":
		set(func() { w.pinErr, w.ordErr = nil, nil })
	case "restart":
		w.stop()
		start()
	case "lose an entry":
		set(func() { delete(w.pins, root) })
	case "pause standing":
		w.smu.Lock()
		w.stands[m.ID] = audit.Paused
		w.smu.Unlock()
	case "rebalance":
		if _, err := w.k.Rebalance(w.t.Context()); err != nil {
			w.t.Error(err)
		}
	case "find damage":
		w.findDamage(root, e.who%2 == 0)
	case "recover":
		if err := w.k.Recover(w.t.Context()); err != nil {
			w.t.Error(err)
		}
	}
}

// findDamage breaks the own copy of a segment that is wanted, for good or not.
func (w *world) findDamage(root cid.Cid, hopeless bool) {
	if _, wanted := w.want[root]; !wanted {
		return
	}
	w.set(func() {
		w.broken[root], w.mendErr[root] = errors.New("rotten"), nil
		if hopeless {
			w.mendErr[root] = errors.New("nobody has it")
		}
	})
	w.k.Found(root, errors.New("rotten"))
}

// calm lets everybody come back, be honest and be thought well of.
func (w *world) calm() {
	w.mu.Lock()
	w.pinErr, w.ordErr = nil, nil
	clear(w.mendErr)
	for _, m := range w.peers {
		m.answer, m.mute = "", false
	}
	roster := slices.Clone(w.roster)
	w.mu.Unlock()
	w.smu.Lock()
	clear(w.stands)
	clear(w.bad)
	w.smu.Unlock()
	for _, p := range roster {
		w.arrive(w.peers[p.ID])
	}
}

// converged says what is not as it should be in the end.
func (w *world) converged() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var wrong []string
	fault := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	able := map[member.Role]int{}
	for _, p := range w.roster {
		if !p.Draining {
			able[p.Role]++
		}
	}
	w.k.mu.Lock()
	all := make([]place.Candidate, 0, len(w.k.replicas))
	for _, h := range w.k.replicas {
		all = append(all, h.candidate())
	}
	if got, want := w.k.ranked().Choose(seg(0), 9, nil, true), place.Choose(seg(0), all, 9, nil, true); !slices.Equal(got, want) {
		fault("it chooses from %v, which are %v", got, want)
	}
	w.k.mu.Unlock()
	for root, want := range w.want {
		h, ok := w.k.Health(root)
		held := map[member.Role]int{}
		sites := map[string]bool{"home": true}
		for _, c := range h.Copies {
			if c.State == Proved && c.Counts && w.peers[c.Peer] != nil && w.peers[c.Peer].holds[root] && !w.draining(c.Peer) {
				held[c.Role]++
				sites[c.Site] = true
			}
		}
		trusted, others := min(want.Max-1, able[member.Storage]), min(want.Community, able[member.Replica])
		if !ok || held[member.Storage] != trusted && !want.Spread || held[member.Storage] < trusted || held[member.Replica] != others {
			fault("%v: %d and %d copies, want %d and %d: %+v", root, held[member.Storage], held[member.Replica], trusted, others, h)
		}
		if trusted+1 >= want.Min && others == want.Community && !want.Spread && h.Reason != "" {
			fault("%v: not healthy: %+v", root, h)
		}
	}
	for root := range w.gone {
		if _, ok := w.pins[root]; ok {
			fault("%v is pinned though it was removed", root)
		}
		for _, p := range w.roster {
			if w.peers[p.ID].holds[root] {
				fault("%v is held by %v though it was removed: %+v", root, p.ID, w.asked[root][p.ID])
			}
		}
		if h, ok := w.k.Health(root); ok && !w.expelled(h) {
			fault("%v is not purged: %+v", root, h)
		}
	}
	for _, p := range w.roster {
		for root := range w.peers[p.ID].holds {
			h, _ := w.k.Health(root)
			if _, ok := copyOn(h, w.peers[p.ID]); !ok && !w.gone[root] {
				fault("%v holds a copy of %v that nobody knows of: %+v", p.ID, root, w.asked[root][p.ID])
			}
		}
	}
	return wrong
}

func (w *world) draining(p peer.ID) bool {
	return slices.ContainsFunc(w.roster, func(m member.Peer) bool { return m.ID == p && m.Draining })
}

// expelled reports whether all of the copies are on peers that were removed.
func (w *world) expelled(h Health) bool {
	for _, c := range h.Copies {
		if slices.ContainsFunc(w.roster, func(m member.Peer) bool { return m.ID == c.Peer }) {
			return false
		}
	}
	return true
}
