package member

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/wire"
)

// maxGone is how many peers are remembered that were removed.
const maxGone = 1000

// departed is a peer that was removed.
type departed struct {
	ID peer.ID   `cbor:"1,keyasint"`
	At time.Time `cbor:"2,keyasint"`
}

// loadGone reads who was removed.
func (l *Ledger) loadGone(ctx context.Context) error {
	var g departed
	return l.each(ctx, root().ChildString("gone"), &g, func() { l.gate.gone[g.ID] = g.At })
}

// oldestGone is who is forgotten when another peer is removed, if somebody must
// be. The ledger alone changes who is gone, under its own lock.
func (l *Ledger) oldestGone() (oldest peer.ID, full bool) {
	if len(l.gate.gone) < maxGone {
		return "", false
	}
	for id, at := range l.gate.gone {
		if was, ok := l.gate.gone[oldest]; !ok || at.Before(was) {
			oldest = id
		}
	}
	return oldest, true
}

// removed reports whether p was a member. The caller holds mu.
func (g *Gate) removed(p peer.ID) bool {
	_, gone := g.gone[p]
	return gone
}

// Removed reports whether p was a member, and was removed lately.
func (g *Gate) Removed(p peer.ID) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.removed(p)
}

// onlyRemoved reports whether p is let in to be told that it was removed, and
// for nothing else.
func (g *Gate) onlyRemoved(p peer.ID) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	_, enrolled := g.role(p)
	return !enrolled && !g.invited(p) && g.removed(p)
}

// oustedPatience is how long an origin may take to say that a peer was removed.
const oustedPatience = 5 * time.Second

// Ousted asks an origin that a host is connected with whether it removed the
// host's peer, and returns ErrRemoved if it says so. Any other error says
// nothing about that: a member is not answered.
func Ousted(ctx context.Context, h host.Host, origin peer.ID) error {
	ctx, cancel := context.WithTimeout(ctx, oustedPatience)
	defer cancel()
	stream, err := h.NewStream(network.WithNoDial(ctx, "ousted"), origin, Protocol)
	if err != nil {
		return fmt.Errorf("ask origin %s for this peer's place: %w", origin, err)
	}
	defer func() { _ = stream.Reset() }()
	defer context.AfterFunc(ctx, func() { _ = stream.Reset() })()
	var a enrolAnswer
	if err := wire.Read(stream, maxRequest, &a); err != nil {
		return fmt.Errorf("ask origin %s for this peer's place: %w", origin, err)
	}
	return a.err()
}
