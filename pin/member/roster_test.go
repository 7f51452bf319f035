package member

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/wire"
)

func TestRostersShowWhatTheirReaderMaySee(t *testing.T) {
	o, _ := options(t)
	l := open(t, o)
	storage, replica, guest := admit(t, l, Storage, "s"), admit(t, l, Replica, "r"), admit(t, l, Guest, "g")
	for _, p := range []Peer{storage, replica} {
		if err := l.Update(t.Context(), p.ID, disk(5), []string{address}); err != nil {
			t.Fatal(err)
		}
	}
	for reader, want := range map[peer.ID]string{l.self: "origin s r g", storage.ID: "origin s r g", replica.ID: "origin s"} {
		var names []string
		for _, p := range roster(t, l, reader).Peers {
			names = append(names, p.Name)
			if p.Contract.Disk != 0 {
				t.Errorf("the contract of %s is told", p.Name)
			}
			if p.Name == "s" && len(p.Addrs) != 1 {
				t.Errorf("nobody can dial %s", p.Name)
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s sees %q, want %q", reader, got, want)
		}
	}
	for _, id := range []peer.ID{guest.ID, newID(t), ""} {
		_, err := l.RosterFor(id)
		is(t, "roster", err, ErrUnknown)
	}
}

// Numbers grow with what a roster says, and only with that: what replicas are
// told does not change when other replicas come and go.
func TestRosterNumbers(t *testing.T) {
	o, clock := options(t)
	l := open(t, o)
	storage, replica := admit(t, l, Storage, "s"), admit(t, l, Replica, "r")
	if got := roster(t, l, replica.ID).Seq; got != l.head.Trusted {
		t.Errorf("a replica's roster has number %d, not %d", got, l.head.Trusted)
	}
	ctx := t.Context()
	for _, c := range []struct {
		what         string
		do           func() error
		peers, hosts bool
	}{
		{"a replica comes", func() error { return l.Admit(ctx, Peer{ID: newID(t), Role: Replica}) }, true, false},
		{"a guest comes", func() error { return l.Admit(ctx, Peer{ID: newID(t), Role: Guest}) }, true, false},
		{"a contract changes", func() error { return l.Update(ctx, replica.ID, disk(5), nil) }, false, false},
		{"a replica moves", func() error { return l.Update(ctx, replica.ID, disk(5), []string{address}) }, true, false},
		{"nothing", func() error { return l.Update(ctx, replica.ID, disk(5), []string{address}) }, false, false},
		{"a storage peer moves", func() error { return l.Update(ctx, storage.ID, disk(5), []string{address}) }, true, true},
		{"a replica is drained", func() error { return l.Drain(ctx, replica.ID) }, true, false},
		{"a storage peer is drained", func() error { return l.Drain(ctx, storage.ID) }, true, true},
		{"a replica goes", func() error { return l.Remove(ctx, l.Peers()[2].ID) }, true, false},
		{"a storage peer becomes a replica", func() error { return l.Admit(ctx, Peer{ID: storage.ID, Role: Replica}) }, true, true},
		{"an invite", func() error { invite(t, l, InviteRequest{}); return nil }, false, false},
	} {
		clock.add(time.Second)
		peers, hosts := roster(t, l, l.self).Seq, l.head.Trusted
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		if got := l.head.Seq; got < peers || (got > peers) != c.peers {
			t.Errorf("%s: everybody's roster from %d to %d", c.what, peers, got)
		}
		if got := l.head.Trusted; got < hosts || (got > hosts) != c.hosts {
			t.Errorf("%s: the replicas' roster from %d to %d", c.what, hosts, got)
		}
	}
	if r := roster(t, l, storage.ID); r.Seq != l.head.Trusted || len(r.Peers) != 1 {
		t.Errorf("roster %+v", r)
	}
}

// A ledger that was restored from an old copy is followed nevertheless.
func TestRestoredLedgerIsFollowed(t *testing.T) {
	o, clock := options(t)
	l := open(t, o)
	old := o
	old.Store = memory()
	open(t, old)
	for range 50 {
		admit(t, l, Guest, "")
	}
	clock.add(time.Second)
	if newer, was := open(t, old).head.Seq, l.head.Seq; newer <= was {
		t.Errorf("roster %d after %d", newer, was)
	}
}

// A roster is signed once for each change.
func TestRosterIsSignedOnce(t *testing.T) {
	o, _ := options(t)
	key := &counted{PrivKey: o.Key}
	o.Key = key
	l := open(t, o)
	replica := admit(t, l, Replica, "r")
	for range 100 {
		roster(t, l, l.self)
		roster(t, l, replica.ID)
	}
	if key.signed != 2 {
		t.Errorf("%d signatures for two rosters", key.signed)
	}
	if err := l.Update(t.Context(), replica.ID, disk(1), nil); err != nil {
		t.Fatal(err)
	}
	admit(t, l, Guest, "")
	admit(t, l, Guest, "")
	roster(t, l, l.self)
	roster(t, l, replica.ID)
	if key.signed != 3 {
		t.Errorf("%d signatures after three more guests", key.signed)
	}
}

// counted counts what is signed with a key.
type counted struct {
	crypto.PrivKey
	signed int
}

func (c *counted) Sign(b []byte) ([]byte, error) {
	c.signed++
	return c.PrivKey.Sign(b)
}

func TestRosterFitsInAFrame(t *testing.T) {
	o, _ := options(t)
	l := open(t, o)
	l.bytes = maxRoster - 50
	is(t, "one more byte than fits", l.Admit(t.Context(), Peer{ID: newID(t), Role: Guest}), ErrFull)
	l.bytes = 0
	p := Peer{ID: newID(t), Role: Storage, Name: strings.Repeat("n", maxWord), Site: strings.Repeat("s", maxWord), Draining: true, Enrolled: time.Unix(1<<40, 0)}
	for n := range maxAddrs {
		p.Addrs = append(p.Addrs, fmt.Sprintf("/dns/%s%d/tcp/40001", strings.Repeat("a", 200), n))
	}
	b, err := wire.Marshal(line(p))
	if err != nil || len(b) > weight(p) {
		t.Errorf("a line of %d bytes counts %d, %v", len(b), weight(p), err)
	}
}

// member makes the membership of a peer as enrolment does.
func member(t testing.TB, l *Ledger, p Peer) Membership {
	t.Helper()
	i := invite(t, l, InviteRequest{})
	e, err := l.RosterFor(p.ID)
	if err != nil {
		t.Fatal(err)
	}
	i.Role = p.Role
	m, err := enrolAnswer{Role: p.Role, Name: p.Name, Site: p.Site, Roster: &e}.membership(i, p.ID)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func saved(t testing.TB, m Membership) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "membership.cbor")
	if err := SaveMembership(path, m); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMembershipIsKept(t *testing.T) {
	o, _ := options(t)
	l := open(t, o)
	m := member(t, l, admit(t, l, Replica, "attic"))
	path := saved(t, m)
	got, err := LoadMembership(path)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(m) {
		t.Errorf("%+v, %v", got, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	if err := SaveMembership(filepath.Join(path, "x"), m); err == nil {
		t.Error("saved below a file")
	}
	_, err = LoadMembership(path + "x")
	is(t, "none", err, os.ErrNotExist)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) {
		bad := bytes.Clone(whole)
		bad[n] ^= 0x01
		if n%2 == 0 {
			bad = bad[:n]
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		// A changed name of its own cannot be told, all that is signed can.
		if got, err := LoadMembership(path); err == nil && fmt.Sprint(got.Roster) != fmt.Sprint(m.Roster) {
			t.Fatalf("byte %d changed: the roster was believed", n)
		} else if err == nil && n%2 == 0 {
			t.Fatalf("cut at %d: loaded", n)
		}
	}
}

func TestBookFollowsTheOrigin(t *testing.T) {
	o, _ := options(t)
	l := open(t, o)
	p := admit(t, l, Replica, "attic")
	path := saved(t, member(t, l, p))
	b, err := OpenBook(path)
	if err != nil {
		t.Fatal(err)
	}
	storage := admit(t, l, Storage, "cellar")
	if err := l.Update(t.Context(), l.self, disk(0), []string{"/ip4/198.51.100.7/tcp/4001"}); err != nil {
		t.Fatal(err)
	}
	if b.Gate().Admits(storage.ID) || !b.Gate().Admits(l.self) {
		t.Error("the gate does not begin with the roster of the enrolment")
	}
	newest, err := l.RosterFor(p.ID)
	if err != nil {
		t.Fatal(err)
	}
	changed := b.Changed()
	if err := b.Accept(newest); err != nil {
		t.Fatal(err)
	}
	<-changed
	if role, ok := b.Gate().Role(storage.ID); !ok || role != Storage {
		t.Errorf("role %q, %v", role, ok)
	}
	if got := fmt.Sprint(b.Origin().Addrs); got != "[/ip4/198.51.100.7/tcp/4001 "+address+"]" {
		t.Errorf("the origin is at %s", got)
	}
	changed = b.Changed()
	if err := b.Accept(newest); err != nil {
		t.Errorf("the same again: %v", err)
	}
	select {
	case <-changed:
		t.Error("the same again is a change")
	default:
	}
	again, err := OpenBook(path)
	if err != nil || again.Roster().Seq != b.Roster().Seq || !again.Gate().Admits(storage.ID) {
		t.Errorf("opened again: %+v, %v", again.Roster(), err)
	}
}

func TestBookRefusesOtherRosters(t *testing.T) {
	o, clock := options(t)
	l := open(t, o)
	p := admit(t, l, Storage, "attic")
	older, err := l.RosterFor(p.ID)
	if err != nil {
		t.Fatal(err)
	}
	clock.add(time.Second)
	admit(t, l, Guest, "g")
	b, err := OpenBook(saved(t, member(t, l, p)))
	if err != nil {
		t.Fatal(err)
	}
	known := b.Roster()
	otherKey, otherID := newKey(t)
	seal := func(key crypto.PrivKey, kind string, bend func(*Roster)) wire.Envelope {
		r := known
		r.Seq++
		bend(&r)
		e, err := wire.Seal(key, kind, r)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	for what, e := range map[string]wire.Envelope{
		"older":          older,
		"another realm":  seal(o.Key, RosterKind, func(r *Roster) { r.Realm = "other" }),
		"another signer": seal(otherKey, RosterKind, func(r *Roster) { r.Peers = append(r.Peers, Peer{ID: otherID, Role: Origin, Name: "o"}) }),
		"another kind":   seal(o.Key, "order", func(*Roster) {}),
		"a peer twice":   seal(o.Key, RosterKind, func(r *Roster) { r.Peers = append(r.Peers[:1:1], r.Peers...) }),
		"a bad name":     seal(o.Key, RosterKind, func(r *Roster) { r.Peers = []Peer{{ID: otherID, Role: Guest, Name: "\x1b"}} }),
		"nothing":        {},
	} {
		is(t, what, b.Accept(e), ErrRoster)
	}
	if b.Gate().Admits(otherID) || b.Roster().Seq != known.Seq {
		t.Error("a refused roster counts")
	}
	if err := b.Accept(seal(o.Key, RosterKind, func(r *Roster) { r.Peers = nil })); err != nil {
		t.Fatal(err)
	}
	if role, ok := b.Gate().Role(l.self); !ok || role != Origin {
		t.Error("the origin of the invitation is not admitted")
	}
	if b.Gate().Admits(p.ID) {
		t.Error("who left the roster is admitted")
	}
}

// What could not be kept is not followed.
func TestBookThatCannotWriteStays(t *testing.T) {
	o, clock := options(t)
	l := open(t, o)
	p := admit(t, l, Replica, "attic")
	path := saved(t, member(t, l, p))
	b, err := OpenBook(path)
	if err != nil {
		t.Fatal(err)
	}
	clock.add(time.Second)
	storage := admit(t, l, Storage, "cellar")
	e, err := l.RosterFor(p.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	if err := b.Accept(e); !errors.Is(err, os.ErrNotExist) || b.Gate().Admits(storage.ID) {
		t.Errorf("accepted: %v", err)
	}
}

func TestZeroGateAdmitsNobody(t *testing.T) {
	var g Gate
	id := newID(t)
	if _, ok := g.Role(id); ok || g.Admits(id) || g.Admits("") {
		t.Error("the zero gate admits")
	}
	g.Set(Roster{Peers: []Peer{{ID: id, Role: Guest}}})
	if role, ok := g.Role(id); !ok || role != Guest || !g.Admits(id) {
		t.Error("the roster does not count")
	}
	if g := NewGate(id); !g.Admits(id) || g.Admits("x") {
		t.Error("a gate for one origin")
	}
}

// Nobody who belongs to the swarm is shut out for a moment because something
// else changes.
func TestGateIsSteady(t *testing.T) {
	o, _ := options(t)
	l := open(t, o)
	p := admit(t, l, Replica, "attic")
	quit := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
				}
				if !l.Gate().Admits(p.ID) {
					t.Error("shut out")
					return
				}
			}
		})
	}
	for n := range 200 {
		if err := l.Update(t.Context(), p.ID, disk(int64(n+1)), nil); err != nil {
			t.Error(err)
		}
		p.Name = fmt.Sprint("attic ", n)
		if err := l.Admit(t.Context(), p); err != nil {
			t.Error(err)
		}
	}
	close(quit)
	wg.Wait()
}

