package audit

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-datastore"
	leveldb "github.com/ipfs/go-ds-leveldb"
	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"
)

const day = 24 * time.Hour

func epoch() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

// ledger is standings and a clock.
type ledger struct {
	*Standings
	t    testing.TB
	now  time.Time
	peer peer.ID
}

func newLedger(t testing.TB) *ledger {
	l := &ledger{t: t, now: epoch(), peer: named("some peer")}
	s, err := OpenStandings(context.Background(), newStore(), func() time.Time { return l.now })
	if err != nil {
		t.Fatal(err)
	}
	l.Standings = s
	return l
}

// named is a peer ID, whose spelling can be read back.
func named(s string) peer.ID { return peer.ID(append([]byte{0, byte(len(s))}, s...)) }

// sees records n times an outcome.
func (l *ledger) sees(o Outcome, n int) *ledger {
	l.t.Helper()
	got, err := l.Record(context.Background(), l.peer, l.now, same(o, n)...)
	if err != nil {
		l.t.Fatal(err)
	}
	if c := l.Get(l.peer); c.Standing != got {
		l.t.Errorf("Record says %s, Get %s", got, c.Standing)
	}
	return l
}

func (l *ledger) after(d time.Duration) *ledger { l.now = l.now.Add(d); return l }

func (l *ledger) is(want Standing) *ledger {
	l.t.Helper()
	if c := l.Get(l.peer); c.Standing != want {
		l.t.Errorf("%s (%s), want %s", c.Standing, c.Reason, want)
	}
	return l
}

func (l *ledger) good() *ledger {
	l.t.Helper()
	return l.sees(Proved, 19).after(time.Hour).sees(Proved, 81).is(Good)
}

func TestNewBecomesGood(t *testing.T) {
	newLedger(t).is(New).sees(Proved, 60).after(59*time.Minute).sees(Proved, 1).is(New).after(time.Minute).sees(Proved, 1).is(Good)
	newLedger(t).sees(Proved, 1).after(day).sees(Proved, 18).is(New).sees(Proved, 1).is(Good)
}

func TestWarned(t *testing.T) {
	newLedger(t).sees(Wrong, 1).is(Warned)
	newLedger(t).good().sees(Wrong, 1).is(Warned)
	newLedger(t).good().sees(Missing, 2).is(Good).sees(Missing, 1).is(Warned)
	newLedger(t).good().sees(Missing, 2).sees(Late, 1).is(Warned)
	// Fifty are looked at.
	newLedger(t).good().sees(Missing, 2).sees(Proved, 48).sees(Missing, 1).is(Good)
	newLedger(t).good().sees(Missing, 2).sees(Proved, 47).sees(Missing, 1).is(Warned)
}

func TestPaused(t *testing.T) {
	newLedger(t).sees(Wrong, 1).sees(Proved, 10).sees(Wrong, 1).is(Paused)
	newLedger(t).good().sees(Wrong, 2).is(Paused)
	// A hundred are looked at.
	newLedger(t).good().sees(Missing, 9).is(Warned).sees(Missing, 1).is(Paused)
	newLedger(t).sees(Missing, 29).is(Warned).sees(Missing, 1).is(Paused)
	newLedger(t).sees(Proved, 28).sees(Missing, 2).is(New).sees(Missing, 1).is(Warned)
}

func TestOffline(t *testing.T) {
	newLedger(t).good().sees(Offline, 1000).is(Good)
	newLedger(t).sees(Offline, 1).after(7 * day).is(New).after(time.Second).is(Paused)
	newLedger(t).good().sees(Offline, 1).after(6*day).sees(Proved, 1).sees(Offline, 1).after(6 * day).is(Good)
	newLedger(t).good().sees(Offline, 1).after(6*day).sees(Offline, 1).after(2 * day).is(Paused)
	// It comes back, and proves what it has.
	newLedger(t).good().sees(Offline, 1).after(8*day).sees(Proved, 20).is(Warned).sees(Proved, 20).is(Good)
	// It does not.
	l := newLedger(t).good().sees(Offline, 1).after(21*day - time.Second).is(Paused).after(time.Second).is(Dropped)
	if c := l.Get(l.peer); !strings.Contains(c.Reason, "offline") || !c.Since.Equal(l.now) {
		t.Errorf("%+v", c)
	}
}

func TestExcused(t *testing.T) {
	l := newLedger(t).good()
	excuse := func(until time.Time) {
		if err := l.Excuse(t.Context(), l.peer, until); err != nil {
			t.Fatal(err)
		}
	}
	excuse(l.now.Add(20 * day))
	l.sees(Offline, 1).after(27 * day).is(Good).after(time.Second).is(Paused)
	// Nobody is excused for ever.
	l = newLedger(t).good()
	excuse(l.now.Add(1000 * day))
	l.sees(Offline, 1).after(38 * day).is(Paused)
	// Nor after it was taken back.
	l = newLedger(t).good()
	excuse(l.now.Add(20 * day))
	excuse(time.Time{})
	l.sees(Offline, 1).after(8 * day).is(Paused)
	// Who is paused may be away with leave, too.
	l = newLedger(t).sees(Wrong, 2).is(Paused)
	excuse(l.now.Add(10 * day))
	l.after(23 * day).is(Paused).after(day).is(Dropped)
}

