package admin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multibase"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/policy"
)

// refused fails the test unless err is the node's refusal with that status and
// code, with words and a next step.
func refused(t *testing.T, err error, status int, code string) {
	t.Helper()
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Status != status || e.Code != code {
		t.Errorf("got %v, want a refusal %d %s", err, status, code)
		return
	}
	if e.Title == "" || e.Detail == "" || e.Help == "" || e.RequestID == "" {
		t.Errorf("refusal %+v says too little", e)
	}
}

// P15: ids of stations are random, and are not taken from their names.
func TestStations(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	jazz, err := w.local.CreateStation(ctx, wire.NewStation{Name: "jazz", Description: "blue — notes"})
	must(t, err)
	if !musen.IsID(jazz.ID) || !jazz.Downloads || jazz.Epoch != 1 || !jazz.Created.Equal(w.now()) {
		t.Errorf("new station %+v", jazz)
	}
	for _, nameOrID := range []string{"jazz", jazz.ID} {
		got, err := w.local.Station(ctx, nameOrID)
		if must(t, err); got != jazz {
			t.Errorf("station %q: %+v, want %+v", nameOrID, got, jazz)
		}
	}
	_, err = w.local.CreateStation(ctx, wire.NewStation{Name: "jazz"})
	refused(t, err, 409, "exists")
	_, err = w.local.CreateStation(ctx, wire.NewStation{Name: "../jazz"})
	refused(t, err, 422, "invalid")
	_, err = w.local.CreateStation(ctx, wire.NewStation{Name: "rock", Description: "a\r\nSet-Cookie: b"})
	refused(t, err, 422, "invalid")
	_, err = w.local.CreateStation(ctx, wire.NewStation{Name: "rock", Description: "a\u202eb"})
	refused(t, err, 422, "invalid")

	off, name := false, "blues"
	blues, err := w.local.ChangeStation(ctx, "jazz", wire.StationChange{Name: &name, Downloads: &off})
	must(t, err)
	if blues.ID != jazz.ID || blues.Name != "blues" || blues.Downloads || blues.Description != jazz.Description {
		t.Errorf("changed station %+v", blues)
	}
	w.station("rock")
	_, err = w.local.ChangeStation(ctx, "rock", wire.StationChange{Name: &name})
	refused(t, err, 409, "exists")
	all, err := w.local.Stations(ctx)
	if must(t, err); len(all) != 2 || all[0] != blues {
		t.Errorf("stations %+v", all)
	}
	must(t, w.local.RemoveStation(ctx, "rock", false))
	_, err = w.local.Station(ctx, "rock")
	refused(t, err, 404, "not_found")
	if again := w.station("rock"); again.ID == all[1].ID || again.ID == blues.ID {
		t.Errorf("a name gives its id away: %s again", again.ID)
	}
}

func TestRemoveStationWithSegments(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	w.segment("jazz", "one")
	w.segment("jazz", "two")
	refused(t, w.local.RemoveStation(t.Context(), "jazz", false), 409, "station_not_empty")
	if n, _ := w.Count(t.Context()); n != 2 {
		t.Fatalf("%d segments live after the refusal", n)
	}
	must(t, w.local.RemoveStation(t.Context(), "jazz", true))
	if n, _ := w.Count(t.Context()); n != 0 || w.left() != 0 || w.destroyed != 2 {
		t.Errorf("%d segments live, %d left behind, %d keys destroyed", n, w.left(), w.destroyed)
	}
}

