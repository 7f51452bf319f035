package member

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
)

const bitswap protocol.ID = "/ipfs/bitswap/1.2.0"

// A visitor may ask for blocks, and open no other stream, until its visit ends:
// then it is shut out at once.
func TestVisitorAsksForBlocksAlone(t *testing.T) {
	o, _ := options(t)
	l, h := origin(t, o)
	greet := func(s network.Stream) {
		_, _ = s.Write([]byte("hello"))
		_ = s.Close()
	}
	h.SetStreamHandler(bitswap, greet)
	key, id := newKey(t)
	visitor := newHost(t, key, both())
	visitor.SetStreamHandler(echo, greet)
	deaf(t, "before the visit", visitor, h, bitswap)
	gone(t, visitor, h.ID())

	if !l.Gate().Visit(infoOf(visitor)) {
		t.Error("no visitor")
	}
	if _, ok := l.Gate().Role(id); ok || !l.Gate().Visits(id) || !l.Gate().Admits(id) {
		t.Error("a visitor has a role, or is none")
	}
	hears(t, "a visitor", visitor, h, bitswap)
	for _, p := range []protocol.ID{echo, trustedEcho, Protocol, "/meshsub/1.1.0", "/libp2p/circuit/relay/0.2.0/hop"} {
		deaf(t, "a visitor", visitor, h, p)
	}
	deaf(t, "the origin, of a visitor", h, visitor, echo)
	if r := <-ping.Ping(t.Context(), visitor, h.ID()); r.Error != nil {
		t.Errorf("ping: %v", r.Error)
	}

	l.Gate().EndVisit(id)
	gone(t, h, id)
	deaf(t, "after the visit", visitor, h, bitswap)
}

// Whoever has a role keeps it, and nothing that a visit gives or forbids
// matters: the ledger knows better than a stranger.
func TestVisitDoesNotChangeARole(t *testing.T) {
	o, _ := options(t)
	l, h := origin(t, o)
	i := invite(t, l, InviteRequest{Addrs: addrsOf(h)})
	for role, p := range map[string]peer.ID{
		"replica": admit(t, l, Replica, "attic").ID, "storage": admit(t, l, Storage, "oslo").ID, "origin": h.ID(), "": i.ID,
	} {
		visits := l.Gate().Visit(peer.AddrInfo{ID: p})
		if got, _ := l.Gate().Role(p); visits || string(got) != role || l.Gate().Visits(p) || !l.Gate().mayDial(p, h.Addrs()[0]) {
			t.Errorf("%s: a visit changed it to %q", role, got)
		}
		l.Gate().EndVisit(p)
		if !l.Gate().Admits(p) {
			t.Errorf("%s: the end of a visit shut it out", role)
		}
	}
	if _, _, err := join(t, i, newClock(), Offer{}); err != nil {
		t.Errorf("an invited one that was a visitor: %v", err)
	}
	// One that was removed comes back by no visit, but by whoever removed it.
	p := admit(t, l, Guest, "reader")
	l.Gate().Visit(peer.AddrInfo{ID: p.ID})
	if err := l.Remove(t.Context(), p.ID); err != nil {
		t.Fatal(err)
	}
	if l.Gate().Visit(peer.AddrInfo{ID: p.ID}) || l.Gate().Visits(p.ID) {
		t.Error("a removed one visits")
	}
	if err := l.Admit(t.Context(), p); err != nil || !l.Gate().Admits(p.ID) {
		t.Errorf("admitted again: %v", err)
	}
}

// What a visitor, or whoever else, says of where it is, is not dialled.
func TestVisitorIsDialledWhereItMayBeAlone(t *testing.T) {
	o, _ := options(t)
	l, h := origin(t, o)
	trap, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer trap.Close()
	var trapped atomic.Int64
	go func() {
		for {
			c, err := trap.Accept()
			if err != nil {
				return
			}
			trapped.Add(1)
			c.Close()
		}
	}()
	_, port, err := net.SplitHostPort(trap.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	inward := ma.StringCast("/ip4/127.0.0.1/tcp/" + port)
	for _, listen := range both() {
		key, id := newKey(t)
		visitor := newHost(t, key, []string{listen})
		h.Peerstore().AddAddr(id, inward, peerstore.PermanentAddrTTL)
		dial := func(info peer.AddrInfo) error {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			return h.Connect(network.WithForceDirectDial(ctx, "test"), info)
		}
		l.Gate().Visit(peer.AddrInfo{ID: id})
		if err := dial(infoOf(visitor)); err == nil {
			t.Error("dialled a visitor that gave no address")
		}
		l.Gate().Visit(infoOf(visitor))
		if err := dial(infoOf(visitor)); err != nil {
			t.Errorf("%s: %v", listen, err)
		}
	}
	if n := trapped.Load(); n != 0 {
		t.Errorf("%d connections inward", n)
	}
}

// BenchmarkAdmits asks about members, visitors and strangers of a large swarm.
func BenchmarkAdmits(b *testing.B) {
	g := NewGate("origin")
	r, asked := Roster{}, []peer.ID{"stranger"}
	for n := range 10_000 {
		r.Peers = append(r.Peers, Peer{ID: peer.ID(fmt.Sprint("member ", n)), Role: Replica})
	}
	g.Set(r)
	for n := range 128 {
		g.Visit(peer.AddrInfo{ID: peer.ID(fmt.Sprint("visitor ", n))})
		asked = append(asked, r.Peers[n].ID, peer.ID(fmt.Sprint("visitor ", n)))
	}
	b.RunParallel(func(pb *testing.PB) {
		for n := 0; pb.Next(); n++ {
			g.Admits(asked[n%len(asked)])
		}
	})
}
