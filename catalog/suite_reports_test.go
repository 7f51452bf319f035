package catalog_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
)

// keepReports is how long reports are kept in these tests.
const keepReports = 180 * 24 * time.Hour

// report takes one in, and returns its receipt and where it belongs.
func (f *fixture) report(n musen.NewReport) (receipt, station string) {
	f.t.Helper()
	n.ID = newID()
	if n.Category == "" {
		n.Category = "hate"
	}
	receipt, station, err := f.PutReport(f.t.Context(), n)
	noErr(f.t, err)
	return receipt, station
}

// wantState fails the test unless a receipt shows a state.
func (f *fixture) wantState(receipt string, want musen.ReportState) {
	f.t.Helper()
	if got, err := f.ReportState(f.t.Context(), receipt, keepReports); err != nil || got != want {
		f.t.Fatalf("the receipt shows %v, %v, want %v", got, err, want)
	}
}

// open are the reports that nobody has decided about.
func (f *fixture) openReports(stations ...string) []musen.ContentReport {
	f.t.Helper()
	all, next, err := f.ContentReports(f.t.Context(), musen.ReportQuery{Everywhere: stations == nil, Stations: stations, Open: true, Limit: 10_000})
	noErr(f.t, err)
	if next != "" {
		f.t.Fatal("more than one page")
	}
	return all
}

// P91, P92: reports of one thing in one category are one, with all who say so
// and what they say, until somebody takes it up and decides; the receipt shows
// the state, and no more.
func testReports(t *testing.T, f *fixture) {
	ctx := t.Context()
	jazz := f.station("jazz")
	song := f.add(jazz.ID, 2, nil)
	at := f.clock.Now()
	first, station := f.report(musen.NewReport{CID: song.CID, Reporter: "ann", Text: "that is\nmy song"})
	if station != jazz.ID {
		t.Fatalf("it belongs to %q", station)
	}
	raw := cid.NewCidV1(cid.Raw, song.CID.Hash()) // P91: whichever way it is spelled
	f.clock.forward(time.Second)
	again, _ := f.report(musen.NewReport{CID: raw, Reporter: "ann", Text: "again"})
	f.clock.forward(time.Second)
	second, _ := f.report(musen.NewReport{CID: song.CID, Reporter: "bob", Text: "indeed"})
	f.report(musen.NewReport{CID: song.CID, Reporter: "eve"})
	f.report(musen.NewReport{CID: song.CID, Reporter: "ann", Category: "privacy"})
	if first == again || first == second {
		t.Error("two receipts are the same")
	}
	f.reopen()
	all := f.openReports()
	if len(all) != 2 {
		t.Fatalf("%d reports", len(all))
	}
	got, err := f.ContentReport(ctx, all[0].ID)
	noErr(t, err)
	want := musen.ContentReport{
		ID: all[0].ID, CID: song.CID, Station: jazz.ID, Category: "hate", Created: at.Truncate(time.Microsecond), Count: 4, Reporters: 3,
		Statements: []musen.Statement{{Text: "that is\nmy song", Made: at}, {Text: "indeed", Made: at.Add(2 * time.Second)}},
	}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
	f.wantState(first, musen.ReportReceived)

	noErr(t, f.TakeReport(ctx, got.ID, "mod"))
	for _, receipt := range []string{first, again, second} {
		f.wantState(receipt, musen.ReportInReview)
	}
	wantErr(t, f.CloseReport(ctx, got.ID, musen.ReportInReview, "mod", "x"), musen.ErrInvalid)
	wantErr(t, f.CloseReport(ctx, got.ID, musen.ReportActedOn, "mod", ""), musen.ErrInvalid)
	wantErr(t, f.CloseReport(ctx, newID(), musen.ReportActedOn, "mod", "x"), musen.ErrDecided)
	noErr(t, f.CloseReport(ctx, got.ID, musen.ReportActedOn, "mod", "taken down"))
	wantErr(t, f.CloseReport(ctx, got.ID, musen.ReportDismissed, "mod", "oops"), musen.ErrDecided)
	wantErr(t, f.TakeReport(ctx, got.ID, "mod"), musen.ErrDecided)
	f.wantState(second, musen.ReportActedOn)
	if got, err = f.ContentReport(ctx, got.ID); err != nil || got.Actor != "mod" || got.Reason != "taken down" || !got.Changed.Equal(f.clock.Now()) {
		t.Fatalf("closed: %+v, %v", got, err)
	}
	anew, _ := f.report(musen.NewReport{CID: song.CID, Reporter: "ann"}) // it goes on
	f.wantState(anew, musen.ReportReceived)
	f.wantState(first, musen.ReportActedOn)
	if all := f.openReports(); len(all) != 2 {
		t.Fatalf("%d open reports", len(all))
	}
	for _, bad := range []musen.NewReport{
		{}, {ID: newID(), CID: song.CID, Category: "hate"}, {ID: newID(), CID: song.CID, Category: "bad", Reporter: "ann"},
		{ID: "x", CID: song.CID, Category: "hate", Reporter: "ann"}, {ID: newID(), CID: song.CID, Category: "hate", Reporter: "ann", Text: "\xff"},
		{ID: newID(), CID: song.CID, Category: "hate", Reporter: "ann", Text: strings.Repeat("x", musen.MaxStatement+1)},
	} {
		_, _, err := f.PutReport(ctx, bad)
		wantErr(t, err, musen.ErrInvalid)
	}
	for _, bad := range []string{"", "x", first[1:], strings.ToUpper(first), got.ID, "\x00"} {
		_, err := f.ReportState(ctx, bad, keepReports)
		wantErr(t, err, musen.ErrNotFound)
	}
	_, err = f.ContentReport(ctx, newID())
	wantErr(t, err, musen.ErrNotFound)
}

