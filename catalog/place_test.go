package catalog_test

import (
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog"
)

func asOrigin(o *catalog.Options) { o.Member.Role = "origin" }

// second opens the catalogue as one more process.
func (f *fleetTest) second(id, role string) (*catalog.Catalog, error) {
	o := options([32]byte{1}, time.Now)
	o.Member = &catalog.Member{ID: id, Role: role, Lease: time.Minute, Poll: time.Second, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	return catalog.OpenPostgres(f.t.Context(), f.file, o)
}

// holder is the session that has a place.
const holder = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"

// A fleet has one origin, whoever the second is: another, or a copy of the
// first's home. Where the first ends, the second may begin. So with the edges of
// one peer ID.
func TestFleetHasOneOrigin(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	a := f.gateway("a", asOrigin)
	noErr(t, a.CreateStation(ctx, newStation("jazz")))
	e := f.gateway("e")
	for _, second := range [][2]string{{"peer of a", "origin"}, {"peer of b", "origin"}, {"peer of e", "edge"}} {
		_, err := f.second(second[0], second[1])
		wantErr(t, err, catalog.ErrTaken)
	}
	settled(t, a, 2) // and none of them left a trace
	noErr(t, a.Close())
	b, err := f.second("peer of a", "origin")
	noErr(t, err)
	t.Cleanup(func() { b.Close() })
	noErr(t, b.CreateStation(ctx, newStation("blues")))
	noErr(t, e.RevokeToken(ctx, "a token"))
}

// An origin whose session was lost takes its place again, also when it writes
// nothing.
func TestOriginKeepsItsPlace(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	a := f.gateway("a", asOrigin)
	for range 2 {
		f.server.SQL("fleet", holder)
		eventually(t, "the place is taken again", func() bool {
			held := f.server.SQL("fleet", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted")
			return strings.TrimSpace(held) == "1"
		})
	}
	f.server.SQL("fleet", holder)
	eventually(t, "it writes again", func() bool { return a.CreateStation(ctx, newStation("jazz")) == nil })
	_, err := f.second("peer of a", "origin")
	wantErr(t, err, catalog.ErrTaken)
}

// An origin that was cut off writes nothing while another has its place.
func TestOriginThatWasCutOff(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	direct := f.file
	p := f.server.Front(t)
	f.through(p)
	a := f.gateway("a", asOrigin)
	p.Cut()
	f.file = direct
	var b *catalog.Catalog
	eventually(t, "another takes the place", func() (ok bool) {
		var err error
		b, err = f.second("peer of a", "origin")
		return err == nil
	})
	t.Cleanup(func() { b.Close() })
	p.Mend()
	eventually(t, "the first is told", func() bool {
		err := a.CreateStation(ctx, newStation("jazz"))
		wantErr(t, err, musen.ErrUnavailable)
		return errors.Is(err, catalog.ErrTaken)
	})
	noErr(t, b.CreateStation(ctx, newStation("jazz")))
	noErr(t, b.Close())
	eventually(t, "the first takes its place again", func() bool { return a.CreateStation(ctx, newStation("blues")) == nil })
}
