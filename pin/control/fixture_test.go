package control

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	mh "github.com/multiformats/go-multihash"

	"github.com/musenai/musen/pin/member"
	"github.com/musenai/musen/pin/wire"
)

const testRealm = "radio"

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

func newHost(t testing.TB) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func keyOf(h host.Host) crypto.PrivKey { return h.Peerstore().PrivKey(h.ID()) }

func info(h host.Host) peer.AddrInfo { return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()} }

func root(i int) cid.Cid {
	sum := sha256.Sum256(fmt.Appendf(nil, "segment %d", i))
	m, err := mh.Encode(sum[:], mh.SHA2_256)
	if err != nil {
		panic(err)
	}
	return cid.NewCidV1(cid.Raw, m)
}

func ins(v Verb, from, to int) []Instruction {
	var is []Instruction
	for i := from; i < to; i++ {
		is = append(is, Instruction{Verb: v, Root: root(i), Size: 160 << 10, Label: "abcdefghijklmnop"})
	}
	return is
}

// A swarm is the members that a server asks.
type swarm struct {
	mu    sync.Mutex
	key   crypto.PrivKey
	seq   uint64
	roles map[peer.ID]member.Role
}

var _ Members = (*swarm)(nil)

func (s *swarm) set(p peer.ID, r member.Role) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	if r == "" {
		delete(s.roles, p)
	} else {
		s.roles[p] = r
	}
}

func (s *swarm) RosterFor(peer.ID) (wire.Envelope, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return wire.Seal(s.key, member.RosterKind, member.Roster{Realm: testRealm, Seq: s.seq})
}

func (s *swarm) Role(p peer.ID) (member.Role, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.roles[p]
	return r, ok
}

func (s *swarm) Peers() (ps []member.Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, r := range s.roles {
		ps = append(ps, member.Peer{ID: id, Role: r})
	}
	return ps
}

// A watch is something that changes, and can be waited for.
type watch struct {
	mu      sync.Mutex
	changed chan struct{}
}

func (w *watch) do(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

// until waits for a condition on what do changes.
func (w *watch) until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	limit := time.After(patience)
	for {
		w.mu.Lock()
		if ok() {
			w.mu.Unlock()
			return
		}
		if w.changed == nil {
			w.changed = make(chan struct{})
		}
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("never: %s", what)
		}
	}
}

// An origin is a server and what it was told.
type origin struct {
	*Server
	host    host.Host
	members *swarm
	store   datastore.Batching

	w        watch
	receipts map[peer.ID][]Receipt
	reports  map[peer.ID][]Report
	lines    map[peer.ID][]bool
}

func newOrigin(t testing.TB, with ...func(*ServerOptions)) *origin {
	t.Helper()
	h := newHost(t)
	o := &origin{
		host: h, members: &swarm{key: keyOf(h), roles: map[peer.ID]member.Role{h.ID(): member.Origin}},
		store: newDisk(), receipts: map[peer.ID][]Receipt{}, reports: map[peer.ID][]Report{}, lines: map[peer.ID][]bool{},
	}
	o.start(t, with...)
	t.Cleanup(func() { _ = o.Close() })
	return o
}

// start starts the server, again if it was closed.
func (o *origin) start(t testing.TB, with ...func(*ServerOptions)) {
	t.Helper()
	opts := ServerOptions{
		Host: o.host, Store: o.store, Key: keyOf(o.host), Realm: testRealm, Members: o.members,
		OnReceipt: func(p peer.ID, r Receipt) { o.w.do(func() { o.receipts[p] = append(o.receipts[p], r) }) },
		OnReport:  func(p peer.ID, r Report) { o.w.do(func() { o.reports[p] = append(o.reports[p], r) }) },
		OnLine:    func(p peer.ID, up bool) { o.w.do(func() { o.lines[p] = append(o.lines[p], up) }) },
	}
	for _, f := range with {
		f(&opts)
	}
	s, err := NewServer(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	o.Server = s
}

func (o *origin) order(t testing.TB, p peer.ID, is ...Instruction) {
	t.Helper()
	if err := o.Order(context.Background(), p, is...); err != nil {
		t.Fatal(err)
	}
}

func (o *origin) waiting(t testing.TB, p peer.ID) []Order {
	t.Helper()
	all, err := o.Waiting(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// isUp reports whether the newest word about the line is that it is up. Under w.
func (o *origin) isUp(p peer.ID) bool {
	l := o.lines[p]
	return len(l) > 0 && l[len(l)-1]
}

// A shelfful is a handler that holds segments by name.
type shelfful struct {
	w       watch
	carried []Order
	running map[cid.Cid]bool
	twice   bool // two orders about one segment ran at once
	holds   map[cid.Cid]bool
	purged  map[cid.Cid]bool
	carry   func(ctx context.Context, o Order) (Outcome, string) // instead, if set
}

var _ Handler = (*shelfful)(nil)

func newShelfful() *shelfful {
	return &shelfful{running: map[cid.Cid]bool{}, holds: map[cid.Cid]bool{}, purged: map[cid.Cid]bool{}}
}

func (s *shelfful) Carry(ctx context.Context, o Order) (outcome Outcome, reason string) {
	s.w.do(func() {
		s.twice = s.twice || s.running[o.Root]
		s.running[o.Root] = true
		s.carried = append(s.carried, o)
	})
	outcome = Done
	if s.carry != nil {
		outcome, reason = s.carry(ctx, o)
	}
	s.w.do(func() {
		delete(s.running, o.Root)
		if outcome == Done {
			s.holds[o.Root] = o.Verb == Hold
			s.purged[o.Root] = s.purged[o.Root] || o.Verb == Purge
		}
	})
	return outcome, reason
}

// A client is a Client that runs.
type client struct {
	*Client
	stop func()
}

func fast(int) time.Duration { return 5 * time.Millisecond }

func startClient(t testing.TB, h host.Host, o *origin, with ...func(*ClientOptions)) *client {
	t.Helper()
	h.Peerstore().AddAddrs(o.host.ID(), o.host.Addrs(), peerstore.PermanentAddrTTL)
	opts := ClientOptions{
		Host: h, Origin: info(o.host), Key: keyOf(h), Realm: testRealm,
		Backoff: fast, Retry: fast, Handler: newShelfful(), Store: newDisk(),
	}
	for _, f := range with {
		f(&opts)
	}
	c, err := NewClient(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run(ctx)
	}()
	stop := sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(stop)
	return &client{c, stop}
}

func on(store datastore.Batching, h Handler) func(*ClientOptions) {
	return func(o *ClientOptions) { o.Store, o.Handler = store, h }
}

func (c *client) awaitReady(t testing.TB) {
	t.Helper()
	select {
	case <-c.Ready():
	case <-time.After(patience):
		t.Fatal("never ready")
	}
}

func verbs(os []Order) (vs []Verb) {
	for _, o := range os {
		vs = append(vs, o.Verb)
	}
	return vs
}

// poll waits for what no event tells.
func poll(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
