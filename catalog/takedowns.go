package catalog

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/uptrace/bun"

	"github.com/musenai/musen"
)

// TakeDown records that the segment which a CID belongs to, as its root or as a
// block of it, is refused from now on, or the CID alone if there is no such
// segment; what was recorded is returned. With shred the key is destroyed too,
// as by Remove, also if the segment was taken down before; without, that is
// musen.ErrExists. When it returns, Denied says so. That holds for this process
// also if it could not be recorded, of which the error tells.
func (c *Catalog) TakeDown(ctx context.Context, t musen.Takedown, shred bool) (musen.Takedown, error) {
	if err := checkTakedown(t); err != nil {
		return t, c.failed(err, "take %s down", t.CID)
	}
	t.Shredded = time.Time{}
	if shred {
		t.Shredded = t.Created
	}
	var rec takedownRecord
	err := c.writer.write(ctx, change{
		wipes: shred,
		apply: func(ctx context.Context, tx bun.Tx) (err error) {
			rec, err = c.takeDown(ctx, tx, recordOf(t))
			return err
		},
		kind: ofTakedowns, also: ofSegments,
		done: func() { c.hold(rec) },
	})
	switch {
	case err == nil, rec.Generation > 0 && c.takedowns.generation(rec.root()) >= rec.Generation: // done, but for a wipe
		t = rec.takedown()
		err = errors.Join(err, c.keepApart(rec))
	case !errors.Is(err, musen.ErrExists):
		rec = c.unrecordedTakedown(ctx, t)
		c.hold(rec)
		t = rec.takedown()
		err = errors.Join(unrecorded(err), c.keepApart(rec))
	}
	return t, c.failed(err, "take %s down", t.CID)
}

func checkTakedown(t musen.Takedown) error {
	if !t.CID.Defined() || !musen.IsTakedownCategory(t.Category) || t.Reason == "" || len(t.Reason) > maxReason || len(t.Actor) > maxName || t.Created.IsZero() {
		return fmt.Errorf("a takedown needs a CID, a known category, a time and a reason of 1 to %d bytes: %w", maxReason, musen.ErrInvalid)
	}
	return nil
}

// readWithin is how long the segment is looked up of what could not be recorded.
const readWithin = 2 * time.Second

// unrecordedTakedown is the record of a takedown that the database did not take,
// with what can still be read of the segment, also for a caller who left.
func (c *Catalog) unrecordedTakedown(ctx context.Context, t musen.Takedown) takedownRecord {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readWithin)
	defer cancel()
	rec := recordOf(t)
	if r, err := ownerRow(ctx, c.reads, []byte(rec.root())); err == nil && r != nil && rec.name(r) == nil {
		rec.Blocks, _ = blocksBelow(ctx, c.reads, r) // else the root alone is denied
	}
	rec.Generation = c.newest(rec.root()) + 1
	return rec
}

// takeDown makes rec, which names a CID, the newest record of whatever that
// belongs to.
func (c *Catalog) takeDown(ctx context.Context, tx bun.Tx, rec takedownRecord) (takedownRecord, error) {
	r, err := ownerRow(ctx, tx, []byte(rec.root()))
	if err != nil {
		return rec, err
	}
	if err := rec.name(r); err != nil {
		return rec, err
	}
	old, err := c.readTakedown(ctx, tx, rec.root())
	switch {
	case err != nil:
		return rec, err
	case old.inForce() && (!rec.shredded() || old.shredded()):
		return rec, fmt.Errorf("it is taken down already: %w", musen.ErrExists)
	}
	rec.Generation = max(old.Generation, c.newest(rec.root())) + 1
	rec.Blocks, rec.Fingerprint = old.Blocks, old.Fingerprint
	if r != nil {
		if err := c.refuse(ctx, tx, r, &rec); err != nil {
			return rec, err
		}
	}
	return rec, c.putTakedown(ctx, tx, rec)
}

