package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	firstRedial = 200 * time.Millisecond
	dialTime    = 10 * time.Second
	lasting     = 2 * time.Second // a connection that ends sooner was not wanted
	// firstDetour is how long a connection through a relay is left as it is,
	// and longestDetour how long after many that could not be made direct.
	firstDetour   = 10 * time.Second
	longestDetour = 6 * time.Hour
	keptTag       = "musen-kept"
)

// keptPeers are the peers that a connection is kept to.
type keptPeers struct {
	mu    sync.Mutex
	peers map[peer.ID]*keptPeer
}

// keptPeer is a peer that a goroutine of its own keeps connected.
type keptPeer struct {
	id     peer.ID
	addrs  []ma.Multiaddr // under keptPeers.mu
	wake   chan struct{}  // a connection ended, or there are new addresses
	cancel context.CancelFunc
	ended  chan struct{}
}

func (k *keptPeer) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Peer keeps a connection to a peer: it is dialled now and again whenever the
// connection is lost, at the latest every Options.Redial, until Unpeer. A
// second call for the same peer replaces its addresses.
func (n *Node) Peer(info peer.AddrInfo) {
	n.kept.mu.Lock()
	defer n.kept.mu.Unlock()
	if k, ok := n.kept.peers[info.ID]; ok {
		k.addrs = info.Addrs
		n.kubo.PeerHost.Peerstore().ClearAddrs(info.ID)
		k.nudge()
		return
	}
	ctx, leave, err := n.enter(context.Background())
	if err != nil || info.ID == n.kubo.Identity {
		if err == nil {
			leave()
		}
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	k := &keptPeer{id: info.ID, addrs: info.Addrs, wake: make(chan struct{}, 1), cancel: cancel, ended: make(chan struct{})}
	n.kept.peers[info.ID] = k
	n.kubo.PeerHost.ConnManager().Protect(info.ID, keptTag)
	go func() {
		defer leave()
		defer close(k.ended)
		n.keepPeer(ctx, k)
	}()
}

// Unpeer ends what Peer began and closes the connection.
func (n *Node) Unpeer(id peer.ID) {
	n.kept.mu.Lock()
	k, ok := n.kept.peers[id]
	delete(n.kept.peers, id)
	n.kept.mu.Unlock()
	if ok {
		k.cancel()
		<-k.ended
		n.kubo.PeerHost.ConnManager().Unprotect(id, keptTag)
		n.kubo.PeerHost.Peerstore().ClearAddrs(id)
	}
	_ = n.Disconnect(id) // it is closed already
}

// Disconnect closes all connections to a peer. Nothing keeps it from coming
// back but the Gate.
func (n *Node) Disconnect(id peer.ID) error {
	if err := n.kubo.PeerHost.Network().ClosePeer(id); err != nil {
		return fmt.Errorf("disconnect %s: %w", id, err)
	}
	return nil
}

// keepPeer dials until ctx ends. A connection that the other side ends at once
// is as good as none: a peer that has removed this one is left in peace. One
// through a relay is made anew now and then: holes are punched when one begins,
// and not when that was before both knew how they are seen from outside.
func (n *Node) keepPeer(ctx context.Context, k *keptPeer) {
	pause, detour := firstRedial, firstDetour
	for ctx.Err() == nil {
		if n.dial(ctx, k) == nil {
			began := time.Now()
			k.rest(ctx, n.opts.Redial)
			if n.relayedFor(k.id) > detour {
				_ = n.Disconnect(k.id) // it is closed already
				detour = min(6*detour, longestDetour)
			}
			if time.Since(began) >= min(lasting, n.opts.Redial) {
				pause = firstRedial
				continue
			}
		}
		k.rest(ctx, pause/2+rand.N(pause/2+1))
		pause = min(2*pause, n.opts.Redial)
	}
}

// relayedFor is for how long there has been no connection to a peer but one
// through a relay; 0: there is a direct one, or none.
func (n *Node) relayedFor(id peer.ID) (d time.Duration) {
	for _, c := range n.kubo.PeerHost.Network().ConnsToPeer(id) {
		if _, err := c.RemoteMultiaddr().ValueForProtocol(ma.P_CIRCUIT); err != nil {
			return 0
		}
		d = max(d, time.Since(c.Stat().Opened))
	}
	return d
}

// rest returns after a while, or when k is woken.
func (k *keptPeer) rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-k.wake:
	case <-timer.C:
	}
}

// dial connects to a peer unless there is a connection. It does not mind that
// libp2p would have a pause after a failure: keepPeer makes its own.
func (n *Node) dial(ctx context.Context, k *keptPeer) error {
	n.kept.mu.Lock()
	info := peer.AddrInfo{ID: k.id, Addrs: k.addrs}
	n.kept.mu.Unlock()
	h := n.kubo.PeerHost
	h.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.PermanentAddrTTL)
	if s, ok := h.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(info.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	return h.Connect(ctx, info)
}

// keptEvents wakes the goroutine of a kept peer when its last connection ends,
// and has nobody rely on one that left.
type keptEvents Node

var _ network.Notifiee = (*keptEvents)(nil)

func (e *keptEvents) Disconnected(net network.Network, c network.Conn) {
	e.sessions.departed()
	e.kept.mu.Lock()
	defer e.kept.mu.Unlock()
	if k, ok := e.kept.peers[c.RemotePeer()]; ok && net.Connectedness(k.id) != network.Connected {
		k.nudge()
	}
}

func (*keptEvents) Connected(network.Network, network.Conn)   {}
func (*keptEvents) Listen(network.Network, ma.Multiaddr)      {}
func (*keptEvents) ListenClose(network.Network, ma.Multiaddr) {}
