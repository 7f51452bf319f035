package member

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/wire"
)

// Bounds of invitations.
const (
	defaultTTL = 24 * time.Hour
	maxTTL     = 30 * 24 * time.Hour
	maxInvites = 1000 // that are kept
)

// InviteRequest is whom an operator invites.
type InviteRequest struct {
	Role  Role          // Storage or Replica
	Name  string        // what the peer will be called; empty: it may choose
	Site  string        // where it is; empty: it may say
	TTL   time.Duration // how long the invitation is good for; 0: 24 h, at most 30 days
	Addrs []string      // multiaddrs of the origin, from where the peer is
}

// Invite makes an invitation for one peer. Its name is kept free while it is
// open.
func (l *Ledger) Invite(ctx context.Context, r InviteRequest) (Invite, error) {
	i, err := l.makeInvite(r)
	if err != nil {
		return Invite{}, fmt.Errorf("invite a %s: %w", r.Role, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.enter(ctx, i); err != nil {
		return Invite{}, fmt.Errorf("invite a %s: %w", r.Role, err)
	}
	return i, nil
}

// makeInvite makes one that nobody knows yet.
func (l *Ledger) makeInvite(r InviteRequest) (Invite, error) {
	ttl := cmp.Or(r.TTL, defaultTTL)
	if ttl < time.Second || ttl > maxTTL {
		return Invite{}, fmt.Errorf("%w: a time of %s is not between 1s and %s", ErrInvalid, ttl, maxTTL)
	}
	seed, err := newSeed(l.opts.Rand)
	if err != nil {
		return Invite{}, err
	}
	addrs, err := checkAddrs(l.self, r.Addrs)
	if err != nil {
		return Invite{}, err
	}
	body := inviteBody{Realm: l.opts.Realm, Origin: l.self, Addrs: addrs, Role: r.Role, Name: r.Name, Site: r.Site, Expires: l.now().Add(ttl).Truncate(time.Second), Seed: seed}
	i, err := body.invite()
	if err != nil {
		return Invite{}, err
	}
	i.sealed, err = wire.Seal(l.opts.Key, inviteKind, body)
	return i, err
}

// enter makes an invitation good, and forgets those that are past.
func (l *Ledger) enter(ctx context.Context, i Invite) error {
	if i.Name != "" {
		if err := l.checkFree(i.Name, "", ""); err != nil {
			return err
		}
	}
	c := change{invite: &invitation{ID: i.ID, Role: i.Role, Name: i.Name, Site: i.Site, Expires: i.Expires}}
	for id, old := range l.invited {
		if !l.now().Before(old.until()) {
			c.shut = append(c.shut, id)
		}
	}
	if len(l.invited)-len(c.shut) >= maxInvites {
		return fmt.Errorf("%w: %d invitations: withdraw some", ErrFull, len(l.invited)-len(c.shut))
	}
	return l.commit(ctx, c)
}

// open reports whether somebody can still come in by an invitation.
func (l *Ledger) open(i invitation) bool {
	return i.Used == "" && l.opts.Now().Before(i.Expires)
}

// Invites returns the open invitations, without their secrets, the one that
// expires next first.
func (l *Ledger) Invites() []Invite {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Invite
	for i := range maps.Values(l.invited) {
		if l.open(i) {
			out = append(out, Invite{ID: i.ID, Realm: l.opts.Realm, Origin: l.self, Role: i.Role, Name: i.Name, Site: i.Site, Expires: i.Expires})
		}
	}
	slices.SortFunc(out, func(a, b Invite) int { return cmp.Or(a.Expires.Compare(b.Expires), cmp.Compare(a.ID, b.ID)) })
	return out
}

// Withdraw makes an open invitation worthless. It returns ErrUnknown if there is
// none of that ID.
func (l *Ledger) Withdraw(ctx context.Context, id peer.ID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i, ok := l.invited[id]; !ok || !l.open(i) {
		return fmt.Errorf("withdraw invite %s: %w", id, ErrUnknown)
	}
	if err := l.commit(ctx, change{shut: []peer.ID{id}}); err != nil {
		return fmt.Errorf("withdraw invite %s: %w", id, err)
	}
	return nil
}

// take lets a peer in by the invitation of a one-time identity. What the
// invitation says wins over what the peer says. The same peer gets the same
// answer again; another gets ErrUsed.
func (l *Ledger) take(ctx context.Context, once peer.ID, asked Peer) (Peer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, ok := l.invited[once]
	switch {
	case !ok:
		return Peer{}, ErrInvite
	case !l.opts.Now().Before(i.until()):
		return Peer{}, ErrExpired
	case i.Used != "" && i.Used != asked.ID:
		return Peer{}, ErrUsed
	case i.Used != "":
		p, ok := l.peers[asked.ID]
		if !ok {
			return Peer{}, ErrUsed
		}
		return p, nil
	}
	if asked.ID == once || asked.ID == l.self {
		return Peer{}, fmt.Errorf("%w: peer %s cannot be enrolled", ErrInvalid, asked.ID)
	}
	asked.Role, asked.Name, asked.Site = i.Role, cmp.Or(i.Name, asked.Name), cmp.Or(i.Site, asked.Site)
	p, err := l.complete(asked, once)
	if err != nil {
		return Peer{}, err
	}
	i.Used, i.UsedAt = p.ID, l.now()
	return p, l.commit(ctx, change{peer: p, invite: &i})
}
