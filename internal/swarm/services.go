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
	if !s.services.MayFetch(p, root) {
		return false
	}
	h, ok := s.keeper.Health(root)
	return ok && s.limits.grant(p, root, h.Want.Size)
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
	if _, enrolled := v.s.ledger.Gate().Role(p); !enrolled {
		v.s.node.Host().Peerstore().ClearAddrs(p)
	}
}
