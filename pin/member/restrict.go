package member

import (
	"fmt"
	"strings"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
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
		return nil, err
	}
	return &restrictedStream{StreamManagementScope: scope, by: r, peer: p}, nil
}

// speaks reports whether p may speak a protocol.
func (r *restricted) speaks(p peer.ID, name protocol.ID) bool {
	role, enrolled := r.gate.Role(p)
	if !enrolled {
		return name == Protocol
	}
	for _, prefix := range r.trusted {
		if strings.HasPrefix(string(name), string(prefix)) {
			return role.Trusted()
		}
	}
	return true
}

// restrictedStream is the scope of one stream.
type restrictedStream struct {
	network.StreamManagementScope
	by   *restricted
	peer peer.ID
}

// SetProtocol refuses what the peer may not speak.
func (s *restrictedStream) SetProtocol(name protocol.ID) error {
	if !s.by.speaks(s.peer, name) {
		return fmt.Errorf("%w: peer %s may not speak %s", network.ErrResourceLimitExceeded, s.peer, name)
	}
	return s.StreamManagementScope.SetProtocol(name)
}
