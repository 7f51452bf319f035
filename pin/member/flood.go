package member

import (
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// What a peer that is not trusted may open: streams of so much within a window.
// So 64 streams that are refused are too many, 2,048 of what it may speak, and
// 16,384 of Bitswap, which opens one for each few blocks that it sends.
const (
	window    = 10 * time.Second
	budget    = 1 << 14
	ofBlocks  = 1
	ofSpoken  = 8
	ofRefused = 256
)

// Who opens more is shut out, for a time that doubles until it has kept calm.
const (
	firstCut = 2 * time.Second
	mostCut  = time.Minute
	calm     = 10 * time.Minute
	// maxFloods is of how many peers it is known what they opened.
	maxFloods = 4096
)

// floods are what peers open. The zero floods know of nobody.
type floods struct {
	mu    sync.RWMutex
	peers map[peer.ID]*flood
	swept time.Time
}

// flood is what one peer opened in its present window, and how it is shut out.
type flood struct {
	began time.Time
	spent int
	until time.Time     // it is shut out
	last  time.Duration // for which it was; 0: it never was
}

// out reports whether a peer is shut out.
func (f *floods) out(p peer.ID, now func() time.Time) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	one := f.peers[p]
	return one != nil && one.last > 0 && now().Before(one.until)
}

// spend takes something of the budget of a peer. If that was too much, the peer
// is shut out from now on, for a time that it returns.
func (f *floods) spend(p peer.ID, n int, now time.Time) (cut time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	one := f.peers[p]
	if one == nil {
		one = f.add(p, now)
	}
	if now.Before(one.until) {
		return 0 // its connections are about to end
	}
	if now.Sub(one.began) >= window {
		one.began, one.spent = now, 0
	}
	if one.spent += n; one.spent < budget {
		return 0
	}
	if now.Sub(one.until) >= calm {
		one.last = 0
	}
	one.last = min(max(2*one.last, firstCut), mostCut)
	one.until, one.spent = now.Add(one.last), 0
	return one.last
}

// add makes room for one more peer. The lock is held.
func (f *floods) add(p peer.ID, now time.Time) *flood {
	if f.peers == nil {
		f.peers = map[peer.ID]*flood{}
	}
	if len(f.peers) >= maxFloods && now.Sub(f.swept) >= window {
		f.swept = now
		for id, one := range f.peers {
			if now.Sub(one.began) >= window && (one.last == 0 || now.Sub(one.until) >= calm) {
				delete(f.peers, id)
			}
		}
	}
	for id := range f.peers {
		if len(f.peers) < maxFloods {
			break
		}
		delete(f.peers, id) // any
	}
	one := &flood{began: now}
	f.peers[p] = one
	return one
}

// opened counts a stream that p opened and may have.
func (g *Gate) opened(p peer.ID, name protocol.ID) {
	if strings.HasPrefix(string(name), "/ipfs/bitswap") {
		g.spend(p, ofBlocks)
		return
	}
	g.spend(p, ofSpoken)
}

// Refused counts a stream that p opened in vain, as those count that a host
// with Restrict refuses. A peer with too many of them is admitted no more for
// some seconds, up to a minute if it goes on; origins and storage peers always
// are. A Guard closes the connections.
func (g *Gate) Refused(p peer.ID) { g.spend(p, ofRefused) }

func (g *Gate) spend(p peer.ID, n int) {
	if role, ok := g.Role(p); ok && role.Trusted() {
		return
	}
	cut := g.floods.spend(p, n, g.time())
	if cut == 0 {
		return
	}
	if g.log != nil {
		g.log.Warn("a peer opens far too many streams and is shut out for a while", "peer", p.String(), "for", cut)
	}
	g.change(func() {})
}

// flooded reports whether p is shut out for what it opened. The caller holds mu.
func (g *Gate) flooded(p peer.ID) bool {
	if !g.floods.out(p, g.time) {
		return false
	}
	role, ok := g.role(p)
	return !ok || !role.Trusted()
}

func (g *Gate) time() time.Time {
	if g.now == nil {
		return time.Now()
	}
	return g.now()
}
