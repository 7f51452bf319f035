package member

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/contract"
)

// A clock goes when it is told to.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func newClock() *clock { return &clock{at: time.Date(2027, 1, 15, 8, 0, 0, 0, time.UTC)} }

func newKey(t testing.TB) (crypto.PrivKey, peer.ID) {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, id
}

func newID(t testing.TB) peer.ID {
	t.Helper()
	_, id := newKey(t)
	return id
}

func memory() datastore.Batching { return dssync.MutexWrap(datastore.NewMapDatastore()) }

// options are those of a ledger that begins.
func options(t testing.TB) (LedgerOptions, *clock) {
	t.Helper()
	key, _ := newKey(t)
	c := newClock()
	return LedgerOptions{Store: memory(), Key: key, Realm: "radio", Now: c.now}, c
}

func open(t testing.TB, o LedgerOptions) *Ledger {
	t.Helper()
	l, err := OpenLedger(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

const address = "/ip4/192.0.2.1/tcp/4001"

func invite(t testing.TB, l *Ledger, r InviteRequest) Invite {
	t.Helper()
	if r.Role == "" {
		r.Role = Replica
	}
	if r.Addrs == nil {
		r.Addrs = []string{address}
	}
	i, err := l.Invite(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// admit puts a peer in a ledger by its ID.
func admit(t testing.TB, l *Ledger, role Role, name string) Peer {
	t.Helper()
	p := Peer{ID: newID(t), Role: role, Name: name}
	if err := l.Admit(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	p, err := l.Find(p.ID.String())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// roster is what a peer is given.
func roster(t testing.TB, l *Ledger, p peer.ID) Roster {
	t.Helper()
	e, err := l.RosterFor(p)
	if err != nil {
		t.Fatal(err)
	}
	r, err := openRoster(l.self, l.opts.Realm, e)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// is fails unless err is want.
func is(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// broken is a store that fails where it is told to.
type broken struct {
	datastore.Batching
	sync, commit error
	syncs        int
}

func (b *broken) Sync(ctx context.Context, k datastore.Key) error {
	b.syncs++
	return errors.Join(b.sync, b.Batching.Sync(ctx, k))
}

func (b *broken) Batch(ctx context.Context) (datastore.Batch, error) {
	if b.commit != nil {
		return nil, b.commit
	}
	return b.Batching.Batch(ctx)
}

// text spells the lines of a roster to compare them.
func text(peers []Peer) string {
	s := ""
	for _, p := range peers {
		s += fmt.Sprintf("%s %s %q %q %v %v %v %v\n", p.ID, p.Role, p.Name, p.Site, p.Addrs, p.Contract, p.Enrolled.UTC(), p.Draining)
	}
	return s
}

func disk(n int64) contract.Contract { return contract.Contract{Disk: n << 30} }
