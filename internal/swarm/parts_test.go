package swarm

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/keep"
	"github.com/musenai/musen/pin/member"
	"github.com/musenai/musen/pin/wire"
)

// syncs counts how often a store was made durable.
type syncs struct {
	datastore.Batching
	n atomic.Int64
}

func (s *syncs) Sync(ctx context.Context, prefix datastore.Key) error {
	s.n.Add(1)
	return s.Batching.Sync(ctx, prefix)
}

// one is a roster of one storage peer.
type one peer.ID

func (o one) RosterFor(peer.ID) (wire.Envelope, error) { return wire.Envelope{}, nil }
func (o one) Role(p peer.ID) (member.Role, bool)       { return member.Storage, p == peer.ID(o) }
func (o one) Peers() []member.Peer                     { return []member.Peer{{ID: peer.ID(o), Role: member.Storage}} }

func root(t *testing.T, text string) cid.Cid {
	t.Helper()
	h, err := multihash.Sum([]byte(text), multihash.SHA2_256, -1)
	if err != nil {
		t.Fatal(err)
	}
	return cid.NewCidV1(cid.Raw, h)
}

// TestManyOrders gives many orders at once: they cost one write, and one that
// cannot be given keeps none of the others back.
func TestManyOrders(t *testing.T) {
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	to := h.ID() // whoever: no line is needed
	store := &syncs{Batching: dssync.MutexWrap(datastore.NewMapDatastore())}
	lines, err := control.NewServer(t.Context(), control.ServerOptions{
		Host: h, Store: store, Key: h.Peerstore().PrivKey(h.ID()), Realm: "r", Members: one(to),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer lines.Close()
	var given keep.Orders = orders{&Swarm{lines: lines}}
	if err := given.Order(t.Context(), to, control.Instruction{Verb: control.Purge, Root: root(t, "gone"), Size: 1, Label: "label"}); err != nil {
		t.Fatal(err)
	}
	before := store.n.Load()
	many := []control.Instruction{{Verb: control.Hold, Root: root(t, "gone"), Size: 1, Label: "label"}}
	for i := range 500 {
		many = append(many, control.Instruction{Verb: control.Hold, Root: root(t, string(rune('A'+i))), Size: 1, Label: "label"})
	}
	err = given.(interface {
		OrderMany(ctx context.Context, to peer.ID, ins ...control.Instruction) error
	}).OrderMany(t.Context(), to, many...)
	if !errors.Is(err, control.ErrPurged) {
		t.Errorf("a hold of what is to be purged: %v", err)
	}
	waiting, err := lines.Waiting(t.Context(), to)
	if err != nil || len(waiting) != len(many) {
		t.Fatalf("%d orders wait, %v; want %d", len(waiting), err, len(many))
	}
	if n := store.n.Load() - before; n > 3 {
		t.Errorf("%d writes for %d orders", n, len(many))
	}
}