func TestDropped(t *testing.T) {
	newLedger(t).sees(Wrong, 4).is(Paused).sees(Wrong, 1).is(Dropped).sees(Proved, 100).is(Dropped)
	newLedger(t).sees(Wrong, 2).after(14*day - time.Second).is(Paused).after(time.Second).is(Dropped)
	newLedger(t).sees(Wrong, 2).after(14*day).sees(Proved, 20).is(Dropped)
	// Five within ninety days, steps up or not.
	l := newLedger(t)
	for range 4 {
		l.sees(Wrong, 1).sees(Proved, 100).is(Good).after(20 * day)
	}
	l.sees(Wrong, 1).is(Dropped)
	l = newLedger(t)
	for range 10 {
		l.sees(Wrong, 1).is(Warned).sees(Proved, 100).is(Good).after(23 * day)
	}
}

func TestStepsUp(t *testing.T) {
	l := newLedger(t).sees(Wrong, 2).is(Paused).sees(Proved, 19).is(Paused).sees(Missing, 1).sees(Proved, 19).is(Paused)
	l.sees(Proved, 1).is(Warned).sees(Proved, 19).is(Warned).sees(Proved, 1).is(Good)
	// What was before is not held against it again.
	l.sees(Missing, 2).is(Good).sees(Missing, 1).is(Warned)
	l.sees(Proved, 20).is(Good).sees(Wrong, 1).is(Warned)
}

// One stall is one failure, however many answers it held up.
func TestStallsCountOnce(t *testing.T) {
	l := newLedger(t).good().sees(Late, 64).is(Good).after(9*time.Minute).sees(Late, 64).is(Good)
	l.after(time.Minute).sees(Late, 64).is(Good).after(10*time.Minute).sees(Late, 1).is(Warned)
	if c := l.Get(l.peer); c.Failed != 3 {
		t.Errorf("%d failures", c.Failed)
	}
	// It ends a streak all the same.
	newLedger(t).sees(Wrong, 1).sees(Late, 1).sees(Proved, 19).sees(Late, 1).sees(Proved, 19).is(Warned)
}

func TestReinstated(t *testing.T) {
	l := newLedger(t).sees(Wrong, 5).is(Dropped)
	if err := l.Reinstate(t.Context(), l.peer, "a bad disk, replaced"); err != nil {
		t.Fatal(err)
	}
	if c := l.is(New).Get(l.peer); c.Reason != "a bad disk, replaced" {
		t.Errorf("%+v", c)
	}
	l.good().sees(Wrong, 1).is(Warned)
}

func TestUnaskedIsNothing(t *testing.T) {
	l := newLedger(t).sees(Wrong, 2)
	before := l.Get(l.peer)
	l.sees("", 100).sees("nonsense", 3)
	if after := l.Get(l.peer); after.Recent != before.Recent || after.Failed != before.Failed {
		t.Errorf("%+v became %+v", before, after)
	}
}

