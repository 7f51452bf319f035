package keep

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
	"github.com/musenai/musen/pin/remote"
)

// world is a swarm in which peers do what they are told, after a while, unless
// a test says otherwise. Its clock is the one of the test's bubble.
type world struct {
	t     testing.TB
	self  peer.ID
	store datastore.Batching
	k     *Keeper
	stop  func()

	mu     sync.Mutex
	want   map[cid.Cid]Want
	gone   map[cid.Cid]bool
	roster []member.Peer
	peers  map[peer.ID]*machine
	pins   map[cid.Cid]Pin
	broken map[cid.Cid]error // own copies

	mends   time.Duration     // that mending one takes
	mendErr map[cid.Cid]error // what keeps it from being mended

	pinErr error
	ordErr error
	count  counts
	asked  map[cid.Cid]map[peer.ID][]control.Verb
	// dropping is called, without the lock, before a peer is made to give up a
	// copy of a segment that is wanted.
	dropping func(p peer.ID, root cid.Cid)
	// learn is called with what each audit showed.
	learn func(root cid.Cid, p peer.ID, good bool)

	smu    sync.Mutex // the keeper asks for these with its lock held
	stands map[peer.ID]audit.Standing
	bad    map[peer.ID]int
	served map[cid.Cid]remote.Copy
}

// counts is what the keeper asked for so far.
type counts struct{ pins, unpins, orders, audits, challenges, recovers, mends int }

// machine is a peer.
type machine struct {
	member.Peer
	up     bool
	holds  map[cid.Cid]bool
	denied map[cid.Cid]bool
	queue  []control.Order    // while it is away
	newest map[cid.Cid]uint64 // order about a segment
	free   int64
	delay  time.Duration
	answer audit.Outcome                                 // to every challenge; empty: the truth
	refuse func(control.Order) (control.Outcome, string) // of holds
	mute   bool                                          // sends no receipts
	seen   map[audit.Outcome]int
}

func newWorld(t testing.TB) *world {
	w := &world{
		t: t, self: id(0), store: dssync.MutexWrap(datastore.NewMapDatastore()),
		want: map[cid.Cid]Want{}, gone: map[cid.Cid]bool{}, peers: map[peer.ID]*machine{},
		pins: map[cid.Cid]Pin{}, broken: map[cid.Cid]error{}, stands: map[peer.ID]audit.Standing{},
		bad: map[peer.ID]int{}, mendErr: map[cid.Cid]error{}, served: map[cid.Cid]remote.Copy{}, asked: map[cid.Cid]map[peer.ID][]control.Verb{},
	}
	return w
}

// id is the name of the n-th peer.
func id(n int) peer.ID {
	h := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("peer"), uint64(n)))
	mh, err := multihash.Encode(h[:], multihash.SHA2_256)
	if err != nil {
		panic(err)
	}
	return peer.ID(mh)
}

// seg is the root of the n-th segment.
func seg(n int) cid.Cid {
	h := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("root"), uint64(n)))
	mh, err := multihash.Encode(h[:], multihash.SHA2_256)
	if err != nil {
		panic(err)
	}
	return cid.NewCidV1(cid.Raw, mh)
}

const segmentSize = 160 << 10

// set changes the world under its lock.
func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) counted() counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

// seen counts the outcomes of challenges to a machine.
func (w *world) seen(m *machine, o audit.Outcome) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return m.seen[o]
}

func (w *world) entry(root cid.Cid) (Pin, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, ok := w.pins[root]
	return p, ok
}

// join adds a peer that is up.
func (w *world) join(n int, role member.Role, site string) *machine {
	m := w.away(n, role, site)
	w.arrive(m)
	return m
}

// away adds a peer that is not there yet.
func (w *world) away(n int, role member.Role, site string) *machine {
	m := &machine{
		Peer: member.Peer{
			ID: id(n), Role: role, Name: string(role) + string(rune('a'+n%26)), Site: site,
			Contract: contract.Contract{Disk: 1 << 40},
		},
		holds: map[cid.Cid]bool{}, denied: map[cid.Cid]bool{}, seen: map[audit.Outcome]int{},
		free: 1 << 40, delay: 100 * time.Millisecond,
	}
	w.mu.Lock()
	w.peers[m.ID] = m
	w.roster = append(w.roster, m.Peer)
	w.mu.Unlock()
	if w.k != nil {
		w.k.Members()
	}
	return m
}

