package admin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire/swarm"
)

// fleet is a swarm that forgets everything when the test ends: peers are what
// was admitted, copies are what a test says that they are.
type fleet struct {
	mu        sync.Mutex
	now       func() time.Time
	peers     map[string]swarm.Peer // by ID
	invites   map[string]swarm.OpenInvite
	services  map[string]swarm.Service
	health    map[string]swarm.Health // by CID
	labels    map[string]string       // of its station, by CID
	changed   chan struct{}           // closed when health changes
	recovered []cid.Cid
	moved     int
	purged    map[string][]swarm.Purged // by CID
}

var (
	_ Members  = (*fleet)(nil)
	_ Invites  = (*fleet)(nil)
	_ Copies   = (*fleet)(nil)
	_ Services = (*fleet)(nil)
)

func newFleet(now func() time.Time) *fleet {
	return &fleet{
		now: now, peers: map[string]swarm.Peer{}, invites: map[string]swarm.OpenInvite{}, services: map[string]swarm.Service{},
		health: map[string]swarm.Health{}, labels: map[string]string{}, changed: make(chan struct{}),
	}
}

func (f *fleet) lock() func() { f.mu.Lock(); return f.mu.Unlock }

func byID(a, b swarm.Peer) int { return cmp.Compare(a.ID, b.ID) }

func (f *fleet) Peers(context.Context) (all []swarm.Peer, err error) {
	defer f.lock()()
	for _, p := range f.peers {
		all = append(all, p)
	}
	slices.SortFunc(all, byID)
	return all, nil
}

func (f *fleet) Admit(_ context.Context, a swarm.Admission) (swarm.Peer, error) {
	defer f.lock()()
	if _, ok := f.peers[a.ID]; ok {
		return swarm.Peer{}, fmt.Errorf("peer %q is a member: %w", a.ID, musen.ErrExists)
	}
	if a.ID == "rubbish" {
		return swarm.Peer{}, fmt.Errorf("peer id %q: %w", a.ID, musen.ErrInvalid)
	}
	p := swarm.Peer{ID: a.ID, Role: "guest", Name: a.Name, Addresses: []string{}, Enrolled: f.now().UTC()}
	f.peers[a.ID] = p
	return p, nil
}

// change finds a peer by ID or name and changes it.
func (f *fleet) change(peer string, do func(*swarm.Peer)) (swarm.Peer, error) {
	defer f.lock()()
	for id, p := range f.peers {
		if id == peer || p.Name == peer {
			do(&p)
			f.peers[id] = p
			return p, nil
		}
	}
	return swarm.Peer{}, musen.ErrNotFound
}

func (f *fleet) RemovePeer(_ context.Context, peer string) error {
	p, err := f.change(peer, func(*swarm.Peer) {})
	defer f.lock()()
	delete(f.peers, p.ID)
	return err
}

func (f *fleet) DrainPeer(_ context.Context, peer string) (swarm.Peer, error) {
	return f.change(peer, func(p *swarm.Peer) { p.Draining = true })
}

func (f *fleet) Reinstate(_ context.Context, peer, reason string) (swarm.Peer, error) {
	return f.change(peer, func(p *swarm.Peer) { p.Standing, p.Why = "new", reason })
}

const secretInvite = "musen-invite-1:c2VjcmV0"

func (f *fleet) Invite(_ context.Context, r swarm.InviteRequest) (swarm.Invite, error) {
	defer f.lock()()
	if r.Name == "taken" {
		return swarm.Invite{}, fmt.Errorf("name %q: %w", r.Name, musen.ErrExists)
	}
	ttl := time.Duration(cmp.Or(r.TTL, 86400)) * time.Second
	i := swarm.OpenInvite{ID: fmt.Sprintf("once-%d", len(f.invites)), Role: r.Role, Name: r.Name, Site: r.Site, Expires: f.now().UTC().Add(ttl)}
	f.invites[i.ID] = i
	return swarm.Invite{Invite: secretInvite, ID: i.ID, Expires: i.Expires}, nil
}

