package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/musenai/musen"
)

type approvalRow struct {
	bun.BaseModel `bun:"table:approvals"`

	ID         string `bun:"id,pk"`
	State      int    `bun:"state"`
	Request    []byte `bun:"request"`
	Summary    []byte `bun:"summary"`
	Route      string `bun:"route"`
	Station    string `bun:"station"`
	Digest     []byte `bun:"digest"`
	Subject    []byte `bun:"subject"`
	SubjectMAC []byte `bun:"subject_mac"`
	Created    int64  `bun:"created"`
	Expires    int64  `bun:"expires"`
	Decider    []byte `bun:"decider"`
	Decided    int64  `bun:"decided"`
	Granters   []byte `bun:"granters"`
	Token      string `bun:"token"`
}

const (
	keepApprovals = 365 * 24 * time.Hour // their records
	maxPending    = 20                   // of one subject
)

// PutApproval records a request that waits for a second person. While the same
// one of the same subject waits, that is returned in its place. It returns
// musen.ErrInvalid when too many of the subject wait. Records that are a year
// old go.
func (c *Catalog) PutApproval(ctx context.Context, a musen.Approval) (musen.Approval, error) {
	r, err := c.approvalRow(a)
	if err != nil {
		return a, c.failed(err, "record a request for approval")
	}
	err = c.writer.write(ctx, change{apply: func(ctx context.Context, tx bun.Tx) error {
		old := micros(c.now().Add(-keepApprovals))
		if _, err := tx.NewDelete().Model((*approvalRow)(nil)).Where("created < ?", old).Exec(ctx); err != nil {
			return err
		}
		var waiting []approvalRow
		err := tx.NewSelect().Model(&waiting).Where("subject_mac = ? AND state = 0 AND expires > ?", r.SubjectMAC, micros(c.now())).Scan(ctx)
		if err != nil {
			return err
		}
		for _, w := range waiting {
			if string(w.Digest) == string(r.Digest) {
				a, err = c.openApproval(w)
				return err
			}
		}
		if len(waiting) >= maxPending {
			return fmt.Errorf("%d requests of the subject wait already: %w", len(waiting), musen.ErrInvalid)
		}
		_, err = tx.NewInsert().Model(&r).Exec(ctx)
		return err
	}})
	return a, c.failed(err, "record a request for approval")
}

// cell names a sealed column of the row.
func (r approvalRow) cell(column string) cell { return cell{"approvals", r.ID, column} }

func (c *Catalog) approvalRow(a musen.Approval) (r approvalRow, err error) {
	if err := checkName("approval", a.ID); err != nil {
		return r, err
	}
	if err := checkName("subject", a.Subject); err != nil {
		return r, err
	}
	r = approvalRow{
		ID: a.ID, State: int(a.State), Route: a.Route, Station: a.Station, Digest: a.Digest,
		SubjectMAC: c.box.lookup("subject", a.Subject), Created: micros(a.Created), Expires: micros(a.Expires), Decided: micros(a.Decided),
	}
	for _, f := range []struct {
		to           *[]byte
		column, text string
	}{{&r.Request, "request", a.Request}, {&r.Summary, "summary", a.Summary}, {&r.Subject, "subject", a.Subject}, {&r.Decider, "decider", a.Decider}} {
		if *f.to, err = c.box.seal(r.cell(f.column), f.text); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (c *Catalog) openApproval(r approvalRow) (a musen.Approval, err error) {
	a = musen.Approval{
		ID: r.ID, Route: r.Route, Station: r.Station, Digest: r.Digest, State: musen.ApprovalState(r.State),
		Created: instant(r.Created), Expires: instant(r.Expires), Decided: instant(r.Decided), Token: r.Token,
	}
	if r.Granters != nil {
		by, err := c.box.open(r.cell("granters"), r.Granters)
		if err == nil {
			err = json.Unmarshal([]byte(by), &a.By)
		}
		if err != nil {
			return musen.Approval{}, err
		}
	}
	for _, f := range []struct {
		to     *string
		column string
		sealed []byte
	}{{&a.Request, "request", r.Request}, {&a.Summary, "summary", r.Summary}, {&a.Subject, "subject", r.Subject}, {&a.Decider, "decider", r.Decider}} {
		if f.column == "summary" && f.sealed == nil {
			continue // a record may be without
		}
		if *f.to, err = c.box.open(r.cell(f.column), f.sealed); err != nil {
			return musen.Approval{}, err
		}
	}
	return a, nil
}

// Approval is the record of a request that needed a second person, or
// musen.ErrNotFound.
func (c *Catalog) Approval(ctx context.Context, id string) (musen.Approval, error) {
	r := approvalRow{ID: id}
	err := c.reads.NewSelect().Model(&r).WherePK().Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		err = musen.ErrNotFound
	}
	var a musen.Approval
	if err == nil {
		a, err = c.openApproval(r)
	}
	return a, c.failed(err, "look approval %.80q up", id)
}

// Approvals are the records of all requests that needed a second person, the
// last first, up to a thousand.
func (c *Catalog) Approvals(ctx context.Context) ([]musen.Approval, error) {
	var rows []approvalRow
	if err := c.reads.NewSelect().Model(&rows).Order("created DESC", "id").Limit(1000).Scan(ctx); err != nil {
		return nil, c.failed(err, "list approvals")
	}
	all := make([]musen.Approval, len(rows))
	for i, r := range rows {
		var err error
		if all[i], err = c.openApproval(r); err != nil {
			return nil, c.failed(err, "list approvals")
		}
	}
	return all, nil
}

// DecideApproval records of a request that waits its State, and the Decider, By
// and Token. It returns musen.ErrDecided if it does not wait any more.
func (c *Catalog) DecideApproval(ctx context.Context, a musen.Approval) error {
	r := approvalRow{ID: a.ID}
	by, err := json.Marshal(a.By)
	if err == nil {
		r.Granters, err = c.box.seal(r.cell("granters"), string(by))
	}
	if err == nil {
		r.Decider, err = c.box.seal(r.cell("decider"), a.Decider)
	}
	if err == nil {
		err = c.moveApproval(ctx, a.ID, musen.Pending, func(q *bun.UpdateQuery) *bun.UpdateQuery {
			return q.Set("state = ?, decider = ?, decided = ?, granters = ?, token = ?", int(a.State), r.Decider, micros(c.now()), r.Granters, a.Token)
		})
	}
	return c.failed(err, "decide approval %.80q", a.ID)
}

// UseApproval uses an approval up: it is good for one request. It returns
// musen.ErrDecided if it is not approved, or not any more.
func (c *Catalog) UseApproval(ctx context.Context, id string) error {
	err := c.moveApproval(ctx, id, musen.Approved, func(q *bun.UpdateQuery) *bun.UpdateQuery {
		return q.Set("state = ?", int(musen.Used))
	})
	return c.failed(err, "use approval %.80q", id)
}

// moveApproval changes an approval that is in one state and has not expired.
func (c *Catalog) moveApproval(ctx context.Context, id string, from musen.ApprovalState, set func(*bun.UpdateQuery) *bun.UpdateQuery) error {
	return c.writer.write(ctx, change{apply: func(ctx context.Context, tx bun.Tx) error {
		q := set(tx.NewUpdate().Model((*approvalRow)(nil))).Where("id = ? AND state = ? AND expires > ?", id, int(from), micros(c.now()))
		result, err := q.Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 1 {
			return err
		}
		return musen.ErrDecided
	}})
}
