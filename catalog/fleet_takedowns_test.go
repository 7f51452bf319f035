package catalog_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog"
	"github.com/musenai/musen/catalog/ledger"
)

// H50, P92: a takedown that one process makes is in force in another, which acts
// on it and keeps it apart from the catalogue; so is its end.
func TestFleetHearsOfTakedowns(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	told := make(chan musen.Takedown, 10)
	kept, err := ledger.Open(filepath.Join(t.TempDir(), "takedowns"))
	noErr(t, err)
	t.Cleanup(func() { kept.Close() })
	a := f.gateway("a")
	b := f.gateway("b", func(o *catalog.Options) {
		o.Member.TakenDown, o.Ledger = func(d musen.Takedown) { told <- d }, kept
	})
	jazz := newStation("jazz")
	noErr(t, a.CreateStation(ctx, jazz))
	of := &fixture{Catalog: a, t: t, clock: &clock{now: time.Now()}}
	there := &fixture{Catalog: b, t: t, clock: of.clock}
	s := of.add(jazz.ID, 3, nil)
	for _, step := range []struct {
		do     func()
		denied bool
		state  string
	}{
		{func() { of.takeDown(s.CID, false) }, true, "in_force"},
		{func() {
			_, err := a.Lift(ctx, s.CID.Hash(), "mistake", "mia")
			noErr(t, err)
		}, false, "lifted"},
		{func() { of.takeDown(s.CID, true) }, true, "shredded"},
	} {
		step.do()
		settled(t, a, 2)
		there.wantDenied(step.denied, s)
		select {
		case got := <-told:
			if got.State() != step.state || !got.CID.Equals(s.CID) {
				t.Errorf("the other was told %+v, want %s", got, step.state)
			}
		case <-time.After(patience):
			t.Fatal("the other was not told")
		}
	}
	if n := kept.Generation(string(s.CID.Hash())); n != 3 {
		t.Errorf("the other keeps generation %d", n)
	}
	foreign := newSegment(jazz.ID, 2, of.clock.Now())
	there.takeDown(foreign.CID, false)
	noErr(t, a.Begin(ctx, foreign))
	wantErr(t, a.Commit(ctx, foreign, nil, nil), musen.ErrTakenDown) // also before it heard
	if len(told) > 0 {
		t.Error("it was told of what it did itself")
	}
}
