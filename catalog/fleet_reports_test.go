package catalog_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog"
)

// P91, P92: any gateway takes reports, of one thing also at once, all see them
// and show their receipts, and one of them alone tells that they wait.
func TestFleetTakesReports(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	gateways := []*catalog.Catalog{f.gateway("a"), f.gateway("b")}
	a, b := gateways[0], gateways[1]
	jazz := newStation("jazz")
	noErr(t, a.CreateStation(ctx, jazz))
	settled(t, a, 2)
	const each = 10
	receipts := make(chan string, 2*each)
	var wg sync.WaitGroup
	for i, c := range gateways {
		wg.Go(func() {
			for n := range each {
				receipt, station, err := c.PutReport(ctx, musen.NewReport{
					ID: newID(), Station: jazz.ID, Category: "other", Reporter: fmt.Sprint(i, n), Text: "x",
				})
				if err != nil || station != jazz.ID {
					t.Errorf("at %q: %v", station, err)
				}
				receipts <- receipt
			}
		})
	}
	wg.Wait()
	close(receipts)
	for _, c := range gateways {
		all, _, err := c.ContentReports(ctx, musen.ReportQuery{Everywhere: true, Limit: 10})
		if err != nil || len(all) != 1 || all[0].Count != 2*each || all[0].Reporters != 2*each {
			t.Fatalf("%+v, %v", all, err)
		}
	}
	told := make(chan int, 2)
	for _, c := range gateways {
		go func() {
			list, err := c.OverdueReports(ctx, time.Now().Add(time.Hour), 10)
			if err != nil {
				t.Error(err)
			}
			told <- len(list)
		}()
	}
	if n := <-told + <-told; n != 1 {
		t.Errorf("told %d times", n)
	}
	all, _, err := b.ContentReports(ctx, musen.ReportQuery{Everywhere: true, Limit: 10})
	noErr(t, err)
	noErr(t, b.CloseReport(ctx, all[0].ID, musen.ReportActedOn, "mod", "x"))
	wantErr(t, a.CloseReport(ctx, all[0].ID, musen.ReportDismissed, "mod", "x"), musen.ErrDecided)
	for receipt := range receipts {
		for _, c := range gateways {
			if state, err := c.ReportState(ctx, receipt, time.Hour); err != nil || state != musen.ReportActedOn {
				t.Fatalf("the receipt shows %v, %v", state, err)
			}
		}
	}
}
