package member

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/wire"
)

func TestInviteIsReadAsItWasWritten(t *testing.T) {
	o, clock := options(t)
	l := open(t, o)
	made := invite(t, l, InviteRequest{Role: Storage, Name: "cellar", Site: "south", TTL: time.Hour, Addrs: []string{address, "/dns/example.org/udp/4001/quic-v1/p2p/" + l.self.String()}})
	s := made.String()
	if !strings.HasPrefix(s, "musen-invite-1:") || strings.ContainsAny(s, " \t\n=+/") {
		t.Errorf("%q is not one word", s)
	}
	got, err := ParseInvite("\t" + s + "\r\n")
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != made.ID || got.Realm != "radio" || got.Origin != l.self || got.Role != Storage || got.Name != "cellar" ||
		got.Site != "south" || !got.Expires.Equal(clock.now().Add(time.Hour)) || len(got.Addrs) != 2 || !got.key.Equals(made.key) || got.String() != s {
		t.Errorf("%+v", got)
	}
	if id, err := peer.IDFromPrivateKey(got.key); err != nil || id != got.ID {
		t.Errorf("the secret is of %s, %v", id, err)
	}
}

// No byte can be another.
func TestChangedInviteIsRefused(t *testing.T) {
	o, _ := options(t)
	s := invite(t, open(t, o), InviteRequest{Name: "cellar"}).String()
	for n := range len(s) {
		for _, c := range []byte{'A', 'b', '7', '_', '=', '\n', s[n] ^ 1, s[n] ^ 0x80, s[n] ^ 0x20} {
			bad := []byte(s)
			if bad[n] == c {
				continue
			}
			bad[n] = c
			_, err := ParseInvite(string(bad))
			if !errors.Is(err, ErrInvite) || n >= len(inviteScheme) && !strings.HasSuffix(err.Error(), ": it was changed on its way") {
				t.Fatalf("byte %d from %q to %q: %v", n, s[n], c, err)
			}
		}
		for _, bad := range []string{s[:n], s[:n] + s[n+1:], s[:n] + "\n" + s[n:], s[:n] + "A" + s[n:]} {
			if strings.TrimSpace(bad) == s {
				continue
			}
			if _, err := ParseInvite(bad); !errors.Is(err, ErrInvite) {
				t.Fatalf("changed at %d: %v", n, err)
			}
		}
	}
	for _, bad := range []string{"", "musen-invite-1:", "musen-invite-2" + s[len("musen-invite-1"):], s + s, strings.Repeat("A", 1<<20), inviteScheme + strings.Repeat("A", 1<<20)} {
		_, err := ParseInvite(bad)
		is(t, "not an invite", err, ErrInvite)
	}
}

// signedInvite is an invitation of somebody who can sign, and says nonsense.
func signedInvite(t testing.TB, key crypto.PrivKey, body inviteBody) string {
	t.Helper()
	e, err := wire.Seal(key, inviteKind, body)
	if err != nil {
		t.Fatal(err)
	}
	b, err := wire.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return inviteScheme + base64.RawURLEncoding.EncodeToString(b)
}

func TestInviteSaysNothingStrange(t *testing.T) {
	key, id := newKey(t)
	good := inviteBody{Realm: "radio", Origin: id, Addrs: []string{address}, Role: Replica, Seed: make([]byte, 32), Expires: time.Unix(1_800_000_000, 0)}
	if _, err := ParseInvite(signedInvite(t, key, good)); err != nil {
		t.Fatal(err)
	}
	for what, bend := range map[string]func(*inviteBody){
		"an origin's role":  func(b *inviteBody) { b.Role = Origin },
		"a guest's role":    func(b *inviteBody) { b.Role = Guest },
		"no role":           func(b *inviteBody) { b.Role = "" },
		"no address":        func(b *inviteBody) { b.Addrs = nil },
		"a bad address":     func(b *inviteBody) { b.Addrs = []string{"/ip4/1"} },
		"another's address": func(b *inviteBody) { b.Addrs = []string{address + "/p2p/" + newID(t).String()} },
		"no realm":          func(b *inviteBody) { b.Realm = "" },
		"a strange realm":   func(b *inviteBody) { b.Realm = "\u202e" },
		"a strange name":    func(b *inviteBody) { b.Name = "\x1b[2J" },
		"a strange site":    func(b *inviteBody) { b.Site = "\x00" },
		"half a seed":       func(b *inviteBody) { b.Seed = make([]byte, 16) },
		"another origin":    func(b *inviteBody) { b.Origin = newID(t) },
		"no origin":         func(b *inviteBody) { b.Origin = "" },
	} {
		bad := good
		bend(&bad)
		_, err := ParseInvite(signedInvite(t, key, bad))
		is(t, what, err, ErrInvite)
	}
}

