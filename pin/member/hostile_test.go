package member

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/goleak"

	"github.com/musenai/musen/pin/wire"
)

// The joiner speaks to the origin that its invitation names, and to nobody who
// only listens where it should be.
func TestJoinerKnowsItsOrigin(t *testing.T) {
	o, clock := options(t)
	l, _ := origin(t, o)
	key, _ := newKey(t)
	impostor := newHost(t, key, both())
	impostor.SetStreamHandler(Protocol, func(s network.Stream) { t.Error("the impostor was spoken to") })
	i := invite(t, l, InviteRequest{Addrs: addrsOf(impostor)})
	if _, _, err := join(t, i, clock, Offer{}); err == nil {
		t.Error("enrolled at an impostor")
	}
	if !l.open(l.invited[i.ID]) {
		t.Error("the invitation is used")
	}
}

// P68: a joiner does not believe everything that an origin answers, nor anything
// of another realm.
func TestJoinerChecksTheAnswer(t *testing.T) {
	o, clock := options(t)
	l := open(t, o)
	h := newHost(t, o.Key, both())
	i := invite(t, l, InviteRequest{Name: "attic", Addrs: addrsOf(h)})
	good, err := l.RosterFor(l.self)
	if err != nil {
		t.Fatal(err)
	}
	otherKey, _ := newKey(t)
	seal := func(key crypto.PrivKey, r Roster) *wire.Envelope {
		e, err := wire.Seal(key, RosterKind, r)
		if err != nil {
			t.Fatal(err)
		}
		return &e
	}
	right := enrolAnswer{Role: Replica, Name: "attic", Roster: &good}
	for what, c := range map[string]struct {
		bend func(*enrolAnswer)
		want error
	}{
		"another role":   {func(a *enrolAnswer) { a.Role = Storage }, ErrInvite},
		"another name":   {func(a *enrolAnswer) { a.Name = "cellar" }, ErrInvite},
		"no roster":      {func(a *enrolAnswer) { a.Roster = nil }, ErrInvite},
		"another realm":  {func(a *enrolAnswer) { a.Roster = seal(o.Key, Roster{Realm: "other", Seq: 1}) }, ErrRoster},
		"another signer": {func(a *enrolAnswer) { a.Roster = seal(otherKey, Roster{Realm: "radio", Seq: 1}) }, wire.ErrSignature},
		"a bad line": {func(a *enrolAnswer) {
			a.Roster = seal(o.Key, Roster{Realm: "radio", Seq: 1, Peers: []Peer{{Name: "x"}}})
		}, ErrRoster},
		"a bad site":    {func(a *enrolAnswer) { a.Site = "\x1b" }, ErrInvalid},
		"a new refusal": {func(a *enrolAnswer) { *a = enrolAnswer{Refusal: "\x1b]0;x"} }, nil},
		"nothing":       {nil, ErrInvite},
		"the right one": {func(a *enrolAnswer) {}, nil},
	} {
		h.SetStreamHandler(Protocol, func(s network.Stream) {
			defer s.Close()
			if c.bend == nil {
				return
			}
			a := right
			c.bend(&a)
			_ = wire.Write(s, a)
		})
		m, _, err := join(t, i, clock, Offer{})
		if c.want != nil {
			is(t, what, err, c.want)
		}
		if ok := what == "the right one"; ok != (err == nil) || !ok && m.Realm != "" {
			t.Errorf("%s: %+v, %v", what, m, err)
		}
		if err != nil && strings.ContainsRune(err.Error(), 0x1b) {
			t.Errorf("%s: the error has escapes", what)
		}
	}
}

