package catalog

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/musenai/musen"
)

type reviewRow struct {
	bun.BaseModel `bun:"table:reviews"`

	ID        string `bun:"id,pk"`
	Made      int64  `bun:"made"`
	Reviewer  []byte `bun:"reviewer"`
	Actor     []byte `bun:"actor"`
	Digest    string `bun:"digest"`
	Signature string `bun:"signature"`
	What      string `bun:"what"`
	Size      int64  `bun:"size"`
}

// PutReview records a review, for good.
func (c *Catalog) PutReview(ctx context.Context, v musen.Review) error {
	r := reviewRow{ID: v.ID, Made: micros(v.Made), Digest: v.Digest, Signature: v.Signature, What: v.Of, Size: int64(v.Size)}
	var err error
	if r.Reviewer, err = c.box.seal(cell{"reviews", v.ID, "reviewer"}, v.Reviewer); err == nil {
		r.Actor, err = c.box.seal(cell{"reviews", v.ID, "actor"}, v.Actor)
	}
	if err == nil {
		err = c.writer.write(ctx, change{apply: func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.NewInsert().Model(&r).Exec(ctx)
			return err
		}})
	}
	return c.failed(err, "record a review")
}

// Reviews are the records of reviews of something, the last first, up to a
// hundred.
func (c *Catalog) Reviews(ctx context.Context, of string) ([]musen.Review, error) {
	var rows []reviewRow
	if err := c.reads.NewSelect().Model(&rows).Where("what = ?", of).Order("made DESC", "id").Limit(100).Scan(ctx); err != nil {
		return nil, c.failed(err, "list reviews")
	}
	all := make([]musen.Review, len(rows))
	for i, r := range rows {
		all[i] = musen.Review{ID: r.ID, Made: instant(r.Made), Digest: r.Digest, Signature: r.Signature, Of: r.What, Size: uint64(r.Size)}
		var err error
		if all[i].Reviewer, err = c.box.open(cell{"reviews", r.ID, "reviewer"}, r.Reviewer); err == nil {
			all[i].Actor, err = c.box.open(cell{"reviews", r.ID, "actor"}, r.Actor)
		}
		if err != nil {
			return nil, c.failed(err, "list reviews")
		}
	}
	return all, nil
}