// refuse makes the row of a segment say what rec does, which is in force, and
// notes in rec what is known of the segment.
func (c *Catalog) refuse(ctx context.Context, tx bun.Tx, r *segmentRow, rec *takedownRecord) error {
	if r.State == removed { // its key is gone
		if !rec.shredded() {
			rec.Shredded = rec.Created
		}
		return nil
	}
	blocks, err := blocksBelow(ctx, tx, r)
	if err != nil {
		return err
	}
	rec.Blocks = blocks
	if r.Fingerprint != nil {
		rec.Fingerprint = r.Fingerprint
	}
	if rec.shredded() {
		_, err := bury(ctx, tx, c.box, r.ID)
		return err
	}
	return c.setState(ctx, tx, r, takenDown, nil)
}

// setState gives a segment another state and fingerprint. A row that was
// changed by somebody else stays as it is, and opens nothing.
func (c *Catalog) setState(ctx context.Context, tx bun.Tx, r *segmentRow, state int, fingerprint []byte) error {
	if !r.sound(c.box) {
		return nil
	}
	r.State, r.Fingerprint = state, fingerprint
	r.sign(c.box)
	_, err := tx.NewUpdate().Model(r).WherePK().Exec(ctx)
	return err
}

// blocksBelow are the multihashes of a segment's blocks but its root.
func blocksBelow(ctx context.Context, db bun.IDB, r *segmentRow) (blocks [][]byte, err error) {
	err = db.NewSelect().Model((*blockRow)(nil)).Column("multihash").Where("segment = ?", r.ID).Order("multihash").Scan(ctx, &blocks)
	return blocks, err
}

// ownerRow is the segment that a block belongs to, of several a live one, or
// nil.
func ownerRow(ctx context.Context, db bun.IDB, mh []byte) (*segmentRow, error) {
	var r segmentRow
	err := db.NewSelect().Model(&r).
		Where("multihash = ? OR id IN (SELECT segment FROM blocks WHERE multihash = ?)", mh, mh).
		Order("state", "id").Limit(1).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &r, err
}

// Lift ends the takedown of that multihash, and makes its segment live again if
// there is one; what was recorded is returned. It returns musen.ErrNotFound when
// none is in force, and musen.ErrGone when the key or the station is gone.
func (c *Catalog) Lift(ctx context.Context, mh multihash.Multihash, reason, actor string) (musen.Takedown, error) {
	var rec takedownRecord
	var err error
	if reason == "" || len(reason) > maxReason || len(actor) > maxName {
		err = fmt.Errorf("a reason of 1 to %d bytes is needed: %w", maxReason, musen.ErrInvalid)
	} else {
		err = c.writer.write(ctx, change{
			apply: func(ctx context.Context, tx bun.Tx) (err error) {
				rec, err = c.lift(ctx, tx, c.takedowns.rootOf(string(mh)), reason, actor)
				return err
			},
			kind: ofTakedowns, also: ofSegments,
			done: func() { c.hold(rec) },
		})
	}
	if err == nil {
		err = c.keepApart(rec)
	}
	return rec.takedown(), c.failed(err, "lift the takedown of %s", base58{mh})
}

func (c *Catalog) lift(ctx context.Context, tx bun.Tx, root, reason, actor string) (takedownRecord, error) {
	rec, err := c.readTakedown(ctx, tx, root)
	switch {
	case err != nil:
		return rec, err
	case !rec.inForce():
		return rec, musen.ErrNotFound
	case rec.shredded():
		return rec, fmt.Errorf("its key was destroyed: %w", musen.ErrGone)
	}
	rec.Generation = max(rec.Generation, c.newest(root)) + 1
	rec.Lifted, rec.LiftReason, rec.LiftedBy = micros(c.now()), reason, actor
	if err := c.putBack(ctx, tx, rec); err != nil {
		return rec, err
	}
	return rec, c.putTakedown(ctx, tx, rec)
}

// putBack makes the segment live that a lifted takedown is about.
func (c *Catalog) putBack(ctx context.Context, tx bun.Tx, rec takedownRecord) error {
	var r segmentRow
	err := tx.NewSelect().Model(&r).Where("multihash = ?", []byte(rec.root())).Scan(ctx)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return err
	case r.State == removed:
		return fmt.Errorf("its key was destroyed: %w", musen.ErrGone)
	case r.State != takenDown:
		return nil
	}
	fingerprint := rec.Fingerprint
	if fingerprint != nil { // the same audio may have been added since
		other, err := tx.NewSelect().Model((*segmentRow)(nil)).Where("station = ? AND fingerprint = ?", r.Station, fingerprint).Exists(ctx)
		if err != nil {
			return err
		}
		if other {
			fingerprint = nil
		}
	}
	return c.setState(ctx, tx, &r, live, fingerprint)
}

