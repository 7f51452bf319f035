package admin

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/gateway/admin/wire/swarm"
	"github.com/musenai/musen/policy"
)

var _ Takedowns = (*memory)(nil)

func (m *memory) SegmentOfBlock(_ context.Context, mh multihash.Multihash) (musen.Segment, error) {
	return m.find(func(s *kept) bool {
		return bytes.Equal(s.CID.Hash(), mh) || slices.ContainsFunc(s.Leaves, func(c cid.Cid) bool { return bytes.Equal(c.Hash(), mh) })
	})
}

func (m *memory) takedown(mh multihash.Multihash) *musen.Takedown {
	i := slices.IndexFunc(m.takedowns, func(t musen.Takedown) bool { return bytes.Equal(t.CID.Hash(), mh) })
	if i < 0 {
		return nil
	}
	return &m.takedowns[i]
}

// refuse gives the segment of a takedown its state.
func (m *memory) refuse(t musen.Takedown, state musen.State) {
	m.version++
	for _, s := range m.segments {
		if s.ID == t.Segment && s.State != musen.Removed {
			if s.State, s.Takedown = state, t.Category; state == musen.Live {
				s.Takedown = ""
			}
		}
	}
}

func (m *memory) TakeDown(ctx context.Context, t musen.Takedown, shred bool) (musen.Takedown, error) {
	if s, err := m.SegmentOfBlock(ctx, t.CID.Hash()); err == nil {
		t.CID, t.Segment, t.Station = s.CID, s.ID, s.Station
	}
	defer m.lock()()
	state := musen.TakenDown
	if shred {
		t.Shredded, state = t.Created, musen.Removed
	}
	if old := m.takedown(t.CID.Hash()); old != nil {
		if old.InForce() && (!shred || !old.Shredded.IsZero()) {
			return t, musen.ErrExists
		}
		*old = t
	} else {
		m.takedowns = append(m.takedowns, t)
	}
	m.refuse(t, state)
	return t, nil
}

func (m *memory) Lift(_ context.Context, mh multihash.Multihash, reason, actor string) (musen.Takedown, error) {
	defer m.lock()()
	t := m.takedown(mh)
	t.Lifted, t.LiftReason, t.LiftedBy = m.now(), reason, actor
	m.refuse(*t, musen.Live)
	return *t, nil
}

func (m *memory) Takedown(_ context.Context, mh multihash.Multihash) (musen.Takedown, error) {
	defer m.lock()()
	if t := m.takedown(mh); t != nil {
		return *t, nil
	}
	return musen.Takedown{}, musen.ErrNotFound
}

func (m *memory) Takedowns(_ context.Context, cursor string, limit int) (page []musen.Takedown, next string, err error) {
	defer m.lock()()
	at := 0
	if cursor != "" {
		if at, err = strconv.Atoi(cursor); err != nil {
			return nil, "", musen.ErrInvalid
		}
	}
	all := slices.Clone(m.takedowns)
	slices.Reverse(all)
	end := min(at+limit, len(all))
	if page = all[at:end]; end < len(all) {
		next = strconv.Itoa(end)
	}
	return page, next, nil
}

// takenDown is the CID of something that was taken down of a station, and is no
// segment any more.
func (w *world) takenDown(station string) string {
	w.t.Helper()
	t := musen.Takedown{CID: cid.NewCidV1(cid.Raw, []byte("\x12\x20"+strings.Repeat("x", 32))), Station: station, Category: "other", Reason: "x", Created: w.now()}
	w.takedowns = append(w.takedowns, t)
	return t.CID.String()
}

func decode(t *testing.T, s string) cid.Cid {
	t.Helper()
	id, err := cid.Decode(s)
	must(t, err)
	return id
}