// P91: a report names a segment, a station, or a share, of which the secret is
// kept nowhere; what is not here is taken in all the same.
func testReportTargets(t *testing.T, f *fixture) {
	ctx := t.Context()
	jazz, blues := f.station("jazz"), f.station("blues")
	share, secret := f.share(jazz, nil)
	song := f.add(blues.ID, 1, nil)
	noErr(t, f.Remove(ctx, song.ID))
	_, unknown := f.newShare(jazz, nil)
	for name, c := range map[string]struct {
		about       musen.NewReport
		station, by string // Station.ID, Share.ID
	}{
		"a share":            {musen.NewReport{Share: secret, Category: "other"}, jazz.ID, share.ID},
		"a removed segment":  {musen.NewReport{CID: song.CID}, blues.ID, ""},
		"a station":          {musen.NewReport{Station: blues.ID}, blues.ID, ""},
		"another CID":        {musen.NewReport{CID: randomCID(cid.Raw)}, "", ""},
		"another share":      {musen.NewReport{Share: unknown}, "", ""},
		"another station":    {musen.NewReport{Station: newID()}, "", ""},
		"a station by name":  {musen.NewReport{Station: "jazz"}, "", ""},
		"a station's shares": {musen.NewReport{Station: jazz.ID}, jazz.ID, ""},
	} {
		c.about.Reporter, c.about.Text = "ann", name
		receipt, station := f.report(c.about)
		if station != c.station {
			t.Errorf("%s belongs to %q, want %q", name, station, c.station)
		}
		f.wantState(receipt, musen.ReportReceived)
		found := false
		for _, p := range f.openReports(c.station) {
			p, err := f.ContentReport(ctx, p.ID)
			noErr(t, err)
			if len(p.Statements) == 1 && p.Statements[0].Text == name {
				found = p.CID.Equals(c.about.CID) && p.Share == c.by
			}
		}
		if !found {
			t.Errorf("%s is not as it was reported", name)
		}
	}
	if all := f.openReports(jazz.ID); len(all) != 2 { // of two categories
		t.Errorf("%d reports of the station", len(all))
	}
	page, next, err := f.ContentReports(ctx, musen.ReportQuery{Everywhere: true, Limit: 5})
	noErr(t, err)
	rest, last, err := f.ContentReports(ctx, musen.ReportQuery{Everywhere: true, Limit: 5, Cursor: next})
	if noErr(t, err); len(page) != 5 || len(rest) != 3 || last != "" {
		t.Errorf("pages of %d and %d", len(page), len(rest))
	}
	if none, _, err := f.ContentReports(ctx, musen.ReportQuery{Limit: 5}); err != nil || len(none) != 0 {
		t.Errorf("of no station: %d, %v", len(none), err)
	}
	_, _, err = f.ContentReports(ctx, musen.ReportQuery{Everywhere: true, Limit: 5, Cursor: "x"})
	wantErr(t, err, musen.ErrInvalid)
}

