package pin

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multihash"
)

// rootN is the root of the nth segment of a test.
func rootN(t testing.TB, kind string, n int) cid.Cid {
	t.Helper()
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", kind, n))
	mh, err := multihash.Encode(sum[:], multihash.SHA2_256)
	if err != nil {
		t.Fatal(err)
	}
	return cid.NewCidV1(cid.Raw, mh)
}

// depot is where segments move between shelves, in the place of Bitswap.
type depot struct {
	mu    sync.Mutex
	added map[cid.Cid]peer.ID // by whom: it keeps the blocks, pinned or not
	held  map[cid.Cid]map[peer.ID]bool
	apart func(a, b peer.ID) bool // they cannot reach each other
	full  map[peer.ID]bool
}

func newDepot() *depot {
	return &depot{
		added: map[cid.Cid]peer.ID{}, held: map[cid.Cid]map[peer.ID]bool{}, full: map[peer.ID]bool{},
		apart: func(a, b peer.ID) bool { return false },
	}
}

// add says that a peer has the blocks of a segment.
func (d *depot) add(p peer.ID, root cid.Cid) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.added[root] = p
}

// lose takes away whatever a peer has.
func (d *depot) lose(p peer.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.added, func(_ cid.Cid, by peer.ID) bool { return by == p })
	for _, by := range d.held {
		delete(by, p)
	}
}

func (d *depot) holders(root cid.Cid) []peer.ID {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.held[root]))
}

func (d *depot) count(p peer.ID) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, by := range d.held {
		if by[p] {
			n++
		}
	}
	return n
}

var errNobody = errors.New("nobody in reach has it")

// shelf is the Blocks of one peer.
type shelf struct {
	*depot
	self peer.ID
	free int64
}

var _ Blocks = (*shelf)(nil)

func (s *shelf) Fetch(ctx context.Context, root cid.Cid, _ int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sources := slices.Collect(maps.Keys(s.held[root]))
	if p, ok := s.added[root]; ok {
		sources = append(sources, p)
	}
	if !slices.ContainsFunc(sources, func(p peer.ID) bool { return !s.apart(s.self, p) }) {
		return errNobody
	}
	if s.held[root] == nil {
		s.held[root] = map[peer.ID]bool{}
	}
	s.held[root][s.self] = true
	return ctx.Err()
}

func (s *shelf) Remove(_ context.Context, root cid.Cid) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held[root], s.self)
	return nil
}

func (s *shelf) Pinned(_ context.Context, root cid.Cid) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[root][s.self], nil
}

func (s *shelf) Space(context.Context) (used, free int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full[s.self] {
		return s.free, 0, nil
	}
	return 0, s.free, nil
}

func (s *shelf) Pins(context.Context) iter.Seq2[cid.Cid, error] {
	s.mu.Lock()
	defer s.mu.Unlock()
	var l []cid.Cid
	for root, by := range s.held {
		if by[s.self] {
			l = append(l, root)
		}
	}
	return func(yield func(cid.Cid, error) bool) {
		for _, root := range l {
			if !yield(root, nil) {
				return
			}
		}
	}
}

// fast are timers that tests can wait for.
func fast() Timing {
	return Timing{
		Ping: time.Second, Check: 200 * time.Millisecond, Recover: 500 * time.Millisecond,
		Rebroadcast: 500 * time.Millisecond, BatchSize: 100, BatchAge: 50 * time.Millisecond,
	}
}

// wall is a connection gater that keeps peers apart at will.
type wall struct {
	mu   sync.Mutex
	shut map[peer.ID]bool
}

func (w *wall) open(p peer.ID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.shut[p]
}

func (w *wall) set(shut bool, p peer.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shut[p] = shut
}

func (w *wall) InterceptPeerDial(p peer.ID) bool                                { return w.open(p) }
func (w *wall) InterceptAddrDial(p peer.ID, _ ma.Multiaddr) bool                { return w.open(p) }
func (w *wall) InterceptAccept(network.ConnMultiaddrs) bool                     { return true }
func (w *wall) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }
func (w *wall) InterceptSecured(_ network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	return w.open(p)
}

// a peerUnder test outlives its cluster and its host.
type peerUnder struct {
	id      peer.ID
	key     crypto.PrivKey
	site    string
	store   datastore.Batching
	shelf   *shelf
	wall    *wall
	host    host.Host
	cluster *Cluster

	mu     sync.Mutex
	held   map[cid.Cid]error
	denied map[cid.Cid]bool
}

// newHost gives p a host on the loopback.
func (p *peerUnder) newHost(t testing.TB) {
	t.Helper()
	h, err := libp2p.New(libp2p.Identity(p.key), libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"),
		libp2p.DisableRelay(), libp2p.ConnectionGater(p.wall))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	p.host = h
}

// newPeer makes a peer that is not open yet.
func newPeer(t testing.TB, d *depot, site string) *peerUnder {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p := &peerUnder{
		id: id, key: key, site: site, store: dssync.MutexWrap(datastore.NewMapDatastore()),
		shelf: &shelf{depot: d, self: id, free: 1 << 30}, wall: &wall{shut: map[peer.ID]bool{}},
		held: map[cid.Cid]error{}, denied: map[cid.Cid]bool{},
	}
	p.newHost(t)
	return p
}

