package catalog

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/uptrace/bun"

	"github.com/musenai/musen"
)

type reportRow struct {
	bun.BaseModel `bun:"table:reports"`

	ID        string `bun:"id,pk"`
	Target    []byte `bun:"target"`
	CID       []byte `bun:"cid"`
	Station   string `bun:"station"`
	Share     string `bun:"share"`
	Category  int    `bun:"category"`
	State     int    `bun:"state"`
	Created   int64  `bun:"created"`
	Count     int64  `bun:"count"`
	Reporters int64  `bun:"reporters"`
	Reporter  []byte `bun:"reporter"`
	Actor     []byte `bun:"actor"`
	Reason    []byte `bun:"reason"`
	Changed   int64  `bun:"changed"`
	Told      bool   `bun:"told"`
}

type statementRow struct {
	bun.BaseModel `bun:"table:report_statements"`

	Report   string `bun:"report,pk"`
	Reporter []byte `bun:"reporter,pk"`
	Made     int64  `bun:"made"`
	Text     []byte `bun:"text"`
}

// cell names the sealed text of the row.
func (s statementRow) cell() cell {
	return cell{"report_statements", s.Report + string(s.Reporter), "text"}
}

const undecided = "state < 2" // reports that nobody has decided about

// PutReport takes a report in. What says the same of the same thing joins the
// report that is open: each reporter counts once among its reporters, and the
// first statements are kept. A new one that there is no room for is counted by
// ReportsNotKept, and that is all; see makeRoom.
//
// The receipt is new each time, and does not tell which of these happened, nor
// does the state that it shows. The station is empty if what was reported is
// not here.
func (c *Catalog) PutReport(ctx context.Context, n musen.NewReport) (receipt, station string, err error) {
	r, err := c.reportRow(n)
	kept := true
	if err == nil {
		err = c.writer.write(ctx, change{apply: func(ctx context.Context, tx bun.Tx) (err error) {
			kept, err = c.takeReport(ctx, tx, &r, n.Text)
			return err
		}})
	}
	if err == nil {
		receipt, err = c.receiptOf(r.ID)
	}
	if err != nil {
		return "", "", c.failed(err, "take a report")
	}
	if !kept {
		c.reportsNotKept.Add(1)
	}
	return receipt, r.Station, nil
}

// ReportsNotKept is how many reports there was no room for since the start.
func (c *Catalog) ReportsNotKept() uint64 { return c.reportsNotKept.Load() }

// reportRow is the row of a report that is the first. Of a segment the station
// is still to be found.
func (c *Catalog) reportRow(n musen.NewReport) (r reportRow, err error) {
	category := slices.Index(musen.ReportCategories(), n.Category)
	if !musen.IsID(n.ID) || category < 0 || n.Reporter == "" || len(n.Text) > musen.MaxStatement || !utf8.ValidString(n.Text) {
		return r, fmt.Errorf("a report needs an id, a category, a reporter, and text of at most %d bytes: %w", musen.MaxStatement, musen.ErrInvalid)
	}
	r = reportRow{
		ID: n.ID, CID: []byte{}, Category: category, Created: micros(c.now()), Changed: micros(time.Time{}),
		Reporter: c.box.lookup("reporter", n.Reporter), Actor: []byte{}, Reason: []byte{},
	}
	switch {
	case n.CID.Defined():
		r.Target, r.CID = n.CID.Hash(), n.CID.Bytes()
		return r, nil
	case n.Share != "":
		share, known := c.ShareBySecret(n.Share)
		if !known {
			r.Target = c.box.lookup("reported share", n.Share)
			return r, nil
		}
		n.Station, r.Share = share.Station, share.ID
	}
	r.Target = c.box.lookup("reported station", n.Station)
	if s, err := c.Station(context.Background(), n.Station); err == nil && s.ID == n.Station { // from memory
		r.Station = s.ID
	}
	return r, nil
}

