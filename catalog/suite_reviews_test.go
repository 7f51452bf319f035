package catalog_test

import (
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
	f.DisableUnused(48 * time.Hour)
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
}

// P34: a review is kept with who made it and what it is of.
func testReviews(t *testing.T, f *fixture) {
	ctx := t.Context()
	first := musen.Review{ID: "1", Made: f.clock.Now(), Reviewer: "Ann", Actor: "local", Digest: "d", Signature: "s"}
	second := first
	second.ID, second.Made, second.Reviewer = "2", first.Made.Add(time.Hour), "Bob"
	noErr(t, f.PutReview(ctx, first))
	noErr(t, f.PutReview(ctx, second))
	wantErr(t, f.PutReview(ctx, second), musen.ErrExists)
	f.reopen()
	all, err := f.Reviews(ctx)
	if err != nil || len(all) != 2 || all[0] != second || all[1] != first {
		t.Errorf("%+v, %v", all, err)
	}
}
