package member

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	leveldb "github.com/ipfs/go-ds-leveldb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

// join enrols with a new key.
func join(t testing.TB, i Invite, clock *clock, o Offer) (Membership, crypto.PrivKey, error) {
	t.Helper()
	key, _ := newKey(t)
	o.Now = clock.now
	m, err := Enrol(t.Context(), i, key, o)
	return m, key, err
}

// Over TCP and over QUIC, from the line that was printed.
func TestEnrol(t *testing.T) {
	o, clock := options(t)
	l, h := origin(t, o)
	other := admit(t, l, Replica, "other")
	for n, role := range []Role{Replica, Storage} {
		changed := l.Changed()
		made := invite(t, l, InviteRequest{Role: role, Addrs: addrsOf(h)[n : n+1]})
		i, err := ParseInvite(" " + made.String() + "\n")
		if err != nil {
			t.Fatal(err)
		}
		m, key, err := join(t, i, clock, Offer{Name: "attic " + string(role), Site: "north", Contract: disk(7), Addrs: []string{address}, Version: "v1.2.3"})
		if err != nil {
			t.Fatal(err)
		}
		<-changed
		p, err := l.Find("attic " + string(role))
		if err != nil || p.ID != m.Self || p.Role != role || p.Site != "north" || p.Contract.Disk != 7<<30 || len(p.Addrs) != 1 {
			t.Errorf("in the ledger: %+v, %v", p, err)
		}
		if m.Realm != "radio" || m.Role != role || m.Name != p.Name || m.Site != "north" || m.Origins[0].ID != l.self {
			t.Errorf("membership %+v", m)
		}
		r, err := openRoster(l.self, "radio", m.Roster)
		if err != nil {
			t.Fatal(err)
		}
		if names := strings.Contains(text(r.Peers), other.ID.String()); names != (role == Storage) {
			t.Errorf("the roster of a %s names a replica: %v", role, names)
		}
		gone(t, h, i.ID)
		own := newHost(t, key, both())
		hears(t, "enrolled", own, h, echo)
	}
	if n := len(l.Invites()); n != 0 {
		t.Errorf("%d invites are left", n)
	}
}

// Somebody without an invitation gets nothing at all, over either transport and
// in either direction.
func TestStrangersCannotConnect(t *testing.T) {
	o, clock := options(t)
	l, h := origin(t, o)
	i := invite(t, l, InviteRequest{Addrs: addrsOf(h)})
	for _, listen := range both() {
		key, id := newKey(t)
		stranger := newHost(t, key, []string{listen})
		for _, p := range []protocol.ID{echo, Protocol, identify.ID, ping.ID} {
			deaf(t, "stranger", stranger, h, p)
		}
		gone(t, h, id)
		if err := h.Connect(t.Context(), infoOf(stranger)); err == nil {
			t.Error("the origin dialled a stranger")
		}
	}
	forged := i
	forged.key, forged.ID = newKey(t)
	_, _, err := join(t, forged, clock, Offer{})
	if err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a made-up identity: %v", err)
	}
	if n := len(l.Peers()); n != 1 {
		t.Errorf("%d peers", n)
	}
}

// The one-time identity may enrol and do nothing else, even with what every
// libp2p host offers, and even if the origin begins.
func TestOneTimeIdentityOnlyEnrols(t *testing.T) {
	o, _ := options(t)
	o.EnrolTimeout = time.Hour
	l, h := origin(t, o)
	i := invite(t, l, InviteRequest{Addrs: addrsOf(h)})
	for _, listen := range both() {
		joiner := newHost(t, i.key, []string{listen})
		joiner.SetStreamHandler(echo, func(s network.Stream) {
			_, _ = s.Write([]byte("hello"))
			_ = s.Close()
		})
		for _, p := range []protocol.ID{echo, trustedEcho, identify.ID, identify.IDPush, ping.ID, "/ipfs/bitswap/1.2.0", "/meshsub/1.1.0"} {
			deaf(t, "invited", joiner, h, p)
		}
		deaf(t, "the origin, of one who is invited", h, joiner, echo)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if _, err := joiner.NewStream(ctx, h.ID(), Protocol); err != nil {
			t.Errorf("enrol: %v", err)
		}
		cancel()
		_ = joiner.Close()
	}
	if _, ok := l.Gate().Role(i.ID); ok {
		t.Error("an invited one has a role")
	}
}