// speak opens a stream for enrolment under the identity of an invitation.
func speak(t *testing.T, from, to host.Host) network.Stream {
	t.Helper()
	if err := from.Connect(t.Context(), infoOf(to)); err != nil {
		t.Fatal(err)
	}
	s, err := from.NewStream(t.Context(), to.ID(), Protocol)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// signedFor is a request of signer about whomever e names.
func signedFor(t *testing.T, key crypto.PrivKey, signer peer.ID, e enrolment) enrolRequest {
	t.Helper()
	r, err := sealEnrolment(key, e)
	if err != nil {
		t.Fatal(err)
	}
	r.Own = signer
	return r
}

// P68: requests that are wrong in any way, or of another realm, are refused, and
// the invitation stays good.
func TestHostileRequests(t *testing.T) {
	o, clock := options(t)
	l, h := origin(t, o)
	i := invite(t, l, InviteRequest{Addrs: addrsOf(h)})
	other := invite(t, l, InviteRequest{Addrs: addrsOf(h)})
	key, own := newKey(t)
	good := enrolment{Realm: "radio", Origin: l.self, Invite: i.ID, Own: own}
	sealed := func(bend func(*enrolment)) enrolRequest {
		e := good
		bend(&e)
		r, err := sealEnrolment(key, e)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	framed := func(n uint32, b []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, n), b...) }
	for what, send := range map[string]any{
		"another realm":       sealed(func(e *enrolment) { e.Realm = "other" }),
		"another origin":      sealed(func(e *enrolment) { e.Origin = own }),
		"another invite":      sealed(func(e *enrolment) { e.Invite = other.ID }),
		"a key of another":    sealed(func(e *enrolment) { e.Own = other.ID }),
		"signed for another":  signedFor(t, key, own, func() enrolment { e := good; e.Own = newID(t); return e }()),
		"the origin itself":   sealed(func(e *enrolment) { e.Own = l.self }),
		"a bad version":       sealed(func(e *enrolment) { e.Version = "\n" }),
		"a bad name":          sealed(func(e *enrolment) { e.Name = "a\u202eb" }),
		"many addresses":      sealed(func(e *enrolment) { e.Addrs = make([]string, 1000) }),
		"a bad address":       sealed(func(e *enrolment) { e.Addrs = []string{"/unix/x"} }),
		"a bad contract":      sealed(func(e *enrolment) { e.Contract.Disk = -5 }),
		"a changed signature": enrolRequest{Own: own, Enrolment: wire.Envelope{Payload: sealed(func(*enrolment) {}).Enrolment.Payload, Signature: make([]byte, 64)}},
		"an oversized frame":  framed(maxRequest+1, make([]byte, 100)),
		"a frame of 4 GiB":    framed(1<<32-1, nil),
		"garbage":             framed(3, []byte{0xff, 0xff, 0xff}),
		"an empty frame":      framed(0, nil),
	} {
		joiner := newHost(t, i.key, both()[:1])
		s := speak(t, joiner, h)
		_ = s.SetDeadline(time.Now().Add(20 * time.Second))
		var err error
		if b, ok := send.([]byte); ok {
			_, err = s.Write(b)
		} else {
			err = wire.Write(s, send)
		}
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		var a enrolAnswer
		err = wire.Read(s, maxAnswer, &a)
		var late interface{ Timeout() bool }
		if err == nil && a.Refusal == "" || errors.As(err, &late) && late.Timeout() {
			t.Errorf("%s: %+v, %v", what, a, err)
		}
		_ = s.Close()
		gone(t, joiner, h.ID())
		_ = joiner.Close()
	}
	if n := len(l.Peers()); n != 1 {
		t.Errorf("%d peers", n)
	}
	if _, err := Enrol(t.Context(), i, key, Offer{Now: clock.now}); err != nil {
		t.Error(err)
	}
}

