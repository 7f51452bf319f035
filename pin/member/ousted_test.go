package member

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
)

// meets connects from one host to another.
func meets(t *testing.T, from, to host.Host) {
	t.Helper()
	if err := from.Connect(t.Context(), infoOf(to)); err != nil {
		t.Fatal(err)
	}
}

// Who was removed may connect to be told so, also after a restart of the
// origin, and for nothing else; who was let in again is a member.
func TestRemovedPeerIsTold(t *testing.T) {
	o, clock := options(t)
	l, h := origin(t, o)
	key, id := newKey(t)
	p := Peer{ID: id, Role: Storage, Name: "oslo"}
	if err := l.Admit(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	own := newHost(t, key, both())
	meets(t, own, h)
	if err := Ousted(t.Context(), own, h.ID()); err == nil || errors.Is(err, ErrRemoved) {
		t.Errorf("a member is told %v", err)
	}
	if err := l.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	gone(t, own, h.ID())
	meets(t, own, h)
	is(t, "removed", Ousted(t.Context(), own, h.ID()), ErrRemoved)
	gone(t, own, h.ID()) // after one answer
	deaf(t, "removed", own, h, echo)
	if role, ok := l.Gate().Role(id); ok {
		t.Errorf("it is a %s", role)
	}

	clock.add(time.Second)
	o.Key = l.opts.Key
	l2, h2 := origin(t, o)
	own = newHost(t, key, both())
	meets(t, own, h2)
	is(t, "after a restart", Ousted(t.Context(), own, h2.ID()), ErrRemoved)
	if err := l2.Admit(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	gone(t, own, h2.ID())
	hears(t, "let in again", own, h2, echo)
	if again := open(t, o); again.Gate().onlyRemoved(id) || len(again.gate.gone) != 0 {
		t.Error("it is both a member and removed")
	}
}

// Of peers that were removed so many are remembered, the newest.
func TestRemovedPeersAreBounded(t *testing.T) {
	o, clock := options(t)
	l := open(t, o)
	var all []Peer
	for i := range maxGone + 1 {
		p := admit(t, l, Guest, fmt.Sprint("guest ", i))
		if err := l.Remove(t.Context(), p.ID); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
		clock.add(time.Second)
	}
	for _, l := range []*Ledger{l, open(t, o)} {
		if len(l.gate.gone) != maxGone || l.Gate().Admits(all[0].ID) || !l.Gate().Admits(all[maxGone].ID) {
			t.Errorf("%d are remembered", len(l.gate.gone))
		}
	}
}

// Peers that were removed and do not listen take no place from who enrols.
func TestRemovedPeersHoldNobodyUp(t *testing.T) {
	o, clock := options(t)
	l, h := origin(t, o)
	for range maxEnrolling + 1 {
		key, id := newKey(t)
		if err := errors.Join(l.Admit(t.Context(), Peer{ID: id, Role: Guest}), l.Remove(t.Context(), id)); err != nil {
			t.Fatal(err)
		}
		own := newHost(t, key, both()[:1])
		meets(t, own, h)
		if s, err := own.NewStream(t.Context(), h.ID(), Protocol); err == nil {
			defer s.Reset() // it reads nothing
		}
	}
	i := invite(t, l, InviteRequest{Addrs: addrsOf(h)})
	if _, _, err := join(t, i, clock, Offer{}); err != nil {
		t.Error(err)
	}
}

// Somebody who never belonged is not told anything.
func TestStrangersAreNotTold(t *testing.T) {
	o, _ := options(t)
	_, h := origin(t, o)
	key, _ := newKey(t)
	own := newHost(t, key, both())
	_ = own.Connect(t.Context(), infoOf(h)) // it fails, now or a little later
	if err := Ousted(t.Context(), own, h.ID()); err == nil || errors.Is(err, ErrRemoved) {
		t.Errorf("it is told %v", err)
	}
}