func TestStandingsSurvive(t *testing.T) {
	dir, now := t.TempDir(), epoch().Add(300*time.Millisecond)
	clock := func() time.Time { return now }
	open := func() (*Standings, datastore.Batching) {
		store, err := leveldb.NewDatastore(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := OpenStandings(t.Context(), store, clock)
		if err != nil {
			t.Fatal(err)
		}
		return s, store
	}
	proved, failed, away, gone := named("proved"), named("failed"), named("away"), named("gone")
	peers := []peer.ID{named("never seen"), proved, failed, away, gone}
	s, store := open()
	record := func(p peer.ID, outcomes ...Outcome) {
		if _, err := s.Record(t.Context(), p, now, outcomes...); err != nil {
			t.Fatal(err)
		}
	}
	record(proved, same(Proved, 30)...)
	record(failed, Proved, Wrong, Missing, Late, Wrong, Offline)
	record(away, Proved, Offline)
	record(gone, Wrong)
	if err := s.Excuse(t.Context(), away, now.Add(day)); err != nil {
		t.Fatal(err)
	}
	if err := s.Forget(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	var before []Conduct
	for _, p := range peers {
		before = append(before, s.Get(p))
	}
	store.Close()
	s, store = open()
	defer store.Close()
	for i, p := range peers {
		got, want := s.Get(p), before[i]
		same := got.Standing == want.Standing && got.Recent == want.Recent && got.Proved == want.Proved && got.Reason == want.Reason
		if !same || !got.Away.Equal(want.Away) || got.Excused.Unix() != want.Excused.Unix() || len(got.Wrongs) != len(want.Wrongs) {
			t.Errorf("%s: %+v became %+v", p, want, got)
		}
	}
	if err := store.Put(t.Context(), standingKey(proved), []byte("junk")); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStandings(t.Context(), store, clock); err == nil {
		t.Error("a broken record was taken")
	}
}

// counting counts what is written.
type counting struct {
	datastore.Batching
	puts int
}

func (c *counting) Put(ctx context.Context, k datastore.Key, b []byte) error {
	c.puts++
	return c.Batching.Put(ctx, k, b)
}

// A store may sync each write: proved answers do not wait for it one by one,
// failures do.
func TestStandingsAreWrittenNowAndThen(t *testing.T) {
	store, p := &counting{Batching: newStore()}, named("p")
	open := func() *Standings {
		s, err := OpenStandings(t.Context(), store, epoch)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	record := func(at time.Time, o Outcome, most int) {
		t.Helper()
		before := store.puts
		if _, err := s.Record(t.Context(), p, at, o); err != nil {
			t.Fatal(err)
		}
		if n := store.puts - before; n > most {
			t.Errorf("%d writes", n)
		}
	}
	for range 640 {
		record(epoch(), Proved, 1)
	}
	if store.puts > 21 {
		t.Errorf("640 outcomes were written %d times", store.puts)
	}
	record(epoch(), Missing, 1)
	if c := open().Get(p); c.Failed != 1 || c.Proved != 640 {
		t.Errorf("a failure is not durable: %+v", c)
	}
	record(epoch().Add(time.Minute), Proved, 0)
	record(epoch().Add(11*time.Minute), Proved, 1)
	record(epoch().Add(12*time.Minute), Proved, 0)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c := open().Get(p); c.Proved != 643 {
		t.Errorf("after Flush %+v", c)
	}
	puts := store.puts
	if err := s.Flush(t.Context()); err != nil || store.puts != puts {
		t.Errorf("Flush wrote what was written, %v", err)
	}
}

// failing is a store that takes nothing.
type failing struct{ datastore.Batching }

var errFull = errors.New("disk full")

func (failing) Put(context.Context, datastore.Key, []byte) error { return errFull }

// What is not kept has not happened.
func TestStandingsFailWhole(t *testing.T) {
	s, err := OpenStandings(t.Context(), failing{newStore()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Record(t.Context(), "p", epoch(), Wrong); !errors.Is(err, errFull) {
		t.Error(err)
	}
	if c := s.Get("p"); c.Standing != New || c.Failed != 0 {
		t.Errorf("%+v", c)
	}
}

// Whatever happens, in whatever order: history stays small, the counts add up,
// and only proved answers and the operator make anything better.
func TestAnyHistory(t *testing.T) {
	rank := []Standing{Dropped, Paused, Warned, New, Good}
	rapid.Check(t, func(rt *rapid.T) {
		l := newLedger(t)
		var proved, failed uint64
		for range rapid.IntRange(0, 60).Draw(rt, "steps") {
			o := rapid.SampledFrom([]Outcome{Proved, Proved, Proved, Wrong, Missing, Late, Offline}).Draw(rt, "outcome")
			n := rapid.IntRange(1, 64).Draw(rt, "n")
			l.after(time.Duration(rapid.Int64Range(-int64(day), int64(5*day)).Draw(rt, "later")))
			before := l.Get(l.peer)
			l.sees(o, n)
			c := l.Get(l.peer)
			switch o {
			case Proved:
				proved += uint64(n)
			case Wrong, Missing:
				failed += uint64(n)
			case Late:
				failed += c.Failed - before.Failed
			}
			if o != Proved && slices.Index(rank, c.Standing) > slices.Index(rank, before.Standing) {
				rt.Fatalf("%s made %s of %s", o, c.Standing, before.Standing)
			}
			if before.Standing == Dropped && c.Standing != Dropped {
				rt.Fatalf("%s brought back who was dropped", o)
			}
			if len(c.Recent) > pauseWindow || len(c.Wrongs) > dropWrong || c.Proved != proved || c.Failed != failed {
				rt.Fatalf("%d proved, %d failed: %+v", proved, failed, c)
			}
		}
	})
}

// The table in the documentation of the package has the numbers of the code.
func TestTableSaysTheNumbers(t *testing.T) {
	b, err := os.ReadFile("audit.go")
	if err != nil {
		t.Fatal(err)
	}
	doc, _, _ := strings.Cut(string(b), "package audit\n")
	for _, s := range []string{
		"20 proved, the first of them an hour ago", "1 wrong; or 3 missing or late among the last 50",
		"2 wrong among the last 100; or 10 % failed of the last 100, if there are 30", "offline for more than 7 days",
		"5 wrong within 90 days; or paused for 14 days", "20 proved in a row", "within ten minutes", "30 days ahead",
	} {
		if !strings.Contains(doc, s) {
			t.Errorf("the table does not say %q", s)
		}
	}
	numbers := []int{goodProved, int(goodAge / time.Hour), warnWrong, warnFailed, warnWindow, pauseWrong, pauseFailed, pauseLeast,
		pauseWindow, int(pauseOffline / day), dropWrong, int(dropMemory / day), int(dropPaused / day), liftProved,
		int(lateApart / time.Minute), int(maxExcuse / day)}
	if !slices.Equal(numbers, []int{20, 1, 1, 3, 50, 2, 10, 30, 100, 7, 5, 90, 14, 20, 10, 30}) {
		t.Errorf("the numbers changed to %v: change the table, too", numbers)
	}
}