// P92, P93: a moderator takes a segment down with one call, which says where it
// is in force and who has still to purge it, and puts it back with a reason; all
// of that stays on record.
func TestTakedown(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	jazz := w.station("jazz")
	id := decode(t, w.segment("jazz", "one").CID)
	w.fleet.set("", swarm.Health{CID: id.String(), Level: "none", Gone: true, Copies: []swarm.Copy{{Peer: "p1", Name: "attic", Role: "replica", State: "purging"}}})
	w.fleet.purged = map[string][]swarm.Purged{id.String(): {{Peer: "p2", Name: "oslo", At: w.now().UTC()}, {Peer: "p1", Name: "attic", At: w.now().UTC()}}}
	_, err := w.local.Takedown(ctx, id)
	refused(t, err, 404, "not_found")

	moderator := w.remote(w.token([]string{jazz.ID}, policy.Moderate))
	down, err := moderator.TakeDown(ctx, wire.NewTakedown{CID: cid.NewCidV1(cid.DagProtobuf, id.Hash()).String(), Category: "copyright", Reason: "the label says so"})
	must(t, err)
	if down.CID != id.String() || down.State != "in_force" || down.StationName != "jazz" || down.Title != "one" || down.Actor != "ann" || down.Reason != "the label says so" {
		t.Errorf("taken down: %+v", down)
	}
	if down.Reach == nil || down.Reach.Gateways != 1 || down.Reach.InForce != 1 {
		t.Errorf("reach: %+v", down.Reach)
	}
	if c := down.Copies; c == nil || len(c.Waiting) != 1 || c.Waiting[0].Name != "attic" || len(c.Confirmed) != 1 || c.Confirmed[0].Name != "oslo" {
		t.Errorf("copies: %+v", c)
	}
	_, err = moderator.TakeDown(ctx, wire.NewTakedown{CID: id.String(), Reason: "again"})
	refused(t, err, 409, "taken_down_already")
	_, err = w.local.Link(ctx, id, wire.LinkRequest{})
	refused(t, err, 451, "taken_down")
	if s, err := w.local.Segment(ctx, id); err != nil || s.Takedown != "copyright" {
		t.Errorf("the segment: %+v, %v", s, err)
	}
	if got, err := moderator.Takedown(ctx, id); err != nil || got.Category != "copyright" || got.Copies == nil {
		t.Errorf("shown: %+v, %v", got, err)
	}

	_, err = moderator.LiftTakedown(ctx, id, wire.Lift{Reason: "a cover"}) // who asks is nobody by name
	refused(t, err, 403, "no_identity")
	lifted, err := w.local.LiftTakedown(ctx, id, wire.Lift{Reason: "a cover"})
	if must(t, err); lifted.State != "lifted" || lifted.LiftedBy != "local" || lifted.LiftReason != "a cover" || lifted.Reach == nil {
		t.Errorf("lifted: %+v", lifted)
	}
	if _, err := w.local.Link(ctx, id, wire.LinkRequest{}); err != nil {
		t.Errorf("after it was lifted: %v", err)
	}
	_, err = w.local.LiftTakedown(ctx, id, wire.Lift{Reason: "a cover"})
	refused(t, err, 409, "not_taken_down")
	if strings.Contains(w.log.String(), "the label") {
		t.Errorf("the log has a reason: %s", w.log.String())
	}
}

// P28, P33: what cannot be undone, or puts something back, needs a second factor
// or a second person, and destroying a key the leave to remove.
func TestDangerousTakedowns(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	jazz := w.station("jazz")
	id := decode(t, w.segment("jazz", "one").CID)
	shred := wire.NewTakedown{CID: id.String(), Reason: "x", Shred: true}
	_, err := w.remote(w.token([]string{jazz.ID}, policy.Moderate)).TakeDown(ctx, shred)
	refused(t, err, 403, "forbidden")
	_, err = w.remote(w.token([]string{jazz.ID}, policy.Moderate, policy.ManageSegments)).TakeDown(ctx, shred)
	refused(t, err, 403, "no_identity")
	for _, role := range []policy.Role{policy.Moderator, policy.Publisher} {
		must(t, w.GrantRole(ctx, musen.Assignment{Subject: "sam", Role: role, Station: jazz.ID}))
	}
	sam := w.remote(w.identity("sam"))
	_, err = sam.TakeDown(ctx, shred)
	refused(t, err, 409, "approval_needed")
	all, err := w.local.Approvals(ctx)
	if err != nil || len(all) != 1 || !strings.Contains(all[0].Summary, id.String()) {
		t.Fatalf("approvals %+v, %v", all, err)
	}
	w.give("mod", policy.Moderator, jazz.ID)
	w.give("pub", policy.Publisher, jazz.ID)
	_, err = w.remote(w.identity("mod")).Approve(ctx, all[0].ID) // who may not destroy it either
	refused(t, err, 404, "not_found")
	_, err = w.remote(w.identity("pub")).Approve(ctx, all[0].ID)
	must(t, err)
	if _, err := sam.TakeDown(ctx, wire.NewTakedown{CID: id.String(), Reason: "x"}); err != nil {
		t.Errorf("a moderator cannot take down at once: %v", err)
	}
	_, err = sam.LiftTakedown(ctx, id, wire.Lift{Reason: "a cover"})
	refused(t, err, 409, "approval_needed")

	if _, err = w.local.TakeDown(ctx, shred); err != nil {
		t.Fatal(err)
	}
	_, err = w.local.LiftTakedown(ctx, id, wire.Lift{Reason: "a cover"})
	refused(t, err, 409, "shredded")
}

