package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/uptrace/bun"

	"github.com/musenai/musen"
)

// HasBlock reports whether the block belongs to a live segment: as its root,
// a leaf, or a block between them.
func (c *Catalog) HasBlock(ctx context.Context, mh multihash.Multihash) (bool, error) {
	if c.Denied(mh) {
		return false, nil
	}
	var there bool
	err := c.reads.NewRaw(`SELECT EXISTS (SELECT 1 FROM segments WHERE multihash = ? AND state = ?)
		OR EXISTS (SELECT 1 FROM blocks JOIN segments ON segments.id = blocks.segment
			WHERE blocks.multihash = ? AND segments.state = ?)`,
		[]byte(mh), live, []byte(mh), live).Scan(ctx, &there)
	return there, c.failed(err, "look up block %s", base58{mh})
}

// ownerQuery is prepared once: it is asked for every block that a peer wants.
// Live is the least state: what is pending has no multihash and no blocks.
const ownerQuery = `SELECT id, station, state, multihash, codec, sealed_size FROM segments WHERE multihash = $1
	UNION ALL SELECT s.id, s.station, s.state, s.multihash, s.codec, s.sealed_size
		FROM blocks AS b JOIN segments AS s ON s.id = b.segment WHERE b.multihash = $1
	ORDER BY state LIMIT 1`

// SegmentOfBlock finds the segment that a block belongs to: as its root, a
// leaf, or a block between them. Of several it finds a live one if there is.
// Only ID, Station, CID, SealedSize and State are filled in. Of a segment that
// was removed the root alone is known; musen.ErrNotFound is what the rest and
// blocks of nobody get.
func (c *Catalog) SegmentOfBlock(ctx context.Context, mh multihash.Multihash) (musen.Segment, error) {
	var r segmentRow
	err := c.owner.QueryRowContext(c.store.quick(ctx), []byte(mh)).
		Scan(&r.ID, &r.Station, &r.State, &r.Multihash, &r.Codec, &r.SealedSize)
	if errors.Is(err, sql.ErrNoRows) {
		err = musen.ErrNotFound
	}
	var s musen.Segment
	if err == nil {
		s, err = r.brief()
	}
	if s.State == musen.Live && c.Denied(mh) { // it could not be recorded
		s.State = musen.TakenDown
	}
	return s, c.failed(err, "look up block %s", base58{mh})
}

// Inner are the blocks between the root of a live segment and its leaves, in no
// order that means anything.
func (c *Catalog) Inner(ctx context.Context, segment string) ([]cid.Cid, error) {
	var r segmentRow
	var rows []blockRow
	err := c.reads.NewSelect().Model(&r).Column("leaves").Where("id = ? AND state = ?", segment, live).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		err = musen.ErrNotFound
	}
	if err == nil {
		err = c.reads.NewSelect().Model(&rows).Where("segment = ?", segment).Order("multihash").Scan(ctx)
	}
	var leaves []cid.Cid
	if err == nil {
		leaves, err = unpackLeaves(r.Leaves)
	}
	isLeaf := map[string]bool{}
	for _, leaf := range leaves {
		isLeaf[string(leaf.Hash())] = true
	}
	var inner []cid.Cid
	for _, row := range rows {
		if !isLeaf[string(row.Multihash)] {
			inner = append(inner, cid.NewCidV1(cid.DagProtobuf, row.Multihash))
		}
	}
	return inner, c.failed(err, "list the blocks of segment %q", segment)
}

// brief is what a row tells of a segment without its leaves, texts and key.
func (r *segmentRow) brief() (musen.Segment, error) {
	mh, err := multihash.Cast(r.Multihash)
	switch {
	case err != nil:
	case r.State < live || r.State > live+int(musen.TakenDown) || r.Codec < 0 || r.SealedSize <= 0:
		err = fmt.Errorf("impossible state %d, codec %d or size %d", r.State, r.Codec, r.SealedSize)
	default:
		return musen.Segment{
			ID: r.ID, Station: r.Station, CID: cid.NewCidV1(uint64(r.Codec), mh),
			SealedSize: r.SealedSize, State: musen.State(r.State - live),
		}, nil
	}
	return musen.Segment{}, damaged(fmt.Errorf("row of segment %q: %w", r.ID, err))
}

// Roots are the CIDs of all segments whose blocks are kept, those that are live
// and those that were taken down with their keys kept, in no order that means
// anything. What is added or removed meanwhile may be seen or not. It ends at an
// error.
func (c *Catalog) Roots(ctx context.Context) iter.Seq2[cid.Cid, error] {
	return func(yield func(cid.Cid, error) bool) {
		for s, err := range c.inStates(ctx, live, takenDown) {
			if !yield(s.CID, err) {
				return
			}
		}
	}
}

// Live are all live segments, as Roots gives CIDs; of each only ID, Station,
// CID, SealedSize, State and Lifted are filled in, at the cost of a short read
// for every thousand.
func (c *Catalog) Live(ctx context.Context) iter.Seq2[musen.Segment, error] {
	return c.inStates(ctx, live)
}

func (c *Catalog) inStates(ctx context.Context, states ...int) iter.Seq2[musen.Segment, error] {
	const atOnce = 1000 // short reads: a long one would hold back a wipe
	return func(yield func(musen.Segment, error) bool) {
		for last := ""; ; {
			var rows []segmentRow
			err := c.reads.NewSelect().Model(&rows).Column("id", "station", "state", "multihash", "codec", "sealed_size").
				Where("state IN (?) AND id > ?", bun.List(states), last).Order("id").Limit(atOnce).Scan(ctx)
			if err != nil {
				yield(musen.Segment{}, c.failed(err, "list segments"))
				return
			}
			for i := range rows {
				s, err := rows[i].brief()
				if !yield(c.mark(s), c.failed(err, "list segments")) || err != nil {
					return
				}
				last = rows[i].ID
			}
			if len(rows) < atOnce {
				return
			}
		}
	}
}
