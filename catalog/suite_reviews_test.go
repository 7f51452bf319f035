package catalog_test

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/musenai/musen"
)

// P34, P35: when a credential was last used is known to the hour, also after a
// restart; one that is not used for too long is refused.
func testUses(t *testing.T, f *fixture) {
	ctx := t.Context()
	issued := f.clock.Now()
	hour := issued.Truncate(time.Hour).UTC()
	if !f.Use("a", issued) || !f.LastUsed("a").Equal(hour) || !f.LastUsed("b").IsZero() {
		t.Errorf("used at %v, %v", f.LastUsed("a"), f.LastUsed("b"))
	}
	noErr(t, f.FlushUses(ctx))
	noErr(t, f.FlushUses(ctx))
	f.reopen()
	if !f.LastUsed("a").Equal(hour) {
		t.Errorf("after a restart: %v", f.LastUsed("a"))
	}
	f.DisableUnused(48*time.Hour, 300*time.Hour)
	f.clock.forward(40 * time.Hour)
	for _, id := range []string{"a", "b"} { // b was issued 40 hours ago, and not used yet
		if !f.Use(id, issued) {
			t.Errorf("%s is refused too early", id)
		}
	}
	noErr(t, f.FlushUses(ctx))
	f.clock.forward(40 * time.Hour)
	if !f.Use("a", issued) || f.Use("c", issued) {
		t.Error("it does not go by the last use")
	}
	f.clock.forward(50 * time.Hour)
	if f.Use("a", issued) || f.Use("b", issued) || !f.Use("acme|ann", time.Time{}) {
		t.Error("what was not used for too long is not told apart")
	}
	if f.Usable("b", issued) || !f.Usable("new", f.clock.Now()) || !f.LastUsed("new").IsZero() {
		t.Error("what is only asked about is not told apart, or noted")
	}
	noErr(t, f.FlushUses(ctx))
	f.clock.forward(350 * time.Hour) // what was used before says nothing any more
	noErr(t, f.FlushUses(ctx))
	f.reopen()
	f.DisableUnused(48*time.Hour, 300*time.Hour)
	if !f.LastUsed("a").IsZero() || !f.LastUsed("acme|ann").IsZero() || f.Usable("a", issued) || !f.Unfollowed().IsZero() {
		t.Errorf("what says nothing any more is kept, or worth something: %v, %v", f.LastUsed("a"), f.Unfollowed())
	}
}

// P35: when more credentials are in use than are followed, the oldest make
// room, also after a restart, and nobody is refused for what was forgotten.
func testManyUses(t *testing.T, f *fixture) {
	const most = 1 << 17
	ctx := t.Context()
	f.DisableUnused(48*time.Hour, 300*time.Hour)
	issued := f.clock.Now()
	use := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if !f.Use(strconv.Itoa(i), issued) {
				t.Fatalf("the use %d is refused", i)
			}
		}
	}
	use(0, 10_000)
	f.clock.forward(30 * time.Hour)
	use(10_000, 40_000)
	f.clock.forward(30 * time.Hour) // issued 60 hours ago: only a use counts
	if f.Use("never", issued) {
		t.Error("what was never used is let in")
	}
	if issued := f.clock.Now(); !f.Use("last", issued) {
		t.Error("a new one is refused")
	}
	for i := range most {
		f.Use("x"+strconv.Itoa(i), f.clock.Now())
	}
	if !f.Use("not followed", issued) {
		t.Error("what a full table does not know is refused")
	}
	if got := f.Unfollowed(); !got.Equal(f.clock.Now().Truncate(time.Hour)) {
		t.Errorf("that is told to be so until %v", got)
	}
	noErr(t, f.FlushUses(ctx))
	f.clock.forward(time.Hour)
	for range 2 {
		if !f.LastUsed("0").IsZero() || f.LastUsed("last").IsZero() {
			t.Errorf("used: the first %v, the last %v", f.LastUsed("0"), f.LastUsed("last"))
		}
		if f.Unfollowed().IsZero() || !f.Usable("10000", issued) {
			t.Error("what may have been forgotten is refused")
		}
		if !f.Use("new", f.clock.Now()) || f.LastUsed("new").IsZero() {
			t.Error("there is no room for a new one")
		}
		f.reopen()
		f.DisableUnused(48*time.Hour, 300*time.Hour)
	}
	f.clock.forward(60 * time.Hour)
	if f.Usable("10000", issued) || !f.Unfollowed().IsZero() {
		t.Error("what cannot have been used for too long is let in")
	}
}

// P34: a review is kept with who made it and what it is of.
func testReviews(t *testing.T, f *fixture) {
	ctx := t.Context()
	first := musen.Review{ID: "1", Of: musen.ReviewOfAccess, Made: f.clock.Now(), Reviewer: "Ann", Actor: "local", Digest: "d", Signature: "s"}
	second := first
	second.ID, second.Made, second.Reviewer = "2", first.Made.Add(time.Hour), "Bob"
	other := first
	other.ID, other.Of, other.Size = "3", "musen/audit/x", 7
	noErr(t, f.PutReview(ctx, other))
	noErr(t, f.PutReview(ctx, first))
	noErr(t, f.PutReview(ctx, second))
	wantErr(t, f.PutReview(ctx, second), musen.ErrExists)
	f.reopen()
	if of, err := f.Reviews(ctx, other.Of); err != nil || len(of) != 1 || of[0] != other {
		t.Errorf("%+v, %v", of, err)
	}
	all, err := f.Reviews(ctx, musen.ReviewOfAccess)
	if err != nil || len(all) != 2 || all[0] != second || all[1] != first {
		t.Errorf("%+v, %v", all, err)
	}
}

// Uses are noted while others are recorded and forgotten.
func testConcurrentUses(t *testing.T, f *fixture) {
	f.DisableUnused(48*time.Hour, time.Hour)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 2000 {
				f.Use(strconv.Itoa(i%50), time.Time{})
				if i%500 == 0 {
					f.clock.forward(60 * time.Hour)
					if err := f.FlushUses(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	noErr(t, f.FlushUses(t.Context()))
	f.clock.forward(time.Hour)
	f.Use("last", f.clock.Now())
	noErr(t, f.FlushUses(t.Context()))
	f.reopen()
	if f.LastUsed("last").IsZero() {
		t.Error("the last use is lost")
	}
}
