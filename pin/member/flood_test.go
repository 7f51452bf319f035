package member

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"
)

// opens opens streams as fast as it can, and asks for a protocol on each of
// them, or for nothing, until the other side has had enough. It returns how
// many streams that took.
func opens(t *testing.T, from, to host.Host, name protocol.ID, most int) int {
	t.Helper()
	c, err := from.Network().DialPeer(t.Context(), to.ID())
	if err != nil {
		t.Fatal(err)
	}
	for n := range most {
		s, err := c.NewStream(t.Context())
		if err != nil {
			return n
		}
		if name != "" {
			lazy := multistream.NewMSSelect(s, name)
			if _, err := lazy.Write(nil); err == nil {
				_ = s.CloseWrite()
				_, _ = io.Copy(io.Discard, lazy) // until the other side is done with it
			}
		}
		_ = s.Reset() // it is gone already, perhaps
	}
	return most
}

// chat is a stream that says back what it is told.
type chat struct {
	t *testing.T
	s network.Stream
}

const talk protocol.ID = "/talk/1"

func talks(t *testing.T, from, to host.Host) chat {
	t.Helper()
	to.SetStreamHandler(talk, func(s network.Stream) { _, _ = io.Copy(s, s) })
	meets(t, from, to)
	s, err := from.NewStream(t.Context(), to.ID(), talk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Reset() })
	l := chat{t, s}
	l.up("at first")
	return l
}

func (l chat) up(when string) {
	l.t.Helper()
	_ = l.s.SetDeadline(time.Now().Add(30 * time.Second))
	b := []byte("hello")
	if _, err := l.s.Write(b); err != nil {
		l.t.Fatalf("the line, %s: %v", when, err)
	}
	if _, err := io.ReadFull(l.s, b); err != nil {
		l.t.Fatalf("the line, %s: %v", when, err)
	}
}

// Whoever opens streams without end, of whatever kind, is shut out for a while,
// and longer each time; others are not touched, and trusted peers never are.
func TestFlood(t *testing.T) {
	o, clock := options(t)
	l, h := origin(t, o)
	h.SetStreamHandler(bitswap, func(s network.Stream) { _ = s.Close() })
	member := func(role Role) (host.Host, peer.ID) {
		key, id := newKey(t)
		if err := l.Admit(t.Context(), Peer{ID: id, Role: role, Name: id.String()[40:]}); err != nil {
			t.Fatal(err)
		}
		return newHost(t, key, both()[:1]), id
	}
	honest, _ := member(Replica)
	steady := talks(t, honest, h)
	removed, removedID := member(Replica)
	if err := l.Remove(t.Context(), removedID); err != nil {
		t.Fatal(err)
	}
	key, visitorID := newKey(t)
	visitor := newHost(t, key, both()[:1])
	l.Gate().Visit(infoOf(visitor))
	replica, _ := member(Replica)
	guest, _ := member(Guest)
	unspoken, _ := member(Replica)
	for what, f := range map[string]struct {
		from host.Host
		name protocol.ID
		most int
	}{
		"a removed peer, on a line":            {removed, talk, 10 * budget / ofRefused},
		"a visitor, on a line":                 {visitor, talk, 10 * budget / ofRefused},
		"a replica, on the pinset":             {replica, trustedEcho, 10 * budget / ofRefused},
		"a replica, on nothing":                {unspoken, "", 100 * budget / ofRefused},
		"a guest, on what nobody speaks":       {guest, "/nobody/1", 10 * budget / ofRefused},
		"a guest, on what it may speak":        {guest, echo, 10 * budget / ofSpoken},
		"a replica, on the protocol of others": {unspoken, Protocol, 10 * budget / ofRefused},
	} {
		id := f.from.ID()
		clock.add(2 * calm)
		for round := range 2 {
			meets(t, f.from, h)
			if n := opens(t, f.from, h, f.name, f.most); n == f.most {
				t.Errorf("%s: %d streams were not too many", what, n)
			}
			gone(t, h, id)
			if l.Gate().Admits(id) {
				t.Errorf("%s: it is still admitted", what)
			}
			gone(t, f.from, h.ID())
			deaf(t, what, f.from, h, Protocol)
			gone(t, f.from, h.ID()) // who dials may think for a moment that it is connected
			clock.add(firstCut << round)
			if !l.Gate().Admits(id) {
				t.Errorf("%s: it is out for longer than it should be, the time %d", what, round)
			}
		}
		steady.up(what)
	}
	if !l.Gate().Visits(visitorID) {
		t.Error("the visit ended")
	}
	storage, id := member(Storage)
	trusted := talks(t, storage, h)
	if most := 10 * budget / ofRefused; opens(t, storage, h, "/nobody/1", most) != most || !l.Gate().Admits(id) {
		t.Error("a storage peer is shut out")
	}
	trusted.up("after its own flood")
	steady.up("at the end")
}

// A peer that sends many blocks, or comes back often, floods nobody.
func TestBusyIsNoFlood(t *testing.T) {
	o, clock := options(t)
	g := open(t, o).Gate()
	for range 1000 { // 250 MiB of blocks a second, and a new line each second
		for range 1000 {
			g.opened("busy", bitswap)
		}
		g.opened("busy", talk)
		g.Refused("busy")
		clock.add(time.Second)
	}
	if g.floods.out("busy", clock.now) {
		t.Error("it is shut out")
	}
}

// The time for which a peer is shut out grows to a minute, and is short again
// for one that kept calm; and no more peers are remembered than there may be.
func TestFloodsAreBounded(t *testing.T) {
	var f floods
	now := newClock().at
	var times []time.Duration
	for range 8 {
		for range budget / ofRefused {
			if d := f.spend("a", ofRefused, now); d > 0 {
				times = append(times, d)
				now = now.Add(d)
			}
		}
	}
	if got := fmt.Sprint(times); got != "[2s 4s 8s 16s 32s 1m0s 1m0s 1m0s]" {
		t.Errorf("shut out for %s", got)
	}
	now = now.Add(calm)
	for range budget/ofRefused - 1 {
		f.spend("a", ofRefused, now)
	}
	if d := f.spend("a", ofRefused, now); d != firstCut {
		t.Errorf("after a calm time: %s", d)
	}
	for n := range 3 * maxFloods {
		f.spend(peer.ID(fmt.Sprint(n)), 1, now)
		if n%1000 == 0 {
			now = now.Add(window)
		}
	}
	if len(f.peers) > maxFloods {
		t.Errorf("%d peers are remembered", len(f.peers))
	}
}
