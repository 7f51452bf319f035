package admin

import (
	"context"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/gateway/admin/wire/access"
	"github.com/musenai/musen/policy"
)

// asked is a fleet that counts how often somebody waits for it.
type asked struct {
	Fleet
	times *int
}

func (a asked) Settle(context.Context) (musen.Reach, error) {
	*a.times++
	return musen.Reach{Gateways: 3, InForce: 3}, nil
}

// P18: what takes a right away is done when it is in force on every gateway.
func TestWhatTakesRightsAwaySettles(t *testing.T) {
	w := newWorld(t, nil)
	times := 0
	w.server.Fleet = asked{times: &times} // nobody asks yet
	w.station("jazz")
	w.station("blues")
	song, err := cid.Decode(w.segment("jazz", "a song").CID)
	must(t, err)
	share, err := w.local.CreateShare(t.Context(), "jazz", wire.NewShare{})
	must(t, err)
	ctx, off := t.Context(), false
	role := access.Role{Subject: "ann", Role: string(policy.Support)}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"a subject", func() error {
			s, err := w.local.SetSubject(ctx, wire.SubjectChange{Subject: "ann", State: "suspended", Reason: "test"})
			if err == nil && (s.Reach == nil || s.Reach.InForce != 3) {
				t.Errorf("a subject is in force: %+v", s.Reach)
			}
			return err
		}},
		{"a role, perhaps a shorter one", func() error { return second(w.local.GrantRole(ctx, role)) }},
		{"a role that is taken", func() error { return w.local.RevokeRole(ctx, role) }},
		{"a station", func() error {
			return second(w.local.ChangeStation(ctx, "jazz", wire.StationChange{Downloads: &off}))
		}},
		{"the password of a share", func() error { return second(w.local.SetSharePassword(ctx, share.ID, "open sesame")) }},
		{"a share", func() error { return w.local.RevokeShare(ctx, share.ID) }},
		{"all shares", func() error { return second(w.local.RegenerateShare(ctx, "jazz")) }},
		{"a token", func() error { return second(w.local.Revoke(ctx, wire.Revocation{ID: "abc"})) }},
		{"a segment", func() error { return w.local.RemoveSegment(ctx, song) }},
		{"an empty station", func() error { return w.local.RemoveStation(ctx, "blues", false) }},
	} {
		times = 0
		must(t, step.do())
		if times != 1 {
			t.Errorf("%s: waited for the fleet %d times, want once", step.what, times)
		}
	}
}
