package swarm_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/musenai/musen/internal/host"
	"github.com/musenai/musen/internal/host/local"
	"github.com/musenai/musen/internal/swarm"
	"github.com/musenai/musen/internal/testnet"
	"github.com/musenai/musen/internal/wants"
	"github.com/musenai/musen/node"
	"github.com/musenai/musen/pin"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/keep"
	"github.com/musenai/musen/pin/member"
)

// limit is how long a test waits for what must come.
const limit = time.Minute

// A journal is a log that is read while it is written.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) has(text string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Contains(j.b.String(), text)
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

// until asks again and again for what nobody tells.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func statusOf(t *testing.T, h *host.Host) local.Status {
	t.Helper()
	s, err := h.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A host that is removed is told so, on its line or when it comes back, and
// serves nothing more.
func TestARemovedHostIsTold(t *testing.T) {
	o := testnet.NewOrigin(t)
	var log journal
	var opts host.Options
	here := testnet.Join(t, o, member.Replica, "here", contract.Contract{Disk: 1 << 30}, func(o *host.Options) { o.Log = log.logger() })
	away := testnet.Join(t, o, member.Storage, "away", contract.Contract{}, func(o *host.Options) { opts = *o })
	away.Stop(t)
	if s := statusOf(t, here.Host); s.Removed != nil || !s.CaughtUp {
		t.Fatalf("before: %+v", s)
	}
	for _, name := range []string{"here", "away"} {
		if err := o.Swarm.Remove(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	book, err := member.OpenBook(filepath.Join(away.Home, host.MembershipFile))
	if err != nil {
		t.Fatal(err)
	}
	opts.Book = book
	back, err := host.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	for _, h := range []*host.Host{here.Host, back} {
		until(t, "it knows that it was removed", func() bool { return statusOf(t, h).Removed != nil })
		if s := statusOf(t, h); s.CaughtUp || s.Origins[0].Up {
			t.Errorf("%s: %+v", s.Name, s)
		}
	}
	if !log.has("level=WARN") || !log.has("removed this peer") {
		t.Errorf("the log says nothing: %s", &log.b)
	}
	if all, err := o.Swarm.Peers(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("%d peers, %v", len(all), err)
	}
}

// An appeal that was answered is none any more, on either side; the same words
// said again are one.
func TestReinstateAnswersTheAppeal(t *testing.T) {
	o := testnet.NewOrigin(t)
	h := testnet.Join(t, o, member.Replica, "attic", contract.Contract{Disk: 1 << 30})
	appeals := func() string {
		m, err := o.Swarm.Peer(t.Context(), "attic")
		if err != nil {
			t.Fatal(err)
		}
		return m.Appeal()
	}
	for range 2 {
		if err := h.Appeal(t.Context(), " my line\nwas cut "); err != nil {
			t.Fatal(err)
		}
		until(t, "the origin hears it", func() bool { return appeals() == "my line was cut" })
		m, err := o.Swarm.Reinstate(t.Context(), "attic", "it was")
		if err != nil || m.Appeal() != "" || m.Conduct.Reason != "it was" {
			t.Errorf("reinstated: appeal %q, %+v, %v", m.Appeal(), m.Conduct, err)
		}
		until(t, "the host takes it back", func() bool { return statusOf(t, h.Host).Appeal == "" })
		until(t, "it may be said again", func() bool {
			m, err := o.Swarm.Peer(t.Context(), "attic")
			return err == nil && m.Answered == ""
		})
	}
	if err := h.Appeal(t.Context(), "\x1b[2J"); err == nil {
		t.Error("an appeal that does not print is taken")
	}
}

// A restorable origin is one whose ledger can be put back, and whose clock can
// be set.
type restorable struct {
	*testnet.Origin
	t     *testing.T
	log   journal
	shift time.Duration
	mark  string
	addr  []string
}

func newRestorable(t *testing.T) *restorable {
	r := &restorable{t: t, Origin: &testnet.Origin{Swarm: swarm.New()}, mark: filepath.Join(t.TempDir(), "ledger.json")}
	r.Home = testnet.New(t, func(o *node.Options) {
		r.Swarm.Guard(o)
		if r.addr != nil {
			o.Listen = r.addr
		}
	})
	for _, a := range r.Node.Host().Addrs() {
		r.addr = append(r.addr, a.String())
	}
	r.begin()
	t.Cleanup(func() {
		if err := r.Swarm.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *restorable) begin() {
	r.t.Helper()
	err := r.Swarm.Start(r.t.Context(), r.Node, swarm.Options{
		Realm: "test", Catalogue: wants.New(r.Rows), Mark: r.mark,
		Pinset: pin.Timing{Ping: time.Second, Check: time.Second, Rebroadcast: 2 * time.Second},
		Copies: keep.Timing{Pass: time.Second, TrustedGrace: 3 * time.Second},
		Now:    func() time.Time { return time.Now().Add(r.shift) }, Rand: rand.Reader, Log: r.log.logger(),
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// again stops the origin, changes its store, and starts it with another clock.
func (r *restorable) again(shift time.Duration, change func(datastore.Batching)) {
	r.t.Helper()
	if err := r.Swarm.Close(); err != nil {
		r.t.Fatal(err)
	}
	change(r.Node.Store())
	r.Swarm, r.shift = swarm.New(), shift
	r.Reopen(r.t)
	r.begin()
}

// entries are what the ledger has in a store.
func entries(t *testing.T, store datastore.Batching) map[datastore.Key][]byte {
	t.Helper()
	all := map[datastore.Key][]byte{}
	for e, err := range datastore.QueryIter(t.Context(), store, query.Query{Prefix: "/member"}) {
		if err != nil {
			t.Fatal(err)
		}
		all[datastore.NewKey(e.Key)] = e.Value
	}
	return all
}

// An origin that was put back to an older ledger, with a clock that is behind,
// hears from its peers that it gave newer rosters, and is followed again.
func TestRestoredOriginIsFollowedAgain(t *testing.T) {
	r := newRestorable(t)
	books := map[string]*member.Book{}
	join := func(role member.Role, name string) {
		testnet.Join(t, r.Origin, role, name, contract.Contract{Disk: 1 << 30}, func(o *host.Options) { books[name] = o.Book })
	}
	join(member.Storage, "one")
	join(member.Replica, "two")
	var older map[datastore.Key][]byte
	r.again(time.Hour, func(s datastore.Batching) { older = entries(t, s) })
	join(member.Storage, "late")
	newest := map[string]uint64{}
	for _, name := range []string{"one", "two"} {
		until(t, name+" knows of the latecomer", func() bool { return len(books[name].Roster().Peers) > 2 })
		newest[name] = books[name].Roster().Seq
	}
	r.again(-48*time.Hour, func(s datastore.Batching) {
		for k := range entries(t, s) {
			if err := s.Delete(t.Context(), k); err != nil {
				t.Fatal(err)
			}
		}
		for k, b := range older {
			if err := s.Put(t.Context(), k, b); err != nil {
				t.Fatal(err)
			}
		}
		r.mark = filepath.Join(t.TempDir(), "ledger.json") // as old as the ledger
	})
	for name, seq := range newest {
		until(t, name+" follows the origin again", func() bool { return books[name].Roster().Seq > seq && len(books[name].Roster().Peers) < 4 })
	}
	if !r.log.has("the ledger is older than a roster that a peer has") {
		t.Errorf("the log says nothing: %s", &r.log.b)
	}
}
