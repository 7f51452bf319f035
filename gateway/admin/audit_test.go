package admin

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/gateway/admin/wire/auditlog"
	"github.com/musenai/musen/internal/audit"
	"github.com/musenai/musen/policy"
)

var (
	_ Audit      = (*audit.Log)(nil)
	_ AuditHeads = (*audit.Log)(nil)
)

// clear is a cipher that hides nothing.
type clear struct{}

func (clear) Encrypt(text, _ []byte) ([]byte, error)   { return text, nil }
func (clear) Decrypt(sealed, _ []byte) ([]byte, error) { return sealed, nil }

func openAudit(t *testing.T, dir string, now func() time.Time) *audit.Log {
	t.Helper()
	l, err := audit.Open(audit.Options{
		Dir: dir, Origin: "musen/audit/test/peer", Cipher: clear{}, Key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)),
		Now: now,
	})
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// records are those of an event, or all.
func (w *world) records(event string) []audit.Record {
	w.t.Helper()
	all, err := w.audit.List(audit.Query{Event: event})
	must(w.t, err)
	return all
}

// P36: no route that changes something is without an event of its own, and all
// events are in the catalogue.
func TestEveryRouteHasAnEvent(t *testing.T) {
	catalogue := audit.Events()
	for _, r := range routes() {
		event := r.act.event
		if event == notRecorded && r.changes() && r.name() != "POST /policy/explain" { // which only asks
			t.Errorf("%s changes something and has no event", r.name())
		}
		if event != notRecorded && !slices.ContainsFunc(catalogue, func(e audit.Event) bool { return e.Name == event }) {
			t.Errorf("%s: %q is not in audit.Events", r.name(), event)
		}
	}
}

// P36, H55: a call is recorded before it is tried and after, with who, what,
// why and what came of it.
func TestCallsAreRecorded(t *testing.T) {
	w := newWorld(t, nil)
	station := w.station("jazz")
	made := w.records("station.created")
	if len(made) != 2 || made[0].Outcome != audit.Begun || made[1].Outcome != audit.Done || made[0].Object != "/stations" ||
		made[1].Object != fmt.Sprintf("station %q (%s)", "jazz", station.ID) || made[1].Actor != "local" || made[1].By != "local" ||
		made[0].Request == "" || made[0].Request != made[1].Request {
		t.Errorf("%+v", made)
	}
	if _, err := w.local.CreateStation(t.Context(), wire.NewStation{Name: "jazz"}); err == nil {
		t.Error("made twice")
	}
	if again := w.records("station.created"); len(again) != 4 || again[3].Outcome != audit.Refused || again[3].Code != "exists" {
		t.Errorf("%+v", again)
	}
	segment := w.segment("jazz", "a secret title")
	if got := w.records("segment.added"); len(got) != 2 || got[1].Object != "segment "+segment.CID+" of station "+station.ID {
		t.Errorf("%+v", got)
	}
	before := w.audit.Head()
	_, err := w.local.Stations(t.Context())
	must(t, err)
	if w.audit.Head() != before {
		t.Error("a call that reads is recorded")
	}
	body := strings.NewReader(`{"subject":"bob","state":"suspended","reason":"spam"}`)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+w.tcp+prefix+"/subjects", body)
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+w.token(nil, policy.Manage))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(reasonHeader, "ticket 7")
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	resp.Body.Close()
	set := w.records("subject.set")
	if len(set) != 2 || set[1].Object != `"bob" to suspended: spam` || set[1].Actor != "ann" || set[1].By != "token" || set[1].Credential == "" || set[1].Reason != "ticket 7" {
		t.Errorf("%d: %+v", resp.StatusCode, set)
	}
	for _, r := range w.records("") {
		if strings.Contains(fmt.Sprint(r), "secret title") {
			t.Errorf("a title: %+v", r)
		}
	}
}

