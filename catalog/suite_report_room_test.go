package catalog_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog"
)

// H53, P24: a flood of reports of what is not here has a room of its own. In it,
// who made few is not pushed out by who made many; and whose report is not kept
// is told nothing else.
func testReportRoom(t *testing.T, f *fixture) {
	song := f.add(f.station("jazz").ID, 1, nil)
	honest, _ := f.report(musen.NewReport{CID: song.CID, Reporter: "ann"})
	flood := func(reporter string, n int) (receipts []string) {
		for range n {
			receipt, station := f.report(musen.NewReport{CID: randomCID(cid.Raw), Reporter: reporter})
			if station != "" {
				t.Fatal("it has a station")
			}
			receipts = append(receipts, receipt)
		}
		return receipts
	}
	for _, receipt := range flood("loud", catalog.MaxOpenOfOne+20) {
		f.wantState(receipt, musen.ReportReceived) // kept or not
	}
	if n := f.ReportsNotKept(); n != 20 {
		t.Errorf("%d were not kept", n)
	}
	flood("quiet", 10)
	counts := map[string]int{}
	for _, p := range f.openReports() {
		counts[p.Station]++
	}
	if counts[""] != catalog.MaxOpenOfOne || counts[song.Station] != 1 || f.ReportsNotKept() != 20 {
		t.Errorf("%v, %d not kept", counts, f.ReportsNotKept())
	}
	f.wantState(honest, musen.ReportReceived)
	q, err := f.ReportQueue(t.Context(), f.clock.Now())
	if want := (musen.ReportQueue{Open: catalog.MaxOpenOfOne + 1, Full: 1}); err != nil || q != want {
		t.Errorf("queue %+v, %v", q, err)
	}
	taken := f.openReports("")[0].ID
	noErr(t, f.TakeReport(t.Context(), taken, "mod"))
	flood("third", 3*catalog.MaxOpenOfOne/2) // as many as the loud one has left, and no more
	if got, err := f.ContentReport(t.Context(), taken); err != nil || got.State != musen.ReportInReview {
		t.Errorf("what somebody looks at: %+v, %v", got, err)
	}
	if n := len(f.openReports("")); n != catalog.MaxOpenOfOne {
		t.Errorf("%d are open", n)
	}
}

// H53: ten thousand reports by as many clients, of everything and nothing, take a
// bounded number of rows, and cost no other station its reports.
func TestReportFlood(t *testing.T) {
	f, _ := onFile(t)
	jazz, blues := f.station("jazz"), f.station("blues")
	song := f.add(jazz.ID, 1, nil)
	honest, _ := f.report(musen.NewReport{CID: song.CID, Reporter: "ann", Text: "mine"})
	f.clock.forward(time.Second)
	var songs []musen.Segment
	for range 2 * catalog.MaxOpenOfOne {
		songs = append(songs, f.add(blues.ID, 1, nil))
	}
	flood := make([]musen.Segment, 10_000)
	var number atomic.Int64
	text := strings.Repeat("=HYPERLINK(\"evil\") <script> \x1b[2J ", 20)
	f.inParallel(flood, func(musen.Segment) error {
		i := int(number.Add(1))
		n := musen.NewReport{ID: newID(), CID: randomCID(cid.Raw), Reporter: fmt.Sprint("client ", i), Category: "other", Text: text}
		switch i % 4 {
		case 0:
			n.CID = songs[i/4%len(songs)].CID
		case 1:
			n.CID = song.CID
		}
		_, _, err := f.PutReport(t.Context(), n)
		return err
	})
	counts, reporters := map[string]int{}, 0
	for _, p := range f.openReports() {
		counts[p.Station]++
		reporters += p.Reporters
	}
	if counts[jazz.ID] != 2 || counts[blues.ID] != catalog.MaxOpenOfOne || counts[""] != catalog.MaxOpenOfOne {
		t.Errorf("open reports: %v", counts)
	}
	rows, err := f.Query(t.Context(), "SELECT count(*) FROM report_statements")
	if noErr(t, err); rows != fmt.Sprint(reporters) || reporters > 4000 {
		t.Errorf("%s statements of %d reporters", rows, reporters)
	}
	f.wantState(honest, musen.ReportReceived)
	kept, err := f.ContentReport(t.Context(), f.openReports(jazz.ID)[0].ID)
	if noErr(t, err); kept.Statements[0].Text != "mine" || kept.Reporters != 1 || kept.Category != "hate" {
		t.Errorf("the honest report: %+v", kept)
	}
}
