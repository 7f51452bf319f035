package member

import (
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/wire"
)

// line is what rosters say of a peer.
func line(p Peer) Peer {
	p.Contract, p.Answered = contract.Contract{}, ""
	return p
}

// weight is about how many bytes a peer takes in a roster.
func weight(p Peer) int {
	if p.ID == "" {
		return 0
	}
	n := 96 + len(p.Name) + len(p.Site)
	for _, a := range p.Addrs {
		n += 3 + len(a)
	}
	return n
}

// RosterFor returns the roster that p is given, signed: to a trusted peer it
// names everybody, to a replica the trusted peers alone, and a guest gets none.
// It returns ErrUnknown for guests and for strangers. It is signed once for each
// change, and must not be changed.
func (l *Ledger) RosterFor(p peer.ID) (wire.Envelope, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch role := l.peers[p].Role; {
	case role.Trusted():
		return l.roster(&l.forPeers, l.head.Seq, func(Peer) bool { return true })
	case role == Replica:
		return l.roster(&l.forHosts, l.head.Trusted, func(p Peer) bool { return p.Role.Trusted() })
	}
	return wire.Envelope{}, fmt.Errorf("roster for peer %s: %w", p, ErrUnknown)
}

// roster returns the one that is kept, or makes it.
func (l *Ledger) roster(kept **wire.Envelope, seq uint64, shown func(Peer) bool) (wire.Envelope, error) {
	if *kept != nil {
		return **kept, nil
	}
	r := Roster{Realm: l.opts.Realm, Seq: seq, Issued: l.now()}
	for _, p := range l.list() {
		if shown(p) {
			r.Peers = append(r.Peers, line(p))
		}
	}
	e, err := wire.Seal(l.opts.Key, RosterKind, r)
	if err != nil {
		return wire.Envelope{}, fmt.Errorf("make roster %d: %w", seq, err)
	}
	*kept = &e
	return e, nil
}

// openRoster checks that a roster is of a realm and signed by its origin.
func openRoster(origin peer.ID, realm string, e wire.Envelope) (Roster, error) {
	var r Roster
	if err := wire.Open(origin, RosterKind, e, &r); err != nil {
		return r, fmt.Errorf("%w: %w", ErrRoster, err)
	}
	if r.Realm != realm {
		return r, fmt.Errorf("%w: it is of realm %.80q, not %q", ErrRoster, r.Realm, realm)
	}
	if err := r.check(); err != nil {
		return r, fmt.Errorf("%w: %w", ErrRoster, err)
	}
	return r, nil
}
