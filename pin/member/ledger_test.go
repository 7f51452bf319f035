package member

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	leveldb "github.com/ipfs/go-ds-leveldb"
)

func TestLedgerBeginsWithItsOrigin(t *testing.T) {
	o, _ := options(t)
	l := open(t, o)
	peers := l.Peers()
	if len(peers) != 1 || peers[0].ID != l.self || peers[0].Role != Origin {
		t.Fatalf("peers %s", text(peers))
	}
	if role, ok := l.Gate().Role(l.self); !ok || role != Origin {
		t.Errorf("role %q, %v", role, ok)
	}
	is(t, "admit the origin", l.Admit(t.Context(), Peer{ID: l.self, Role: Storage}), ErrInvalid)
	is(t, "a second origin", l.Admit(t.Context(), Peer{ID: newID(t), Role: Origin}), ErrInvalid)
	is(t, "remove the origin", l.Remove(t.Context(), l.self), ErrInvalid)
	is(t, "drain the origin", l.Drain(t.Context(), l.self), ErrInvalid)
}

// A ledger in LevelDB that is closed and opened again knows the same.
func TestLedgerIsDurable(t *testing.T) {
	o, clock := options(t)
	dir := t.TempDir()
	var seq uint64
	var want string
	var invited []Invite
	for round := range 3 {
		store, err := leveldb.NewDatastore(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		o.Store = store
		l := open(t, o)
		if round > 0 {
			if got := text(l.Peers()); got != want {
				t.Fatalf("round %d: peers\n%swant\n%s", round, got, want)
			}
			if got := fmt.Sprint(l.Invites()); got != fmt.Sprint(invited) {
				t.Fatalf("round %d: invites %s, want %s", round, got, invited)
			}
			for _, i := range invited {
				if !l.Gate().Admits(i.ID) {
					t.Errorf("round %d: %v is not let in", round, i)
				}
			}
		}
		if got := roster(t, l, l.self).Seq; got <= seq {
			t.Fatalf("round %d: roster %d after %d", round, got, seq)
		}
		a, b := admit(t, l, Storage, ""), admit(t, l, Replica, fmt.Sprint("attic ", round))
		admit(t, l, Guest, "")
		invite(t, l, InviteRequest{Name: fmt.Sprint("cellar ", round), Site: "south", TTL: time.Duration(round+1) * time.Hour})
		for _, err := range []error{
			l.Update(t.Context(), b.ID, disk(3), []string{address}),
			l.Drain(t.Context(), a.ID),
			l.Remove(t.Context(), l.Peers()[1].ID),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		seq, want, invited = roster(t, l, l.self).Seq, text(l.Peers()), l.Invites()
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		clock.add(time.Second)
	}
}

func TestLedgerOfAnotherIsRefused(t *testing.T) {
	o, _ := options(t)
	open(t, o)
	realm, key := o, o
	realm.Realm = "other"
	_, err := OpenLedger(t.Context(), realm)
	is(t, "another realm", err, ErrInvalid)
	key.Key, _ = newKey(t)
	_, err = OpenLedger(t.Context(), key)
	is(t, "another key", err, ErrInvalid)
	realm.Realm, realm.Store = "a/b", memory()
	_, err = OpenLedger(t.Context(), realm)
	is(t, "a realm with a slash", err, ErrInvalid)
}

// What could not be written did not happen, and is not told to anybody.
func TestNothingIsTrueThatIsNotDurable(t *testing.T) {
	o, _ := options(t)
	store := &broken{Batching: o.Store}
	o.Store = store
	l := open(t, o)
	i := invite(t, l, InviteRequest{})
	before, seq := text(l.Peers()), roster(t, l, l.self).Seq
	broke := errors.New("the disk broke")
	for _, fail := range []*error{&store.sync, &store.commit} {
		*fail = broke
		p := Peer{ID: newID(t), Role: Replica}
		is(t, "admit", l.Admit(t.Context(), p), broke)
		_, err := l.Invite(t.Context(), InviteRequest{Role: Replica, Addrs: []string{address}})
		is(t, "invite", err, broke)
		_, err = l.take(t.Context(), i.ID, p)
		is(t, "take", err, broke)
		is(t, "withdraw", l.Withdraw(t.Context(), i.ID), broke)
		*fail = nil
		if got := text(l.Peers()); got != before || roster(t, l, l.self).Seq != seq {
			t.Errorf("after the failure:\n%s", got)
		}
		if l.Gate().Admits(p.ID) || len(l.Invites()) != 1 {
			t.Error("the failure let somebody in")
		}
	}
	syncs := store.syncs
	admit(t, l, Replica, "")
	if store.syncs != syncs+1 {
		t.Errorf("%d syncs for one change", store.syncs-syncs)
	}
}

func TestFindByNameOrID(t *testing.T) {
	o, _ := options(t)
	l := open(t, o)
	p := admit(t, l, Replica, "büro 2")
	for _, s := range []string{"büro 2", p.ID.String(), peer.ToCid(p.ID).String()} {
		if got, err := l.Find(s); err != nil || got.ID != p.ID {
			t.Errorf("find %q: %v, %v", s, got.ID, err)
		}
	}
	for _, s := range []string{"", "Büro 2", newID(t).String(), strings.Repeat("x", 1<<16)} {
		_, err := l.Find(s)
		is(t, "find a stranger", err, ErrUnknown)
	}
	if err := l.Remove(t.Context(), p.ID); err != nil {
		t.Fatal(err)
	}
	_, err := l.Find("büro 2")
	is(t, "find who was removed", err, ErrUnknown)
	is(t, "remove twice", l.Remove(t.Context(), p.ID), ErrUnknown)
	is(t, "drain a stranger", l.Drain(t.Context(), p.ID), ErrUnknown)
	is(t, "update a stranger", l.Update(t.Context(), p.ID, disk(1), nil), ErrUnknown)
}

func TestNamesAreOnePeersAlone(t *testing.T) {
	o, clock := options(t)
	l := open(t, o)
	p := admit(t, l, Replica, "attic")
	ctx := t.Context()
	is(t, "admit", l.Admit(ctx, Peer{ID: newID(t), Role: Replica, Name: "attic"}), ErrTaken)
	_, err := l.Invite(ctx, InviteRequest{Role: Replica, Name: "attic", Addrs: []string{address}})
	is(t, "invite", err, ErrTaken)
	i := invite(t, l, InviteRequest{Name: "cellar", TTL: time.Hour})
	is(t, "promised", l.Admit(ctx, Peer{ID: newID(t), Role: Replica, Name: "cellar"}), ErrTaken)
	_, err = l.Invite(ctx, InviteRequest{Role: Replica, Name: "cellar", Addrs: []string{address}})
	is(t, "promised twice", err, ErrTaken)
	if err := l.Withdraw(ctx, i.ID); err != nil {
		t.Fatal(err)
	}
	invite(t, l, InviteRequest{Name: "cellar", TTL: time.Hour})
	clock.add(time.Hour)
	admit(t, l, Replica, "cellar") // the promise is past
	p.Name = "roof"
	if err := l.Admit(ctx, p); err != nil {
		t.Fatal(err)
	}
	admit(t, l, Replica, "attic")
	names := map[string]bool{}
	for range 200 {
		names[admit(t, l, Guest, "").Name] = true
	}
	if len(names) != 200 {
		t.Errorf("%d names for 200 guests", len(names))
	}
}

func TestPeersAreChecked(t *testing.T) {
	o, _ := options(t)
	l := open(t, o)
	id := newID(t)
	good := Peer{ID: id, Role: Storage, Name: "Küche 東京", Site: "süd.1", Contract: disk(1), Addrs: []string{address, "/dns/example.org/udp/4001/quic-v1", address + "/p2p/" + id.String()}}
	if err := l.Admit(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	p, err := l.Find("Küche 東京")
	if err != nil || len(p.Addrs) != 2 || len(p.AddrInfo().Addrs) != 2 {
		t.Errorf("%+v, %v", p, err)
	}
	for what, bend := range map[string]func(*Peer){
		"no ID":                      func(p *Peer) { p.ID = "" },
		"an ID that is none":         func(p *Peer) { p.ID = "x" },
		"no role":                    func(p *Peer) { p.Role = "" },
		"another role":               func(p *Peer) { p.Role = "king" },
		"a long name":                func(p *Peer) { p.Name = strings.Repeat("n", 65) },
		"a line in the name":         func(p *Peer) { p.Name = "a\nb" },
		"a right-to-left override":   func(p *Peer) { p.Name = "a\u202eb" },
		"an isolate":                 func(p *Peer) { p.Name = "a\u2066b" },
		"a zero-width joiner":        func(p *Peer) { p.Name = "a\u200db" },
		"a filler":                   func(p *Peer) { p.Name = "a\u3164" },
		"a no-break space":           func(p *Peer) { p.Name = "a\u00a0b" },
		"an escape in the site":      func(p *Peer) { p.Site = "\x1b[2J" },
		"a name not in UTF-8":        func(p *Peer) { p.Name = "a\xff" },
		"spaces around":              func(p *Peer) { p.Name = " a" },
		"dots alone":                 func(p *Peer) { p.Name = ".." },
		"a slash":                    func(p *Peer) { p.Name = "a/b" },
		"an option":                  func(p *Peer) { p.Name = "-rf" },
		"another's ID for a name":    func(p *Peer) { p.Name = newID(t).String() },
		"a long site":                func(p *Peer) { p.Site = strings.Repeat("s", 65) },
		"a negative disk":            func(p *Peer) { p.Contract.Disk = -1 },
		"an address that is none":    func(p *Peer) { p.Addrs = []string{"192.0.2.1:4001"} },
		"a host of escape":           func(p *Peer) { p.Addrs = []string{"/dns4/\x1b[2J/tcp/1"} },
		"an escape behind the port":  func(p *Peer) { p.Addrs = []string{"/ip4/192.0.2.1/tcp/443/tls/sni/a\nb/ws"} },
		"an empty address":           func(p *Peer) { p.Addrs = []string{""} },
		"an address with ID alone":   func(p *Peer) { p.Addrs = []string{"/p2p/" + id.String()} },
		"a socket on the disk":       func(p *Peer) { p.Addrs = []string{"/unix/tmp/x"} },
		"half an address":            func(p *Peer) { p.Addrs = []string{"/ip4/192.0.2.1"} },
		"another's address":          func(p *Peer) { p.Addrs = []string{address + "/p2p/" + newID(t).String()} },
		"many addresses":             func(p *Peer) { p.Addrs = slices.Repeat([]string{address}, 17) },
		"a long address":             func(p *Peer) { p.Addrs = []string{"/dns/" + strings.Repeat("a", 256) + "/tcp/1"} },
		"a station with a long name": func(p *Peer) { p.Contract.Label = []string{strings.Repeat("a", 1<<10)} },
	} {
		bad := good
		bad.ID, bad.Name, bad.Addrs = newID(t), "other", nil
		bend(&bad)
		is(t, what, l.Admit(t.Context(), bad), ErrInvalid)
	}
	if n := len(l.Peers()); n != 2 {
		t.Errorf("%d peers", n)
	}
}

func TestChangedTellsOfEachChange(t *testing.T) {
	o, _ := options(t)
	l := open(t, o)
	p := admit(t, l, Replica, "attic")
	ctx := t.Context()
	for what, do := range map[string]struct {
		change func() error
		tells  bool
	}{
		"admit":  {func() error { return l.Admit(ctx, Peer{ID: newID(t), Role: Guest}) }, true},
		"update": {func() error { return l.Update(ctx, p.ID, disk(2), nil) }, true},
		"drain":  {func() error { return l.Drain(ctx, p.ID) }, true},
		"invite": {func() error {
			_, err := l.Invite(ctx, InviteRequest{Role: Replica, Addrs: []string{address}})
			return err
		}, false},
	} {
		changed := l.Changed()
		if err := do.change(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-changed:
			if !do.tells {
				t.Errorf("%s told", what)
			}
		default:
			if do.tells {
				t.Errorf("%s did not tell", what)
			}
		}
	}
	changed := l.Changed()
	p, err := l.Find("attic")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Update(ctx, p.ID, p.Contract, p.Addrs); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
		t.Error("told of an update with nothing new")
	default:
	}
}