// H31: bytes that nobody here knows are taken down by who may do that everywhere;
// to others they are what is not covered, and lists have what is one's own.
func TestForeignTakedowns(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	jazz, rock := w.station("jazz"), w.station("rock")
	id := decode(t, w.segment("jazz", "one").CID)
	foreign := decode(t, "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")
	ours, theirs := w.remote(w.token([]string{jazz.ID}, policy.Moderate)), w.remote(w.token([]string{rock.ID}, policy.Moderate))
	everywhere := w.remote(w.token(nil, policy.Moderate))
	for _, c := range []cid.Cid{foreign, id} {
		_, err := theirs.TakeDown(ctx, wire.NewTakedown{CID: c.String(), Reason: "x"})
		refused(t, err, 404, "not_found")
	}
	_, err := ours.TakeDown(ctx, wire.NewTakedown{CID: id.String(), Reason: "x"})
	must(t, err)
	_, err = w.local.TakeDown(ctx, wire.NewTakedown{CID: foreign.String(), Reason: "x", Shred: true})
	refused(t, err, 422, "invalid") // a CID that was mistyped could not be lifted again
	down, err := everywhere.TakeDown(ctx, wire.NewTakedown{CID: foreign.String(), Category: "illegal", Reason: "x"})
	if must(t, err); down.Segment != "" || down.StationName != "" || down.Blocks != 1 {
		t.Errorf("foreign: %+v", down)
	}
	for _, c := range []cid.Cid{foreign, id} {
		_, err := theirs.Takedown(ctx, c)
		refused(t, err, 404, "not_found")
		_, err = theirs.LiftTakedown(ctx, c, wire.Lift{Reason: "x"})
		refused(t, err, 404, "not_found")
	}
	for _, who := range []struct {
		client *client.Client
		sees   int
	}{{ours, 1}, {theirs, 0}, {everywhere, 2}} {
		n := 0
		for _, err := range who.client.Takedowns(ctx) {
			must(t, err)
			n++
		}
		if n != who.sees {
			t.Errorf("%d takedowns are listed, want %d", n, who.sees)
		}
	}
	for _, bad := range []wire.NewTakedown{
		{}, {CID: "x", Reason: "x"}, {CID: foreign.String()}, {CID: foreign.String(), Reason: "a\nb"}, {CID: foreign.String(), Reason: strings.Repeat("x", 1001)},
		{CID: foreign.String(), Reason: "x", Category: "whim"},
	} {
		if _, err := w.local.TakeDown(ctx, bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	if status, p := w.do(newRequest(t, http.MethodGet, "http://socket"+prefix+"/takedowns?cursor=x", "")); status != 400 || p.Code != "bad_parameter" {
		t.Errorf("a wrong cursor: %d %s", status, p.Code)
	}
}

// halfTakedowns cannot make durable what is in force.
type halfTakedowns struct{ *memory }

func (h halfTakedowns) TakeDown(ctx context.Context, t musen.Takedown, shred bool) (musen.Takedown, error) {
	t, err := h.memory.TakeDown(ctx, t, shred)
	return t, errors.Join(err, musen.ErrNoSpace)
}

// told notes which takedowns are to be enforced.
type told struct {
	Origin
	roots *[]cid.Cid
}

func (o told) Enforce(_ context.Context, t musen.Takedown) error {
	*o.roots = append(*o.roots, t.CID)
	return nil
}

// H69: whoever takes down on a disk that is full is told so, and copies are purged
// all the same.
func TestTakedownThatWasNotRecorded(t *testing.T) {
	var enforced []cid.Cid
	w := newWorld(t, func(o *Options) {
		o.Takedowns, o.Origin = halfTakedowns{o.Takedowns.(*memory)}, told{o.Origin, &enforced}
	})
	w.station("jazz")
	id := decode(t, w.segment("jazz", "one").CID)
	_, err := w.local.TakeDown(t.Context(), wire.NewTakedown{CID: id.String(), Reason: "x"})
	refused(t, err, 507, "no_space")
	if len(enforced) != 1 || !enforced[0].Equals(id) {
		t.Errorf("enforced: %v", enforced)
	}
}

// A station is not empty while the key is kept of what was taken down.
func TestStationWithATakedown(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	w.station("jazz")
	id := decode(t, w.segment("jazz", "one").CID)
	_, err := w.local.TakeDown(ctx, wire.NewTakedown{CID: id.String(), Reason: "x"})
	must(t, err)
	refused(t, w.local.RemoveStation(ctx, "jazz", false), 409, "station_not_empty")
	must(t, w.local.RemoveStation(ctx, "jazz", true))
	if got, err := w.local.Takedown(ctx, id); err != nil || got.State != "in_force" || got.StationName != "" {
		t.Errorf("of a station that was removed: %+v, %v", got, err)
	}
}
