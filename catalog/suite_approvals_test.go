package catalog_test

import (
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

// P36, P28: an approval is decided once and used once, until it expires, and
// what became of it is kept.
func testApprovals(t *testing.T, f *fixture) {
	ctx, at := t.Context(), f.clock.Now()
	ask := musen.Approval{
		ID: "a1", Request: "DELETE /stations/jazz", Summary: "remove station \"jazz\" (s)", Route: "DELETE /stations/:station", Station: "s", Digest: []byte{1},
		Subject: "ann", Created: at, Expires: at.Add(time.Hour),
	}
	got, err := f.PutApproval(ctx, ask)
	noErr(t, err)
	again := ask
	again.ID = "a2"
	if got, err = f.PutApproval(ctx, again); err != nil || got.ID != "a1" {
		t.Errorf("the same request again: %+v, %v", got, err)
	}
	wantErr(t, f.UseApproval(ctx, "a1"), musen.ErrDecided)
	bob := musen.Approval{ID: "a1", State: musen.Approved, Decider: "bob", Token: "j1", By: []policy.Granter{
		{Subject: "acme|sue"}, {Subject: "bob", Roles: []policy.RoleAt{{Role: policy.Security}, {Role: policy.Operator, Station: "s"}}},
	}}
	noErr(t, f.DecideApproval(ctx, bob))
	bob.State = musen.Denied
	wantErr(t, f.DecideApproval(ctx, bob), musen.ErrDecided)
	f.reopen()
	var used atomic.Int32
	var wg sync.WaitGroup
	for range 8 { // only one of many who come at once uses it
		wg.Go(func() {
			if f.UseApproval(ctx, "a1") == nil {
				used.Add(1)
			}
		})
	}
	if wg.Wait(); used.Load() != 1 {
		t.Errorf("used %d times", used.Load())
	}
	if got, err = f.Approval(ctx, "a1"); err != nil || got.State != musen.Used || got.Decider != "bob" || got.Subject != "ann" || got.Request != ask.Request || got.Summary != ask.Summary ||
		got.Token != "j1" || !reflect.DeepEqual(got.By, bob.By) {
		t.Errorf("%+v, %v", got, err)
	}

	again.Digest = []byte{2}
	_, err = f.PutApproval(ctx, again)
	noErr(t, err)
	noErr(t, f.DecideApproval(ctx, musen.Approval{ID: "a2", State: musen.Approved, Decider: "bob"}))
	f.clock.forward(time.Hour)
	wantErr(t, f.UseApproval(ctx, "a2"), musen.ErrDecided)
	_, err = f.Approval(ctx, "none")
	wantErr(t, err, musen.ErrNotFound)
	if all, err := f.Approvals(ctx); err != nil || len(all) != 2 {
		t.Errorf("%+v, %v", all, err)
	}

	again.Created, again.Expires = f.clock.Now(), f.clock.Now().Add(time.Hour)
	for i := range 20 { // one subject does not fill the list
		again.ID, again.Digest = "m"+string(rune('a'+i)), []byte{3, byte(i)}
		_, err = f.PutApproval(ctx, again)
		noErr(t, err)
	}
	again.ID, again.Digest = "n", []byte{4}
	_, err = f.PutApproval(ctx, again)
	wantErr(t, err, musen.ErrInvalid)
	again.Subject = "eve"
	_, err = f.PutApproval(ctx, again)
	noErr(t, err)
}
