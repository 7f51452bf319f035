package testnet

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/boxo/bitswap"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"

	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
)

// A Carrier is a replica that enrolled like any other, and behaves as a test
// wants: it speaks the real protocols over loopback, keeps blocks in memory,
// and can lie about each of them.
type Carrier struct {
	Host   host.Host
	Blocks blockstore.Blockstore
	Book   *member.Book

	carry func(ctx context.Context, o control.Order) (control.Outcome, string)
	swap  *bitswap.Bitswap
	done  sync.WaitGroup

	mu   sync.Mutex
	says map[cid.Cid]bool // what it told that it holds
}

// A Behaviour is what a Carrier does instead of what it should. Fields that are
// nil are honest.
type Behaviour struct {
	// Carry carries out an order.
	Carry func(ctx context.Context, c *Carrier, o control.Order) (control.Outcome, string)
	// Source is what it proves from.
	Source func(c *Carrier) audit.Source
}

// NewCarrier enrols a replica. It is gone when the test ends.
func NewCarrier(t testing.TB, o *Origin, name string, b Behaviour) *Carrier {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	must(t, err)
	c := &Carrier{says: map[cid.Cid]bool{}, carry: func(ctx context.Context, order control.Order) (control.Outcome, string) { return "", "" }}
	invite, err := member.ParseInvite(o.Invite(t, member.Replica, name))
	must(t, err)
	offer := contract.Contract{Disk: 1 << 40}
	m, err := member.Enrol(t.Context(), invite, key, member.Offer{Contract: offer})
	must(t, err)
	file := filepath.Join(t.TempDir(), "membership")
	must(t, member.SaveMembership(file, m))
	c.Book, err = member.OpenBook(file)
	must(t, err)
	c.Host, err = libp2p.New(libp2p.Identity(key), libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay())
	must(t, err)
	t.Cleanup(func() { must(t, c.Host.Close()) })
	c.Blocks = blockstore.NewBlockstore(dssync.MutexWrap(datastore.NewMapDatastore()))
	c.swap = bitswap.New(context.Background(), bsnet.NewFromIpfsHost(c.Host), nil, c.Blocks)
	t.Cleanup(func() { must(t, c.swap.Close()) })
	c.carry = func(ctx context.Context, order control.Order) (control.Outcome, string) {
		if b.Carry != nil {
			return b.Carry(ctx, c, order)
		}
		return c.Carry(ctx, order)
	}
	source := audit.Source(Held{c})
	if b.Source != nil {
		source = b.Source(c)
	}
	prover := audit.Serve(c.Host, audit.ProverOptions{Source: source, Allow: c.Book.Gate().Admits, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { must(t, prover.Close()) })
	c.connect(t, key, m, offer)
	return c
}

// connect keeps the line to the origin until the test ends.
func (c *Carrier) connect(t testing.TB, key crypto.PrivKey, m member.Membership, offer contract.Contract) {
	t.Helper()
	line, err := control.NewClient(t.Context(), control.ClientOptions{
		Host: c.Host, Origin: c.Book.Origin(), Store: dssync.MutexWrap(datastore.NewMapDatastore()), Key: key, Realm: m.Realm,
		Handler: handler{c}, Roster: c.Book.Accept, Heartbeat: time.Second,
		Report: func() control.Report { return control.Report{Contract: offer, Free: offer.Disk, Held: c.told()} },
	})
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	c.done.Go(func() { _ = line.Run(ctx) })
	t.Cleanup(func() { stop(); c.done.Wait() })
}

// handler hands orders on.
type handler struct{ c *Carrier }

// Carry implements control.Handler.
func (h handler) Carry(ctx context.Context, o control.Order) (control.Outcome, string) {
	outcome, reason := h.c.carry(ctx, o)
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	switch {
	case outcome != control.Done:
	case o.Verb == control.Hold:
		h.c.says[o.Root] = true
	default:
		delete(h.c.says, o.Root)
	}
	return outcome, reason
}

// told is how many segments it told that it holds.
func (c *Carrier) told() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int64(len(c.says))
}

// Carry does what an order says.
func (c *Carrier) Carry(ctx context.Context, o control.Order) (control.Outcome, string) {
	var err error
	if o.Verb == control.Hold {
		err = c.Fetch(ctx, o.Root)
	} else {
		err = c.Forget(ctx, o.Root)
	}
	if err != nil {
		return control.Failed, err.Error()
	}
	return control.Done, ""
}

// Fetch brings all blocks of a segment here over Bitswap. Once it has failed
// nothing of it is asked for any more: Bitswap does not ask again for what
// another fetch still asks for, and the next one would wait in vain.
func (c *Carrier) Fetch(ctx context.Context, root cid.Cid) error {
	try, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	s := merkledag.NewDAGService(blockservice.New(c.Blocks, c.swap))
	err := merkledag.FetchGraph(try, root, s)
	if err == nil {
		return nil
	}
	cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 200 { // other orders are fetched too
		if len(c.swap.GetWantlist()) == 0 {
			break
		}
		<-tick.C
	}
	return err
}

// Forget deletes the leaves of a segment, and its root.
func (c *Carrier) Forget(ctx context.Context, root cid.Cid) error {
	leaves, err := Held{c}.Leaves(ctx, root)
	if err != nil {
		return nil //nolint:nilerr // it is not here
	}
	for _, l := range leaves {
		if err := c.Blocks.DeleteBlock(ctx, l.CID); err != nil {
			return err
		}
	}
	return c.Blocks.DeleteBlock(ctx, root)
}

// Held is what a Carrier has.
type Held struct{ C *Carrier }

// Leaves implements audit.Source.
func (h Held) Leaves(ctx context.Context, root cid.Cid) (leaves []audit.Leaf, err error) {
	b, err := h.C.Blocks.Get(ctx, root)
	if err != nil {
		return nil, err
	}
	if root.Type() == cid.Raw {
		return []audit.Leaf{{CID: root, Size: int64(len(b.RawData()))}}, nil
	}
	inner, err := merkledag.DecodeProtobuf(b.RawData())
	if err != nil {
		return nil, err
	}
	for _, l := range inner.Links() {
		some, err := h.Leaves(ctx, l.Cid)
		if err != nil {
			return nil, err
		}
		leaves = append(leaves, some...)
	}
	return leaves, nil
}

// ReadBlockAt implements audit.Source.
func (h Held) ReadBlockAt(ctx context.Context, c cid.Cid, p []byte, off int64) (int, error) {
	b, err := h.C.Blocks.Get(ctx, c)
	if err != nil {
		return 0, err
	}
	if off >= int64(len(b.RawData())) {
		return 0, io.EOF
	}
	n := copy(p, b.RawData()[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
