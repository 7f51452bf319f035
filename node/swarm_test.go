package node

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// guestList admits the peers that are on it.
type guestList struct {
	mu sync.Mutex
	on map[peer.ID]bool
}

func (g *guestList) Admits(p peer.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.on[p]
}

func (g *guestList) set(p peer.ID, on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.on == nil {
		g.on = map[peer.ID]bool{}
	}
	g.on[p] = on
}

func gated(g *guestList) func(*Options) {
	return func(o *Options) {
		o.Gate = g
		o.Listen = []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}
		o.Sweep = 20 * time.Millisecond
	}
}

// place is where a node listens.
type place struct{ peer.AddrInfo }

func (p place) strings() (out []string) {
	for _, a := range p.Addrs {
		out = append(out, a.String()+"/p2p/"+p.ID.String())
	}
	return out
}

// via is where n listens for one transport.
func via(t testing.TB, n *Node, transport string) place {
	t.Helper()
	info := place{peer.AddrInfo{ID: n.Host().ID()}}
	for _, a := range n.Host().Addrs() {
		if strings.Contains(a.String(), transport) {
			info.Addrs = append(info.Addrs, a)
		}
	}
	if len(info.Addrs) == 0 {
		t.Fatalf("no %s among %v", transport, n.Host().Addrs())
	}
	return info
}

// disconnected waits until a has no connection to b.
func disconnected(t testing.TB, a, b *Node) {
	t.Helper()
	await(t, a, b, false)
}

