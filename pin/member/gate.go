package member

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
)

// A Gate says whose connections are taken: those of the peers on the roster
// and, at an origin, of the one-time identities of open invitations and of
// visitors. The zero Gate admits nobody. It is safe for concurrent use.
type Gate struct {
	now    func() time.Time // nil: time.Now
	log    *slog.Logger     // nil: silent
	floods floods

	mu     sync.RWMutex
	always map[peer.ID]Role
	roles  map[peer.ID]Role
	once   map[peer.ID]time.Time // until when a one-time identity is let in
	gone   map[peer.ID]time.Time // who was removed, and when: let in to be told so
	visits map[peer.ID][]ma.Multiaddr
	signal chan struct{} // closed at the next change; nil: nobody waits
}

// NewGate returns a gate that always admits the origins given, whatever roster
// it is set to.
func NewGate(origins ...peer.ID) *Gate {
	g := &Gate{always: map[peer.ID]Role{}}
	for _, id := range origins {
		g.always[id] = Origin
	}
	return g
}

// Admits reports whether connections with p may be made: not while it is shut
// out, see Refused.
func (g *Gate) Admits(p peer.ID) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.flooded(p) {
		return false
	}
	if _, ok := g.role(p); ok || g.invited(p) || g.removed(p) {
		return true
	}
	_, visits := g.visits[p]
	return visits
}

// Role returns what p may do. Visitors have no role, nor has somebody who was
// invited and has not enrolled yet, although Admits lets both in.
func (g *Gate) Role(p peer.ID) (Role, bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.role(p)
}

func (g *Gate) role(p peer.ID) (Role, bool) {
	if r, ok := g.roles[p]; ok {
		return r, true
	}
	r, ok := g.always[p]
	return r, ok
}

func (g *Gate) invited(p peer.ID) bool {
	until, ok := g.once[p]
	return ok && g.now().Before(until)
}

// onlyInvited reports whether p is a one-time identity, and no more.
func (g *Gate) onlyInvited(p peer.ID) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	_, enrolled := g.role(p)
	return !enrolled && g.invited(p)
}

// Visit lets a peer in until EndVisit, to ask for blocks and nothing else: what
// it may have, others decide. It is dialled at the addresses given alone, those
// of the last call. Nothing comes of it, and it returns false, if p has a role,
// or could have one by its invitation, or was removed; nor is one a visitor any
// more to whom that happens later.
func (g *Gate) Visit(p peer.AddrInfo) bool {
	g.change(func() {
		if g.visits == nil {
			g.visits = map[peer.ID][]ma.Multiaddr{}
		}
		if g.stranger(p.ID) {
			g.visits[p.ID] = slices.Clone(p.Addrs)
		}
	})
	return g.Visits(p.ID)
}

// EndVisit ends what Visit began. A Guard closes the connections.
func (g *Gate) EndVisit(p peer.ID) {
	g.change(func() { delete(g.visits, p) })
}

// Visits reports whether p is let in by Visit alone.
func (g *Gate) Visits(p peer.ID) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	_, visits := g.visits[p]
	return visits && g.stranger(p)
}

// stranger reports whether nothing is known of p. The caller holds mu.
func (g *Gate) stranger(p peer.ID) bool {
	_, enrolled := g.role(p)
	return !enrolled && !g.invited(p) && !g.removed(p)
}

// mayDial reports whether p may be dialled at an address, for all that visits
// have to say about it.
func (g *Gate) mayDial(p peer.ID, at ma.Multiaddr) bool {
	if !g.Visits(p) {
		return true
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	return slices.ContainsFunc(g.visits[p], at.Equal)
}

// Set admits the peers of a roster, and none of an earlier one.
func (g *Gate) Set(r Roster) {
	roles := make(map[peer.ID]Role, len(r.Peers))
	for _, p := range r.Peers {
		roles[p.ID] = p.Role
	}
	g.change(func() { g.roles = roles })
}

func (g *Gate) change(do func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	do()
	if g.signal != nil {
		close(g.signal)
		g.signal = nil
	}
}

// changed is closed at the next change.
func (g *Gate) changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.signal == nil {
		g.signal = make(chan struct{})
	}
	return g.signal
}

// Guard closes the connections of peers that the gate no longer admits, as soon
// as it changes: a gate alone is asked only when a connection is made. It ends
// with stop, which waits for it.
func (g *Gate) Guard(h host.Host) (stop func()) {
	quit := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			changed := g.changed()
			g.sweep(h.Network())
			select {
			case <-changed:
			case <-quit:
				return
			}
		}
	})
	return sync.OnceFunc(func() { close(quit); done.Wait() })
}

// sweep closes the connections of those who are not admitted, and of those who
// were when they were members.
func (g *Gate) sweep(n network.Network) {
	for _, p := range n.Peers() {
		if g.onlyRemoved(p) || !g.Admits(p) {
			_ = n.ClosePeer(p) // it is gone already, or goes
		}
	}
}

// Restrict makes a host speak Protocol alone with those who were invited and
// have not enrolled, Bitswap and what keeps a connection up with visitors,
// whoever opens the stream, and protocols whose names begin with one of trusted
// with origins and storage peers alone. A peer that is not trusted and opens far
// too many streams, of whatever kind, is shut out for a while, as Refused says.
// The host is made with the manager that it returns, which owns rm.
func (g *Gate) Restrict(rm network.ResourceManager, trusted ...protocol.ID) network.ResourceManager {
	return &restricted{ResourceManager: rm, gate: g, trusted: trusted}
}