// H13, P36: what somebody puts in the place of an id may be a secret, and is not
// recorded; an id is.
func TestNoSecretIsRecorded(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	secret, token := strings.Repeat("a", 31)+"q", w.token(nil, policy.Manage)
	for _, id := range []string{secret, "https://radio.example/s/" + secret, token} {
		wantCode(t, w.local.RevokeShare(t.Context(), id), "not_found")
	}
	for _, r := range w.records("") {
		if text := fmt.Sprint(r); strings.Contains(text, secret) || strings.Contains(text, token[40:60]) {
			t.Errorf("a secret: %s", text)
		}
	}
	wantCode(t, w.local.RevokeShare(t.Context(), "zrjjkicflujs6g4mi7ceykemw4"), "not_found")
	if got := w.records("share.revoked"); got[len(got)-1].Object != "/shares/zrjjkicflujs6g4mi7ceykemw4" {
		t.Errorf("%+v", got[len(got)-1])
	}
}

// P36: a handler that breaks has failed.
func TestBrokenCallIsRecorded(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Subjects = broken{} })
	_, err := w.local.SetSubject(t.Context(), wire.SubjectChange{Subject: "bob", State: "ended", Reason: "x"})
	wantCode(t, err, "internal")
	if got := w.records("subject.set"); len(got) != 2 || got[1].Outcome != audit.Failed || got[1].Code != "internal" {
		t.Errorf("%+v", got)
	}
}

// broken panics.
type broken struct{ subjects }

type subjects = Subjects

// full is an audit log that can be written no more.
type full struct {
	Audit
	err error
}

func (f full) Append(audit.Record) error { return fmt.Errorf("%w: %w", audit.ErrUnavailable, f.err) }

// H68, H69: what cannot be recorded is not done, and says why; reading goes on.
func TestNothingIsDoneUnrecorded(t *testing.T) {
	for fault, code := range map[error]string{syscall.EIO: "audit_unavailable", syscall.ENOSPC: "no_space"} {
		w := newWorld(t, func(o *Options) { o.Audit = full{o.Audit, fault} })
		_, err := w.local.CreateStation(t.Context(), wire.NewStation{Name: "jazz"})
		wantCode(t, err, code)
		if !strings.Contains(err.Error(), "audit log") {
			t.Errorf("does not say what is full: %v", err)
		}
		all, err := w.local.Stations(t.Context())
		if err != nil || len(all) != 0 {
			t.Errorf("%v, %v", all, err)
		}
	}
}

// P36: who is refused is recorded, up to a number a minute, and then counted;
// what a stranger wrote is not. The operator's misspellings are not either.
func TestRefusalsAreRecorded(t *testing.T) {
	w := newWorld(t, nil)
	_, err := w.local.Station(t.Context(), "nowhere")
	wantCode(t, err, "not_found")
	_, err = w.remote(w.token(nil, policy.Listen)).CreateStation(t.Context(), wire.NewStation{Name: "jazz"})
	wantCode(t, err, "forbidden")
	got := w.records("admin.refused")
	if len(got) != 1 || got[0].Actor != "ann" || got[0].Code != "forbidden" || got[0].Object != "POST /stations" || got[0].Outcome != audit.Refused {
		t.Fatalf("%+v", got)
	}
	_, err = w.remote(w.token(nil, policy.Listen)).Report(t.Context(), "zrjjkicflujs6g4mi7ceykemw4")
	wantCode(t, err, "not_found") // by the handler
	if got = w.records("admin.refused"); len(got) != 2 || got[1].Actor != "ann" || got[1].Object != "GET /reports/:report" {
		t.Fatalf("%+v", got)
	}
	stranger := w.remote("x")
	for range 100 {
		_, err := stranger.Station(t.Context(), "planted-203.0.113.77")
		wantCode(t, err, "credential_malformed")
	}
	if got = w.records("admin.refused"); len(got) != 2+refusedAMinute || got[2].Actor != "" || got[2].Object != "GET /stations/:station" {
		t.Errorf("%d: %+v", len(got), got[2])
	}
	_, err = w.remote(w.token(nil, policy.Listen)).CreateStation(t.Context(), wire.NewStation{Name: "jazz"})
	wantCode(t, err, "forbidden")
	if got = w.records("admin.refused"); len(got) != 3+refusedAMinute || got[2+refusedAMinute].Actor != "ann" || got[2+refusedAMinute].Facts["more"] != "40" {
		t.Errorf("strangers keep out who is known: %d: %+v", len(got), got[len(got)-1])
	}
	w.clock.Add(61)
	_, err = stranger.Station(t.Context(), "nowhere")
	wantCode(t, err, "credential_malformed")
	if got = w.records("admin.refused"); len(got) != 4+refusedAMinute || got[3+refusedAMinute].Actor != "" {
		t.Errorf("%d: %+v", len(got), got[len(got)-1])
	}
}

