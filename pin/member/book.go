package member

import (
	"fmt"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/wire"
)

// A Book is what a peer that is no origin knows of its swarm: its membership,
// with the newest roster. It is safe for concurrent use.
type Book struct {
	path string
	gate *Gate

	accepting sync.Mutex // one at a time writes the file

	mu     sync.Mutex
	member Membership
	roster Roster
	signal chan struct{} // closed at the next change; nil: nobody waits
}

// OpenBook reads a membership that was saved, and keeps it up to date there.
func OpenBook(path string) (*Book, error) {
	m, r, err := loadMembership(path)
	if err != nil {
		return nil, err
	}
	var origins []peer.ID
	for _, p := range m.Origins {
		origins = append(origins, p.ID)
	}
	b := &Book{path: path, member: m, roster: r, gate: NewGate(origins...)}
	b.gate.Set(r)
	return b, nil
}

// Accept takes a roster over from the origin: it is durable, and the gate
// follows it, on return. One of another realm or signer, or an older one, is
// refused with ErrRoster; the one that is known already is not.
func (b *Book) Accept(e wire.Envelope) error {
	b.accepting.Lock()
	defer b.accepting.Unlock()
	m := b.Membership()
	r, err := openRoster(m.Origins[0].ID, m.Realm, e)
	if err != nil {
		return fmt.Errorf("accept a roster: %w", err)
	}
	switch known := b.Roster().Seq; {
	case r.Seq == known && string(e.Payload) == string(m.Roster.Payload):
		return nil
	case r.Seq == known:
		return fmt.Errorf("accept a roster: %w: another has number %d", ErrRoster, known)
	case r.Seq < known:
		return fmt.Errorf("accept a roster: %w: number %d is older than %d", ErrRoster, r.Seq, known)
	}
	m.Roster = e
	if err := SaveMembership(b.path, m); err != nil {
		return fmt.Errorf("accept roster %d: %w", r.Seq, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.member, b.roster = m, r
	b.gate.Set(r)
	if b.signal != nil {
		close(b.signal)
		b.signal = nil
	}
	return nil
}

// Membership returns the place of this peer.
func (b *Book) Membership() Membership {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.member
}

// Roster returns the newest roster. It must not be changed.
func (b *Book) Roster() Roster {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.roster
}

// Origin returns the origin that this peer follows, with the addresses that the
// roster gives and, behind them, those of the invitation.
func (b *Book) Origin() peer.AddrInfo {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := b.member.Origins[0]
	for _, p := range b.roster.Peers {
		if p.ID != first.ID {
			continue
		}
		invited := first.Addrs
		first.Addrs = slices.Clone(p.Addrs)
		for _, a := range invited {
			if !slices.Contains(first.Addrs, a) {
				first.Addrs = append(first.Addrs, a)
			}
		}
	}
	return first.AddrInfo()
}

// Gate returns the gate that admits who is on the roster, and always the
// origin. It follows the book by itself.
func (b *Book) Gate() *Gate { return b.gate }

// Changed returns a channel that is closed when the next roster is accepted.
func (b *Book) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.signal == nil {
		b.signal = make(chan struct{})
	}
	return b.signal
}
