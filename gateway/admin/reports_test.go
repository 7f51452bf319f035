package admin

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog"
	"github.com/musenai/musen/gateway/admin/client"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/policy"
)

// fixedReports has one report of each station, with the id of the station.
type fixedReports struct{ Reports }

func (fixedReports) ReportQueue(context.Context, time.Time) (musen.ReportQueue, error) {
	return musen.ReportQueue{}, nil
}

func (fixedReports) ContentReports(context.Context, musen.ReportQuery) ([]musen.ContentReport, string, error) {
	return nil, "", nil
}

func (fixedReports) ContentReport(_ context.Context, id string) (musen.ContentReport, error) {
	return musen.ContentReport{ID: id, Station: id, Category: "other", Count: 1, Reporters: 1}, nil
}

func (fixedReports) TakeReport(context.Context, string, string) error { return musen.ErrDecided }

// A bureau is a world whose reports are in a real catalogue.
type bureau struct {
	*world
	rows *catalog.Catalog
}

func newBureau(t *testing.T) *bureau {
	b := &bureau{}
	b.world = newWorld(t, func(o *Options) {
		aead, err := subtle.NewAESGCM(make([]byte, 32))
		must(t, err)
		b.rows, err = catalog.Create(t.Context(), filepath.Join(t.TempDir(), "catalogue.db"), catalog.Options{
			Cipher: aead, Now: o.Now, LookupMAC: func(data []byte) []byte {
				h := hmac.New(sha256.New, []byte("lookup"))
				h.Write(data)
				return h.Sum(nil)
			},
		})
		must(t, err)
		o.Reports = b.rows
	})
	t.Cleanup(func() { noError(t, b.rows.Close()) })
	return b
}

// known makes a station in both places.
func (b *bureau) known(name string) wire.Station {
	s := b.station(name)
	station, err := b.world.Station(b.t.Context(), s.ID)
	must(b.t, err)
	must(b.t, b.rows.CreateStation(b.t.Context(), station))
	return s
}

// report takes one in.
func (b *bureau) report(n musen.NewReport) {
	b.t.Helper()
	var id [16]byte
	rand.Read(id[:])
	n.ID = strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(id[:]))
	n.Category, n.Reporter = "hate", "a pseudonym"
	_, _, err := b.rows.PutReport(b.t.Context(), n)
	must(b.t, err)
}

// listed are the reports that a client sees.
func listed(t *testing.T, c *client.Client, station string, open bool) (all []wire.ContentReport) {
	t.Helper()
	for r, err := range c.Reports(t.Context(), station, open) {
		must(t, err)
		all = append(all, r)
	}
	return all
}

