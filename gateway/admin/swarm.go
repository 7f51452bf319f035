package admin

import (
	"context"
	"errors"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire/swarm"
	"github.com/musenai/musen/gateway/problem"
)

// Members says who belongs to the swarm. A peer is named by its ID or by what
// the operator calls it. What wraps musen.ErrInvalid or musen.ErrExists is
// shown to the caller in its own words; musen.ErrNotFound says that there is no
// such peer or invite.
type Members interface {
	Peers(ctx context.Context) ([]swarm.Peer, error)
	Admit(ctx context.Context, a swarm.Admission) (swarm.Peer, error)
	// RemovePeer ends the membership of a peer: from now on it gets nothing.
	RemovePeer(ctx context.Context, peer string) error
	// DrainPeer has the copies of a peer moved elsewhere. It does not wait.
	DrainPeer(ctx context.Context, peer string) (swarm.Peer, error)
	// Reinstate gives a peer the standing of one that is new.
	Reinstate(ctx context.Context, peer, reason string) (swarm.Peer, error)
}

// Invites lets peers in, as Members says of its errors.
type Invites interface {
	Invite(ctx context.Context, r swarm.InviteRequest) (swarm.Invite, error)
	Invites(ctx context.Context) ([]swarm.OpenInvite, error)
	// Withdraw ends an invite that nobody has used.
	Withdraw(ctx context.Context, id string) error
}

// Copies knows where copies of segments are. Labels are those of stations; an
// empty one stands for all. The station and the title of a Health are filled in
// by the Server.
type Copies interface {
	// Health returns musen.ErrNotFound for a segment that it does not look
	// after.
	Health(ctx context.Context, root cid.Cid) (swarm.Health, error)
	// Unhealthy lists up to limit segments that are not as they should be.
	Unhealthy(ctx context.Context, label string, limit int) ([]swarm.Health, error)
	Summary(ctx context.Context, label string) (swarm.Summary, error)
	// Wait returns once a segment has reached a level: stored, replicated or
	// durable. When ctx ends first it returns how the segment is by then, and
	// the error of ctx.
	Wait(ctx context.Context, root cid.Cid, level string) (swarm.Health, error)
	// Recover tries again at once what has failed, of all segments if none is
	// named, and tells of how many.
	Recover(ctx context.Context, roots ...cid.Cid) (segments int, err error)
	// Purged are the receipts of peers that have purged a segment since.
	Purged(ctx context.Context, root cid.Cid, since time.Time) ([]swarm.Purged, error)
	// Rebalance moves copies to where they would be put today.
	Rebalance(ctx context.Context) (moved int, err error)
}

// Services are pinning services that keep further copies, with errors as those
// of Members.
type Services interface {
	Services(ctx context.Context) ([]swarm.Service, error)
	AddService(ctx context.Context, n swarm.NewService) (swarm.Service, error)
	RemoveService(ctx context.Context, name string) error
}

// errNoSwarm refuses what is about other peers on a node that has none.
var errNoSwarm = refusal{404, "no_swarm", "This node keeps no copies on other peers.",
	"Run an origin with its part of the swarm switched on, and invite peers to it."}

// partOf returns a part of the options, or the refusal that there is none.
func partOf[T comparable](part T) (T, error) {
	var none T
	if part == none {
		return none, errNoSwarm
	}
	return part, nil
}

// said makes an answer of an error of Members, Invites or Services, whose words
// are for the operator. what names what was not found.
func said(err error, format, what string) error {
	switch {
	case errors.Is(err, musen.ErrNotFound):
		return errAbsent.with(format, what)
	case errors.Is(err, musen.ErrInvalid):
		return errField.with("%s.", sentence(err))
	case errors.Is(err, musen.ErrExists):
		return problem.WithDetail(err, sentence(err)+".")
	}
	return err
}

// sentence is what an error says, from its capital letter to before its stop.
func sentence(err error) string {
	s := []byte(err.Error())
	if len(s) > 0 && 'a' <= s[0] && s[0] <= 'z' {
		s[0] -= 'a' - 'A'
	}
	return string(s)
}