func await(t testing.TB, a, b *Node, connected bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for (a.Host().Network().Connectedness(b.Host().ID()) == network.Connected) != connected {
		select {
		case <-ctx.Done():
			t.Fatalf("connected is %v", !connected)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// A stranger gets nothing; a peer that is admitted fetches over TCP and over
// QUIC; one that is removed is gone, and comes back no more.
func TestGate(t *testing.T) {
	var guests, all guestList
	a := start(t, gated(&guests))
	x := add(t, a, sealedBytes(1, 3*leafSize))
	y := add(t, a, sealedBytes(2, 3*leafSize))
	for _, transport := range []string{"tcp", "quic"} {
		t.Run(transport, func(t *testing.T) {
			stranger, friend := start(t, impatient), start(t, gated(&all))
			all.set(a.Host().ID(), true)
			_ = stranger.Host().Connect(t.Context(), via(t, a, transport).AddrInfo) // its end of the handshake may come first
			if err := stranger.Fetch(t.Context(), x.root, 0); !errors.Is(err, ErrNotFound) {
				t.Errorf("a stranger: %v", err)
			}
			disconnected(t, stranger, a)
			if err := a.Host().Connect(t.Context(), via(t, stranger, "tcp").AddrInfo); err == nil {
				t.Error("a stranger is dialled")
			}

			guests.set(friend.Host().ID(), true)
			if err := friend.Host().Connect(t.Context(), via(t, a, transport).AddrInfo); err != nil {
				t.Fatal(err)
			}
			for _, c := range friend.Host().Network().ConnsToPeer(a.Host().ID()) {
				if !strings.Contains(c.RemoteMultiaddr().String(), transport) {
					t.Errorf("connected by %s", c.RemoteMultiaddr())
				}
			}
			fetch(t, friend, x)
			readBack(t, friend, x, leafSize)

			guests.set(friend.Host().ID(), false)
			disconnected(t, friend, a)
			if err := friend.Fetch(t.Context(), y.root, 0); !errors.Is(err, ErrNotFound) {
				t.Errorf("a peer that was removed: %v", err)
			}
			if n := len(a.Host().Network().Peers()); n != 0 {
				t.Errorf("%d peers are connected", n)
			}
		})
	}
}

// Nodes of one process, one of which denies one peer one segment.
func TestServe(t *testing.T) {
	var mu sync.Mutex
	denied := map[string]bool{}
	a := start(t, func(o *Options) {
		o.Serve = func(p peer.ID, c cid.Cid) bool {
			mu.Lock()
			defer mu.Unlock()
			return !denied[string(p)+string(c.Hash())]
		}
	})
	b, c := start(t, impatient), start(t, impatient)
	connect(t, b, a)
	connect(t, c, a)
	x := add(t, a, sealedBytes(1, 100))
	small := add(t, a, sealedBytes(2, 100))
	deny := func(on bool) {
		mu.Lock()
		defer mu.Unlock()
		denied[string(b.Host().ID())+string(x.root.Hash())] = on
	}
	deny(true)
	if err := b.Fetch(t.Context(), x.root, 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("a peer that is denied: %v", err)
	}
	if _, err := b.ReadBlockAt(t.Context(), cid.NewCidV1(cid.DagProtobuf, x.root.Hash()), make([]byte, 10), 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("by another spelling: %v", err)
	}
	fetch(t, b, small)
	fetch(t, c, x)
	deny(false)
	fetch(t, b, x)
}

// A peer is dialled again when the connection ends, until it is let go.
func TestPeer(t *testing.T) {
	a, b := start(t), start(t)
	info := via(t, b, "tcp").AddrInfo
	a.Peer(info)
	await(t, a, b, true)
	if err := b.Disconnect(a.Host().ID()); err != nil {
		t.Fatal(err)
	}
	await(t, a, b, true)

	addrs := b.opts
	addrs.Listen = []string{info.Addrs[0].String()}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = reopen(t, addrs.Dir, func(o *Options) { o.Listen = addrs.Listen })
	await(t, a, b, true)

	a.Unpeer(b.Host().ID())
	disconnected(t, a, b)
	a.Unpeer(b.Host().ID())
}

// A peer whose addresses were wrong is found once they are right.
func TestPeerMoves(t *testing.T) {
	a, b := start(t), start(t)
	info := via(t, b, "tcp").AddrInfo
	nowhere := peer.AddrInfo{ID: info.ID, Addrs: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/1")}}
	a.Peer(nowhere)
	a.Peer(info)
	await(t, a, b, true)
	a.Peer(peer.AddrInfo{ID: a.Host().ID()}) // oneself is no peer
}

func TestAnnounce(t *testing.T) {
	n := start(t, func(o *Options) { o.Announce = []string{"/dns4/origin.example/tcp/4001"} })
	if got := n.Addrs(); len(got) != 1 || got[0] != "/dns4/origin.example/tcp/4001/p2p/"+n.PeerID() {
		t.Errorf("announced %v", got)
	}
}

// A node that is reached through a relay alone gives its blocks to a peer that
// its gate admits, and to no other. The relay opens no block of its own.
func TestRelay(t *testing.T) {
	var guests guestList
	var dirs []string
	for i := range 3 {
		dirs = append(dirs, filepath.Join(t.TempDir(), strconv.Itoa(i)))
		id, err := Init(dirs[i])
		if err != nil {
			t.Fatal(err)
		}
		p, err := peer.Decode(id)
		if err != nil {
			t.Fatal(err)
		}
		guests.set(p, true)
	}
	m := &meter{waits: make(chan struct{}, 1)}
	origin := reopen(t, dirs[0], gated(&guests), func(o *Options) { o.Relay, o.Upload = true, m })
	home := func(o *Options) { o.Relays = via(t, origin, "/").strings() }
	hidden, friend := reopen(t, dirs[1], gated(&guests), home), reopen(t, dirs[2], gated(&guests), home)
	x := add(t, hidden, sealedBytes(1, 3*leafSize))
	hidden.Peer(via(t, origin, "tcp").AddrInfo)
	await(t, hidden, origin, true)
	circuit := peer.AddrInfo{ID: hidden.Host().ID()}
	for _, s := range via(t, origin, "tcp").strings() {
		circuit.Addrs = append(circuit.Addrs, ma.StringCast(s+"/p2p-circuit"))
	}
	friend.Peer(circuit) // until the relay has a place for the hidden one
	await(t, friend, hidden, true)
	for _, c := range friend.Host().Network().ConnsToPeer(hidden.Host().ID()) {
		if c.Stat().Limited {
			t.Error("the relay gives up after a while")
		}
	}
	fetch(t, friend, x)
	readBack(t, friend, x, leafSize)
	if err := origin.Verify(t.Context(), x.root); !errors.Is(err, ErrNotFound) {
		t.Errorf("the relay keeps what passes: %v", err)
	}
	m.mu.Lock()
	if m.granted < len(x.data) || m.most > m.Burst() {
		t.Errorf("%d of %d bytes in pieces of %d waited for the relay's upload", m.granted, len(x.data), m.most)
	}
	m.mu.Unlock()
}

func TestRelaysAreChecked(t *testing.T) {
	n := start(t)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "/ip4/127.0.0.1/tcp/4001", "origin.example"} {
		if _, err := Open(t.Context(), Options{Dir: n.opts.Dir, Relays: []string{bad}}); err == nil {
			t.Errorf("relay %q is accepted", bad)
		}
	}
	reopen(t, n.opts.Dir)
}

// A peer that has removed this one is left in peace: each try to reach it is
// later than the one before.
func TestPeerThatEndsConnections(t *testing.T) {
	asked := make(chan struct{}, 1000)
	a := start(t)
	b := start(t, func(o *Options) { o.Gate = closedGate{asked} })
	began := time.Now()
	a.Peer(via(t, b, "tcp").AddrInfo)
	for range 4 {
		<-asked
	}
	if took := time.Since(began); took < 500*time.Millisecond {
		t.Errorf("four connections within %s", took)
	}
}

// closedGate admits nobody and tells when it is asked.
type closedGate struct{ asked chan struct{} }

func (g closedGate) Admits(peer.ID) bool {
	select {
	case g.asked <- struct{}{}:
	default:
	}
	return false
}
