package member

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
)

// restricted is a resource manager that gives no stream to a protocol that the
// peer at its other end may not speak. A host asks it once the name of the
// protocol is agreed, and before any byte reaches a handler.
type restricted struct {
	network.ResourceManager
	gate    *Gate
	trusted []protocol.ID
}

var _ network.ResourceManager = (*restricted)(nil)

// OpenStream makes the scope of a stream, which knows its peer.
func (r *restricted) OpenStream(p peer.ID, dir network.Direction) (network.StreamManagementScope, error) {
	scope, err := r.ResourceManager.OpenStream(p, dir)
	if err != nil {
		if dir == network.DirInbound && r.holdsMany(p) {
			r.gate.Refused(p)
		}
		return nil, err
	}
	s := &restrictedStream{StreamManagementScope: scope, by: r, peer: p}
	s.counted.Store(dir != network.DirInbound)
	return s, nil
}

// many is how many streams of a peer make it the one who fills the host.
const many = 128

// holdsMany reports whether it is for p's own streams that it gets no more.
func (r *restricted) holdsMany(p peer.ID) bool {
	held := 0
	err := r.ViewPeer(p, func(s network.PeerScope) error {
		held = s.Stat().NumStreamsInbound
		return nil
	})
	return err == nil && held >= many
}

// speaks reports whether p may speak a protocol.
func (r *restricted) speaks(p peer.ID, name protocol.ID) bool {
	role, enrolled := r.gate.Role(p)
	switch {
	case !enrolled && r.gate.Visits(p):
		return begins(name, "/ipfs/bitswap", "/ipfs/id/", "/ipfs/ping/")
	case !enrolled:
		return name == Protocol
	}
	return role.Trusted() || !begins(name, r.trusted...)
}

// begins reports whether the name of a protocol begins with one of some.
func begins(name protocol.ID, some ...protocol.ID) bool {
	return slices.ContainsFunc(some, func(p protocol.ID) bool { return strings.HasPrefix(string(name), string(p)) })
}

// OpenConnection makes the scope of a connection, which is told its peer before
// anything is dialled.
func (r *restricted) OpenConnection(dir network.Direction, usefd bool, at ma.Multiaddr) (network.ConnManagementScope, error) {
	scope, err := r.ResourceManager.OpenConnection(dir, usefd, at)
	if err != nil || dir != network.DirOutbound {
		return scope, err
	}
	return &restrictedConn{ConnManagementScope: scope, by: r, at: at}, nil
}

// restrictedConn is the scope of one connection that is about to be made.
type restrictedConn struct {
	network.ConnManagementScope
	by *restricted
	at ma.Multiaddr
}

// SetPeer refuses an address at which the peer may not be dialled.
func (c *restrictedConn) SetPeer(p peer.ID) error {
	if !c.by.gate.mayDial(p, c.at) {
		return fmt.Errorf("%w: peer %s may not be dialled at %s", network.ErrResourceLimitExceeded, p, c.at)
	}
	return c.ConnManagementScope.SetPeer(p)
}

// restrictedStream is the scope of one stream.
type restrictedStream struct {
	network.StreamManagementScope
	by      *restricted
	peer    peer.ID
	counted atomic.Bool // against what its peer may open
}

// SetProtocol refuses what the peer may not speak.
func (s *restrictedStream) SetProtocol(name protocol.ID) error {
	if !s.by.speaks(s.peer, name) {
		return fmt.Errorf("%w: peer %s may not speak %s", network.ErrResourceLimitExceeded, s.peer, name)
	}
	if !s.counted.Swap(true) {
		s.by.gate.opened(s.peer, name)
	}
	return s.StreamManagementScope.SetProtocol(name)
}

// Done ends the stream. One that came to no protocol was opened in vain.
func (s *restrictedStream) Done() {
	s.StreamManagementScope.Done()
	if !s.counted.Swap(true) {
		s.by.gate.Refused(s.peer)
	}
}
