package catalog_test

import (
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

// P32, P35: a role holds from the moment it is given until it is taken or ends,
// on its station or everywhere, and also after a restart.
func testRoles(t *testing.T, f *fixture) {
	ctx := t.Context()
	at, jazz := f.clock.Now(), f.station("jazz").ID
	publisher := musen.Assignment{Subject: "ann", Role: policy.Publisher, Station: jazz, Granted: at, Actor: "local"}
	auditor := musen.Assignment{Subject: "ann", Role: policy.Auditor, Granted: at, Until: at.Add(time.Hour), Actor: "bob"}
	noErr(t, f.GrantRole(ctx, publisher))
	noErr(t, f.GrantRole(ctx, auditor))
	for _, bad := range []musen.Assignment{
		{}, {Subject: "x", Role: "king", Granted: at}, {Subject: "x", Role: policy.Auditor}, {Role: policy.Auditor, Granted: at},
	} {
		wantErr(t, f.GrantRole(ctx, bad), musen.ErrInvalid)
	}
	nowhere := publisher
	nowhere.Station = "nowhere"
	wantErr(t, f.GrantRole(ctx, nowhere), musen.ErrNotFound)
	wantErr(t, f.RevokeRole(ctx, musen.Assignment{Subject: "ann", Role: policy.Publisher}), musen.ErrNotFound)

	both := policy.RoleSet(0).With(policy.Publisher).With(policy.Auditor)
	for range 2 {
		for _, c := range []struct {
			subject, station string
			after            time.Duration
			want             policy.RoleSet
		}{
			{"ann", jazz, 0, both}, {"ann", "rock", 0, policy.RoleSet(0).With(policy.Auditor)}, {"ann", "", 0, policy.RoleSet(0).With(policy.Auditor)},
			{"ann", jazz, time.Hour, policy.RoleSet(0).With(policy.Publisher)}, {"ann", "", time.Hour, 0}, {"bob", jazz, 0, 0}, {"", jazz, 0, 0},
		} {
			if got := f.Held(c.subject, c.station, at.Add(c.after)); got != c.want {
				t.Errorf("%q on %q after %v: %v, want %v", c.subject, c.station, c.after, got.Words(), c.want.Words())
			}
		}
		all, err := f.Assignments(ctx)
		noErr(t, err)
		if len(all) != 2 || all[0] != auditor || all[1] != publisher {
			t.Fatalf("assignments: %+v", all)
		}
		f.reopen()
	}

	auditor.Until = time.Time{} // given again, for good
	noErr(t, f.GrantRole(ctx, auditor))
	noErr(t, f.RevokeRole(ctx, publisher))
	for range 2 {
		if got := f.Held("ann", jazz, at.Add(1000*time.Hour)); got != policy.RoleSet(0).With(policy.Auditor) {
			t.Errorf("after the other was taken: %v", got.Words())
		}
		f.reopen()
	}
}
