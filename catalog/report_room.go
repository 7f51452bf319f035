package catalog

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"
)

// Open reports are bounded: of one station, or of all that is not here, and of
// all together. With what is kept of each they take at most some 120 MB.
const (
	maxOpenOfOne = 500
	maxOpen      = 5000
)

// makeRoom reports whether there is room for a new report, or makes some. While
// there is too much, it goes by shares: of the stations, among which all that is
// not here is one, that with the most open reports; there, of the reporters, the
// one who made the most; of theirs, the last that hardly anybody joined and
// nobody has taken up. The new one is dropped if it would be the next to go: so
// nobody gets room that somebody with fewer reports had, and no station's queue
// is lost for a flood of another.
func makeRoom(ctx context.Context, tx bun.Tx, r *reportRow) (ok bool, err error) {
	count := func(where string, args ...any) (n int64, err error) {
		return tx.NewSelect().Model((*reportRow)(nil)).Where(undecided).Where(where, args...).Count(ctx)
	}
	most := func(column, where string, args ...any) (key []byte, n int64, err error) {
		err = tx.NewSelect().Model((*reportRow)(nil)).ColumnExpr(column+" AS part, count(*) AS n").
			Where(undecided).Where(where, args...).Group(column).OrderExpr("n DESC, part").Limit(1).Scan(ctx, &key, &n)
		if errors.Is(err, sql.ErrNoRows) {
			err = nil
		}
		return key, n, err
	}
	own, err := count("station = ?", r.Station)
	if err != nil {
		return false, err
	}
	from := r.Station
	if own < maxOpenOfOne {
		all, err := count("TRUE")
		if err != nil || all < maxOpen {
			return err == nil, err
		}
		largest, n, err := most("station", "TRUE")
		if err != nil {
			return false, err
		}
		if n > own {
			from = string(largest)
		}
	}
	loudest, n, err := most("reporter", "station = ? AND state = 0", from)
	if err != nil || n == 0 {
		return false, err
	}
	if from == r.Station {
		mine, err := count("station = ? AND reporter = ?", from, r.Reporter)
		if err != nil || mine+1 >= n {
			return false, err
		}
	}
	var last reportRow
	err = tx.NewSelect().Model(&last).Where("station = ? AND reporter = ? AND state = 0", from, loudest).
		OrderExpr("reporters, created DESC, id").Limit(1).Scan(ctx)
	if err == nil {
		_, err = deleteReports(ctx, tx, last.ID)
	}
	return err == nil, err
}

// deleteReports deletes reports with all that was said, and returns how many it
// found.
func deleteReports(ctx context.Context, tx bun.Tx, ids ...string) (n int64, err error) {
	if _, err := tx.NewDelete().Model((*statementRow)(nil)).Where("report IN (?)", bun.List(ids)).Exec(ctx); err != nil {
		return 0, err
	}
	res, err := tx.NewDelete().Model((*reportRow)(nil)).Where("id IN (?)", bun.List(ids)).Exec(ctx)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}
