package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"golang.org/x/time/rate"
)

// What one peer sends through the relay is bounded, on however many circuits,
// and so is what all send. Who sends too quickly keeps nobody else waiting.
func TestRelayPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelayPace(t.Context(), nil)
		began := time.Now()
		pass := func(p peer.ID, n int) {
			for ; n > 0; n -= r.slice {
				if err := r.wait(p, r.slice); err != nil {
					t.Error(err)
				}
			}
		}
		var circuits sync.WaitGroup
		for range 4 {
			circuits.Go(func() { pass("greedy", 4<<20) })
		}
		pass("modest", relayBurst)
		if took := time.Since(began); took > time.Second {
			t.Errorf("somebody else waits %s", took)
		}
		circuits.Wait()
		if took := time.Since(began); took < 15*time.Second || took > 17*time.Second {
			t.Errorf("16 MiB of one peer take %s", took)
		}
		began = time.Now()
		for i := range 32 {
			circuits.Go(func() { pass(peer.ID(fmt.Sprint(i)), 1<<20) })
		}
		circuits.Wait()
		if took := time.Since(began); took < 3*time.Second || took > 5*time.Second {
			t.Errorf("32 MiB of all take %s", took)
		}
		time.Sleep(time.Minute)
		pass("late", 1)
		if len(r.peers) != 1 {
			t.Errorf("%d peers are remembered", len(r.peers))
		}
	})
}

func TestRelayPaceEnds(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	r := newRelayPace(ctx, rate.NewLimiter(1, 1))
	if err := r.wait("x", 2); err == nil {
		t.Error("bytes pass after the end")
	}
}

// newcomer is a peer that knows libp2p alone, connected to another.
func newcomer(t *testing.T, to peer.AddrInfo) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.NoListenAddrs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	if err := h.Connect(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	return h
}

// A peer has so many circuits and no more, and leaves places for others.
func TestCircuitsOfOnePeer(t *testing.T) {
	a := start(t, func(o *Options) { o.Relay = true })
	here := peer.AddrInfo{ID: a.Host().ID(), Addrs: a.Host().Addrs()}
	greedy := newcomer(t, here)
	var open []network.Stream
	for n := range relayCircuits + 1 {
		s, err := greedy.NewStream(t.Context(), here.ID, proto.ProtoIDv2Hop)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Reset()
		if _, err := s.Write([]byte{100}); err != nil { // the length of what never comes
			t.Fatal(err)
		}
		open = append(open, s)
		if n < relayCircuits {
			hops(t, a, greedy, n+1)
		}
	}
	if _, err := open[relayCircuits].Read(make([]byte, 1)); !errors.Is(err, network.ErrReset) {
		t.Errorf("one too many: %v", err)
	}
	if _, err := client.Reserve(t.Context(), newcomer(t, here), here); err != nil {
		t.Errorf("somebody else: %v", err)
	}
	_ = open[0].Reset()
	hops(t, a, greedy, relayCircuits-1)
	if _, err := client.Reserve(t.Context(), greedy, here); err != nil {
		t.Errorf("once one has ended: %v", err)
	}
}

// hops waits until a peer has n requests open with a relay.
func hops(t *testing.T, at *Node, of host.Host, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for h := (&hopHost{Host: at.Host()}); h.hops(of.ID()) != n; {
		select {
		case <-ctx.Done():
			t.Fatalf("%d requests are open, want %d", h.hops(of.ID()), n)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
