package cmd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin"
	wire "github.com/musenai/musen/gateway/admin/wire/swarm"
	"github.com/musenai/musen/internal/swarm"
	"github.com/musenai/musen/pin/keep"
	"github.com/musenai/musen/pin/member"
	"github.com/musenai/musen/pin/remote"
)

// members is the swarm as the admin API shows it.
type members struct{ swarm *swarm.Swarm }

var (
	_ admin.Members = members{}
	_ admin.Invites = members{}
	_ admin.Copies  = health{}

	_ admin.Services = services{}
)

// Peers implements admin.Members.
func (m members) Peers(ctx context.Context) ([]wire.Peer, error) {
	all, err := m.swarm.Peers(ctx)
	if err != nil {
		return nil, err
	}
	peers := make([]wire.Peer, len(all))
	for i, p := range all {
		peers[i] = wirePeer(p)
	}
	return peers, nil
}

func wirePeer(p swarm.Member) wire.Peer {
	r := p.Line.Report
	w := wire.Peer{
		ID: p.ID.String(), Role: string(p.Role), Name: p.Name, Site: p.Site,
		Addresses: append([]string{}, p.Addrs...), Enrolled: p.Enrolled, Draining: p.Draining, Leaving: r.Leaving,
		Up: p.Line.Up, Since: p.Line.Since, Heard: p.Line.LastHeard, PausedUntil: r.Paused, Waiting: p.Waiting,
		Standing: string(p.Conduct.Standing), Why: p.Conduct.Reason, Appeal: p.Appeal(),
		Held: r.Held, Proved: int64(p.Copies.Proved), Used: r.Used, Free: r.Free, Served: r.Served,
		Audited: p.Conduct.Last, Version: r.Version,
	}
	if p.Copies.Last.After(w.Audited) && p.Role != member.Origin { // proofs are written sooner than what is thought of a peer
		w.Audited = p.Copies.Last
	}
	if p.Role == member.Replica {
		c := p.Contract
		w.Offer = &wire.Offer{Disk: c.Disk, Up: c.Up, Labels: append([]string{}, c.Label...)}
		if h := c.Hours.String(); c.Hours.From != c.Hours.To {
			w.Offer.Hours = h
		}
	}
	return w
}

// one shapes the answer to what was done with one peer.
func one(p swarm.Member, err error) (wire.Peer, error) {
	if err != nil {
		return wire.Peer{}, memberError(err)
	}
	return wirePeer(p), nil
}

// Admit implements admin.Members.
func (m members) Admit(ctx context.Context, a wire.Admission) (wire.Peer, error) {
	return one(m.swarm.Admit(ctx, a.ID, a.Name))
}

// RemovePeer implements admin.Members.
func (m members) RemovePeer(ctx context.Context, peer string) error {
	return memberError(m.swarm.Remove(ctx, peer))
}

// DrainPeer implements admin.Members.
func (m members) DrainPeer(ctx context.Context, peer string) (wire.Peer, error) {
	return one(m.swarm.Drain(ctx, peer))
}

// Reinstate implements admin.Members.
func (m members) Reinstate(ctx context.Context, peer, reason string) (wire.Peer, error) {
	return one(m.swarm.Reinstate(ctx, peer, reason))
}

// Invite implements admin.Invites.
func (m members) Invite(ctx context.Context, r wire.InviteRequest) (wire.Invite, error) {
	i, err := m.swarm.Invite(ctx, member.InviteRequest{
		Role: member.Role(r.Role), Name: r.Name, Site: r.Site, TTL: time.Duration(r.TTL) * time.Second, Addrs: r.Addresses,
	})
	if err != nil {
		return wire.Invite{}, memberError(err)
	}
	return wire.Invite{Invite: i.String(), ID: i.ID.String(), Expires: i.Expires}, nil
}

// Invites implements admin.Invites.
func (m members) Invites(context.Context) ([]wire.OpenInvite, error) {
	open := []wire.OpenInvite{}
	for _, i := range m.swarm.Ledger().Invites() {
		open = append(open, wire.OpenInvite{ID: i.ID.String(), Role: string(i.Role), Name: i.Name, Site: i.Site, Expires: i.Expires})
	}
	return open, nil
}

// Withdraw implements admin.Invites.
func (m members) Withdraw(ctx context.Context, id string) error {
	return memberError(m.swarm.Withdraw(ctx, id))
}

// memberError makes an error of the ledger one that the admin API knows.
func memberError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, member.ErrUnknown):
		return fmt.Errorf("%w: %w", musen.ErrNotFound, err)
	case errors.Is(err, member.ErrTaken):
		return kindOf{err, err.Error(), musen.ErrExists}
	case errors.Is(err, member.ErrInvalid), errors.Is(err, member.ErrFull):
		return kindOf{err, without(err, member.ErrInvalid), musen.ErrInvalid}
	}
	return err
}

// kindOf is an error that the admin API knows as one of its kinds, and tells in
// words that do not name the kind.
type kindOf struct {
	cause error
	words string
	kind  error
}

func (k kindOf) Error() string { return k.words }

func (k kindOf) Unwrap() []error { return []error{k.cause, k.kind} }

// without is what err says but for the name of its kind, where it says more.
func without(err, kind error) string {
	return strings.Replace(err.Error(), kind.Error()+": ", "", 1)
}

