package remote

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Visitors lets in the nodes by which services fetch what they are to pin. It
// is called by one goroutine, and must not block.
type Visitors interface {
	// Admit lets a node in, to fetch what MayFetch says and no more, and
	// connects to it at the addresses given alone. It is called again whenever
	// a service names the node again.
	Admit(ctx context.Context, node peer.AddrInfo)
	// Dismiss ends that.
	Dismiss(node peer.ID)
}

// Bounds of who is let in.
const (
	maxNodes = 16  // of one service
	maxVisit = 128 // nodes of all services
	// maxNames is how many nodes of one service are let in, one after the other,
	// within a term: who may have 16 at a time has no need of thousands.
	maxNames = 64
	term     = 6 * time.Hour
	// known is how long an answer that names the same nodes as the one before
	// is not read again.
	known = 10 * time.Second
	// sweep is how often visits that have been too long are looked for.
	sweep = time.Minute
)

// visits is which nodes may fetch which segments. A node that a service named
// may have what that service was asked to pin and has not done with. It has a
// lock of its own, which is held for moments only: each block that a node asks
// for is asked about here.
type visits struct {
	mu     sync.RWMutex
	houses map[string]*house // by the name of the service
	books  map[string]*book  // likewise
	inside map[peer.ID]time.Time
	swept  time.Time
}

// house is what is open to the nodes of one service.
type house struct {
	open  map[cid.Cid]time.Time // until when
	nodes map[peer.ID]visitor
	said  []string // by the newest answer that was read
	read  time.Time
}

// book is which nodes of a service were let in within its present term, and
// whether others were not.
type book struct {
	began  time.Time
	nodes  map[peer.ID]struct{}
	turned bool // away, at the newest answer that was read
}

type visitor struct {
	peer.AddrInfo
	named time.Time // by the service, most recently
}

// fetchesFor are the services for which a node may have the blocks of a segment,
// by name.
func (v *visits) fetchesFor(node peer.ID, root cid.Cid, now time.Time) (names []string) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	for name, h := range v.houses {
		if _, ok := h.nodes[node]; ok && now.Before(h.open[root]) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// mayFetch reports whether there is such a service.
func (v *visits) mayFetch(node peer.ID, root cid.Cid, now time.Time) bool {
	return len(v.fetchesFor(node, root, now)) > 0
}

// open lets the nodes of a service have a segment until a time.
func (v *visits) open(service string, root cid.Cid, until time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	h := v.houses[service]
	if h == nil {
		h = &house{open: map[cid.Cid]time.Time{}, nodes: map[peer.ID]visitor{}}
		v.houses[service] = h
	}
	h.open[root] = until
}

// shut ends that. When nothing is open to a service, nobody of it is let in.
func (v *visits) shut(service string, root cid.Cid) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if h := v.houses[service]; h != nil {
		delete(h.open, root)
		if len(h.open) == 0 {
			delete(v.houses, service)
		}
	}
}

// end ends all that is open to a service.
func (v *visits) end(service string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.houses, service)
}

// news reports whether what an answer says of nodes is to be read, and whether
// it says something else than the one that was read before.
func (v *visits) news(service string, said []string, now time.Time) (read, other bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	h := v.houses[service]
	other = h == nil || !slices.Equal(h.said, said)
	return other || now.Sub(h.read) >= known, other
}

// book is that of a service, in its present term. The lock is held.
func (v *visits) book(service string, now time.Time) *book {
	b := v.books[service]
	if b == nil {
		b = &book{}
		v.books[service] = b
	}
	if b.nodes == nil || now.Sub(b.began) >= term {
		*b = book{began: now, nodes: map[peer.ID]struct{}{}}
	}
	return b
}

// may reports whether a node may be let in, and notes it if it may not.
func (b *book) may(id peer.ID) bool {
	_, ok := b.nodes[id]
	ok = ok || len(b.nodes) < maxNames
	b.turned = b.turned || !ok
	return ok
}

// complaint says that a service names more nodes than are let in; empty: it
// does not.
func (v *visits) complaint(service string, now time.Time) string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	b := v.books[service]
	if b == nil || !b.turned || now.Sub(b.began) >= term {
		return ""
	}
	return fmt.Sprintf("it named more than %d nodes; no other one is let in until %s", maxNames, b.began.Add(term).UTC().Format(time.RFC3339))
}

// name takes in the nodes that a service named, if anything is open to it.
// Those that it named longest ago give way.
func (v *visits) name(service string, said []string, nodes []peer.AddrInfo, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	h := v.houses[service]
	if h == nil {
		return
	}
	h.said, h.read = said, now
	b := v.book(service, now)
	b.turned = false
	for _, n := range nodes {
		if !b.may(n.ID) {
			continue
		}
		if _, ok := h.nodes[n.ID]; !ok && !v.room(h, now) {
			continue
		}
		b.nodes[n.ID] = struct{}{}
		h.nodes[n.ID] = visitor{n, now}
	}
}