// What is for trusted peers is not spoken with others.
func TestRestrictKeepsProtocolsToTrustedPeers(t *testing.T) {
	o, _ := options(t)
	l, h := origin(t, o)
	for role, trusted := range map[Role]bool{Storage: true, Replica: false, Guest: false} {
		key, id := newKey(t)
		if err := l.Admit(t.Context(), Peer{ID: id, Role: role}); err != nil {
			t.Fatal(err)
		}
		p := newHost(t, key, both())
		hears(t, string(role), p, h, echo)
		if trusted {
			hears(t, string(role), p, h, trustedEcho)
		} else {
			deaf(t, string(role), p, h, trustedEcho)
		}
		deaf(t, "enrolled as "+string(role), p, h, Protocol)
	}
}

func TestInviteWinsOverTheJoiner(t *testing.T) {
	o, clock := options(t)
	l, h := origin(t, o)
	i := invite(t, l, InviteRequest{Name: "cellar", Site: "south", Addrs: addrsOf(h)})
	i.Role = Storage // what the joiner says to itself does not count
	m, _, err := join(t, i, clock, Offer{Name: "palace", Site: "north"})
	is(t, "another role", err, ErrInvite)
	p, err := l.Find("cellar")
	if err != nil || p.Role != Replica || p.Site != "south" {
		t.Errorf("%+v, %v", p, err)
	}
	i = invite(t, l, InviteRequest{Name: "roof", Site: "east", Addrs: addrsOf(h)})
	if m, _, err = join(t, i, clock, Offer{Name: "palace", Site: "north"}); err != nil || m.Name != "roof" || m.Site != "east" {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := l.Find("palace"); err == nil {
		t.Error("the joiner's name won")
	}
}

// A name that is taken, or anything else that the joiner can mend, does not use
// the invitation up.
func TestRefusedJoinerMayMendItsOffer(t *testing.T) {
	o, clock := options(t)
	l, h := origin(t, o)
	admit(t, l, Replica, "attic")
	i := invite(t, l, InviteRequest{Addrs: addrsOf(h)})
	for what, c := range map[string]struct {
		offer Offer
		want  error
	}{
		"a taken name":  {Offer{Name: "attic"}, ErrTaken},
		"a bad name":    {Offer{Name: "a\u202eb"}, ErrInvalid},
		"a bad site":    {Offer{Site: "\n"}, ErrInvalid},
		"a bad address": {Offer{Addrs: []string{"x"}}, ErrInvalid},
		"a bad disk":    {Offer{Contract: disk(-1)}, ErrInvalid},
		"a bad version": {Offer{Version: "\x00"}, ErrInvalid},
	} {
		_, _, err := join(t, i, clock, c.offer)
		is(t, what, err, c.want)
	}
	if _, _, err := join(t, i, clock, Offer{}); err != nil {
		t.Error(err)
	}
}

// Of many who race for one invitation exactly one comes in, and it alone may
// ask again.
func TestInviteIsSingleUse(t *testing.T) {
	o, clock := options(t)
	l, h := origin(t, o)
	i := invite(t, l, InviteRequest{Addrs: addrsOf(h)})
	const racers = 2
	var members [racers]Membership
	var keys [racers]crypto.PrivKey
	var errs [racers]error
	var wg sync.WaitGroup
	for n := range racers {
		keys[n], _ = newKey(t)
		wg.Go(func() { members[n], errs[n] = Enrol(t.Context(), i, keys[n], Offer{Now: clock.now}) })
	}
	wg.Wait()
	won := 0
	if errs[0] != nil {
		won = 1
	}
	if errs[won] != nil {
		t.Fatalf("nobody won: %v", errs)
	}
	is(t, "the other", errs[1-won], ErrUsed)
	admitted := text(l.Peers())
	again, err := Enrol(t.Context(), i, keys[won], Offer{Name: "another name", Contract: disk(9), Now: clock.now})
	if err != nil || again.Self != members[won].Self || again.Name != members[won].Name {
		t.Errorf("again: %+v, %v", again, err)
	}
	_, err = Enrol(t.Context(), i, keys[1-won], Offer{Now: clock.now})
	is(t, "the other again", err, ErrUsed)
	if got := text(l.Peers()); got != admitted {
		t.Errorf("asking again changed\n%sto\n%s", admitted, got)
	}
	member := admit(t, l, Replica, "member")
	_, err = l.take(t.Context(), i.ID, member)
	is(t, "a member", err, ErrUsed)
	clock.add(48 * time.Hour)
	if _, err = Enrol(t.Context(), i, keys[won], Offer{Now: clock.now}); err == nil {
		t.Error("the invitation is good for ever")
	}
}

// The origin may crash between writing and answering.
func TestEnrolmentSurvivesACrashBeforeItsAnswer(t *testing.T) {
	o, clock := options(t)
	dir := t.TempDir()
	store, err := leveldb.NewDatastore(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	o.Store = store
	l := open(t, o)
	h := gated(t, o.Key, l.Gate())
	i := invite(t, l, InviteRequest{TTL: time.Minute, Addrs: addrsOf(h)})
	key, id := newKey(t)
	want, err := l.take(t.Context(), i.ID, Peer{ID: id, Name: "attic"})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	clock.add(10 * time.Minute) // the invitation has expired meanwhile
	if o.Store, err = leveldb.NewDatastore(dir, nil); err != nil {
		t.Fatal(err)
	}
	defer o.Store.Close()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	_, h = origin(t, o)
	i.Addrs = addrsOf(h)
	_, _, err = join(t, i, clock, Offer{Name: "thief"})
	is(t, "somebody else", err, ErrUsed)
	m, err := Enrol(t.Context(), i, key, Offer{Name: "attic", Now: clock.now})
	if err != nil || m.Self != want.ID || m.Name != want.Name {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestInviteExpires(t *testing.T) {
	o, clock := options(t)
	l, h := origin(t, o)
	i := invite(t, l, InviteRequest{TTL: time.Minute, Addrs: addrsOf(h)})
	clock.add(time.Minute - time.Second)
	if !l.Gate().Admits(i.ID) {
		t.Error("too early")
	}
	clock.add(time.Second)
	if l.Gate().Admits(i.ID) || len(l.Invites()) != 0 {
		t.Error("too late")
	}
	_, _, err := join(t, i, clock, Offer{})
	is(t, "join", err, ErrExpired)
	_, err = l.take(t.Context(), i.ID, Peer{ID: newID(t)})
	is(t, "over a connection that was there", err, ErrExpired)
	if l = open(t, o); len(l.invited) != 0 {
		t.Errorf("%d invitations are kept", len(l.invited))
	}
}

func TestWithdrawnInviteIsWorthless(t *testing.T) {
	o, clock := options(t)
	o.EnrolTimeout = time.Hour
	l, h := origin(t, o)
	i := invite(t, l, InviteRequest{Name: "attic", Addrs: addrsOf(h)})
	joiner := newHost(t, i.key, both())
	if err := joiner.Connect(t.Context(), infoOf(h)); err != nil {
		t.Fatal(err)
	}
	if err := l.Withdraw(t.Context(), i.ID); err != nil {
		t.Fatal(err)
	}
	gone(t, joiner, h.ID()) // at once
	_, _, err := join(t, i, clock, Offer{})
	is(t, "join", err, ErrInvite)
	is(t, "join", err, ErrUnknown)
	_, err = l.take(t.Context(), i.ID, Peer{ID: newID(t)})
	is(t, "over a connection that was there", err, ErrInvite)
	is(t, "withdraw twice", l.Withdraw(t.Context(), i.ID), ErrUnknown)
}

// Who was removed loses its connections, and does not come back by the
// invitation that it used.
func TestRemovedPeerIsOut(t *testing.T) {
	o, clock := options(t)
	l, h := origin(t, o)
	i := invite(t, l, InviteRequest{Addrs: addrsOf(h)})
	m, key, err := join(t, i, clock, Offer{})
	if err != nil {
		t.Fatal(err)
	}
	own := newHost(t, key, both())
	hears(t, "member", own, h, echo)
	if err := l.Update(t.Context(), m.Self, disk(2), []string{address}); err != nil {
		t.Fatal(err)
	}
	if err := l.Remove(t.Context(), m.Self); err != nil {
		t.Fatal(err)
	}
	gone(t, own, h.ID())
	deaf(t, "removed", own, h, echo)
	_, err = Enrol(t.Context(), i, key, Offer{Now: clock.now})
	is(t, "again", err, ErrInvite)
	_, err = l.RosterFor(m.Self)
	is(t, "roster", err, ErrUnknown)
	i = invite(t, l, InviteRequest{Addrs: addrsOf(h)})
	if _, err := Enrol(t.Context(), i, key, Offer{Now: clock.now}); err != nil {
		t.Errorf("by a new invite: %v", err)
	}
}
