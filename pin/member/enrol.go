package member

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"

	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/wire"
)

// enrolPatience is how long a joiner tries.
const enrolPatience = time.Minute

// An Offer is what a joiner says about itself. What the invitation says of its
// name and site is stronger.
type Offer struct {
	Name     string // empty: the origin makes one
	Site     string
	Contract contract.Contract
	Addrs    []string // multiaddrs where it can be dialled; none: it dials
	Version  string   // of its program, for the origin's log

	Now func() time.Time // whether an invitation that got no answer had expired; nil: time.Now
}

// Enrol takes the place that an invitation offers, for the peer whose key is
// own. It speaks to the origin that the invitation names and to nobody else,
// from a host of its own under the one-time identity, which listens nowhere.
//
// Enrol may be called again with the same key, also after a crash, and gets the
// same place. It returns ErrUsed if another peer came in by the invitation,
// ErrExpired if it came too late, and ErrInvite if the origin takes no
// connection from its bearer any more; that is ErrUnknown as well if nothing was
// sent.
func Enrol(ctx context.Context, inv Invite, own crypto.PrivKey, o Offer) (Membership, error) {
	m, err := enrol(ctx, inv, own, o)
	if err != nil {
		return Membership{}, fmt.Errorf("enrol at origin %s: %w", inv.Origin, err)
	}
	return m, nil
}

func enrol(ctx context.Context, inv Invite, own crypto.PrivKey, o Offer) (Membership, error) {
	if inv.key == nil {
		return Membership{}, fmt.Errorf("%w: it has no secret", ErrInvite)
	}
	request, err := o.request(inv, own)
	if err != nil {
		return Membership{}, err
	}
	h, err := newJoiner(inv.key)
	if err != nil {
		return Membership{}, fmt.Errorf("make a host: %w", err)
	}
	defer h.Close()
	ctx, cancel := context.WithTimeout(ctx, enrolPatience)
	defer cancel()
	answer, err := ask(ctx, h, inv, request)
	if err != nil {
		now := o.Now
		if now == nil {
			now = time.Now
		}
		if !now().Before(inv.Expires) {
			return Membership{}, fmt.Errorf("%w at %s: %w", ErrExpired, inv.Expires.UTC().Format(time.RFC3339), err)
		}
		return Membership{}, err
	}
	return answer.membership(inv, request.Own)
}

// request is what a joiner sends, checked as the origin will.
func (o Offer) request(inv Invite, own crypto.PrivKey) (enrolRequest, error) {
	id, err := peer.IDFromPrivateKey(own)
	if err != nil {
		return enrolRequest{}, err
	}
	p := Peer{ID: id, Role: inv.Role, Name: o.Name, Site: o.Site, Contract: o.Contract, Addrs: o.Addrs}
	if p.Name == "" {
		p.Name = string(inv.Role) // only to be checked
	}
	if p, err = p.check(); err != nil {
		return enrolRequest{}, err
	}
	if err := optional("version", o.Version); err != nil {
		return enrolRequest{}, err
	}
	return sealEnrolment(own, enrolment{Realm: inv.Realm, Origin: inv.Origin, Invite: inv.ID, Own: id,
		Name: o.Name, Site: o.Site, Contract: o.Contract, Addrs: p.Addrs, Version: o.Version})
}

// newJoiner makes a host that only dials.
func newJoiner(key crypto.PrivKey) (host.Host, error) {
	return libp2p.New(libp2p.Identity(key), libp2p.NoListenAddrs, libp2p.DisableRelay(), libp2p.DisableMetrics(),
		libp2p.Transport(tcp.NewTCPTransport), libp2p.Transport(quic.NewTransport))
}

// ask sends a request to the origin and returns its answer.
func ask(ctx context.Context, h host.Host, inv Invite, request enrolRequest) (enrolAnswer, error) {
	var a enrolAnswer
	info := Peer{ID: inv.Origin, Addrs: inv.Addrs}.AddrInfo()
	if err := h.Connect(ctx, info); err != nil {
		return a, fmt.Errorf("connect: %w", err)
	}
	stream, err := h.NewStream(network.WithNoDial(ctx, "enrol"), inv.Origin, Protocol)
	if err != nil && ctx.Err() == nil { // it hangs up on whom it does not await; how says nothing more
		return a, fmt.Errorf("%w: the origin does not know it: %w", ErrInvite, ErrUnknown)
	}
	if err != nil {
		return a, fmt.Errorf("open a stream: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = stream.Reset() })()
	if deadline, ok := ctx.Deadline(); ok {
		_ = stream.SetDeadline(deadline) // the context ends it as well
	}
	if err = wire.Write(stream, request); err == nil {
		err = wire.Read(stream, maxAnswer, &a)
	}
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("wait for the answer: %w", context.Cause(ctx))
	case err != nil:
		err = fmt.Errorf("%w: the origin ended the connection without an answer: %w", ErrInvite, err)
	}
	if err != nil {
		_ = stream.Reset()
		return enrolAnswer{}, err
	}
	_ = stream.Close() // the answer is here, however it ends
	return a, nil
}

// membership checks that an answer is what the invitation promised.
func (a enrolAnswer) membership(inv Invite, own peer.ID) (Membership, error) {
	if err := a.err(); err != nil {
		return Membership{}, err
	}
	if a.Roster == nil || a.Role != inv.Role || inv.Name != "" && a.Name != inv.Name || inv.Site != "" && a.Site != inv.Site {
		return Membership{}, fmt.Errorf("%w: the origin gives another place than it promised", ErrInvite)
	}
	m := Membership{Realm: inv.Realm, Self: own, Role: a.Role, Name: a.Name, Site: a.Site, Roster: *a.Roster,
		Origins: []Peer{{ID: inv.Origin, Role: Origin, Name: string(Origin), Addrs: inv.Addrs}}}
	_, err := m.check()
	return m, err
}