// room makes room for one more node of a service, if that is possible.
func (v *visits) room(h *house, now time.Time) bool {
	all := 0
	for _, o := range v.houses {
		all += len(o.nodes)
	}
	if len(h.nodes) < maxNodes && all < maxVisit {
		return true
	}
	var oldest peer.ID
	for id, n := range h.nodes {
		if n.named.Before(now) && (oldest == "" || n.named.Before(h.nodes[oldest].named)) {
			oldest = id
		}
	}
	delete(h.nodes, oldest)
	return oldest != ""
}

// turn returns whom to let in, again or for the first time, and whom no longer,
// and takes it that this is done.
func (v *visits) turn(now time.Time, patience time.Duration) (in []peer.AddrInfo, out []peer.ID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.sweep(now, patience)
	all := map[peer.ID]visitor{}
	for _, h := range v.houses {
		for id, n := range h.nodes {
			if have, ok := all[id]; ok {
				n.Addrs = slices.Concat(have.Addrs, n.Addrs)
				if n.named.Before(have.named) {
					n.named = have.named
				}
			}
			all[id] = n
		}
	}
	for id, n := range all {
		if told, ok := v.inside[id]; !ok || n.named.After(told) {
			v.inside[id] = n.named
			in = append(in, n.AddrInfo)
		}
	}
	for id := range v.inside {
		if _, ok := all[id]; !ok {
			delete(v.inside, id)
			out = append(out, id)
		}
	}
	return in, out
}

// sweep ends visits that have been too long.
func (v *visits) sweep(now time.Time, patience time.Duration) {
	if now.Sub(v.swept) < min(sweep, patience) {
		return
	}
	v.swept = now
	for name, h := range v.houses {
		for root, until := range h.open {
			if !now.Before(until) {
				delete(h.open, root)
			}
		}
		if len(h.open) == 0 {
			delete(v.houses, name)
		}
	}
}

// some reports whether anything is open to anybody.
func (v *visits) some() bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return len(v.houses) > 0
}

// MayFetch reports whether a node that a service named may have the blocks of a
// segment: while the service has been asked to pin it, and has not said that it
// has, or failed, and for Timing.Visit at most. It is quick.
func (s *Services) MayFetch(node peer.ID, root cid.Cid) bool {
	return s.visits.mayFetch(node, root, s.o.Now())
}

// FetchesFor gives the names of the services for which MayFetch lets a node have
// a segment, in order: what all nodes of one service take is to be bounded
// together, since a service can name as many as it likes. It is quick.
func (s *Services) FetchesFor(node peer.ID, root cid.Cid) []string {
	return s.visits.fetchesFor(node, root, s.o.Now())
}

// attend has the nodes of a service let in while it is on its way to hold a
// segment. What fails between us and the service is no reason to cut it short.
// The lock of the services is held.
func (s *Services) attend(n *service, p *pin, failed error) {
	under := p.state == Queued || p.state == Pinning
	switch {
	case s.o.Visitors == nil, failed != nil && p.state == Failed:
	case under && s.o.Now().Before(p.begun.Add(s.timing.Visit)) && s.services[n.Name] == n:
		s.visits.open(n.Name, p.root, p.begun.Add(s.timing.Visit))
	default:
		s.visits.shut(n.Name, p.root)
	}
}

// greet takes in the nodes that an answer names, and has the copy say so if that
// are too many. The lock of the services is held.
func (s *Services) greet(n *service, p *pin, said []string, nodes []peer.AddrInfo, read bool) {
	now := s.o.Now()
	if read {
		s.visits.name(n.Name, said, nodes, now)
	}
	if p.reason == "" && (p.state == Queued || p.state == Pinning) {
		p.reason = s.visits.complaint(n.Name, now)
	}
}

// meet reads what an answer says of the nodes of a service, and looks up their
// names. It takes no lock of the services.
func (s *Services) meet(ctx context.Context, v Service, a answer) (nodes []peer.AddrInfo, read bool) {
	if s.o.Visitors == nil || a.state != Queued && a.state != Pinning {
		return nil, false
	}
	read, other := s.visits.news(v.Name, a.delegates, s.o.Now())
	if !read {
		return nil, false
	}
	r := resolving{names: s.o.Resolver, allowed: allowed(v.Endpoint), left: maxLookups}
	if r.names == nil {
		r.names = net.DefaultResolver
	}
	ctx, cancel := context.WithTimeout(ctx, s.timing.Request)
	defer cancel()
	nodes, err := r.nodes(ctx, a.delegates)
	if err != nil && other {
		s.log.Warn("a pinning service names a node that is not let in", "service", v.Name, "err", err)
	}
	return nodes, true
}

// usher tells Visitors who comes and goes.
func (s *Services) usher(ctx context.Context) {
	if s.o.Visitors == nil {
		return
	}
	in, out := s.visits.turn(s.o.Now(), s.timing.Visit)
	for _, id := range out {
		s.o.Visitors.Dismiss(id)
	}
	for _, n := range in {
		s.o.Visitors.Admit(ctx, n)
	}
}

// farewell dismisses everybody.
func (s *Services) farewell() {
	if s.o.Visitors == nil {
		return
	}
	for _, v := range s.List() {
		s.visits.end(v.Name)
	}
	_, out := s.visits.turn(s.o.Now(), s.timing.Visit)
	for _, id := range out {
		s.o.Visitors.Dismiss(id)
	}
}
