package cmd

import (
	"context"
	"log/slog"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/config"
	"github.com/musenai/musen/internal/alert"
)

// A reportTimer tells of reports that wait for too long, and lets those go that
// were closed long ago.
type reportTimer struct {
	rows   reportRows
	cfg    config.Reports
	sender *alert.Sender // nil: it is in the log alone
	now    func() time.Time
	log    *slog.Logger
}

// reportRows are the reports that are kept.
type reportRows interface {
	// OverdueReports returns each only once, in a fleet to one process.
	OverdueReports(ctx context.Context, before time.Time, limit int) ([]musen.ContentReport, error)
	PurgeReports(ctx context.Context, before time.Time) (int, error)
}

// maxOverdue is how many reports are told of at a time, so that a flood leaves
// room for other alerts.
const maxOverdue = 50

// startReports begins to look after reports, until the node stops.
func (n *runningNode) startReports() {
	t := &reportTimer{rows: n.rows, cfg: n.cfg.Reports, sender: n.alarm.sender, now: time.Now, log: n.log}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		t.run(ctx)
	}()
	n.closers = append(n.closers, func() error {
		stop()
		<-ended
		return nil
	})
}

func (t *reportTimer) run(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		if err := t.look(ctx); err != nil && ctx.Err() == nil {
			t.log.Error("look after reports", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// overdueReport is what the operator's own system is told.
type overdueReport struct {
	Report   string    `json:"report"` // id
	Category string    `json:"category"`
	CID      string    `json:"cid,omitempty"`
	Station  string    `json:"station,omitempty"` // id; empty: what was reported is not here
	Created  time.Time `json:"created"`
}

// look does once all that is to be done.
func (t *reportTimer) look(ctx context.Context) error {
	overdue, err := t.rows.OverdueReports(ctx, t.now().Add(-t.cfg.ReviewWithin), maxOverdue)
	if err != nil {
		return err
	}
	for _, r := range overdue {
		t.log.Warn("a report waits for too long", "report", r.ID, "category", r.Category, "since", r.Created)
		if t.sender == nil {
			continue
		}
		o := overdueReport{Report: r.ID, Category: string(r.Category), Station: r.Station, Created: r.Created}
		if r.CID.Defined() {
			o.CID = r.CID.String()
		}
		t.sender.Send("musen.report_overdue", o)
	}
	purged, err := t.rows.PurgeReports(ctx, t.now().Add(-t.cfg.Keep))
	if purged > 0 {
		t.log.Info("closed reports were purged", "reports", purged)
	}
	return err
}
