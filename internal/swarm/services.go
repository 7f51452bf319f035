package swarm

import (
	"context"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/remote"
)

const (
	// visitorDial bounds one try to reach a visitor. Another comes when its
	// service names it again, after a pause that doubles.
	visitorDial = 10 * time.Second
	firstPause  = 5 * time.Second
	mostPause   = 5 * time.Minute
	// stragglers is how long what was begun on a connection may go on after it.
	stragglers = 10 * time.Second
)

// visitors are the nodes of pinning services, which come and go. Whom the
// ledger knows, as a member or as one that was removed, they leave alone.
type visitors struct {
	s *Swarm

	mu     sync.Mutex
	inside map[peer.ID]*call
}

var _ remote.Visitors = (*visitors)(nil)

// call is how far it is to reach a visitor.
type call struct {
	busy  bool
	pause time.Duration
	next  time.Time
}

// openServices opens the pinning services.
func (s *Swarm) openServices(ctx context.Context) (err error) {
	o := s.o.Services
	o.Store, o.Origins, o.Now, o.Log = s.node.Store(), s.node.Addrs, s.o.Now, s.o.Log
	o.Changed = func(root cid.Cid) { s.keeper.Look(root) }
	o.Visitors = &visitors{s: s, inside: map[peer.ID]*call{}}
	s.services, err = remote.Open(ctx, o)
	return err
}

// mayVisit reports whether a visitor may have the blocks of a segment.
func (s *Swarm) mayVisit(p peer.ID, root cid.Cid) bool {
	services := s.services.FetchesFor(p, root)
	if len(services) == 0 {
		return false
	}
	h, ok := s.keeper.Health(root)
	return ok && s.limits.treat(services, p, root, h.Want.Size)
}

// Admit implements remote.Visitors.
func (v *visitors) Admit(ctx context.Context, n peer.AddrInfo) {
	v.mu.Lock()
	defer v.mu.Unlock()
	h := v.s.node.Host()
	if !v.s.ledger.Gate().Visit(n) {
		return
	}
	c := v.inside[n.ID]
	if c == nil {
		c = &call{pause: firstPause}
		v.inside[n.ID] = c
		v.s.o.Log.Info("a node of a pinning service is let in", "peer", n.ID.String())
	}
	if now := v.s.o.Now(); len(n.Addrs) > 0 && !c.busy && !now.Before(c.next) && h.Network().Connectedness(n.ID) != network.Connected {
		c.busy, c.next, c.pause = true, now.Add(c.pause), min(2*c.pause, mostPause)
		v.s.running.Go(func() { v.dial(ctx, n, c) })
	}
}

func (v *visitors) dial(ctx context.Context, n peer.AddrInfo, c *call) {
	ctx, cancel := context.WithTimeout(ctx, visitorDial)
	defer cancel()
	err := v.s.node.Host().Connect(ctx, n)
	if err != nil && ctx.Err() == nil {
		v.s.o.Log.Info("the node of a pinning service cannot be reached; it may still connect", "peer", n.ID.String(), "err", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	c.busy = false
	if err == nil {
		c.pause = firstPause
	}
	if v.inside[n.ID] != c {
		v.s.running.Go(func() { v.forget(n.ID) })
	}
}

// Dismiss implements remote.Visitors.
func (v *visitors) Dismiss(p peer.ID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, inside := v.inside[p]; !inside {
		return
	}
	delete(v.inside, p)
	v.s.o.Log.Info("a node of a pinning service is let in no more", "peer", p.String())
	v.s.ledger.Gate().EndVisit(p)
	v.s.running.Go(func() { v.forget(p) })
}

// forget ends the connections with one that was dismissed, and then drops all
// that the node knows of it, as long as nobody lets it in again: names cost a
// service nothing, so what is kept of each would fill the memory. It does so
// once more when whoever asked the peer something on its connections has given
// up: that is noted when it is over.
func (v *visitors) forget(p peer.ID) {
	for _, wait := range []time.Duration{0, stragglers} {
		timer := time.NewTimer(wait)
		select {
		case <-v.s.limits.ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		v.drop(p)
	}
}

func (v *visitors) drop(p peer.ID) {
	if !v.isGone(p) {
		return
	}
	h := v.s.node.Host()
	_ = h.Network().ClosePeer(p) // it is closed already, or closes
	v.s.limits.parted(p)
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, inside := v.inside[p]; !inside {
		h.Peerstore().RemovePeer(p)
		h.Peerstore().ClearAddrs(p)
	}
}

// isGone reports whether p was dismissed and nobody has let it in since.
func (v *visitors) isGone(p peer.ID) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, inside := v.inside[p]
	if !inside && v.s.ledger.Gate().Admits(p) { // it enrolled, say
		v.s.limits.parted(p)
		return false
	}
	return !inside
}
