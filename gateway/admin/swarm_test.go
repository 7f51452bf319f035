package admin

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/gateway/admin/wire/swarm"
)

func TestPeers(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	p, err := w.local.Admit(ctx, swarm.Admission{ID: "12D3KooWguest", Name: "ann's box"})
	if must(t, err); p.Role != "guest" || p.Name != "ann's box" || !p.Enrolled.Equal(w.now()) {
		t.Errorf("admitted %+v", p)
	}
	_, err = w.local.Admit(ctx, swarm.Admission{ID: "12D3KooWguest"})
	refused(t, err, 409, "exists")
	for _, a := range []swarm.Admission{{}, {ID: "rubbish"}, {ID: strings.Repeat("a", 129)}, {ID: "a", Name: "a\nb"}} {
		_, err = w.local.Admit(ctx, a)
		refused(t, err, 422, "invalid")
	}
	all, err := w.local.Peers(ctx)
	if must(t, err); len(all) != 1 || all[0].ID != p.ID {
		t.Errorf("peers %+v", all)
	}
	if p, err = w.local.DrainPeer(ctx, "ann's box"); err != nil || !p.Draining {
		t.Errorf("drained %+v, %v", p, err)
	}
	if p, err = w.local.Reinstate(ctx, p.ID, "a new disk"); err != nil || p.Standing != "new" || p.Why != "a new disk" {
		t.Errorf("reinstated %+v, %v", p, err)
	}
	_, err = w.local.Reinstate(ctx, p.ID, "")
	refused(t, err, 422, "invalid")
	must(t, w.local.RemovePeer(ctx, p.ID))
	for _, err := range []error{
		w.local.RemovePeer(ctx, p.ID), second(w.local.DrainPeer(ctx, "no/one")), second(w.local.Reinstate(ctx, "..", "x")),
	} {
		refused(t, err, 404, "not_found")
	}
	if err := w.local.RemovePeer(ctx, "nobody"); err == nil || !strings.Contains(err.Error(), `"nobody"`) {
		t.Errorf("it does not say who is not there: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// An invite is a secret: it stands in one answer, which nobody keeps, and in no
// log.
func TestInvites(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	r := swarm.InviteRequest{Role: "replica", Name: "attic", Site: "home", TTL: 3600, Addresses: []string{"/ip4/192.0.2.1/tcp/4001"}}
	made, err := w.local.Invite(ctx, r)
	if must(t, err); made.Invite != secretInvite || !made.Expires.Equal(w.now().Add(time.Hour)) {
		t.Errorf("invite %+v", made)
	}
	resp, err := http.Post("http://"+w.tcp+prefix+"/peers/invites", "application/json", strings.NewReader(`{"role":"storage"}`))
	must(t, err)
	if resp.Body.Close(); resp.StatusCode != 401 {
		t.Errorf("a stranger gets %d", resp.StatusCode)
	}
	open, err := w.local.Invites(ctx)
	if must(t, err); len(open) != 1 || open[0].ID != made.ID || open[0].Role != "replica" || open[0].Name != "attic" || open[0].Site != "home" {
		t.Errorf("open invites %+v", open)
	}
	if strings.Contains(w.log.String(), secretInvite) {
		t.Error("the log has an invite")
	}
	for _, bad := range []swarm.InviteRequest{
		{}, {Role: "origin"}, {Role: "guest"}, {Role: "storage", TTL: -1}, {Role: "storage", TTL: 31 * 86400},
		{Role: "storage", Name: "a\u202eb"}, {Role: "storage", Site: strings.Repeat("x", 257)},
	} {
		_, err := w.local.Invite(ctx, bad)
		refused(t, err, 422, "invalid")
	}
	_, err = w.local.Invite(ctx, swarm.InviteRequest{Role: "storage", Name: "taken"})
	refused(t, err, 409, "exists")
	must(t, w.local.Withdraw(ctx, made.ID))
	refused(t, w.local.Withdraw(ctx, made.ID), 404, "not_found")
}

func TestServices(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	n := swarm.NewService{Name: "vault", Endpoint: "https://pins.example/api", TokenFile: "/run/secrets/pins"}
	s, err := w.local.AddService(ctx, n)
	if must(t, err); s.Name != n.Name || s.Endpoint != n.Endpoint || s.TokenFile != n.TokenFile {
		t.Errorf("service %+v", s)
	}
	_, err = w.local.AddService(ctx, n)
	refused(t, err, 409, "exists")
	for _, bad := range []swarm.NewService{
		{}, {Name: "x", Endpoint: n.Endpoint, TokenFile: "relative"}, {Name: "x", TokenFile: "/t"}, {Name: "a\tb", Endpoint: n.Endpoint, TokenFile: "/t"},
	} {
		_, err := w.local.AddService(ctx, bad)
		refused(t, err, 422, "invalid")
	}
	all, err := w.local.Services(ctx)
	if must(t, err); len(all) != 1 || all[0] != s {
		t.Errorf("services %+v", all)
	}
	must(t, w.local.RemoveService(ctx, "vault"))
	refused(t, w.local.RemoveService(ctx, "vault"), 404, "not_found")
}

func TestReplicationOfStations(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	jazz := w.station("jazz")
	if want := (swarm.Want{Min: 1, Max: 1, Spread: "none"}); jazz.Replication != want || len(jazz.Label) != 16 {
		t.Errorf("a new station %+v", jazz)
	}
	two, three, five, site := 2, 3, 5, "site"
	got, err := w.local.ChangeStation(ctx, "jazz", wire.StationChange{Replication: &swarm.WantChange{Min: &two, Max: &three}})
	if must(t, err); got.Replication != (swarm.Want{Min: 2, Max: 3, Spread: "none"}) || got.Label != jazz.Label {
		t.Errorf("changed %+v", got)
	}
	got, err = w.local.ChangeStation(ctx, "jazz", wire.StationChange{Replication: &swarm.WantChange{Spread: &site, Community: &five}})
	if must(t, err); got.Replication != (swarm.Want{Min: 2, Max: 3, Spread: "site", Community: 5}) {
		t.Errorf("changed %+v", got)
	}
	rock, err := w.local.CreateStation(ctx, wire.NewStation{Name: "rock", Replication: &swarm.WantChange{Max: &three, Community: &two}})
	if must(t, err); rock.Replication != (swarm.Want{Min: 1, Max: 3, Spread: "none", Community: 2}) {
		t.Errorf("created %+v", rock)
	}
	zero, many, rack := 0, 65, "rack"
	for _, bad := range []swarm.WantChange{{Min: &zero}, {Max: &zero}, {Min: &five}, {Max: &many}, {Community: &many}, {Spread: &rack}} {
		_, err := w.local.ChangeStation(ctx, "jazz", wire.StationChange{Replication: &bad})
		refused(t, err, 422, "invalid")
		_, err = w.local.CreateStation(ctx, wire.NewStation{Name: "folk", Replication: &bad})
		if bad.Min != &five { // of a new station that is 5..1
			refused(t, err, 422, "invalid")
		}
	}
}

// inGoodHealth is how a segment is that two others hold.
func inGoodHealth(root string) swarm.Health {
	at := time.Unix(1_800_000_000, 0).UTC()
	return swarm.Health{
		CID: root, Want: swarm.Want{Min: 2, Max: 3, Spread: "none"}, Level: "durable",
		Copies: []swarm.Copy{
			{Peer: "12D3KooWtest", Name: "origin", Role: "origin", State: "proved", Counts: true, Since: at},
			{Peer: "12D3KooWother", Name: "attic", Site: "home", Role: "storage", State: "proved", Counts: true, Since: at, Proved: at, Outcome: "proved"},
			{Name: "vault", Role: "service", State: "ordered", Reason: "queued"},
		},
	}
}

func TestCopies(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	jazz, rock := w.station("jazz"), w.station("rock")
	one, two := w.segment("jazz", "one"), w.segment("rock", "two")
	good, ill := parsed(t, one.CID), parsed(t, two.CID)
	w.fleet.set(jazz.Label, inGoodHealth(one.CID))
	w.fleet.set(rock.Label, alone(ill))
	h, err := w.local.Copies(ctx, good, "", 0)
	if must(t, err); h.Level != "durable" || len(h.Copies) != 3 || h.Title != "one" || h.StationName != "jazz" || h.Station != jazz.ID || h.Reason != "" {
		t.Errorf("copies %+v", h)
	}
	for station, want := range map[string][2]int{"": {2, 1}, "jazz": {1, 0}, "rock": {1, 1}} {
		r, err := w.local.Replication(ctx, station)
		if must(t, err); r.Segments != want[0] || len(r.List) != want[1] {
			t.Errorf("replication of %q: %+v", station, r)
		}
		if len(r.List) == 1 && (r.List[0].CID != two.CID || r.List[0].StationName != "rock" || r.List[0].Title != "two") {
			t.Errorf("unhealthy in %q: %+v", station, r.List)
		}
	}
	r, err := w.local.Recover(ctx, ill)
	if must(t, err); r.Segments == 0 || !slices.Equal(w.fleet.recovered, []cid.Cid{ill}) {
		t.Errorf("recovered %+v, %v", r, w.fleet.recovered)
	}
	if r, err = w.local.Recover(ctx); err != nil || r.Segments != 2 {
		t.Errorf("recovered all: %+v, %v", r, err)
	}
	w.fleet.moved = 7
	if m, err := w.local.Rebalance(ctx); err != nil || m.Moved != 7 {
		t.Errorf("rebalanced %+v, %v", m, err)
	}
	_, err = w.local.Copies(ctx, name(cid.Raw, []byte("unknown")), "", 0)
	refused(t, err, 404, "not_found")
	_, err = w.local.Copies(ctx, good, "safe", 0)
	refused(t, err, 400, "bad_parameter")
	_, err = w.local.Copies(ctx, good, "durable", 2*time.Hour)
	refused(t, err, 400, "bad_parameter")
}

func parsed(t *testing.T, s string) cid.Cid {
	t.Helper()
	c, err := cid.Decode(s)
	must(t, err)
	return c
}

// Of a removed segment the operator sees who has not deleted it yet, until all
// have.
func TestCopiesOfARemovedSegment(t *testing.T) {
	w := newWorld(t, nil)
	jazz := w.station("jazz")
	id := parsed(t, w.segment("jazz", "one").CID)
	must(t, w.local.RemoveSegment(t.Context(), id))
	h := inGoodHealth(id.String())
	h.Gone, h.Level, h.Copies = true, "none", []swarm.Copy{{Peer: "12D3KooWother", Name: "attic", Role: "replica", State: "purging"}}
	w.fleet.set(jazz.Label, h)
	got, err := w.local.Copies(t.Context(), id, "durable", time.Second) // nobody waits for what never comes
	if must(t, err); !got.Gone || len(got.Copies) != 1 || got.Copies[0].State != "purging" {
		t.Errorf("copies %+v", got)
	}
	w.fleet.set(jazz.Label, swarm.Health{CID: id.String()})
	_, err = w.local.Copies(t.Context(), id, "", 0)
	refused(t, err, 410, "gone")
}

// An upload that waits answers when the level is reached; when it is not in
// time the segment is there all the same, and the answer says what it lacks.
func TestUploadWaits(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	jazz := w.station("jazz")
	up := func(title, level string, timeout time.Duration) client.Upload {
		return client.Upload{Audio: bytes.NewReader(wav(title, 3000)), Title: title, Wait: level, WaitTimeout: timeout}
	}
	a, err := w.local.Add(ctx, "jazz", up("one", "stored", 0))
	if must(t, err); a.Level != "stored" || !strings.Contains(a.Reason, "1 of 2 copies") {
		t.Errorf("stored: %+v", a)
	}
	a, err = w.local.Add(ctx, "jazz", up("two", "durable", time.Second))
	if must(t, err); a.Existing || a.Level != "stored" || a.Reason == "" {
		t.Errorf("not durable in time: %+v", a)
	}
	w.fleet.set(jazz.Label, inGoodHealth(a.CID))
	a, err = w.local.Add(ctx, "jazz", up("two", "durable", time.Minute))
	if must(t, err); !a.Existing || a.Level != "durable" || a.Reason != "" {
		t.Errorf("durable: %+v", a)
	}
	a, err = w.local.Add(ctx, "jazz", up("three", "", 0))
	if must(t, err); a.Level != "" || a.Reason != "" {
		t.Errorf("who does not wait is told %+v", a)
	}
	_, err = w.local.Add(ctx, "jazz", up("four", "safe", 0))
	refused(t, err, 400, "bad_parameter")
}

// waiter is an upload under way that waits for durability.
func (w *world) waiter(title string) <-chan error {
	done := make(chan error, 1)
	go func() {
		a, err := w.local.Add(context.Background(), "jazz", client.Upload{
			Audio: bytes.NewReader(wav(title, 3000)), Wait: "durable", WaitTimeout: time.Hour,
		})
		if err == nil && a.Level != "stored" {
			err = io.ErrUnexpectedEOF
		}
		done <- err
	}()
	return done
}

// A node that stops does not wait for copies: it answers how far they are.
func TestStoppingEndsTheWait(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	done := w.waiter("one")
	for n := 0; n == 0; { // until the segment is there, and waited for
		n, _ = w.Count(t.Context())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	must(t, w.server.Shutdown(ctx))
	must(t, <-done)
}

// A node without a swarm says so, and adds all the same.
func TestNoSwarm(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Members, o.Invites, o.Copies, o.Services = nil, nil, nil, nil })
	ctx := t.Context()
	w.station("jazz")
	id := parsed(t, w.segment("jazz", "one").CID)
	for _, err := range []error{
		second(w.local.Peers(ctx)), second(w.local.Admit(ctx, swarm.Admission{ID: "a"})), w.local.RemovePeer(ctx, "a"),
		second(w.local.DrainPeer(ctx, "a")), second(w.local.Reinstate(ctx, "a", "b")),
		second(w.local.Invite(ctx, swarm.InviteRequest{Role: "storage"})), second(w.local.Invites(ctx)), w.local.Withdraw(ctx, "a"),
		second(w.local.Copies(ctx, id, "", 0)), second(w.local.Replication(ctx, "")), second(w.local.Replication(ctx, "jazz")),
		second(w.local.Recover(ctx)), second(w.local.Recover(ctx, id)), second(w.local.Rebalance(ctx)),
		second(w.local.Services(ctx)), second(w.local.AddService(ctx, swarm.NewService{})), w.local.RemoveService(ctx, "a"),
	} {
		refused(t, err, 404, "no_swarm")
	}
	a, err := w.local.Add(ctx, "jazz", client.Upload{Audio: bytes.NewReader(wav("two", 3000)), Wait: "stored"})
	if must(t, err); a.Level != "stored" {
		t.Errorf("stored: %+v", a)
	}
	_, err = w.local.Add(ctx, "jazz", client.Upload{Audio: bytes.NewReader(wav("three", 3000)), Wait: "durable"})
	refused(t, err, 404, "no_swarm")
	if n, _ := w.Count(ctx); n != 2 {
		t.Errorf("%d segments: what was refused left one", n)
	}
}

// Rotten blocks that a peer has are replaced; of others the answer says that
// nobody has them.
func TestRepair(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	w.station("jazz")
	audio := wav("long", 600_000)
	added, err := w.local.Add(ctx, "jazz", client.Upload{Audio: bytes.NewReader(audio)})
	must(t, err)
	id := parsed(t, added.CID)
	segment, err := w.memory.Segment(ctx, id.Hash())
	must(t, err)
	for _, leaf := range segment.Leaves[1:] {
		w.peers[string(leaf.Hash())] = bytes.Clone(w.blocks[string(leaf.Hash())])
		w.rot(leaf)
	}
	look := func(repair bool) (v wire.Verified) {
		t.Helper()
		results := w.local.Verify
		if repair {
			results = w.local.Repair
		}
		for r, err := range results(ctx, id) {
			must(t, err)
			v = r
		}
		return v
	}
	if v := look(false); v.OK || v.Mended != 0 {
		t.Errorf("damaged: %+v", v)
	}
	if v := look(true); !v.OK || v.Mended != 2 || v.Blocks != 3 || v.Bytes != int64(len(audio)) {
		t.Errorf("repaired: %+v", v)
	}
	if v := look(true); !v.OK || v.Mended != 0 {
		t.Errorf("nothing to repair: %+v", v)
	}
	w.rot(segment.Leaves[0])
	if v := look(true); v.OK || v.Mended != 0 || !strings.Contains(v.Error, "nobody has it") {
		t.Errorf("beyond repair: %+v", v)
	}
}

// While a segment cannot be seen whole nothing is collected, and the answer
// names it.
func TestCollectionOfGarbageStopsAtDamage(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	w.segment("jazz", "one")
	bad := w.segment("jazz", "two").CID
	w.stuck = true
	_, err := w.local.GC(t.Context())
	refused(t, err, 500, "internal")
	w.rot(parsed(t, bad))
	_, err = w.local.GC(t.Context())
	refused(t, err, 500, "damaged")
	if err == nil || !strings.Contains(err.Error(), bad) {
		t.Errorf("it does not say which: %v", err)
	}
}
