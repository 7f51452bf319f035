package catalog

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/uptrace/bun"

	"github.com/musenai/musen"
)

type keyRow struct {
	bun.BaseModel `bun:"table:wrapped_keys"`

	Segment    string `bun:"segment,pk"`
	Generation int64  `bun:"generation"`
	Ciphertext []byte `bun:"ciphertext"`
}

type blockRow struct {
	bun.BaseModel `bun:"table:blocks"`

	Multihash []byte `bun:"multihash,pk"`
	Segment   string `bun:"segment,pk"`
}

// Begin makes the intent to add a segment durable, with its wrapped key. Only
// ID, Station, Created and Key of s are looked at. It returns musen.ErrExists
// if the id was used before.
func (c *Catalog) Begin(ctx context.Context, s musen.Segment) error {
	r := &segmentRow{
		ID: s.ID, Station: s.Station, State: pending, Created: micros(s.Created),
		Leaves: []byte{}, Title: []byte{}, Artist: []byte{}, MAC: []byte{},
	}
	k := &keyRow{Segment: s.ID, Generation: int64(s.Key.Generation), Ciphertext: s.Key.Ciphertext}
	var err error
	if !musen.IsID(s.ID) || len(s.Key.Ciphertext) == 0 {
		err = fmt.Errorf("a segment needs an id and a wrapped key: %w", musen.ErrInvalid)
	} else {
		err = c.writer.write(ctx, change{apply: func(ctx context.Context, tx bun.Tx) error {
			err := c.hasStation(ctx, tx, s.Station)
			if err == nil {
				_, err = tx.NewInsert().Model(r).Exec(ctx)
			}
			if err == nil {
				_, err = tx.NewInsert().Model(k).Exec(ctx)
			}
			return err
		}})
	}
	return c.failed(err, "begin segment %q", s.ID)
}

// Commit makes a segment live that was begun with the same ID, Station and
// Created; its key is the one of Begin. inner are the blocks between the root
// and the leaves. It returns musen.ErrExists, and leaves the intent, when the
// station has a live segment with that fingerprint, or any station had one of
// the same sealed bytes; without a fingerprint only the latter is looked at.
func (c *Catalog) Commit(ctx context.Context, s musen.Segment, fingerprint []byte, inner []cid.Cid) error {
	r, err := c.commitRow(s, fingerprint)
	if err == nil {
		err = c.writer.write(ctx, change{apply: c.commit(r, blocksOf(s, inner))})
	}
	return c.failed(err, "commit segment %q", s.ID)
}

// Replace does what Commit does and what Remove does of old, both or neither.
// It returns musen.ErrNotFound if old is not there any more.
func (c *Catalog) Replace(ctx context.Context, old string, s musen.Segment, fingerprint []byte, inner []cid.Cid) error {
	r, err := c.commitRow(s, fingerprint)
	if err == nil {
		commit := c.commit(r, blocksOf(s, inner))
		err = c.writer.write(ctx, change{
			wipes: true,
			apply: func(ctx context.Context, tx bun.Tx) error {
				if _, err := bury(ctx, tx, c.box, old); err != nil {
					return err
				}
				return commit(ctx, tx)
			},
			kind: ofSegments,
			done: func() { c.version.Add(1) },
		})
	}
	return c.failed(err, "replace segment %q by %q", old, s.ID)
}

// commit makes an intent the segment that r and blocks are the rows of.
func (c *Catalog) commit(r *segmentRow, blocks []blockRow) func(context.Context, bun.Tx) error {
	return func(ctx context.Context, tx bun.Tx) error {
		if err := c.hasStation(ctx, tx, r.Station); err != nil {
			return err
		}
		if err := c.refuseTakenDown(ctx, tx, r.Multihash); err != nil {
			return err
		}
		res, err := tx.NewUpdate().Model(r).WherePK().
			Where("station = ? AND created = ? AND state = ?", r.Station, r.Created, pending).Exec(ctx)
		if err := oneRow(res, err); err != nil {
			return err
		}
		return insertBlocks(ctx, tx, blocks)
	}
}