// Whoever is slow, says nothing, or comes in numbers is cut, and others get in.
func TestSlowAndManyJoinersAreCut(t *testing.T) {
	o, clock := options(t)
	o.EnrolTimeout = 300 * time.Millisecond
	l, h := origin(t, o)
	i := invite(t, l, InviteRequest{Addrs: addrsOf(h)})
	silent := newHost(t, i.key, both()[:1])
	if err := silent.Connect(t.Context(), infoOf(h)); err != nil {
		t.Fatal(err)
	}
	gone(t, silent, h.ID())
	_ = silent.Close()
	slow := newHost(t, i.key, both()[:1])
	s := speak(t, slow, h)
	if _, err := s.Write([]byte{0, 0, 1}); err != nil {
		t.Fatal(err)
	}
	_, err := io.ReadAll(s)
	if err == nil {
		t.Error("half a frame was answered")
	}
	gone(t, slow, h.ID())
	_ = slow.Close()
	if _, _, err := join(t, i, clock, Offer{}); err != nil {
		t.Errorf("after them: %v", err)
	}
}

func TestEnrolmentsAtOnceAreBounded(t *testing.T) {
	s := &enrolServer{running: map[peer.ID]int{}}
	ids := make([]peer.ID, maxEnrolling)
	for n := range ids {
		ids[n] = newID(t)
	}
	for range maxPerInvite {
		if !s.begin(ids[0]) {
			t.Fatal("refused below the bound")
		}
	}
	if s.begin(ids[0]) {
		t.Error("one invitation takes more than its share")
	}
	for n := 1; n <= maxEnrolling-maxPerInvite; n++ {
		if !s.begin(ids[n]) {
			t.Fatal("refused below the bound")
		}
	}
	if s.begin(ids[maxEnrolling-1]) {
		t.Error("no bound in all")
	}
	s.end(ids[0])
	if !s.begin(ids[maxEnrolling-1]) {
		t.Error("no place after one ended")
	}
	if len(s.running) != maxEnrolling {
		t.Errorf("%d identities are kept", len(s.running))
	}
}

func TestEnrolEndsWithItsContext(t *testing.T) {
	o, clock := options(t)
	l := open(t, o)
	h := newHost(t, o.Key, both())
	asked := make(chan struct{})
	h.SetStreamHandler(Protocol, func(network.Stream) { close(asked) }) // and never answers
	i := invite(t, l, InviteRequest{Addrs: addrsOf(h)})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	key, _ := newKey(t)
	_, err := Enrol(ctx, i, key, Offer{Now: clock.now})
	is(t, "cancelled", err, context.Canceled)
	_, err = Enrol(t.Context(), Invite{Origin: l.self}, key, Offer{})
	is(t, "without a secret", err, ErrInvite)
}

// Everything that was started ends, in the middle of an enrolment too.
func TestStopWaitsForAll(t *testing.T) {
	before := goleak.IgnoreCurrent()
	o, _ := options(t)
	o.EnrolTimeout = time.Hour
	l := open(t, o)
	h := gated(t, o.Key, l.Gate())
	stop, unguard := l.ServeEnrol(h), l.Gate().Guard(h)
	i := invite(t, l, InviteRequest{Addrs: addrsOf(h)})
	joiner := newHost(t, i.key, both(), libp2p.DisableIdentifyAddressDiscovery())
	s := speak(t, joiner, h)
	if _, err := s.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	stop()
	stop()
	unguard()
	unguard()
	_ = joiner.Close()
	_ = h.Close()
	goleak.VerifyNone(t, before)
}

// FuzzEnrolment: whatever a joiner sends, what is let through is signed for this
// origin, this realm and this invitation.
func FuzzEnrolment(f *testing.F) {
	key, own := newKey(f)
	origin, once := newID(f), newID(f)
	for _, e := range []enrolment{
		{Realm: "radio", Origin: origin, Invite: once, Own: own, Name: "attic", Addrs: []string{address}, Contract: disk(1), Version: "v1"},
		{Realm: "other", Origin: origin, Invite: once, Own: own},
	} {
		req, err := sealEnrolment(key, e)
		if err != nil {
			f.Fatal(err)
		}
		var b strings.Builder
		if err := wire.Write(&b, req); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(b.String()))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := readEnrolment(strings.NewReader(string(b)), "radio", origin, once)
		if err == nil && (e.Realm != "radio" || e.Origin != origin || e.Invite != once || e.Own != own) {
			t.Errorf("let through: %+v", e)
		}
	})
}