// health is the keeper as the admin API shows it.
type health struct {
	keeper *keep.Keeper
	ledger *member.Ledger
	swarm  *swarm.Swarm
}

// Health implements admin.Copies.
func (h health) Health(_ context.Context, root cid.Cid) (wire.Health, error) {
	found, ok := h.keeper.Health(root)
	if !ok {
		return wire.Health{}, musen.ErrNotFound
	}
	return wireHealth(found), nil
}

// Unhealthy implements admin.Copies.
func (h health) Unhealthy(_ context.Context, label string, limit int) ([]wire.Health, error) {
	list := []wire.Health{}
	for _, found := range h.keeper.Unhealthy(label, limit) {
		list = append(list, wireHealth(found))
	}
	return list, nil
}

// Summary implements admin.Copies.
func (h health) Summary(_ context.Context, label string) (wire.Summary, error) {
	return wire.Summary(h.keeper.Summary(label)), nil
}

// Wait implements admin.Copies.
func (h health) Wait(ctx context.Context, root cid.Cid, level string) (wire.Health, error) {
	var l keep.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return wire.Health{}, fmt.Errorf("%w: %w", musen.ErrInvalid, err)
	}
	found, err := h.keeper.Wait(ctx, root, l)
	if errors.Is(err, keep.ErrUnknown) {
		err = musen.ErrNotFound
	}
	return wireHealth(found), err
}

// Recover implements admin.Copies.
func (h health) Recover(ctx context.Context, roots ...cid.Cid) (segments int, err error) {
	segments = len(roots)
	if segments == 0 {
		segments = h.keeper.Summary("").Unhealthy
	}
	err = h.keeper.Recover(ctx, roots...)
	if errors.Is(err, keep.ErrUnknown) {
		err = fmt.Errorf("%w: %w", musen.ErrNotFound, err)
	}
	return segments, err
}

// Purged implements admin.Copies.
func (h health) Purged(ctx context.Context, root cid.Cid, since time.Time) ([]wire.Purged, error) {
	all, err := h.swarm.Purged(ctx, root, since)
	list := make([]wire.Purged, len(all))
	for i, p := range all {
		list[i] = wire.Purged{Peer: p.Peer.String(), Name: p.Name, At: p.At}
	}
	return list, err
}

// Rebalance implements admin.Copies.
func (h health) Rebalance(ctx context.Context) (moved int, err error) { return h.keeper.Rebalance(ctx) }

func wireHealth(h keep.Health) wire.Health {
	w := wire.Health{
		CID: h.Root.String(), Level: h.Level.String(), Gone: h.Gone, Reason: h.Reason, Next: h.Next, Copies: []wire.Copy{},
		Want: wire.FromReplication(musen.Replication{Min: h.Want.Min, Max: h.Want.Max, Spread: h.Want.Spread, Community: h.Want.Community}),
	}
	for _, c := range h.Copies {
		w.Copies = append(w.Copies, wire.Copy{
			Peer: c.Peer.String(), Name: c.Name, Site: c.Site, Role: string(c.Role), State: string(c.State), Counts: c.Counts,
			Since: c.Since, Proved: c.Proved, Outcome: string(c.Outcome), Reason: c.Reason,
		})
	}
	return w
}

// services are the pinning services as the admin API shows them.
type services struct{ all *remote.Services }

// Services implements admin.Services.
func (s services) Services(context.Context) ([]wire.Service, error) {
	list := []wire.Service{}
	for _, v := range s.all.List() {
		list = append(list, wireService(v))
	}
	return list, nil
}

func wireService(v remote.Status) wire.Service {
	return wire.Service{
		Name: v.Name, Endpoint: v.Endpoint, TokenFile: v.TokenFile, Held: v.Copies[remote.Pinned],
		Waiting: v.Copies[remote.Waiting] + v.Copies[remote.Queued] + v.Copies[remote.Pinning],
		Failed:  v.Copies[remote.Failed], Removing: v.Copies[remote.Removing], Leaving: v.Leaving, Reason: v.Reason, Next: v.Next,
	}
}

// AddService implements admin.Services.
func (s services) AddService(ctx context.Context, n wire.NewService) (wire.Service, error) {
	err := s.all.Add(ctx, remote.Service{Name: n.Name, Endpoint: n.Endpoint, TokenFile: n.TokenFile})
	if err != nil {
		return wire.Service{}, serviceError(err)
	}
	return wire.Service{Name: n.Name, Endpoint: n.Endpoint, TokenFile: n.TokenFile}, nil
}

// RemoveService implements admin.Services.
func (s services) RemoveService(ctx context.Context, name string) error {
	return serviceError(s.all.Remove(ctx, name))
}

// serviceError makes an error of the services one that the admin API knows.
func serviceError(err error) error {
	switch {
	case errors.Is(err, remote.ErrService):
		return fmt.Errorf("%w: %w", musen.ErrNotFound, err)
	case errors.Is(err, remote.ErrExists):
		return kindOf{err, err.Error(), musen.ErrExists}
	case errors.Is(err, remote.ErrInvalid), errors.Is(err, remote.ErrToken):
		return kindOf{err, without(err, remote.ErrInvalid), musen.ErrInvalid}
	}
	return err
}