func (f *fleet) Invites(context.Context) (all []swarm.OpenInvite, err error) {
	defer f.lock()()
	for _, i := range f.invites {
		all = append(all, i)
	}
	return all, nil
}

func (f *fleet) Withdraw(_ context.Context, id string) error {
	defer f.lock()()
	if _, ok := f.invites[id]; !ok {
		return musen.ErrNotFound
	}
	delete(f.invites, id)
	return nil
}

// set says how a segment of the station with that label is.
func (f *fleet) set(label string, h swarm.Health) {
	defer f.lock()()
	f.health[h.CID], f.labels[h.CID] = h, label
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fleet) look(root cid.Cid) (swarm.Health, chan struct{}) {
	defer f.lock()()
	h, ok := f.health[root.String()]
	if !ok {
		h = alone(root)
	}
	return h, f.changed
}

// alone is how a segment is that no other peer holds.
func alone(root cid.Cid) swarm.Health {
	return swarm.Health{
		CID: root.String(), Want: swarm.Want{Min: 2, Max: 3, Spread: "none"}, Level: "stored",
		Copies: []swarm.Copy{{Peer: "12D3KooWtest", Name: "origin", Role: "origin", State: "proved", Counts: true}},
		Reason: "1 of 2 copies: no other peer",
	}
}

func (f *fleet) Health(_ context.Context, root cid.Cid) (swarm.Health, error) {
	h, _ := f.look(root)
	if h.Level == "" {
		return h, musen.ErrNotFound
	}
	return h, nil
}

func (f *fleet) Wait(ctx context.Context, root cid.Cid, level string) (swarm.Health, error) {
	levels := []string{"none", "stored", "replicated", "durable"}
	for {
		h, changed := f.look(root)
		if slices.Index(levels, h.Level) >= slices.Index(levels, level) {
			return h, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return h, ctx.Err()
		}
	}
}

func (f *fleet) Unhealthy(_ context.Context, label string, limit int) (ill []swarm.Health, err error) {
	defer f.lock()()
	for id, h := range f.health {
		if h.Reason != "" && len(ill) < limit && (label == "" || f.labels[id] == label) {
			ill = append(ill, h)
		}
	}
	return ill, nil
}

func (f *fleet) Summary(_ context.Context, label string) (s swarm.Summary, err error) {
	defer f.lock()()
	for id, h := range f.health {
		if label == "" || f.labels[id] == label {
			s.Segments++
			s.Copies += len(h.Copies)
		}
	}
	return s, nil
}

func (f *fleet) Recover(_ context.Context, roots ...cid.Cid) (int, error) {
	defer f.lock()()
	f.recovered = append(f.recovered, roots...)
	return max(len(roots), len(f.health)), nil
}

func (f *fleet) Purged(_ context.Context, root cid.Cid, _ time.Time) ([]swarm.Purged, error) {
	return f.purged[root.String()], nil
}

func (f *fleet) Rebalance(context.Context) (int, error) { return f.moved, nil }

func (f *fleet) Services(context.Context) (all []swarm.Service, err error) {
	defer f.lock()()
	for _, s := range f.services {
		all = append(all, s)
	}
	return all, nil
}

func (f *fleet) AddService(_ context.Context, n swarm.NewService) (swarm.Service, error) {
	defer f.lock()()
	if _, ok := f.services[n.Name]; ok {
		return swarm.Service{}, fmt.Errorf("service %q: %w", n.Name, musen.ErrExists)
	}
	s := swarm.Service{Name: n.Name, Endpoint: n.Endpoint, TokenFile: n.TokenFile}
	f.services[n.Name] = s
	return s, nil
}

func (f *fleet) RemoveService(_ context.Context, name string) error {
	defer f.lock()()
	if _, ok := f.services[name]; !ok {
		return musen.ErrNotFound
	}
	delete(f.services, name)
	return nil
}