// The secret is given away by String alone.
func TestInviteKeepsItsSecret(t *testing.T) {
	o, _ := options(t)
	l := open(t, o)
	i := invite(t, l, InviteRequest{})
	seed, err := i.key.Raw()
	if err != nil {
		t.Fatal(err)
	}
	secret := i.String()[len(inviteScheme)+80:]
	var out bytes.Buffer
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, format+"\n", i)
		fmt.Fprintf(&out, format+"\n", &i)
		fmt.Fprintf(&out, format+"\n", []any{i, struct{ I Invite }{i}})
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("invite", "invite", i, "also", &i)
	}
	if err := json.NewEncoder(&out).Encode(i); err != nil {
		t.Fatal(err)
	}
	_, err = ParseInvite(i.String()[:len(i.String())-3] + "AAA")
	fmt.Fprintln(&out, err)
	for _, s := range []string{secret, string(seed[:32]), fmt.Sprintf("%x", seed[:32]), fmt.Sprint(seed[:8])[1:20], base64.StdEncoding.EncodeToString(seed[:30])} {
		if strings.Contains(strings.ToLower(out.String()), strings.ToLower(s)) {
			t.Errorf("the secret was printed: %s", out.String())
		}
	}
	if !strings.Contains(out.String(), i.ID.String()) {
		t.Error("what was printed does not say which it is")
	}
	// The ledger itself knows no secret either.
	if got := l.Invites(); len(got) != 1 || got[0].ID != i.ID || got[0].String() != "" || got[0].key != nil {
		t.Errorf("%#v", got)
	}
}

func TestInviteRequestsAreChecked(t *testing.T) {
	o, clock := options(t)
	l := open(t, o)
	for what, r := range map[string]InviteRequest{
		"no role":     {Addrs: []string{address}},
		"origin":      {Role: Origin, Addrs: []string{address}},
		"guest":       {Role: Guest, Addrs: []string{address}},
		"no address":  {Role: Replica},
		"bad name":    {Role: Replica, Name: "a/b", Addrs: []string{address}},
		"bad site":    {Role: Replica, Site: " ", Addrs: []string{address}},
		"past":        {Role: Replica, TTL: -time.Hour, Addrs: []string{address}},
		"too short":   {Role: Replica, TTL: time.Millisecond, Addrs: []string{address}},
		"too long":    {Role: Replica, TTL: 31 * 24 * time.Hour, Addrs: []string{address}},
		"bad address": {Role: Replica, Addrs: []string{"example.org"}},
	} {
		_, err := l.Invite(t.Context(), r)
		is(t, what, err, ErrInvalid)
	}
	if i := invite(t, l, InviteRequest{}); !i.Expires.Equal(clock.now().Add(24 * time.Hour)) {
		t.Errorf("expires at %v", i.Expires)
	}
	o.Store, o.Rand = memory(), strings.NewReader("short")
	_, err := open(t, o).Invite(t.Context(), InviteRequest{Role: Replica, Addrs: []string{address}})
	is(t, "no randomness", err, io.ErrUnexpectedEOF)
}

// The same randomness gives the same identity, and another none of the others.
func TestSeedsComeFromRand(t *testing.T) {
	o, _ := options(t)
	o.Rand = rand.NewChaCha8([32]byte{1})
	a := invite(t, open(t, o), InviteRequest{})
	o.Rand, o.Store = rand.NewChaCha8([32]byte{1}), memory()
	l := open(t, o)
	if b, c := invite(t, l, InviteRequest{}), invite(t, l, InviteRequest{}); a.ID != b.ID || b.ID == c.ID {
		t.Errorf("%s, %s, %s", a.ID, b.ID, c.ID)
	}
}

func TestInvitationsAreBounded(t *testing.T) {
	o, clock := options(t)
	l := open(t, o)
	for range maxInvites {
		invite(t, l, InviteRequest{TTL: time.Hour})
	}
	_, err := l.Invite(t.Context(), InviteRequest{Role: Replica, Addrs: []string{address}})
	is(t, "one more", err, ErrFull)
	clock.add(time.Hour)
	invite(t, l, InviteRequest{}) // those that are past make room
	if len(l.invited) != 1 || len(l.gate.once) != 1 {
		t.Errorf("%d invitations, %d identities are kept", len(l.invited), len(l.gate.once))
	}
}

// A hundred who ask at the same moment: one.
func TestTakeHasOneWinner(t *testing.T) {
	o, _ := options(t)
	l := open(t, o)
	i := invite(t, l, InviteRequest{})
	var won atomic.Int64
	var wg sync.WaitGroup
	for range 100 {
		p := Peer{ID: newID(t)}
		wg.Go(func() {
			switch _, err := l.take(t.Context(), i.ID, p); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, ErrUsed):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || len(l.Peers()) != 2 {
		t.Errorf("%d won, %d peers", won.Load(), len(l.Peers()))
	}
}

// FuzzParseInvite: what is taken for an invitation is one, in its only spelling.
func FuzzParseInvite(f *testing.F) {
	key, id := newKey(f)
	f.Add(signedInvite(f, key, inviteBody{Realm: "radio", Origin: id, Addrs: []string{address}, Role: Replica, Seed: make([]byte, 32)}))
	f.Add(signedInvite(f, key, inviteBody{}))
	f.Add(inviteScheme)
	f.Fuzz(func(t *testing.T, s string) {
		i, err := ParseInvite(s)
		switch {
		case err == nil && (i.String() != strings.TrimSpace(s) || i.key == nil || i.Role.Trusted() == (i.Role == Replica)):
			t.Errorf("%q was taken for %v", s, i)
		case err != nil && !errors.Is(err, ErrInvite):
			t.Errorf("%q: %v", s, err)
		}
	})
}
