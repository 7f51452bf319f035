package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog"
	"github.com/musenai/musen/internal/testpg"
	"github.com/musenai/musen/policy"
)

// patience is how long a test waits for what must come.
const patience = time.Minute

// eventually waits until ok says so.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// A fleetTest is one database, and what connects to it.
type fleetTest struct {
	t      testing.TB
	server *testpg.Server
	file   string // connection
	first  bool
}

func newFleet(t testing.TB) *fleetTest {
	server := testpg.Start(t)
	return &fleetTest{t: t, server: server, file: newDatabase(t, server, "fleet"), first: true}
}

// gateway is a process of the fleet, as far as the catalogue goes. Its lease is
// so long that no slow machine ends it.
func (f *fleetTest) gateway(name string, change ...func(*catalog.Options)) *catalog.Catalog {
	f.t.Helper()
	o := options([32]byte{1}, time.Now)
	o.Member = &catalog.Member{
		ID: "peer of " + name, Name: name, Role: "edge", Lease: time.Minute, Poll: time.Second,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, c := range change {
		c(&o)
	}
	open, file := catalog.OpenPostgres, f.file
	if f.first {
		open, f.first = catalog.CreatePostgres, false
	}
	c, err := open(f.t.Context(), file, o)
	noErr(f.t, err)
	f.t.Cleanup(func() { c.Close() })
	return c
}

// through has a gateway connect through a proxy.
func (f *fleetTest) through(p *testpg.Proxy) {
	text, err := os.ReadFile(f.file)
	noErr(f.t, err)
	f.file = filepath.Join(f.t.TempDir(), "through")
	noErr(f.t, os.WriteFile(f.file, []byte(strings.ReplaceAll(string(text), f.server.Socket(), p.Socket())), 0o600))
}

// P17, P18, H11: what one process changes is in force in another, whoever makes
// the change, and the one that made it can tell when.
func TestFleetHears(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	a, b := f.gateway("a"), f.gateway("b")
	jazz := newStation("jazz")
	noErr(t, a.CreateStation(ctx, jazz))
	settled(t, a, 2)
	if got, err := b.Station(ctx, "jazz"); err != nil || got != jazz {
		t.Fatalf("the other has %+v, %v", got, err)
	}
	issued := time.Now()
	noErr(t, a.RevokeToken(ctx, "a token"))
	noErr(t, b.RevokeSubject(ctx, "ann"))
	noErr(t, a.RevokeKey(ctx, "acme|k1"))
	settled(t, a, 2)
	settled(t, b, 2)
	for name, c := range map[string]*catalog.Catalog{"a": a, "b": b} {
		if !c.Revoked("a token", "", issued) || !c.Revoked("", "ann", issued) || !c.KeyRevoked("acme|k1") {
			t.Errorf("%s does not know what was revoked", name)
		}
	}
	jazz.Epoch++
	noErr(t, b.UpdateStation(ctx, jazz))
	settled(t, b, 2)
	if epoch, _ := a.Epoch(jazz.ID); epoch != jazz.Epoch {
		t.Errorf("epoch %d, want %d", epoch, jazz.Epoch)
	}

	s := newSegment(jazz.ID, 2, issued)
	noErr(t, a.Begin(ctx, s))
	noErr(t, a.Commit(ctx, s, nil, nil))
	before := b.Version()
	if got, err := b.Segment(ctx, s.CID.Hash()); err != nil || got.Title != s.Title {
		t.Fatalf("the other has %+v, %v", got, err)
	}
	noErr(t, a.Remove(ctx, s.ID))
	settled(t, a, 2)
	if b.Version() == before {
		t.Error("the other is not told that a segment changed")
	}
	if got, err := b.Segment(ctx, s.CID.Hash()); err != nil || got.State != musen.Removed {
		t.Errorf("the other has %+v, %v", got, err)
	}
	noErr(t, b.RemoveStation(ctx, jazz.ID))
	wantErr(t, a.Begin(ctx, newSegment(jazz.ID, 1, issued)), musen.ErrNotFound) // also before it heard
	settled(t, b, 2)
	if _, err := a.Station(ctx, "jazz"); !errors.Is(err, musen.ErrNotFound) {
		t.Errorf("the other still has the station: %v", err)
	}
}

// settled waits until all of so many gateways have applied what c changed.
func settled(t testing.TB, c *catalog.Catalog, gateways int) {
	t.Helper()
	eventually(t, fmt.Sprint("in force at all of ", gateways), func() bool { // one on a slow machine may be silent for a while
		r, err := c.Settle(t.Context())
		noErr(t, err)
		return r == musen.Reach{Gateways: gateways, InForce: gateways}
	})
}

// Names that two stations exchange stay those of both.
func TestFleetExchangesNames(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	a, b := f.gateway("a"), f.gateway("b", func(o *catalog.Options) { o.Member.Poll = time.Hour })
	jazz, blues := newStation("jazz"), newStation("blues")
	noErr(t, a.CreateStation(ctx, jazz))
	noErr(t, a.CreateStation(ctx, blues))
	settled(t, a, 2)
	third := jazz
	for _, s := range []struct {
		of   *musen.Station
		name string
	}{{&jazz, "third"}, {&blues, "jazz"}, {&third, "blues"}} {
		s.of.Name = s.name
		noErr(t, a.UpdateStation(ctx, *s.of))
	}
	settled(t, a, 2)
	for name, id := range map[string]string{"jazz": blues.ID, "blues": jazz.ID} {
		if got, err := b.Station(ctx, name); err != nil || got.ID != id {
			t.Errorf("%s is %+v, %v, want %s", name, got, err, id)
		}
	}
}

// Many processes write at once: nothing is lost, all end with the same.
func TestFleetWritesAtOnce(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	const each = 40
	var all []*catalog.Catalog
	for i := range 3 {
		all = append(all, f.gateway(fmt.Sprint(i)))
	}
	errs := make(chan error)
	for i, c := range all {
		go func() {
			var err error
			for n := range each {
				err = errors.Join(err, c.RevokeToken(ctx, fmt.Sprint(i, " ", n)), c.RevokeSubject(ctx, fmt.Sprint(i, " of ", n)))
			}
			errs <- err
		}()
	}
	for range all {
		noErr(t, <-errs)
	}
	for _, c := range all {
		settled(t, c, 3)
	}
	for i, c := range all {
		for n := range 3 * each {
			if name := fmt.Sprint(n/each, " ", n%each); !c.Revoked(name, "", time.Time{}) {
				t.Fatalf("gateway %d does not know that %q was revoked", i, name)
			}
			if name := fmt.Sprint(n/each, " of ", n%each); !c.Revoked("", name, time.Time{}) {
				t.Fatalf("gateway %d does not know that subject %q was revoked", i, name)
			}
		}
	}
}

// P17: notifications that are lost are made up for by asking.
func TestFleetWithoutNotifications(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	a := f.gateway("a")
	b := f.gateway("b", func(o *catalog.Options) { o.Member.Poll = 50 * time.Millisecond })
	for range 5 { // whoever listens is cut off, again and again
		f.server.SQL("fleet", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
		id := newID()
		noErr(t, a.RevokeToken(ctx, id))
		eventually(t, "the other hears", func() bool { return b.Revoked(id, "", time.Time{}) })
	}
}

// P17, P84: a gateway that cannot ask what was revoked stops relying on what it
// knows when its lease is over, whether its connections are cut or hang, and
// goes on by itself.
func TestLease(t *testing.T) {
	for name, broken := range map[string]struct{ off, on func(*testpg.Proxy) }{
		"cut":    {(*testpg.Proxy).Cut, (*testpg.Proxy).Mend},
		"frozen": {(*testpg.Proxy).Freeze, (*testpg.Proxy).Thaw},
	} {
		t.Run(name, func(t *testing.T) {
			f, ctx := newFleet(t), t.Context()
			a := f.gateway("a")
			p := f.server.Front(t)
			f.through(p)
			now := &clock{now: time.Now()}
			b := f.gateway("b", func(o *catalog.Options) {
				o.Now, o.Member.Poll, o.Member.Lease = now.Now, 20*time.Millisecond, 5*time.Second
			})
			noErr(t, b.Current())
			broken.off(p)
			noErr(t, a.RevokeToken(ctx, "a token"))
			now.forward(4 * time.Second) // within the lease
			noErr(t, b.Current())
			now.forward(2 * time.Second)
			wantErr(t, b.Current(), policy.ErrStale)
			if b.Revoked("a token", "", time.Time{}) {
				t.Fatal("it heard through a broken line")
			}
			broken.on(p)
			eventually(t, "it goes on", func() bool { return b.Current() == nil })
			if !b.Revoked("a token", "", time.Time{}) {
				t.Error("it goes on without what was revoked")
			}
		})
	}
}

// Who waits for a change to be in force everywhere does not wait for a gateway
// that is away any longer than that one serves.
func TestSettleWithoutTheSilent(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	short := func(o *catalog.Options) { o.Member.Lease = 2 * time.Second }
	a := f.gateway("a", short)
	stopped := f.gateway("stopped", short)
	p := f.server.Front(t)
	f.through(p)
	b := f.gateway("b", short)
	noErr(t, stopped.Close()) // says good-bye: nobody waits for it
	p.Cut()
	noErr(t, a.RevokeToken(ctx, "a token"))
	r, err := a.Settle(ctx)
	noErr(t, err)
	if r != (musen.Reach{Gateways: 2, InForce: 1, Silent: 1}) {
		t.Fatalf("it settled at %+v", r)
	}
	wantErr(t, b.Current(), policy.ErrStale) // the promise that Silent makes
	all, err := a.Gateways(ctx)
	noErr(t, err)
	names := func(g musen.Gateway) string {
		return fmt.Sprintf("%s %s %t %t %t", g.Name, g.Role, g.Silent, g.Behind, g.Self)
	}
	if got := []string{names(all[0]), names(all[1])}; !slices.Equal(got, []string{"a edge false false true", "b edge true true false"}) {
		t.Errorf("gateways are %q", got)
	}
	p.Mend()
	eventually(t, "it goes on", func() bool { return b.Current() == nil })
	settled(t, a, 2)
}

// H66: PostgreSQL that crashes and starts again under load costs nothing that
// was acknowledged, and no gateway has to be restarted.
func TestPostgresCrash(t *testing.T) {
	f := newFleet(t)
	a, b := f.gateway("a"), f.gateway("b")
	jazz := newStation("jazz")
	noErr(t, a.CreateStation(t.Context(), jazz))
	settled(t, a, 2)
	ctx, stop := context.WithCancel(t.Context())
	kept := make(chan []string)
	for _, c := range []*catalog.Catalog{a, b} {
		go func() {
			var acknowledged []string
			for ctx.Err() == nil {
				id := newID()
				if err := c.RevokeToken(ctx, id); err == nil {
					acknowledged = append(acknowledged, id)
				} else if !errors.Is(err, musen.ErrUnavailable) && ctx.Err() == nil {
					t.Errorf("a write that failed says %v", err)
				}
			}
			kept <- acknowledged
		}()
	}
	for range 3 {
		s := newSegment(jazz.ID, 1, time.Now())
		noErr(t, a.Begin(ctx, s))
		f.server.Kill()
		if err := a.Begin(ctx, newSegment(jazz.ID, 1, time.Now())); !errors.Is(err, musen.ErrUnavailable) {
			t.Errorf("a write without a database says %v", err)
		}
		f.server.Restart()
		eventually(t, "it writes again", func() bool { return a.RevokeToken(ctx, "x") == nil })
	}
	stop()
	all := append(<-kept, <-kept...)
	fresh := f.gateway("fresh")
	for _, id := range all {
		if !fresh.Revoked(id, "", time.Time{}) {
			t.Fatalf("of %d revocations %s is lost", len(all), id)
		}
	}
	for _, id := range all {
		eventually(t, "it is in force everywhere", func() bool {
			return a.Revoked(id, "", time.Time{}) && b.Revoked(id, "", time.Time{})
		})
	}
}

// lines passes on what is logged.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// H70: a database that lacks what was committed, as a standby that lagged, is
// not served from: revocations may be gone. That holds also when it has come as
// far again by other changes.
func TestDatabaseTookAnotherTurn(t *testing.T) {
	for name, turn := range map[string]string{
		"back":  "DELETE FROM revoked_tokens; UPDATE changes SET counter = 1; DELETE FROM marks WHERE number > 1",
		"other": "DELETE FROM revoked_tokens; UPDATE marks SET mark = 'of another change'",
		"ahead": "DELETE FROM revoked_tokens; UPDATE marks SET mark = 'of another change'; UPDATE changes SET counter = 3; INSERT INTO marks VALUES (3, 'one more')",
	} {
		t.Run(name, func(t *testing.T) {
			f, ctx := newFleet(t), t.Context()
			now := &clock{now: time.Now()}
			said := make(chan string, 100)
			a := f.gateway("a", func(o *catalog.Options) {
				o.Now, o.Member.Poll, o.Member.Lease = now.Now, 20*time.Millisecond, 5*time.Second
				o.Member.Log = slog.New(slog.NewTextHandler(lines(said), nil))
			})
			noErr(t, a.RevokeToken(ctx, "a token"))
			noErr(t, a.RevokeToken(ctx, "another"))
			settled(t, a, 1)
			f.server.SQL("fleet", turn)
			now.forward(6 * time.Second) // what was asked for before counts no more
			wantErr(t, a.Current(), policy.ErrStale)
			for line := ""; !strings.Contains(line, "lacks change 2"); line = <-said { // it has looked
			}
			wantErr(t, a.Current(), policy.ErrStale)
			if !a.Revoked("a token", "", time.Time{}) {
				t.Error("it forgot what was revoked")
			}
			noErr(t, a.Close())
			again := f.gateway("a") // the operator has decided
			noErr(t, again.Current())
		})
	}
}

// The connection string is in no error, whatever is wrong with it or the
// database.
func TestConnectionStringStaysSecret(t *testing.T) {
	server := testpg.Start(t)
	good := server.Database("there")
	for name, c := range map[string]struct{ text, say string }{
		"not one":         {"postgres://user:pass-marker@host-marker:no/db-marker", "not a connection string"},
		"nobody there":    {"host=/nowhere-marker user=user-marker password=pass-marker dbname=db-marker", "no such file"},
		"no such user":    {"host=" + server.Socket() + " user=user-marker password=pass-marker dbname=there", "does not exist"},
		"no catalogue":    {good + " password=pass-marker", "no catalogue"},
		"nothing":         {"", "0 bytes"},
		"for all to read": {good, "chmod 0600"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "connection")
			noErr(t, os.WriteFile(file, []byte(c.text), 0o600))
			if name == "for all to read" {
				noErr(t, os.Chmod(file, 0o644))
			}
			got, err := catalog.OpenPostgres(t.Context(), file, options([32]byte{1}, time.Now))
			if err == nil {
				got.Close()
				t.Fatal("it was opened")
			}
			for _, marker := range []string{"pass-marker", "host-marker", "db-marker", "nowhere-marker", server.Socket()} {
				if strings.Contains(err.Error(), marker) {
					t.Errorf("%q tells %q", err, marker)
				}
			}
			if !strings.Contains(strings.ToLower(err.Error()), c.say) {
				t.Errorf("it says %q, not %q", err, c.say)
			}
		})
	}
}

// P34: of two processes that know when a credential was used, the later use is
// kept, whichever is recorded last.
func TestFleetKeepsTheLaterUse(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	now := time.Now().Truncate(time.Hour)
	at := func(when time.Time) func(*catalog.Options) {
		return func(o *catalog.Options) { o.Now = func() time.Time { return when } }
	}
	early, late := f.gateway("early", at(now.Add(-5*time.Hour))), f.gateway("late", at(now))
	if !early.Use("a token", now) || !late.Use("a token", now) {
		t.Fatal("a token is refused")
	}
	noErr(t, late.FlushUses(ctx))
	noErr(t, early.FlushUses(ctx))
	if got := f.gateway("third").LastUsed("a token"); !got.Equal(now) {
		t.Errorf("last used at %v, want %v", got, now)
	}
}