func TestSegmentLife(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	jazz := w.station("jazz")
	audio := wav("night ferry", 700_000)
	publish, expire := w.now().Add(time.Hour), w.now().Add(48*time.Hour)
	added, err := w.local.Add(ctx, "jazz", client.Upload{
		Audio: bytes.NewReader(audio), Size: int64(len(audio)), MediaType: "audio/wav",
		Title: "Night Ferry", Artist: "The Lamps", Filename: "x.wav", AIGenerated: true, PublishAt: publish, ExpiresAt: expire,
	})
	must(t, err)
	if added.Existing || added.Title != "Night Ferry" || added.Artist != "The Lamps" || !added.AIGenerated ||
		added.Station != jazz.ID || added.StationName != "jazz" || added.Size != int64(len(audio)) || added.SealedSize <= added.Size ||
		added.DurationMS != 43750 || !strings.HasPrefix(added.MediaType, "audio/") ||
		!added.PublishAt.Equal(publish) || !added.ExpiresAt.Equal(expire) {
		t.Errorf("added %+v", added)
	}
	id, err := cid.Decode(added.CID)
	must(t, err)
	got, err := w.local.Segment(ctx, id)
	if must(t, err); got != added.Segment {
		t.Errorf("segment %+v, want %+v", got, added.Segment)
	}

	again, err := w.local.Add(ctx, "jazz", client.Upload{Audio: bytes.NewReader(audio)})
	if must(t, err); !again.Existing || again.CID != added.CID {
		t.Errorf("the same audio: %+v", again)
	}
	other, err := w.local.Add(ctx, "jazz", client.Upload{Audio: bytes.NewReader(audio), Again: true, Filename: "../../etc/Night Ferry.wav"})
	if must(t, err); other.Existing || other.CID == added.CID || other.Title != "Night Ferry" {
		t.Errorf("the same audio again: %+v", other)
	}

	must(t, w.local.RemoveSegment(ctx, id))
	_, err = w.local.Segment(ctx, id)
	refused(t, err, 410, "gone")
	refused(t, w.local.RemoveSegment(ctx, id), 410, "gone")
	collected, err := w.local.GC(ctx)
	if must(t, err); collected.Removed == 0 || collected.Freed < int64(len(audio)) {
		t.Errorf("collected %+v", collected)
	}
	_, err = w.local.Segment(ctx, name(cid.Raw, []byte("unknown")))
	refused(t, err, 404, "not_found")
}

// H25: one segment, whatever its CID is spelled like, and nothing that only
// looks like one.
func TestSpellingsOfCID(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	id, err := cid.Decode(w.segment("jazz", "one").CID)
	must(t, err)
	ask := func(spelling string) (int, client.Error) {
		return w.do(newRequest(t, http.MethodGet, "http://socket/api/v1/segments/"+url.PathEscape(spelling), ""))
	}
	spell := func(base multibase.Encoding) string {
		s, err := id.StringOfBase(base)
		must(t, err)
		return s
	}
	for _, s := range []string{
		spell(multibase.Base32), spell(multibase.Base36), spell(multibase.Base58BTC), spell(multibase.Base64url),
		spell(multibase.Base16), spell(multibase.Base32Upper), spell(multibase.Base16Upper), spell(multibase.Base36Upper),
		cid.NewCidV0(id.Hash()).String(), cid.NewCidV1(cid.DagProtobuf, id.Hash()).String(),
	} {
		if status, p := ask(s); status != 200 {
			t.Errorf("%s: %d %s", s, status, p.Code)
		}
	}
	b32 := spell(multibase.Base32)
	for _, s := range []string{
		"x", "b", "Qm", b32[1:], b32 + "a", b32[:20] + strings.ToUpper(b32[20:]), " " + b32, b32 + "/", "/ipfs/" + b32, "..", "%2e%2e",
		spell(multibase.Base32hex), spell(multibase.Base64pad), spell(multibase.Base64url) + "=", strings.Repeat("b", 129),
		cid.NewCidV1(cid.DagCBOR, id.Hash()).String(), cid.NewCidV1(cid.Raw, id.Hash()[:20]).String(), "b\x00", "🚀",
	} {
		if status, p := ask(s); status != 400 || p.Code != "cid_malformed" {
			t.Errorf("%q: %d %s, want 400 cid_malformed", s, status, p.Code)
		}
	}
}

