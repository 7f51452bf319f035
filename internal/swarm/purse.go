package swarm

import (
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// purse is what the nodes of one pinning service may take together in its
// present term: each segment so many times. A service names as many nodes as it
// likes, so what one of them may take bounds nothing.
type purse struct {
	began time.Time
	took  map[cid.Cid]int // how many times
	debt  int64           // bytes that nodes took beyond what they were given, and left
	told  bool            // the operator was told that it wants more
}

// stay is the visit of one node, which was given some segments to take.
type stay struct {
	given map[cid.Cid]struct{}
	left  int64  // bytes of them, and what is beside them; negative: it took more
	payer *purse // of the newest one
}

// treat reports whether a node may take more of a segment of size bytes, for one
// of the services that named it. It is given the segment as a whole, and again
// when it has taken as much.
func (l *limits) treat(services []string, p peer.ID, root cid.Cid, size int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.stays[p]
	if v == nil {
		v = &stay{given: map[cid.Cid]struct{}{}}
		l.stays[p] = v
	}
	for _, name := range services {
		b := l.purse(name)
		for {
			if v.left <= overhead {
				clear(v.given)
			}
			if _, ok := v.given[root]; ok {
				return true
			}
			if b.took[root] == takes {
				break
			}
			b.took[root]++
			v.given[root] = struct{}{}
			v.left += max(size, 1) + overhead - b.debt
			v.payer, b.debt = b, 0
		}
		if !b.told {
			b.told = true
			l.log.Warn("the nodes of a pinning service fetch what it is to pin again and again, and get no more for now", "service", name, "segment", root.String())
		}
	}
	return false
}

// purse is that of a service, in its present term. The lock is held.
func (l *limits) purse(service string) *purse {
	now := l.now()
	b := l.purses[service]
	if b == nil {
		l.forget(now)
		b = &purse{}
		l.purses[service] = b
	}
	if b.took == nil || now.Sub(b.began) >= term {
		*b = purse{began: now, took: map[cid.Cid]int{}}
	}
	return b
}

// parted ends a stay. What the node took beyond what it was given, its service
// took.
func (l *limits) parted(p peer.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.stays[p]
	if v == nil {
		return
	}
	delete(l.stays, p)
	if v.payer != nil && v.left < 0 {
		v.payer.debt -= v.left
	}
}