// shredTakedown notes in the record of a takedown that the key is destroyed.
// The zero record is returned where none is in force.
func (c *Catalog) shredTakedown(ctx context.Context, tx bun.Tx, root string) (takedownRecord, error) {
	rec, err := c.readTakedown(ctx, tx, root)
	if err != nil || !rec.inForce() || rec.shredded() {
		return takedownRecord{}, err
	}
	rec.Generation = max(rec.Generation, c.newest(root)) + 1
	rec.Shredded = micros(c.now())
	return rec, c.putTakedown(ctx, tx, rec)
}

// refuseTakenDown refuses a segment whose bytes were taken down.
func (c *Catalog) refuseTakenDown(ctx context.Context, tx bun.Tx, root []byte) error {
	rec, err := c.readTakedown(ctx, tx, string(root))
	if err == nil && (rec.inForce() || c.Denied(root)) {
		err = musen.ErrTakenDown
	}
	return err
}

// Takedown is the record of the takedown that a block is or was refused by, in
// force or lifted, or musen.ErrNotFound.
func (c *Catalog) Takedown(ctx context.Context, mh multihash.Multihash) (musen.Takedown, error) {
	rec, err := c.readTakedown(ctx, c.reads, c.takedowns.rootOf(string(mh)))
	if err == nil && rec.Generation == 0 {
		err = musen.ErrNotFound
	}
	return rec.takedown(), c.failed(err, "look up the takedown of %s", base58{mh})
}

// Takedowns are the records of all takedowns, also of those that were lifted,
// the newest first, at most limit of them, after the one that cursor stands for;
// "" stands before the first. next is the cursor to go on with, "" after the last.
func (c *Catalog) Takedowns(ctx context.Context, cursor string, limit int) (page []musen.Takedown, next string, err error) {
	before, err := parseTakedownCursor(cursor)
	if err == nil && limit < 1 {
		err = fmt.Errorf("a page of %d: %w", limit, musen.ErrInvalid)
	}
	var rows []takedownRow
	if err == nil {
		err = c.reads.NewSelect().Model(&rows).Where("(created, multihash) < (?, ?)", before.created, []byte(before.id)).
			Order("created DESC", "multihash DESC").Limit(int64(limit) + 1).Scan(ctx)
	}
	if len(rows) > limit {
		rows = rows[:limit]
		last := rows[limit-1]
		next = takedownCursor(position{last.Created, string(last.Multihash)})
	}
	for _, r := range rows {
		rec, openErr := c.openTakedown(string(r.Multihash), r.Record)
		err = errors.Join(err, openErr)
		page = append(page, rec.takedown())
	}
	if err != nil {
		return nil, "", c.failed(err, "list takedowns")
	}
	return page, next, nil
}

func takedownCursor(p position) string {
	b := binary.BigEndian.AppendUint64([]byte{takedownCursorVersion}, uint64(p.created))
	return base64.RawURLEncoding.EncodeToString(append(b, p.id...))
}

const takedownCursorVersion = 2

// parseTakedownCursor accepts what takedownCursor makes, and "".
func parseTakedownCursor(s string) (position, error) {
	if s == "" {
		return position{created: math.MaxInt64}, nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err == nil && len(b) > 9 && b[0] == takedownCursorVersion {
		_, err = multihash.Cast(b[9:])
	} else {
		err = errors.New("too short")
	}
	if err != nil {
		return position{}, fmt.Errorf("cursor %.80q: %w: give one that a page came with", s, musen.ErrInvalid)
	}
	return position{int64(binary.BigEndian.Uint64(b[1:9])), string(b[9:])}, nil
}

// cidOf is the CID in its bytes.
func cidOf(b []byte) (cid.Cid, error) {
	n, c, err := cid.CidFromBytes(b)
	if err == nil && n != len(b) {
		err = errors.New("more than a CID")
	}
	return c, err
}