// start opens a keeper and runs it until the test ends or halt is called.
func (w *world) start(change ...func(*Options)) {
	o := Options{
		Self: w.self, Site: "home", Store: w.store, Wants: w, Roster: w, Local: w,
		Pinset: w, Trusted: metrics{w}, Orders: w, Auditor: w, Standings: standings{w},
	}
	for _, c := range change {
		c(&o)
	}
	k, err := New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := k.Run(ctx); err != nil {
			w.t.Error(err)
		}
	}()
	w.k = k
	w.stop = func() { cancel(); <-done }
	for _, m := range w.machines() {
		if m.up {
			k.Line(m.ID, true)
			k.Report(m.ID, w.reportOf(m))
		}
	}
}

// settledTimes has every copy challenged at the same moment of the cycle in each
// run of a test.
func settledTimes(o *Options) { o.Rand = strings.NewReader("sixteen letters.") }

func (w *world) machines() []*machine {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Values(w.peers))
}

func (w *world) reportOf(m *machine) control.Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	return control.Report{Contract: m.Contract, Free: m.free, Held: int64(len(m.holds))}
}

// story runs f in a bubble in which time is free.
func story(t *testing.T, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer func() {
			if w.stop != nil {
				w.stop()
			}
		}()
		f(w)
	})
}

// add stores a segment and tells the keeper.
func (w *world) add(n int, change ...func(*Want)) cid.Cid {
	want := Want{Root: seg(n), Size: segmentSize, Label: "radio", Min: 2, Max: 3}
	for _, c := range change {
		c(&want)
	}
	w.mu.Lock()
	w.want[want.Root] = want
	w.mu.Unlock()
	if w.k != nil {
		w.k.Keep(want)
	}
	return want.Root
}

func (w *world) remove(root cid.Cid) {
	w.mu.Lock()
	delete(w.want, root)
	w.gone[root] = true
	w.mu.Unlock()
	w.k.Drop(root)
}

// leave takes a peer's line down.
func (w *world) leave(m *machine) {
	w.mu.Lock()
	m.up = false
	w.mu.Unlock()
	w.k.Line(m.ID, false)
}

// arrive brings it up: it works off what it missed.
func (w *world) arrive(m *machine) {
	w.mu.Lock()
	m.up = true
	queue := m.queue
	m.queue = nil
	w.mu.Unlock()
	if w.k == nil {
		return
	}
	w.k.Line(m.ID, true)
	w.k.Report(m.ID, w.reportOf(m))
	for _, o := range queue {
		w.obey(m, o)
	}
	if m.Role == member.Storage {
		w.follow()
	}
}

// expel takes a peer off the roster.
func (w *world) expel(m *machine) {
	w.mu.Lock()
	m.up = false
	w.roster = slices.DeleteFunc(w.roster, func(p member.Peer) bool { return p.ID == m.ID })
	w.mu.Unlock()
	w.k.Line(m.ID, false)
	w.k.Members()
}

// goes has a peer say that it leaves.
func (w *world) goes(m *machine) {
	r := w.reportOf(m)
	r.Leaving = true
	w.k.Report(m.ID, r)
}

func (w *world) drain(m *machine) {
	w.mu.Lock()
	for i := range w.roster {
		if w.roster[i].ID == m.ID {
			w.roster[i].Draining = true
		}
	}
	w.mu.Unlock()
	w.k.Members()
}

// holders counts who really has a segment, besides the origin.
func (w *world) holders(root cid.Cid, role member.Role) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, m := range w.peers {
		if m.Role == role && m.holds[root] {
			n++
		}
	}
	return n
}

func (w *world) has(m *machine, root cid.Cid) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return m.holds[root]
}
