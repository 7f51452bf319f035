package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/uptrace/bun"

	"github.com/musenai/musen"
)

// RegenerateShare puts s, under a fresh secret, in the place of all shares of
// its station: in one transaction the station gets its next epoch, which ends
// every share, session and link that was made before. s takes over password,
// settings and length of life from the newest share that was live, or else from
// the newest that there was.
// What was recorded is returned, with the new epoch.
func (c *Catalog) RegenerateShare(ctx context.Context, s musen.Share, secret string) (musen.Share, error) {
	var r shareRow
	err := c.writer.write(ctx, change{
		apply: func(ctx context.Context, tx bun.Tx) (err error) {
			r, err = c.regenerate(ctx, tx, s, secret)
			return err
		},
		kind: ofShares, also: ofStations,
		done: func() {
			c.stations.setEpoch(r.Station, uint64(r.Epoch))
			c.shares.change(func(old *musen.Share) {
				if old.Station == r.Station && old.Revoked.IsZero() {
					old.Revoked = instant(r.Created)
				}
			})
			c.putShare(r)
		},
	})
	if err == nil {
		s, err = c.openShare(r)
	}
	return s, c.failed(err, "regenerate the share of station %.80q", s.Station)
}

func (c *Catalog) regenerate(ctx context.Context, tx bun.Tx, s musen.Share, secret string) (r shareRow, err error) {
	epoch, err := epochOf(ctx, tx, s.Station)
	if err == nil && epoch == math.MaxInt64 {
		err = errors.New("the station has no further epoch")
	}
	if err != nil {
		return r, err
	}
	if err = c.inherit(ctx, tx, &s, epoch); err != nil {
		return r, err
	}
	s.Epoch = uint64(epoch + 1)
	if r, err = c.shareRow(s, secret); err != nil {
		return r, err
	}
	_, err = tx.NewUpdate().Model((*shareRow)(nil)).Set("revoked = ?", r.Created).
		Where("station = ? AND revoked = ?", s.Station, zeroTime).Exec(ctx)
	if err == nil {
		_, err = tx.NewUpdate().Model((*stationRow)(nil)).Set("epoch = ?", r.Epoch).Where("id = ?", s.Station).Exec(ctx)
	}
	if err == nil {
		_, err = tx.NewInsert().Model(&r).Exec(ctx)
	}
	return r, err
}

// inherit gives s what the newest live share of its station has, or the newest
// if none lives. A password is taken from that one too if the live one has none:
// what was closed last is not opened because it ended.
func (c *Catalog) inherit(ctx context.Context, tx bun.Tx, s *musen.Share, epoch int64) error {
	var rows []shareRow
	err := tx.NewSelect().Model(&rows).Where("station = ?", s.Station).Order("created DESC", "id").Scan(ctx)
	if err != nil || len(rows) == 0 {
		return err
	}
	var newest, model musen.Share
	for i, row := range rows {
		old, err := c.openShare(row)
		if err != nil {
			return fmt.Errorf("share %q: %w", row.ID, err)
		}
		if i == 0 {
			newest, model = old, old
		}
		if old.End(uint64(epoch), c.now()) == "" {
			model = old
			break
		}
	}
	s.Password, s.Downloads = cmp.Or(model.Password, newest.Password), model.Downloads
	s.SessionTTL, s.MaxUses = model.SessionTTL, model.MaxUses
	if s.Expires = model.Expires; !model.Expires.IsZero() {
		s.Expires = s.Created.Add(model.Expires.Sub(model.Created))
	}
	return nil
}