func (p *peerUnder) options(trusted ...*peerUnder) Options {
	return Options{
		Host: p.host, Store: p.store, Site: p.site, Realm: "test", Trusted: idsOf(trusted), Blocks: p.shelf,
		Timing: fast(), Log: slog.New(slog.DiscardHandler),
		Held: func(root cid.Cid, err error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.held[root] = err
		},
		Denied: func(root cid.Cid) bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.denied[root]
		},
	}
}

func idsOf(ps []*peerUnder) []peer.ID {
	l := make([]peer.ID, len(ps))
	for i, p := range ps {
		l[i] = p.id
	}
	return l
}

// open joins p to the cluster of trusted.
func (p *peerUnder) open(t testing.TB, trusted ...*peerUnder) {
	t.Helper()
	p.openWith(t, p.options(trusted...))
}

func (p *peerUnder) openWith(t testing.TB, o Options) {
	t.Helper()
	c, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	p.cluster = c
}

// kill ends p without a word: its connections break first.
func (p *peerUnder) kill(t testing.TB) {
	t.Helper()
	if err := p.host.Close(); err != nil {
		t.Fatal(err)
	}
	_ = p.cluster.Close()
}

// connect joins the hosts of all pairs.
func connect(t testing.TB, ps ...*peerUnder) {
	t.Helper()
	for i, a := range ps {
		for _, b := range ps[:i] {
			err := a.host.Connect(t.Context(), peer.AddrInfo{ID: b.id, Addrs: b.host.Addrs()})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// trio is three trusted peers at three sites that know each other.
func trio(t testing.TB) (*depot, []*peerUnder) {
	t.Helper()
	return swarm(t, "north", "south", "west")
}

// swarm is one trusted peer for each site. All are alive to each other.
func swarm(t testing.TB, sites ...string) (*depot, []*peerUnder) {
	t.Helper()
	d := newDepot()
	var ps []*peerUnder
	for _, s := range sites {
		ps = append(ps, newPeer(t, d, s))
	}
	connect(t, ps...)
	for _, p := range ps {
		p.open(t, ps...)
	}
	awaitAlive(t, len(ps), ps...)
	return d, ps
}

// awaitAlive waits until each sees n peers that live and have room.
func awaitAlive(t testing.TB, n int, ps ...*peerUnder) {
	t.Helper()
	await(t, fmt.Sprintf("%d peers alive", n), func() bool {
		for _, p := range ps {
			alive := 0
			for _, m := range p.cluster.Peers(t.Context()) {
				if m.Alive && m.Free > 0 {
					alive++
				}
			}
			if alive != n {
				return false
			}
		}
		return true
	})
}

// await polls what there is no event for.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.Done():
			t.Fatal("never: " + what)
		case <-tick.C:
		}
	}
}

// pinset is what a peer believes, as text that can be compared.
func (p *peerUnder) pinset(t testing.TB) map[cid.Cid][]peer.ID {
	t.Helper()
	all := map[cid.Cid][]peer.ID{}
	for x, err := range p.cluster.Pins(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(x.Holders)
		all[x.Root] = x.Holders
	}
	return all
}

// same reports whether all peers believe the same.
func same(t testing.TB, ps ...*peerUnder) bool {
	t.Helper()
	first := ps[0].pinset(t)
	for _, p := range ps[1:] {
		if !maps.EqualFunc(first, p.pinset(t), slices.Equal[[]peer.ID]) {
			return false
		}
	}
	return true
}

// settled reports whether each of the roots is held by exactly whom the pinset
// says, on all peers.
func settled(t testing.TB, d *depot, ps []*peerUnder, roots []cid.Cid) bool {
	t.Helper()
	if !same(t, ps...) {
		return false
	}
	all := ps[0].pinset(t)
	for _, root := range roots {
		if want, ok := all[root]; !ok || !slices.Equal(want, d.holders(root)) {
			return false
		}
	}
	return true
}

// pin puts n segments into the pinset of p, which has them.
func pin(t testing.TB, d *depot, p *peerUnder, kind string, n int, pl Placement) []cid.Cid {
	t.Helper()
	var roots []cid.Cid
	for i := range n {
		root := rootN(t, kind, i)
		d.add(p.id, root)
		p.pin(t, root, pl)
		roots = append(roots, root)
	}
	return roots
}

// pin pins one segment. On a slow machine the others may seem lost for a while.
func (p *peerUnder) pin(t testing.TB, root cid.Cid, pl Placement) {
	t.Helper()
	await(t, "enough peers", func() bool {
		err := p.cluster.Pin(t.Context(), root, pl)
		if err != nil && !errors.Is(err, ErrFewPeers) {
			t.Fatal(err)
		}
		return err == nil
	})
}

// size is how many bytes a store has in it, keys included.
func size(t testing.TB, ds datastore.Batching) int64 {
	t.Helper()
	found, err := ds.Query(t.Context(), query.Query{})
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	var n int64
	for r := range found.Next() {
		if r.Error != nil {
			t.Fatal(r.Error)
		}
		n += int64(len(r.Key) + len(r.Value))
	}
	return n
}
