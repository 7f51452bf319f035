package pin

import (
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Protocols are the beginnings of the names of what a Cluster speaks, with
// trusted peers alone.
func Protocols() []protocol.ID {
	return []protocol.ID{"/ipfscluster/", deltaPrefix, "/meshsub/", "/floodsub/"}
}

// trust is the set of peers that may change the pinset. This one always may.
type trust struct {
	self peer.ID

	mu  sync.RWMutex
	set map[peer.ID]struct{}
}

func newTrust(self peer.ID, peers []peer.ID) *trust {
	t := &trust{self: self, set: map[peer.ID]struct{}{self: {}}}
	for _, p := range peers {
		t.set[p] = struct{}{}
	}
	return t
}

func (t *trust) has(p peer.ID) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	_, ok := t.set[p]
	return ok
}

// add reports whether p is new.
func (t *trust) add(p peer.ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.set[p]
	t.set[p] = struct{}{}
	return !ok
}

// remove reports whether p was trusted. It leaves this peer in.
func (t *trust) remove(p peer.ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.set[p]
	if p == t.self || !ok {
		return false
	}
	delete(t.set, p)
	return true
}

// list is in order, so that all peers with the same set see it alike.
func (t *trust) list() []peer.ID {
	t.mu.RLock()
	defer t.mu.RUnlock()
	l := make([]peer.ID, 0, len(t.set))
	for p := range t.set {
		l = append(l, p)
	}
	slices.Sort(l)
	return l
}

// strangers is everybody else, as gossip wants to know them.
type strangers struct{ trust *trust }

var _ pubsub.Blacklist = strangers{}

// Add does nothing: who is trusted is said elsewhere.
func (s strangers) Add(peer.ID) bool { return false }

// Contains reports whether p is not trusted.
func (s strangers) Contains(p peer.ID) bool { return !s.trust.has(p) }