// P92, P93: a moderator sees what is reported of the stations that are theirs,
// takes it up and decides with a reason; who may do so everywhere also sees what
// is not here.
func TestReports(t *testing.T) {
	b := newBureau(t)
	ctx := t.Context()
	jazz, blues := b.known("jazz"), b.known("blues")
	song := b.segment("jazz", "one")
	id, err := cid.Decode(song.CID)
	must(t, err)
	b.report(musen.NewReport{CID: id, Text: "\x1b[2J<b>=1+1"}) // the catalogue does not know the segment
	b.clock.Add(1)
	b.report(musen.NewReport{Station: jazz.ID})
	b.clock.Add(1)
	b.report(musen.NewReport{Station: blues.ID})
	all := listed(t, b.local, "", false)
	if len(all) != 3 || all[0].Station != "" || all[0].CID != song.CID || all[1].StationName != "jazz" || all[2].Station != blues.ID || all[0].Statements != nil {
		t.Fatalf("%+v", all)
	}
	first, err := b.local.Report(ctx, all[0].ID)
	if must(t, err); first.State != "received" || first.Overdue || first.Statements[0].Text != "\x1b[2J<b>=1+1" || first.Title != "one" || first.SegmentState != "live" {
		t.Errorf("%+v", first)
	}

	moderator := b.remote(b.token([]string{jazz.ID}, policy.Moderate))
	auditor := b.remote(b.token(nil, policy.Audit))
	stranger := b.remote(b.token([]string{jazz.ID}, policy.Listen))
	if of := listed(t, moderator, "", true); len(of) != 1 || of[0].ID != all[1].ID {
		t.Errorf("of one station: %+v", of)
	}
	if of := listed(t, moderator, "jazz", true); len(of) != 1 || of[0].ID != all[1].ID {
		t.Errorf("of one station, by name: %+v", of)
	}
	if of := listed(t, auditor, "", false); len(of) != 3 {
		t.Errorf("an auditor sees %+v", of)
	}
	if of := listed(t, stranger, "", false); len(of) != 0 {
		t.Errorf("a stranger sees %+v", of)
	}
	for _, err := range moderator.Reports(ctx, "blues", false) {
		refused(t, err, 404, "not_found")
	}
	for _, r := range []wire.ContentReport{all[0], all[2]} {
		_, err := moderator.Report(ctx, r.ID)
		refused(t, err, 404, "not_found")
		_, err = moderator.TakeReport(ctx, r.ID)
		refused(t, err, 404, "not_found")
	}
	_, err = auditor.TakeReport(ctx, all[1].ID)
	refused(t, err, 403, "forbidden")

	taken, err := moderator.TakeReport(ctx, all[1].ID)
	if must(t, err); taken.State != "in_review" || taken.Actor != "ann" || taken.Changed == nil {
		t.Errorf("taken: %+v", taken)
	}
	for _, bad := range []wire.ReportDecision{{}, {Outcome: "action"}, {Outcome: "gone", Reason: "x"}, {Outcome: "none", Reason: "a\nb"}, {Outcome: "none", Reason: "a\u202eb"}} {
		_, err := moderator.CloseReport(ctx, all[1].ID, bad)
		refused(t, err, 422, "invalid")
	}
	closed, err := moderator.CloseReport(ctx, all[1].ID, wire.ReportDecision{Outcome: "action", Reason: "taken down"})
	if must(t, err); closed.State != "closed" || closed.Outcome != "action" || closed.Reason != "taken down" {
		t.Errorf("closed: %+v", closed)
	}
	_, err = moderator.CloseReport(ctx, all[1].ID, wire.ReportDecision{Outcome: "none", Reason: "x"})
	refused(t, err, 409, "report_closed")
	_, err = moderator.TakeReport(ctx, all[1].ID)
	refused(t, err, 409, "report_closed")
	if open := listed(t, b.local, "", true); len(open) != 2 {
		t.Errorf("open: %+v", open)
	}
	if log := b.log.String(); strings.Contains(log, "taken down") || strings.Contains(log, "ann") {
		t.Errorf("the log says too much: %s", log)
	}
}

// P92: what waits for too long is a warning of the node's state.
func TestReportsThatWait(t *testing.T) {
	b := newBureau(t)
	jazz := b.known("jazz")
	warnings := func() string {
		s, err := b.local.Status(t.Context())
		must(t, err)
		return strings.Join(s.Warnings, "\n")
	}
	b.report(musen.NewReport{Station: jazz.ID})
	b.clock.Add(86400)
	if w := warnings(); strings.Contains(w, "report") {
		t.Errorf("too early: %s", w)
	}
	b.clock.Add(1)
	if w := warnings(); !strings.Contains(w, "1 of 1 open reports wait for longer than 24h0m0s") {
		t.Errorf("warnings: %s", w)
	}
	late := listed(t, b.local, "", true)[0]
	if !late.Overdue {
		t.Errorf("%+v", late)
	}
	_, err := b.local.CloseReport(t.Context(), late.ID, wire.ReportDecision{Outcome: "none", Reason: "x"})
	must(t, err)
	if w := warnings(); strings.Contains(w, "reports wait") {
		t.Errorf("still: %s", w)
	}
}
