package catalog_test

import (
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

// P39: the state of a subject holds at once and after a restart, says why and
// by whom, and can be taken back.
func testSubjects(t *testing.T, f *fixture) {
	ctx := t.Context()
	at := f.clock.Now()
	ann := musen.Subject{Name: "ann@example.org", State: policy.SubjectSuspended, Reason: "scraping", Actor: "local", Changed: at}
	bob := musen.Subject{Name: "bob", State: policy.SubjectLimited, Actor: "local", Changed: at.Add(time.Second)}
	noErr(t, f.SetSubject(ctx, ann))
	noErr(t, f.SetSubject(ctx, bob))
	for _, bad := range []musen.Subject{
		{}, {Name: "x", State: "gone", Changed: at}, {Name: "x", State: policy.SubjectEnded},
		{Name: "x", State: policy.SubjectEnded, Changed: at, Reason: strings.Repeat("x", 1001)},
		{Name: strings.Repeat("x", 2000), State: policy.SubjectEnded, Changed: at},
	} {
		wantErr(t, f.SetSubject(ctx, bad), musen.ErrInvalid)
	}
	for range 2 {
		for name, want := range map[string]policy.SubjectState{
			ann.Name: policy.SubjectSuspended, "bob": policy.SubjectLimited, "eve": policy.SubjectActive, "": policy.SubjectActive,
		} {
			if got := f.SubjectState(name); got != want {
				t.Fatalf("%q is %s, want %s", name, got, want)
			}
		}
		all, err := f.Subjects(ctx)
		noErr(t, err)
		if len(all) != 2 || all[0] != bob || all[1] != ann {
			t.Fatalf("subjects: %+v", all)
		}
		got, err := f.Subject(ctx, ann.Name)
		if err != nil || got != ann {
			t.Fatalf("%+v, %v", got, err)
		}
		_, err = f.Subject(ctx, "eve")
		wantErr(t, err, musen.ErrNotFound)
		f.reopen()
	}

	ann.State, ann.Reason, ann.Changed = policy.SubjectActive, "it was a mistake", at.Add(time.Minute)
	noErr(t, f.SetSubject(ctx, ann))
	for range 2 {
		if got, err := f.Subject(ctx, ann.Name); err != nil || got != ann || f.SubjectState(ann.Name) != policy.SubjectActive {
			t.Fatalf("%+v, %v", got, err)
		}
		f.reopen()
	}

	f.clock.forward(100 * 24 * time.Hour) // what is no longer needed goes
	bob.Changed = f.clock.Now()
	noErr(t, f.SetSubject(ctx, bob))
	if all, err := f.Subjects(ctx); err != nil || len(all) != 1 || all[0] != bob {
		t.Fatalf("subjects: %+v, %v", all, err)
	}
}

// A suspension that the disk did not take holds all the same.
func testUnrecordedSuspension(t *testing.T, f *fixture) {
	noErr(t, f.Close())
	for state, want := range map[policy.SubjectState]policy.SubjectState{
		policy.SubjectSuspended: policy.SubjectSuspended, policy.SubjectLimited: policy.SubjectActive,
	} {
		name := string(state)
		wantErr(t, f.SetSubject(t.Context(), musen.Subject{Name: name, State: state, Changed: f.clock.Now()}), musen.ErrUnavailable)
		if got := f.SubjectState(name); got != want {
			t.Errorf("%s could not be recorded, and is %s", state, got)
		}
	}
}
