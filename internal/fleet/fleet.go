// Package fleet connects the node of an edge with the nodes that it reads
// blocks from, which are the origin's and others that an operator names, and
// with nobody else. It serves blocks to nobody.
//
// It does not know where the names of these nodes come from, what is in the
// blocks, or the catalogue.
package fleet

import (
	"fmt"
	"sync"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/musenai/musen/node"
)

// Sources are the nodes that an edge reads from.
type Sources struct {
	mu    sync.RWMutex
	peers map[peer.ID]string // with the addresses, spelled
}

// New makes Sources that admit nobody.
func New() *Sources { return &Sources{peers: map[peer.ID]string{}} }

// Guard closes the node that is opened with o to all but the sources.
func (s *Sources) Guard(o *node.Options) {
	o.Gate = s
	o.Serve = func(peer.ID, cid.Cid) bool { return false }
}

// Admits implements node.Gate.
func (s *Sources) Admits(p peer.ID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.peers[p]
	return ok
}

// Follow makes the nodes with these multiaddresses, peer ID included, the
// sources of n: it is kept connected with them, and with no others.
func (s *Sources) Follow(n *node.Node, addrs []string) error {
	infos, err := parse(addrs)
	if err != nil {
		return err
	}
	changed, gone := s.replace(infos)
	for _, id := range gone {
		n.Unpeer(id)
	}
	for _, info := range changed {
		n.Peer(info)
	}
	return nil
}

// replace admits exactly these, and returns which are new or moved, and which
// are no sources any more.
func (s *Sources) replace(infos []peer.AddrInfo) (changed []peer.AddrInfo, gone []peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[peer.ID]string{}
	for _, info := range infos {
		spelled := fmt.Sprint(info.Addrs)
		next[info.ID] = spelled
		if s.peers[info.ID] != spelled {
			changed = append(changed, info)
		}
	}
	for id := range s.peers {
		if _, stays := next[id]; !stays {
			gone = append(gone, id)
		}
	}
	s.peers = next
	return changed, gone
}

func parse(addrs []string) ([]peer.AddrInfo, error) {
	all := make([]ma.Multiaddr, len(addrs))
	for i, text := range addrs {
		var err error
		if all[i], err = ma.NewMultiaddr(text); err != nil {
			return nil, fmt.Errorf("address of a source %.120q: %w", text, err)
		}
	}
	infos, err := peer.AddrInfosFromP2pAddrs(all...)
	if err != nil {
		return nil, fmt.Errorf("addresses of sources: %w", err)
	}
	return infos, nil
}