// commitRow is what the row of a committed segment holds.
func (c *Catalog) commitRow(s musen.Segment, fingerprint []byte) (*segmentRow, error) {
	if !s.CID.Defined() {
		return nil, fmt.Errorf("no CID: %w", musen.ErrInvalid)
	}
	if err := checkShape(s); err != nil {
		return nil, fmt.Errorf("%w: %w", musen.ErrInvalid, err)
	}
	leaves, err := packLeaves(s.Leaves)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", musen.ErrInvalid, err)
	}
	r := &segmentRow{
		ID: s.ID, Station: s.Station, State: live, Created: micros(s.Created),
		Multihash: s.CID.Hash(), Codec: int64(s.CID.Type()), Leaves: leaves, Fingerprint: fingerprint,
		MediaType: s.MediaType, Duration: int64(s.Duration), Size: s.Size, SealedSize: s.SealedSize,
		AIGenerated: s.AIGenerated, PublishAt: micros(s.PublishAt), ExpiresAt: micros(s.ExpiresAt),
	}
	if r.Title, err = c.box.seal(cell{"segments", s.ID, "title"}, s.Title); err == nil {
		r.Artist, err = c.box.seal(cell{"segments", s.ID, "artist"}, s.Artist)
	}
	r.sign(c.box)
	return r, err
}

// blocksOf are the blocks of a segment that need an entry besides its own.
func blocksOf(s musen.Segment, inner []cid.Cid) []blockRow {
	seen := map[string]bool{string(s.CID.Hash()): true}
	var rows []blockRow
	for _, list := range [][]cid.Cid{s.Leaves, inner} {
		for _, c := range list {
			if mh := c.Hash(); !seen[string(mh)] {
				seen[string(mh)] = true
				rows = append(rows, blockRow{Multihash: mh, Segment: s.ID})
			}
		}
	}
	return rows
}

func insertBlocks(ctx context.Context, tx bun.Tx, rows []blockRow) error {
	const atOnce = 500 // rows in one statement
	for len(rows) > 0 {
		some := rows[:min(atOnce, len(rows))]
		rows = rows[len(some):]
		if _, err := tx.NewInsert().Model(&some).Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Abort forgets an intent and destroys its key. There being none is no error;
// a segment that was committed is left alone and musen.ErrExists returned.
func (c *Catalog) Abort(ctx context.Context, segment string) error {
	err := c.writer.write(ctx, change{wipes: true, apply: func(ctx context.Context, tx bun.Tx) error {
		var r segmentRow
		err := tx.NewSelect().Model(&r).Column("state").Where("id = ?", segment).Scan(ctx)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return nil
		case err != nil:
			return err
		case r.State != pending:
			return fmt.Errorf("it was committed: %w", musen.ErrExists)
		}
		if err := destroyKey(ctx, tx, segment); err != nil {
			return err
		}
		_, err = tx.NewDelete().Model((*segmentRow)(nil)).Where("id = ?", segment).Exec(ctx)
		return err
	}})
	return c.failed(err, "abort segment %q", segment)
}

// destroyKey overwrites the wrapped key of a segment, then forgets the row.
func destroyKey(ctx context.Context, tx bun.Tx, segment string) error {
	var k keyRow
	err := tx.NewSelect().Model(&k).Where("segment = ?", segment).Scan(ctx)
	if err != nil {
		return err
	}
	k.Generation = 0
	clear(k.Ciphertext)
	if _, err = tx.NewUpdate().Model(&k).WherePK().Exec(ctx); err != nil {
		return err
	}
	_, err = tx.NewDelete().Model(&k).WherePK().Exec(ctx)
	return err
}

// Pending lists the intents that were neither committed nor aborted.
func (c *Catalog) Pending(ctx context.Context) ([]string, error) {
	var ids []string
	err := c.reads.NewSelect().Model((*segmentRow)(nil)).Column("id").Where("state = 0").Order("id").Scan(ctx, &ids)
	return ids, c.failed(err, "list unfinished segments")
}

// selectSegments begins a query for whole rows.
func (c *Catalog) selectSegments(rows any) *bun.SelectQuery {
	return c.reads.NewSelect().Model(rows).ColumnExpr("?TableColumns").
		ColumnExpr("k.generation AS key_generation, k.ciphertext AS wrapped_key").
		Join("LEFT JOIN wrapped_keys AS k ON k.segment = s.id")
}

// Segment finds a committed segment by the multihash of its CID. Of one that
// was removed only the tombstone is left: its ids, CID, times and sizes.
func (c *Catalog) Segment(ctx context.Context, mh multihash.Multihash) (musen.Segment, error) {
	var r segmentRow
	rows, err := c.segment.QueryContext(c.store.quick(ctx), []byte(mh))
	if err == nil {
		defer rows.Close()
		if rows.Next() {
			err = c.reads.ScanRow(ctx, rows, &r)
		} else {
			err = cmp.Or(rows.Err(), sql.ErrNoRows)
		}
	}
	s, err := c.one(&r, err)
	return s, c.failed(err, "look up segment %s", base58{mh})
}

// base58 is spelled only where an error is told.
type base58 struct{ multihash.Multihash }

// String implements fmt.Stringer.
func (b base58) String() string { return b.B58String() }

// SegmentByFingerprint finds the live segment of a station that was committed
// with that fingerprint.
func (c *Catalog) SegmentByFingerprint(ctx context.Context, station string, fingerprint []byte) (musen.Segment, error) {
	var r segmentRow
	q := c.selectSegments(&r).Where("s.station = ? AND s.fingerprint = ?", station, fingerprint)
	s, err := c.one(&r, q.Scan(ctx))
	return s, c.failed(err, "look up segment of station %q by fingerprint", station)
}

func (c *Catalog) one(r *segmentRow, err error) (musen.Segment, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return musen.Segment{}, musen.ErrNotFound
	}
	if err != nil {
		return musen.Segment{}, err
	}
	s, err := r.segment(c.box)
	return c.mark(s), err
}