func TestPages(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	w.station("rock")
	var want []string
	for _, title := range []string{"a", "b", "c", "d", "e"} {
		want = append(want, w.segment("jazz", title).CID)
	}
	w.segment("rock", "another")
	var got []string
	for cursor := ""; ; {
		page, err := w.local.SegmentPage(t.Context(), "jazz", cursor, 2)
		must(t, err)
		if len(page.Segments) > 2 {
			t.Fatalf("page of %d", len(page.Segments))
		}
		for _, s := range page.Segments {
			got = append(got, s.CID)
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("pages %v, want %v", got, want)
	}
	got = nil
	for s, err := range w.local.Segments(t.Context(), "jazz") {
		must(t, err)
		got = append(got, s.CID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("listing %v, want %v", got, want)
	}
	_, err := w.local.SegmentPage(t.Context(), "jazz", "no cursor", 2)
	refused(t, err, 400, "bad_parameter")
	_, err = w.local.SegmentPage(t.Context(), "jazz", "", 501)
	refused(t, err, 400, "bad_parameter")
	for _, err := range w.local.Segments(t.Context(), "unknown") {
		refused(t, err, 404, "not_found")
	}
}

func TestLinks(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	jazz := w.station("jazz")
	id, err := cid.Decode(w.segment("jazz", "one").CID)
	must(t, err)
	link, err := w.local.Link(ctx, id, wire.LinkRequest{})
	must(t, err)
	u, err := url.Parse(link.URL)
	must(t, err)
	if u.Scheme+"://"+u.Host+u.Path != "https://radio.example/listen/"+id.String() || !link.Expires.Equal(w.now().Add(5*time.Minute)) {
		t.Errorf("link %+v", link)
	}
	g, err := w.verifier.Link(u.Query().Get("CAT"), http.MethodGet, u.Path)
	must(t, err)
	if !g.Covers(jazz.ID) || !g.Has(policy.Listen) || g.Has(policy.Download) || g.Epoch() != jazz.Epoch {
		t.Error("the link does not open its segment, or more than that")
	}
	link, err = w.local.Link(ctx, id, wire.LinkRequest{TTL: 60, Download: true, Subject: "bob"})
	must(t, err)
	u, err = url.Parse(link.URL)
	must(t, err)
	if g, err = w.verifier.Link(u.Query().Get("CAT"), http.MethodGet, u.Path); err != nil || !g.Has(policy.Download) || g.Subject() != "bob" || u.Query().Get("download") != "1" {
		t.Errorf("download link %+v: %v", link, err)
	}
	_, err = w.local.Link(ctx, id, wire.LinkRequest{TTL: 86401})
	refused(t, err, 422, "invalid")
	_, err = w.local.Link(ctx, id, wire.LinkRequest{TTL: -1})
	refused(t, err, 422, "invalid")
	off := false
	_, err = w.local.ChangeStation(ctx, "jazz", wire.StationChange{Downloads: &off})
	must(t, err)
	_, err = w.local.Link(ctx, id, wire.LinkRequest{Download: true})
	refused(t, err, 409, "downloads_off")
	_, err = w.local.Link(ctx, id, wire.LinkRequest{Subject: "local"})
	refused(t, err, 422, "invalid")
}

func TestTokens(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	jazz := w.station("jazz")
	tok, err := w.local.IssueToken(ctx, wire.TokenRequest{Subject: "ann", Stations: []string{"jazz", jazz.ID}, Actions: []string{"listen", "add", "add"}, TTL: 90})
	must(t, err)
	g, err := w.verifier.Token(tok.Token)
	must(t, err)
	if g.ID() != tok.ID || !g.Covers(jazz.ID) || g.Covers("") || !g.Has(policy.Add) || g.Has(policy.Manage) || !tok.Expires.Equal(w.now().Add(90*time.Second)) {
		t.Errorf("token %+v", tok)
	}
	all, err := w.local.IssueToken(ctx, wire.TokenRequest{Subject: "root", Actions: []string{"audit"}})
	must(t, err)
	list, err := w.local.Tokens(ctx)
	must(t, err)
	if len(list) != 2 || list[0].ID != tok.ID || !slices.Equal(list[0].Stations, []string{jazz.ID}) ||
		!slices.Equal(list[0].Actions, []string{"listen", "add"}) || len(list[1].Stations) != 0 || !list[0].Revoked.IsZero() {
		t.Errorf("tokens %+v", list)
	}
	revoke := func(r wire.Revocation, known bool) {
		t.Helper()
		done, err := w.local.Revoke(ctx, r)
		if must(t, err); done.Known != known {
			t.Errorf("revoke %+v: known %v", r, done.Known)
		}
	}
	revoke(wire.Revocation{ID: tok.ID}, true)
	revoke(wire.Revocation{ID: tok.ID + "x"}, false) // still recorded
	if !w.Revoked(tok.ID+"x", "", w.now()) {
		t.Error("a jti that is not known is not revoked")
	}
	revoke(wire.Revocation{ID: tok.ID + "x"}, false)
	if _, err := w.verifier.Token(tok.Token); err == nil {
		t.Error("a revoked token is still good")
	}
	revoke(wire.Revocation{Subject: "root"}, true)
	if _, err := w.verifier.Token(all.Token); err == nil {
		t.Error("a token of a revoked subject is still good")
	}
	again, err := w.local.IssueToken(ctx, wire.TokenRequest{Subject: "root", Actions: []string{"audit"}})
	must(t, err)
	if _, err := w.verifier.Token(again.Token); err != nil {
		t.Errorf("a token issued in the second of the revocation: %v", err)
	}
	w.clock.Store(0)
	if list, err = w.local.Tokens(ctx); err != nil || !list[0].Revoked.Equal(w.now()) {
		t.Errorf("tokens %+v: %v", list, err)
	}
	for _, bad := range []wire.TokenRequest{
		{Actions: []string{"listen"}}, {Subject: "ann"}, {Subject: "ann", Actions: []string{"root"}},
		{Subject: "a\nb", Actions: []string{"listen"}}, {Subject: strings.Repeat("a", 257), Actions: []string{"listen"}},
		{Subject: "ann", Actions: []string{"listen"}, TTL: 367 * 86400}, {Subject: "ann", Actions: []string{"listen"}, TTL: -1},
		{Subject: "ann", Actions: []string{"listen"}, Stations: slices.Repeat([]string{"jazz"}, 151)},
		{Subject: "local", Actions: []string{"listen"}}, {Subject: "a\u202eb", Actions: []string{"listen"}},
	} {
		_, err := w.local.IssueToken(ctx, bad)
		refused(t, err, 422, "invalid")
	}
	if _, err := w.local.IssueToken(ctx, wire.TokenRequest{Subject: "local", Actions: []string{"listen"}}); !strings.Contains(err.Error(), "operator") {
		t.Errorf("a token for the operator: %v", err)
	}
	_, err = w.local.IssueToken(ctx, wire.TokenRequest{Subject: "ann", Actions: []string{"listen"}, Stations: []string{"nowhere"}})
	refused(t, err, 404, "not_found")
	for _, bad := range []wire.Revocation{{}, {ID: "a", Subject: "b"}, {Subject: "share:"}} {
		_, err := w.local.Revoke(ctx, bad)
		refused(t, err, 422, "invalid")
	}
}

func TestVerify(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	w.station("jazz")
	w.station("rock")
	audio := wav("long", 600_000)
	long, err := w.local.Add(ctx, "jazz", client.Upload{Audio: bytes.NewReader(audio)})
	must(t, err)
	bad, err := cid.Decode(w.segment("rock", "bad").CID)
	must(t, err)
	w.rot(bad)
	results := map[string]wire.Verified{}
	for r, err := range w.local.Verify(ctx) {
		must(t, err)
		results[r.CID] = r
	}
	if r := results[long.CID]; len(results) != 2 || !r.OK || r.Blocks != 3 || r.Chunks != 10 || r.Bytes != int64(len(audio)) {
		t.Errorf("results %+v", results)
	}
	if r := results[bad.String()]; r.OK || r.Error == "" {
		t.Errorf("a rotten segment: %+v", r)
	}
	n := 0
	for r, err := range w.local.Verify(ctx, bad) {
		if must(t, err); r.OK || r.CID != bad.String() {
			t.Errorf("one segment: %+v", r)
		}
		n++
	}
	if n != 1 {
		t.Errorf("%d results for one segment", n)
	}
	for _, err := range w.local.Verify(ctx, bad, name(cid.Raw, []byte("unknown"))) {
		refused(t, err, 404, "not_found")
	}
}

// failing is a Checker whose catalogue breaks after the first segment.
type failing struct {
	Checker
	calls int
}

func (f *failing) Verify(ctx context.Context, g policy.Grant, c cid.Cid) (musen.Report, error) {
	if f.calls++; f.calls > 1 {
		return musen.Report{}, errors.New("catalogue broken")
	}
	return f.Checker.Verify(ctx, g, c)
}

// An answer that cannot be finished must not look finished.
func TestVerifyIsCutWhenItCannotGoOn(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Checker = &failing{Checker: o.Checker} })
	w.station("jazz")
	w.segment("jazz", "one")
	w.segment("jazz", "two")
	var lines []wire.Verified
	var last error
	for r, err := range w.local.Verify(t.Context()) {
		if last = err; err == nil {
			lines = append(lines, r)
		}
	}
	if len(lines) != 1 || !lines[0].OK || !errors.Is(last, io.ErrUnexpectedEOF) {
		t.Errorf("lines %+v, then %v; want one, then an unexpected end", lines, last)
	}
}

func TestNodeRoutes(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	w.station("jazz")
	w.segment("jazz", "one")
	w.clock.Store(90)
	s, err := w.local.Status(ctx)
	must(t, err)
	if s.Version != "v1" || s.Realm != "test" || s.PeerID != w.PeerID() || !slices.Equal(s.Addresses, w.Addrs()) ||
		s.Stations != 1 || s.Segments != 1 || s.RepoSize < 3000 || s.StorageFree != 1<<30-s.RepoSize || s.StorageMax != 1<<30 || s.Uptime != 90 || s.PublicURL != "https://radio.example" {
		t.Errorf("status %+v", s)
	}
	if text, err := w.local.OpenAPI(ctx); err != nil || text != string(openAPI) {
		t.Errorf("openapi.yaml: %d bytes, %v", len(text), err)
	}
	if text, err := w.local.Policies(ctx); err != nil || !strings.HasPrefix(text, "// The default policies") {
		t.Errorf("policies %q, %v", text, err)
	}
}