// H45, H55: whoever has any token does not fill the disk with records of what is
// refused, and keeps nobody else from having theirs.
func TestRefusedCallsAreBounded(t *testing.T) {
	w := newWorld(t, nil)
	listener := w.remote(w.token(nil, policy.Listen))
	for i := range 3 * refusedAMinute {
		err := listener.RevokeShare(t.Context(), "zrjjkicflujs6g4mi7ceykemw4")
		if want := "not_found"; i < refusedAMinute {
			wantCode(t, err, want)
		} else {
			wantCode(t, err, "too_many_requests")
		}
	}
	if got := w.records("share.revoked"); len(got) != 2*refusedAMinute {
		t.Errorf("%d records", len(got))
	}
	wantCode(t, w.local.RevokeShare(t.Context(), "zrjjkicflujs6g4mi7ceykemw4"), "not_found")
	w.clock.Add(61)
	wantCode(t, listener.RevokeShare(t.Context(), "zrjjkicflujs6g4mi7ceykemw4"), "not_found")
}

// P36: an approval is recorded when it is asked for, given and used.
func TestApprovalsAreRecorded(t *testing.T) {
	w := newWorld(t, nil)
	w.station("jazz")
	w.give("ann", policy.Operator, "")
	w.give("bob", policy.Operator, "")
	ann, bob := w.identity("ann"), w.identity("bob")
	_, _, id := w.ask("DELETE", "/stations/jazz", "", ann, "")
	w.ask("POST", "/approvals/"+id+"/approve", "", ann, "")
	w.ask("POST", "/approvals/"+id+"/approve", "", bob, "")
	if status, code, _ := w.ask("DELETE", "/stations/jazz", "", ann, id); status != http.StatusNoContent {
		t.Fatal(status, code)
	}
	given, used, removed := w.records("approval.given"), w.records("approval.used"), w.records("station.removed")
	if len(given) != 4 || given[1].Code != "own_request" || given[3].Actor != "bob" || !strings.Contains(given[3].Object, `of "ann": remove station "jazz"`) ||
		len(used) != 1 || used[0].Actor != "ann" || used[0].Facts["approval"] != id {
		t.Errorf("%+v, %+v", given, used)
	}
	if len(removed) != 4 || removed[1].Code != "approval_needed" || removed[3].Outcome != audit.Done {
		t.Errorf("%+v", removed)
	}
}

// wantCode fails unless the node refused with that code.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if refused, ok := errors.AsType[*client.Error](err); !ok || refused.Code != code {
		t.Errorf("%v, not %s", err, code)
	}
}

// P58: the log is read with a permission of its own, and who read it is in it.
func TestReadingTheLogIsRecorded(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	w.station("jazz")
	auditor := w.remote(w.token(nil, policy.Audit))
	list, err := auditor.Audit(ctx, client.AuditQuery{Event: "station", Since: w.now().Add(-time.Hour), Limit: 1})
	must(t, err)
	if len(list.Records) != 1 || list.Records[0].Object == "" || list.Records[0].Outcome != audit.Done {
		t.Errorf("%+v", list)
	}
	read := w.records("audit.read")
	if len(read) != 2 || read[1].Actor != "ann" || !strings.Contains(read[1].Object, "the last 1 records of station since 20") {
		t.Errorf("%+v", read)
	}
	for _, a := range []policy.Action{policy.ReadAccess, policy.Listen, policy.ReadStatus} {
		_, err := w.remote(w.token(nil, a)).Audit(ctx, client.AuditQuery{})
		wantCode(t, err, "forbidden")
	}
	if list, err = w.local.Audit(ctx, client.AuditQuery{Actor: "ann"}); err != nil || len(list.Records) != 5 {
		t.Errorf("%+v, %v", list, err)
	}
}