// big is a ledger with n replicas.
func big(b *testing.B, n int) *Ledger {
	o, _ := options(b)
	l := open(b, o)
	for k := range n {
		if err := l.Admit(b.Context(), Peer{ID: newID(b), Role: Replica, Name: fmt.Sprint("host ", k), Site: "home", Contract: disk(200), Addrs: []string{address}}); err != nil {
			b.Fatal(err)
		}
	}
	return l
}

func BenchmarkLedgerOf10000(b *testing.B) {
	l := big(b, 10_000)
	replica := l.Peers()[5000]
	for what, do := range map[string]func() error{
		"Peers":     func() error { l.Peers(); return nil },
		"Find":      func() error { _, err := l.Find("host 7777"); return err },
		"RosterFor": func() error { _, err := l.RosterFor(replica.ID); return err },
		"Role":      func() error { l.Gate().Role(replica.ID); return nil },
		"ChangeAndRoster": func() error {
			l.mu.Lock()
			l.forPeers, l.sorted = nil, nil
			l.mu.Unlock()
			_, err := l.RosterFor(l.self)
			return err
		},
		"Update": func() error {
			replica.Contract.Disk++
			return l.Update(b.Context(), replica.ID, replica.Contract, nil)
		},
	} {
		b.Run(what, func(b *testing.B) {
			for b.Loop() {
				if err := do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	e, err := l.RosterFor(l.self)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Open", func(b *testing.B) {
		b.ReportMetric(float64(len(e.Payload)), "bytes")
		for b.Loop() {
			if _, err := openRoster(l.self, "radio", e); err != nil {
				b.Fatal(err)
			}
		}
	})
}