// Segments are live segments of a station, oldest first, at most limit of them,
// after the one that cursor stands for; "" stands before the first. next is the
// cursor to go on with, "" after the last. A cursor stays good whatever is added
// or removed in between.
func (c *Catalog) Segments(ctx context.Context, station, cursor string, limit int) (page []musen.Segment, next string, err error) {
	after, err := parseCursor(cursor)
	if err == nil && limit < 1 {
		err = fmt.Errorf("a page of %d: %w", limit, musen.ErrInvalid)
	}
	var rows []segmentRow
	if err == nil {
		err = c.selectSegments(&rows).
			Where("s.station = ? AND s.state = ?", station, live).
			Where("(s.created, s.id) > (?, ?)", after.created, after.id).
			Order("s.created", "s.id").Limit(int64(limit) + 1).Scan(ctx)
	}
	if len(rows) > limit {
		rows = rows[:limit]
		last := rows[limit-1]
		next = position{last.Created, last.ID}.cursor()
	}
	for i := range rows {
		s, decodeErr := rows[i].segment(c.box)
		err = errors.Join(err, decodeErr)
		page = append(page, s)
	}
	if err != nil {
		return nil, "", c.failed(err, "list segments of station %q", station)
	}
	return page, next, nil
}

// Remove turns a live segment into a tombstone and destroys its wrapped key:
// when it returns without an error, no file holds the key's bytes any more. An
// error that tells of bytes still on the disk leaves the segment removed.
func (c *Catalog) Remove(ctx context.Context, segment string) error {
	var rec takedownRecord
	err := c.writer.write(ctx, change{
		wipes: true,
		apply: func(ctx context.Context, tx bun.Tx) error {
			root, err := bury(ctx, tx, c.box, segment)
			if err == nil {
				rec, err = c.shredTakedown(ctx, tx, string(root))
			}
			return err
		},
		kind: ofSegments, also: ofTakedowns,
		done: func() {
			c.version.Add(1)
			if rec.Generation > 0 {
				c.hold(rec)
			}
		},
	})
	if err == nil && rec.Generation > 0 {
		err = c.keepApart(rec)
	}
	return c.failed(err, "remove segment %q", segment)
}

// bury makes a tombstone of a segment, and tells its multihash.
func bury(ctx context.Context, tx bun.Tx, b box, segment string) (root []byte, err error) {
	r := &segmentRow{ID: segment}
	err = tx.NewSelect().Model(r).WherePK().Where("state NOT IN (?, ?)", pending, removed).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, musen.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	r.State, r.Fingerprint = removed, nil
	r.Title, r.Artist, r.Leaves = []byte{}, []byte{}, []byte{}
	r.sign(b)
	if _, err := tx.NewUpdate().Model(r).WherePK().Exec(ctx); err != nil {
		return nil, err
	}
	if _, err := tx.NewDelete().Model((*blockRow)(nil)).Where("segment = ?", segment).Exec(ctx); err != nil {
		return nil, err
	}
	return r.Multihash, destroyKey(ctx, tx, segment)
}
