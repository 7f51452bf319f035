package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/uptrace/bun"

	"github.com/musenai/musen"
)

// cell names a sealed column of the row.
func (r reportRow) cell(column string) cell { return cell{"reports", r.ID, column} }

// cidBytes is the binary form of a CID.
func cidBytes(codec int64, mh []byte) []byte { return cid.NewCidV1(uint64(codec), mh).Bytes() }

func (c *Catalog) openReport(r reportRow) (p musen.ContentReport, err error) {
	categories := musen.ReportCategories()
	if r.Category < 0 || r.Category >= len(categories) || r.State < 0 || r.State > int(musen.ReportDismissed) {
		return p, damaged(fmt.Errorf("row of report %q: impossible category %d or state %d", r.ID, r.Category, r.State))
	}
	p = musen.ContentReport{
		ID: r.ID, Station: r.Station, Share: r.Share, Category: categories[r.Category], State: musen.ReportState(r.State),
		Created: instant(r.Created), Count: int(r.Count), Reporters: int(r.Reporters), Changed: instant(r.Changed),
	}
	if len(r.CID) > 0 {
		if p.CID, err = cid.Cast(r.CID); err != nil {
			return p, damaged(fmt.Errorf("row of report %q: %w", r.ID, err))
		}
	}
	for _, f := range []struct {
		to     *string
		column string
		sealed []byte
	}{{&p.Actor, "actor", r.Actor}, {&p.Reason, "reason", r.Reason}} {
		if len(f.sealed) == 0 {
			continue
		}
		if *f.to, err = c.box.open(r.cell(f.column), f.sealed); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (c *Catalog) openReports(rows []reportRow) ([]musen.ContentReport, error) {
	all := make([]musen.ContentReport, len(rows))
	for i, r := range rows {
		var err error
		if all[i], err = c.openReport(r); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// ContentReport is a report with what was said, or musen.ErrNotFound.
func (c *Catalog) ContentReport(ctx context.Context, id string) (musen.ContentReport, error) {
	r := reportRow{ID: id}
	err := c.reads.NewSelect().Model(&r).WherePK().Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		err = musen.ErrNotFound
	}
	var p musen.ContentReport
	if err == nil {
		p, err = c.openReport(r)
	}
	var said []statementRow
	if err == nil {
		err = c.reads.NewSelect().Model(&said).Where("report = ? AND text IS NOT NULL", id).Order("made", "reporter").Scan(ctx)
	}
	for _, s := range said {
		if err == nil {
			var text string
			text, err = c.box.open(s.cell(), s.Text)
			p.Statements = append(p.Statements, musen.Statement{Text: text, Made: instant(s.Made)})
		}
	}
	return p, c.failed(err, "look report %.80q up", id)
}

// ContentReports is a page of reports, and the cursor of the next, which is
// empty on the last. A cursor that it did not make is musen.ErrInvalid.
func (c *Catalog) ContentReports(ctx context.Context, q musen.ReportQuery) (page []musen.ContentReport, next string, err error) {
	after, err := parseCursor(q.Cursor)
	if err != nil || !q.Everywhere && len(q.Stations) == 0 {
		return nil, "", c.failed(err, "list reports")
	}
	var rows []reportRow
	find := c.reads.NewSelect().Model(&rows).Where("(created, id) > (?, ?)", after.created, after.id)
	if !q.Everywhere {
		find = find.Where("station IN (?)", bun.List(q.Stations))
	}
	if q.Open {
		find = find.Where(undecided)
	}
	err = find.Order("created", "id").Limit(int64(q.Limit) + 1).Scan(ctx)
	if err == nil && len(rows) > q.Limit {
		rows = rows[:q.Limit]
		last := rows[q.Limit-1]
		next = position{last.Created, last.ID}.cursor()
	}
	if err == nil {
		page, err = c.openReports(rows)
	}
	return page, next, c.failed(err, "list reports")
}

// ReportQueue counts the reports that wait. Those that were made before a time
// wait for too long.
func (c *Catalog) ReportQueue(ctx context.Context, before time.Time) (q musen.ReportQueue, err error) {
	var counts []struct{ N, Overdue int }
	err = c.reads.NewSelect().Model((*reportRow)(nil)).Where(undecided).
		ColumnExpr("count(*) AS n, sum(CASE WHEN created < ? THEN 1 ELSE 0 END) AS overdue", micros(before)).
		Group("station").Scan(ctx, &counts)
	for _, g := range counts {
		q.Open, q.Overdue = q.Open+g.N, q.Overdue+g.Overdue
		if g.N >= maxOpenOfOne {
			q.Full++
		}
	}
	return q, c.failed(err, "count reports")
}

// TakeReport notes that somebody looks at a report; another may take it over. It
// returns musen.ErrDecided when it is closed.
func (c *Catalog) TakeReport(ctx context.Context, id, actor string) error {
	return c.moveReport(ctx, reportRow{ID: id, State: int(musen.ReportInReview)}, actor, "")
}

// CloseReport decides about a report. It returns musen.ErrDecided when somebody
// did so before.
func (c *Catalog) CloseReport(ctx context.Context, id string, state musen.ReportState, actor, reason string) error {
	if !state.Closed() || reason == "" || len(reason) > maxReason {
		return c.failed(musen.ErrInvalid, "close report %.80q with a reason of 1 to %d bytes", id, maxReason)
	}
	return c.moveReport(ctx, reportRow{ID: id, State: int(state)}, actor, reason)
}

func (c *Catalog) moveReport(ctx context.Context, r reportRow, actor, reason string) (err error) {
	r.Changed, r.Reason = micros(c.now()), []byte{}
	if r.Actor, err = c.box.seal(r.cell("actor"), actor); err == nil && reason != "" {
		r.Reason, err = c.box.seal(r.cell("reason"), reason)
	}
	if err == nil {
		err = c.writer.write(ctx, change{apply: func(ctx context.Context, tx bun.Tx) error {
			res, err := tx.NewUpdate().Model(&r).Column("state", "actor", "reason", "changed").WherePK().Where(undecided).Exec(ctx)
			if err = oneRow(res, err); errors.Is(err, musen.ErrNotFound) {
				err = musen.ErrDecided
			}
			return err
		}})
	}
	return c.failed(err, "decide report %.80q", r.ID)
}

// OverdueReports are up to a number of open reports that were made before a
// time, the oldest first. Each is returned once, to one process of the fleet.
func (c *Catalog) OverdueReports(ctx context.Context, before time.Time, limit int) (list []musen.ContentReport, err error) {
	var rows []reportRow
	find := func(db bun.IDB) error {
		rows = nil
		return db.NewSelect().Model(&rows).Where(undecided).Where("created < ? AND NOT told", micros(before)).Order("created", "id").Limit(int64(limit)).Scan(ctx)
	}
	if err = find(c.reads); err == nil && len(rows) > 0 {
		err = c.writer.write(ctx, change{apply: func(ctx context.Context, tx bun.Tx) error {
			err := find(tx)
			for _, r := range rows {
				if err == nil {
					_, err = tx.NewUpdate().Model(&r).Set("told = TRUE").WherePK().Exec(ctx)
				}
			}
			return err
		}})
	}
	if err == nil {
		list, err = c.openReports(rows)
	}
	return list, c.failed(err, "find reports that wait for too long")
}

// PurgeReports deletes the reports that were closed before a time, with all that
// was said, and returns how many.
func (c *Catalog) PurgeReports(ctx context.Context, before time.Time) (n int, err error) {
	const atOnce = 500 // in one change
	for {
		var ids []string
		err = c.reads.NewSelect().Model((*reportRow)(nil)).Column("id").Where("state > 1 AND changed < ?", micros(before)).Limit(atOnce).Scan(ctx, &ids)
		if err != nil || len(ids) == 0 {
			return n, c.failed(err, "purge reports")
		}
		var gone int64 // another process may have been quicker
		err = c.writer.write(ctx, change{apply: func(ctx context.Context, tx bun.Tx) (err error) {
			gone, err = deleteReports(ctx, tx, ids...)
			return err
		}})
		if err != nil {
			return n, c.failed(err, "purge reports")
		}
		n += int(gone)
	}
}
