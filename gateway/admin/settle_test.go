package admin

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/client"
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
	return musen.Reach{Gateways: 4, InForce: 3, Silent: 1}, nil
}

// reaching are the names of the routes that say that they settle.
func reaching() (names []string) {
	for _, r := range routes() {
		if r.act.settles {
			names = append(names, r.name())
		}
	}
	return names
}

// P18: what takes a right away is done when it is in force on every gateway, and
// the answer says on how many that is.
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
	off, role := false, access.Role{Subject: "ann", Role: string(policy.Support)}
	steps := []struct {
		route string
		do    func(context.Context) error
	}{
		{"PUT /subjects", func(ctx context.Context) error {
			s, err := w.local.SetSubject(ctx, wire.SubjectChange{Subject: "ann", State: "suspended", Reason: "test"})
			if err == nil && (s.Reach == nil || s.Reach.InForce != 3) {
				t.Errorf("a subject is in force: %+v", s.Reach)
			}
			return err
		}},
		{"PUT /roles", func(ctx context.Context) error { return second(w.local.GrantRole(ctx, role)) }},
		{"POST /roles/revoke", func(ctx context.Context) error { return w.local.RevokeRole(ctx, role) }},
		{"PATCH /stations/:station", func(ctx context.Context) error {
			return second(w.local.ChangeStation(ctx, "jazz", wire.StationChange{Downloads: &off}))
		}},
		{"POST /stations/:station/shares", func(ctx context.Context) error { return second(w.local.CreateShare(ctx, "jazz", wire.NewShare{})) }},
		{"PUT /shares/:share/password", func(ctx context.Context) error {
			return second(w.local.SetSharePassword(ctx, share.ID, "open sesame"))
		}},
		{"DELETE /shares/:share", func(ctx context.Context) error { return w.local.RevokeShare(ctx, share.ID) }},
		{"POST /stations/:station/shares/regenerate", func(ctx context.Context) error { return second(w.local.RegenerateShare(ctx, "jazz")) }},
		{"POST /tokens/revoke", func(ctx context.Context) error { return second(w.local.Revoke(ctx, wire.Revocation{ID: "abc"})) }},
		{"POST /takedowns", func(ctx context.Context) error {
			return second(w.local.TakeDown(ctx, wire.NewTakedown{CID: song.String(), Reason: "test"}))
		}},
		{"POST /takedowns/:cid/lift", func(ctx context.Context) error {
			return second(w.local.LiftTakedown(ctx, song, wire.Lift{Reason: "test"}))
		}},
		{"DELETE /segments/:cid", func(ctx context.Context) error { return w.local.RemoveSegment(ctx, song) }},
		{"DELETE /stations/:station", func(ctx context.Context) error { return w.local.RemoveStation(ctx, "blues", false) }},
	}
	missing, doc := reaching(), newValidator(t, nil).doc
	for _, step := range steps {
		n := len(missing)
		if missing = slices.DeleteFunc(missing, func(r string) bool { return r == step.route }); len(missing) == n {
			t.Errorf("%s does not say that it settles", step.route)
		}
		if _, ok := w.server.routes[strings.Replace(step.route, " ", " "+prefix, 1)]; !ok {
			t.Errorf("%s is no route", step.route)
		}
		method, path, _ := strings.Cut(step.route, " ")
		operation := doc.Paths.Find(regexp.MustCompile(`:(\w+)`).ReplaceAllString(path, "{$1}")).GetOperation(method)
		for status, answer := range operation.Responses.Map() {
			if status[0] == '2' && answer.Value.Headers[wire.ReachHeader] == nil {
				t.Errorf("%s: openapi.yaml does not say how far it has come", step.route)
			}
		}
		times = 0
		ctx, reach := client.AskReach(t.Context())
		must(t, step.do(ctx))
		if told := reach.Told(); times != 1 || told == nil || *told != (wire.Reach{Gateways: 4, InForce: 3, Silent: 1, Took: told.Took}) {
			t.Errorf("%s: waited for the fleet %d times, want once; told %+v", step.route, times, told)
		}
	}
	if len(missing) > 0 {
		t.Errorf("there is no step here of %q", missing)
	}
	ctx, reach := client.AskReach(t.Context())
	if _, err := w.local.CreateStation(ctx, wire.NewStation{Name: "rock"}); err != nil || reach.Told() != nil {
		t.Errorf("what waits for nobody told %+v, %v", reach.Told(), err)
	}
}