// H53, P24: of one report so many reporters and statements are kept; the rest is
// counted.
func testReportCrowd(t *testing.T, f *fixture) {
	song := f.add(f.station("jazz").ID, 1, nil)
	const crowd = musen.MaxReporters + 10
	for i := range crowd {
		f.report(musen.NewReport{CID: song.CID, Reporter: fmt.Sprint(i), Text: fmt.Sprint("no ", i)})
	}
	all := f.openReports()
	if len(all) != 1 {
		t.Fatalf("%d reports", len(all))
	}
	p, err := f.ContentReport(t.Context(), all[0].ID)
	if noErr(t, err); p.Count != crowd || p.Reporters != musen.MaxReporters || len(p.Statements) != musen.MaxStatements {
		t.Errorf("%d times, %d reporters, %d statements", p.Count, p.Reporters, len(p.Statements))
	}
}

// P92: what waits for too long is told once, and counted until it is closed;
// what was closed goes in the end, and its receipt with it.
func testReportTimers(t *testing.T, f *fixture) {
	ctx := t.Context()
	song := f.add(f.station("jazz").ID, 1, nil)
	receipt, _ := f.report(musen.NewReport{CID: song.CID, Reporter: "ann", Text: "x"})
	f.clock.forward(24 * time.Hour)
	f.report(musen.NewReport{CID: song.CID, Reporter: "ann", Category: "other"})
	overdue := func() (ids []string) {
		list, err := f.OverdueReports(ctx, f.clock.Now().Add(-24*time.Hour), 10)
		noErr(t, err)
		for _, p := range list {
			ids = append(ids, p.ID)
		}
		return ids
	}
	if got := overdue(); len(got) != 0 {
		t.Errorf("too early: %v", got)
	}
	f.clock.forward(time.Second)
	first := overdue()
	if len(first) != 1 || first[0] != f.openReports()[0].ID {
		t.Fatalf("overdue: %v", first)
	}
	f.reopen()
	if got := overdue(); len(got) != 0 {
		t.Errorf("told twice: %v", got)
	}
	q, err := f.ReportQueue(ctx, f.clock.Now().Add(-24*time.Hour))
	if want := (musen.ReportQueue{Open: 2, Overdue: 1}); err != nil || q != want {
		t.Errorf("queue %+v, %v", q, err)
	}
	noErr(t, f.TakeReport(ctx, first[0], "mod"))
	noErr(t, f.CloseReport(ctx, first[0], musen.ReportDismissed, "mod", "no"))
	f.clock.forward(keepReports)
	purge := func(want int) {
		t.Helper()
		if n, err := f.PurgeReports(ctx, f.clock.Now().Add(-keepReports)); err != nil || n != want {
			t.Errorf("%d purged, %v, want %d", n, err, want)
		}
	}
	purge(0)
	f.wantState(receipt, musen.ReportDismissed)
	f.clock.forward(time.Microsecond)
	purge(1)
	_, err = f.ReportState(ctx, receipt, keepReports)
	wantErr(t, err, musen.ErrNotFound)
	if all, _, err := f.ContentReports(ctx, musen.ReportQuery{Everywhere: true, Limit: 10}); err != nil || len(all) != 1 {
		t.Errorf("%d reports are left, %v", len(all), err)
	}
}
