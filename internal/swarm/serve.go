package swarm

import (
	"context"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/musenai/musen/pin"
	"github.com/musenai/musen/pin/keep"
	"github.com/musenai/musen/pin/member"
)

// gate admits the peers of the ledger, once it is open.
type gate struct{ s *Swarm }

// Admits implements node.Gate.
func (g gate) Admits(p peer.ID) bool { return g.s.ready.Load() && g.s.ledger.Gate().Admits(p) }

// serve says which blocks a peer may have: a storage peer those of live
// segments, a guest likewise, a node of a pinning service those of segments that
// the service is about to pin, and a replica those that it was told to hold and
// has not got, both within limits. So a replica that gave its copy away cannot get it
// here again at the moment when it is asked to prove that it has it, and one
// that never has enough takes its share a few times, and no more. Wants of
// peers that are not trusted are looked up at a pace.
func (s *Swarm) serve(p peer.ID, c cid.Cid) bool {
	if !s.ready.Load() {
		return false
	}
	role, ok := s.ledger.Gate().Role(p)
	visits := !ok && s.ledger.Gate().Visits(p)
	if !ok && !visits || !role.Trusted() && !s.limits.pace(p) {
		return false
	}
	root, live := s.o.Catalogue.SegmentOf(context.Background(), c.Hash())
	if !live || visits {
		return live && s.mayVisit(p, root)
	}
	return role != member.Replica || s.awaited(p, root)
}

// awaited reports whether a peer was told to hold a segment, has not yet, and
// may take more.
func (s *Swarm) awaited(p peer.ID, root cid.Cid) bool {
	h, ok := s.keeper.Health(root)
	if !ok {
		return false
	}
	for _, c := range h.Copies {
		if c.Peer == p {
			open := c.State == keep.Ordered || c.State == keep.Failed || c.State == keep.Lost
			return open && s.limits.grant(p, root, h.Want.Size)
		}
	}
	return false
}

// sent notes which bytes go to a peer.
func (s *Swarm) sent(p peer.ID, n int) {
	if s.ready.Load() {
		s.limits.took(p, n)
	}
}

// restrict keeps those who were invited to the protocol of enrolment.
func (s *Swarm) restrict(rm network.ResourceManager) network.ResourceManager {
	return &late{ResourceManager: rm, s: s}
}

// late is a resource manager that is restricted once the ledger is open. Before
// that nobody is connected.
type late struct {
	network.ResourceManager
	s *Swarm
}

// OpenStream implements network.ResourceManager.
func (l *late) OpenStream(p peer.ID, dir network.Direction) (network.StreamManagementScope, error) {
	if !l.s.ready.Load() {
		return nil, network.ErrResourceLimitExceeded
	}
	return l.s.ledger.Gate().Restrict(l.ResourceManager, pin.Protocols()...).OpenStream(p, dir)
}

// OpenConnection implements network.ResourceManager.
func (l *late) OpenConnection(dir network.Direction, usefd bool, at ma.Multiaddr) (network.ConnManagementScope, error) {
	if !l.s.ready.Load() {
		return l.ResourceManager.OpenConnection(dir, usefd, at)
	}
	return l.s.ledger.Gate().Restrict(l.ResourceManager).OpenConnection(dir, usefd, at)
}