// takeReport puts a report in its place, and makes r the row that it is in.
func (c *Catalog) takeReport(ctx context.Context, tx bun.Tx, r *reportRow, text string) (kept bool, err error) {
	if err := findReported(ctx, tx, r); err != nil {
		return false, err
	}
	s := statementRow{Reporter: r.Reporter, Made: r.Created}
	var same reportRow
	err = tx.NewSelect().Model(&same).Where("target = ? AND category = ? AND "+undecided, r.Target, r.Category).Scan(ctx)
	switch {
	case err == nil:
		*r = same
	case !errors.Is(err, sql.ErrNoRows):
		return false, err
	default:
		if kept, err := makeRoom(ctx, tx, r); err != nil || !kept {
			return false, err
		}
		if _, err := tx.NewInsert().Model(r).Exec(ctx); err != nil {
			return false, err
		}
	}
	return true, c.addStatement(ctx, tx, r, s, text)
}

// findReported finds the station of the segment that a report is about, also
// when it was removed, and the segment's own CID.
func findReported(ctx context.Context, tx bun.Tx, r *reportRow) error {
	if len(r.CID) == 0 {
		return nil
	}
	var s segmentRow
	err := tx.NewSelect().Model(&s).Column("station", "codec").Where("multihash = ?", r.Target).Scan(ctx)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return err
	}
	r.Station, r.CID = s.Station, cidBytes(s.Codec, r.Target)
	return nil
}

// addStatement counts one more who says so, and keeps what is said if there is
// room.
func (c *Catalog) addStatement(ctx context.Context, tx bun.Tx, r *reportRow, s statementRow, text string) (err error) {
	s.Report = r.ID
	if r.Reporters < musen.MaxReporters {
		if text != "" {
			texts, err := tx.NewSelect().Model((*statementRow)(nil)).Where("report = ? AND text IS NOT NULL", r.ID).Count(ctx)
			if err != nil {
				return err
			}
			if texts < musen.MaxStatements {
				if s.Text, err = c.box.seal(s.cell(), text); err != nil {
					return err
				}
			}
		}
		result, err := tx.NewInsert().Model(&s).On("CONFLICT DO NOTHING").Exec(ctx)
		if err != nil {
			return err
		}
		added, err := result.RowsAffected()
		if err != nil {
			return err
		}
		r.Reporters += added
	}
	_, err = tx.NewUpdate().Model(r).Set("count = count + 1, reporters = ?", r.Reporters).WherePK().Exec(ctx)
	return err
}

// receiptCell is where receipts open. They lie nowhere: whoever was given one
// has it.
func receiptCell() cell { return cell{"reports", "", "receipt"} }

// receiptOf seals which row a report is in, and when it came. A report that is
// in none has a receipt of its own id, which no row has.
func (c *Catalog) receiptOf(id string) (string, error) {
	plain := binary.BigEndian.AppendUint64([]byte(id), uint64(micros(c.now())))
	sealed, err := c.box.seal(receiptCell(), string(plain))
	return base64.RawURLEncoding.EncodeToString(sealed), err
}

// ReportState is what became of the report that a receipt is for. One that is
// not kept stays received. After keep, when its record may be gone, and for what
// is no receipt, it returns musen.ErrNotFound.
func (c *Catalog) ReportState(ctx context.Context, receipt string, keep time.Duration) (musen.ReportState, error) {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(receipt)
	plain := ""
	if err == nil {
		plain, err = c.box.open(receiptCell(), sealed)
	}
	if err != nil || len(plain) < 8 {
		return 0, c.failed(musen.ErrNotFound, "look a receipt up")
	}
	id, made := plain[:len(plain)-8], instant(int64(binary.BigEndian.Uint64([]byte(plain[len(plain)-8:]))))
	r := reportRow{ID: id}
	err = c.reads.NewSelect().Model(&r).Column("state").WherePK().Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		if err = nil; c.now().Sub(made) >= keep {
			err = musen.ErrNotFound
		}
	}
	return musen.ReportState(r.State), c.failed(err, "look a receipt up")
}