// H55: a checkpoint comes signed, with what the catalogue knows.
func TestCheckpointOfTheLog(t *testing.T) {
	kept := audit.Head{Size: 7, Hash: [32]byte{1}}
	w := newWorld(t, func(o *Options) {
		o.AuditState.Kept = func(context.Context) (audit.Head, error) { return kept, nil }
	})
	p, err := w.local.AuditCheckpoint(t.Context())
	must(t, err)
	c, err := audit.OpenCheckpoint(p.Checkpoint, p.Key)
	if got, ok := p.Catalogue.Head(); err != nil || c.Head != w.audit.Head() || !ok || got != kept {
		t.Errorf("%+v, %+v, %v", p, c, err)
	}
}

// P63: the digest is of what happened since the last review, is signed up to a
// record that the log has, and status tells when the next is due.
func TestAuditReview(t *testing.T) {
	var faults []string
	start := time.Unix(1_800_000_000, 0) // of the clock
	w := newWorld(t, func(o *Options) {
		o.Limits.AuditReviewEvery = 7 * 24 * time.Hour
		o.AuditState.Check = func() (time.Time, []string) { return start, faults }
		o.AuditState.Begun = start
	})
	ctx := t.Context()
	w.station("jazz")
	_, err := w.local.CreateStation(ctx, wire.NewStation{Name: "jazz"})
	wantCode(t, err, "exists")
	d, err := w.local.AuditDigest(ctx)
	must(t, err)
	count := func(counts []auditlog.Count, event, actor, outcome string) (n int) {
		for _, c := range counts {
			if c.Event == event && c.Actor == actor && c.Outcome == outcome {
				n = c.N
			}
		}
		return n
	}
	if d.After != 0 || d.Last != nil || d.Head.Size != 6 || count(d.Events, "station.created", "", audit.Done) != 1 ||
		count(d.Events, "station.created", "", audit.Refused) != 1 || count(d.Actors, "", "local", audit.Done) != 1 || d.Checked == nil {
		t.Errorf("%+v", d)
	}
	wrong := d.Head
	wrong.Size++
	_, err = w.local.SignAudit(ctx, auditlog.SignOff{Reviewer: "Ann", Head: wrong})
	wantCode(t, err, "report_changed")
	v, err := w.local.SignAudit(ctx, auditlog.SignOff{Reviewer: "Ann", Head: d.Head})
	must(t, err)
	if v.Size != 6 || v.Of != "musen/audit/test/peer" || v.Digest != d.Head.Hash || v.Reviewer != "Ann" || v.Signature == "" {
		t.Errorf("%+v", v)
	}
	_, err = w.local.SignAudit(ctx, auditlog.SignOff{Reviewer: "Ann", Head: d.Head})
	wantCode(t, err, "report_changed")
	if d, err = w.local.AuditDigest(ctx); err != nil || d.After != 6 || d.Last == nil || d.Last.ID != v.ID || count(d.Events, "station.created", "", audit.Done) != 0 {
		t.Errorf("%+v, %v", d, err)
	}
	r, err := w.local.AccessReport(ctx)
	if err != nil || r.Last != nil {
		t.Errorf("taken for a review of access: %+v, %v", r.Last, err)
	}
	warned := func(words string) bool {
		t.Helper()
		s, err := w.local.Status(ctx)
		must(t, err)
		return slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.Contains(w, words) })
	}
	const due = "a review of the audit log is due since 2027-01-22"
	w.clock.Store(7*24*3600 - 1)
	if warned("audit log") {
		t.Error("too early")
	}
	w.clock.Store(7 * 24 * 3600)
	faults = []string{"f line 2, record 2: it was changed"}
	if !warned(due) || !warned("the audit log is not as it was written: f line 2, record 2") {
		t.Error("not told")
	}
}
