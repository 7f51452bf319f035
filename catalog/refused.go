package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/multiformats/go-multihash"
	"github.com/uptrace/bun"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog/ledger"
)

// takenDown is the state of the row of a segment that was.
const takenDown = live + int(musen.TakenDown)

type takedownRow struct {
	bun.BaseModel `bun:"table:takedowns"`

	Multihash  []byte `bun:"multihash,pk"`
	Generation int64  `bun:"generation"`
	Record     []byte `bun:"record"`
	Created    int64  `bun:"created"`
	Change     int64  `bun:"change"`
}

// takedownRecord is what is sealed of a takedown, in its row and in the ledger.
// The zero record says that there never was one.
type takedownRecord struct {
	Generation  int64    `json:"generation"`
	CID         []byte   `json:"cid"`
	Blocks      [][]byte `json:"blocks,omitempty"` // multihashes
	Segment     string   `json:"segment,omitempty"`
	Station     string   `json:"station,omitempty"`
	Category    string   `json:"category"`
	Reason      string   `json:"reason"`
	Actor       string   `json:"actor"`
	Created     int64    `json:"created"`
	Shredded    int64    `json:"shredded,omitempty"` // 0: not
	Lifted      int64    `json:"lifted,omitempty"`   // 0: not
	LiftReason  string   `json:"lift_reason,omitempty"`
	LiftedBy    string   `json:"lifted_by,omitempty"`
	Fingerprint []byte   `json:"fingerprint,omitempty"` // that the segment had
}

func (r takedownRecord) inForce() bool  { return r.Generation > 0 && r.Lifted == 0 }
func (r takedownRecord) shredded() bool { return r.Shredded != 0 }

// root is the multihash of what was taken down.
func (r takedownRecord) root() string {
	c, err := cidOf(r.CID)
	if err != nil {
		return ""
	}
	return string(c.Hash())
}

func recordOf(t musen.Takedown) takedownRecord {
	r := takedownRecord{
		CID: t.CID.Bytes(), Segment: t.Segment, Station: t.Station, Category: t.Category,
		Reason: t.Reason, Actor: t.Actor, Created: micros(t.Created),
	}
	if !t.Shredded.IsZero() {
		r.Shredded = micros(t.Shredded)
	}
	return r
}

// name has the record be of a segment, if there is one.
func (r *takedownRecord) name(segment *segmentRow) error {
	if segment == nil {
		return nil
	}
	s, err := segment.brief()
	if err == nil {
		r.CID, r.Segment, r.Station = s.CID.Bytes(), s.ID, s.Station
	}
	return err
}

func (r takedownRecord) takedown() musen.Takedown {
	if r.Generation == 0 {
		return musen.Takedown{}
	}
	t := musen.Takedown{
		Segment: r.Segment, Station: r.Station, Category: r.Category, Reason: r.Reason, Actor: r.Actor,
		Created: instant(r.Created), Shredded: orZero(r.Shredded), Lifted: orZero(r.Lifted), LiftReason: r.LiftReason, LiftedBy: r.LiftedBy,
	}
	t.CID, _ = cidOf(r.CID) // it was checked when it was opened
	for _, mh := range r.Blocks {
		t.Blocks = append(t.Blocks, mh)
	}
	return t
}

func orZero(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return instant(us)
}

// sealTakedown seals a record under its own root.
func (c *Catalog) sealTakedown(rec takedownRecord) ([]byte, error) {
	b, err := json.Marshal(rec)
	if err != nil {
		return nil, err
	}
	return c.box.seal(cell{"takedowns", rec.root(), "record"}, string(b))
}

func (c *Catalog) openTakedown(root string, sealed []byte) (rec takedownRecord, err error) {
	text, err := c.box.open(cell{"takedowns", root, "record"}, sealed)
	if err == nil {
		err = json.Unmarshal([]byte(text), &rec)
	}
	if err != nil {
		return takedownRecord{}, err
	}
	if rec.root() != root || rec.Generation < 1 || !musen.IsTakedownCategory(rec.Category) {
		return takedownRecord{}, damaged(fmt.Errorf("the takedown of %x: an impossible record", root))
	}
	return rec, nil
}

// readTakedown reads the newest record of a root, or the zero record.
func (c *Catalog) readTakedown(ctx context.Context, db bun.IDB, root string) (takedownRecord, error) {
	r := takedownRow{Multihash: []byte(root)}
	err := db.NewSelect().Model(&r).WherePK().Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return takedownRecord{}, nil
	}
	if err != nil {
		return takedownRecord{}, err
	}
	return c.openTakedown(root, r.Record)
}

func (c *Catalog) putTakedown(ctx context.Context, tx bun.Tx, rec takedownRecord) error {
	sealed, err := c.sealTakedown(rec)
	if err != nil {
		return err
	}
	r := takedownRow{Multihash: []byte(rec.root()), Generation: rec.Generation, Record: sealed, Created: rec.Created}
	if r.Change, err = nextChange(ctx, tx); err != nil {
		return err
	}
	_, err = tx.NewInsert().Model(&r).On("CONFLICT (multihash) DO UPDATE").
		Set("generation = EXCLUDED.generation, record = EXCLUDED.record, created = EXCLUDED.created, change = EXCLUDED.change").Exec(ctx)
	return err
}

// takedownMap is what memory holds of takedowns: about 200 bytes for each block
// that is denied.
type takedownMap struct {
	mu     sync.RWMutex
	roots  map[string]heldTakedown
	denied map[string]string // multihash to root
	some   atomic.Bool       // there was one
}

type heldTakedown struct {
	generation int64
	category   string // empty: lifted
	blocks     [][]byte
}

func newTakedownMap() *takedownMap {
	return &takedownMap{roots: map[string]heldTakedown{}, denied: map[string]string{}}
}

// put takes a record over if it is newer, and tells whether it was.
func (m *takedownMap) put(rec takedownRecord) bool {
	root := rec.root()
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.roots[root]
	if old.generation >= rec.Generation {
		return false
	}
	held := heldTakedown{generation: rec.Generation, blocks: rec.Blocks}
	if len(held.blocks) == 0 {
		held.blocks = old.blocks // a record that could not be read whole forgets none
	}
	if rec.inForce() {
		held.category = rec.Category
	}
	m.roots[root] = held
	if held.category != "" {
		m.deny(root, held)
	} else if old.category != "" {
		m.allow(root, old)
	}
	return true
}

func (m *takedownMap) deny(root string, t heldTakedown) {
	m.some.Store(true)
	m.denied[root] = root
	for _, mh := range t.blocks {
		m.denied[string(mh)] = root
	}
}

// allow denies a root and its blocks no more, but for those that another denies
// too.
func (m *takedownMap) allow(root string, t heldTakedown) {
	delete(m.denied, root)
	for _, mh := range t.blocks {
		delete(m.denied, string(mh))
	}
	for other, held := range m.roots {
		if held.category != "" {
			m.deny(other, held)
		}
	}
}

func (m *takedownMap) generation(root string) int64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.roots[root].generation
}

// rootOf is the root by whose takedown a block is denied, or the block.
func (m *takedownMap) rootOf(mh string) string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if root, ok := m.denied[mh]; ok {
		return root
	}
	return mh
}

// Denied reports, from memory, whether a block was taken down, itself or as a
// part of something.
func (c *Catalog) Denied(mh multihash.Multihash) bool {
	if !c.takedowns.some.Load() { // asked for every block of every request
		return false
	}
	c.takedowns.mu.RLock()
	defer c.takedowns.mu.RUnlock()
	_, denied := c.takedowns.denied[string(mh)]
	return denied
}

// mark fills in what memory knows of takedowns of a segment.
func (c *Catalog) mark(s musen.Segment) musen.Segment {
	if !s.CID.Defined() {
		return s
	}
	c.takedowns.mu.RLock()
	defer c.takedowns.mu.RUnlock()
	held, known := c.takedowns.roots[string(s.CID.Hash())]
	s.Takedown, s.Lifted = held.category, known && held.category == ""
	return s
}

// hold brings memory up to a record, and tells whether that is news.
func (c *Catalog) hold(rec takedownRecord) bool {
	news := c.takedowns.put(rec)
	if news {
		c.version.Add(1)
	}
	return news
}

// loadTakedowns brings memory and the ledger up to what db says, and tells who
// has to act on what other processes did.
func (c *Catalog) loadTakedowns(ctx context.Context, db bun.IDB, since int64) error {
	var rows []takedownRow
	if err := db.NewSelect().Model(&rows).Where("change > ?", since).Order("change").Scan(ctx); err != nil {
		return c.store.explain(err)
	}
	var fresh []takedownRecord
	for _, r := range rows {
		rec, err := c.openTakedown(string(r.Multihash), r.Record)
		if err != nil {
			return err
		}
		if c.hold(rec) {
			fresh = append(fresh, rec)
		}
	}
	if err := c.keepApart(fresh...); err != nil {
		c.log.Error("takedowns are in force, but were not kept apart from the catalogue", "takedowns", len(fresh), "err", err)
	}
	if since < 0 || c.fleet == nil || c.fleet.TakenDown == nil {
		return nil
	}
	for _, rec := range fresh {
		c.fleet.TakenDown(rec.takedown())
	}
	return nil
}

// keepApart makes records durable outside the catalogue.
func (c *Catalog) keepApart(recs ...takedownRecord) error {
	if c.ledger == nil {
		return nil
	}
	var kept []ledger.Record
	for _, rec := range recs {
		sealed, err := c.sealTakedown(rec)
		if err != nil {
			return err
		}
		kept = append(kept, ledger.Record{Name: rec.root(), Generation: rec.Generation, Sealed: sealed})
	}
	if err := c.ledger.Put(kept...); err != nil {
		return fmt.Errorf("not kept apart from the catalogue, whose backup may forget it: %w", err)
	}
	return nil
}

// newest is the newest generation of a root that is known outside the database,
// which may not have been reached.
func (c *Catalog) newest(root string) int64 {
	held := c.takedowns.generation(root)
	if c.ledger == nil {
		return held
	}
	return max(held, c.ledger.Generation(root))
}

// reconcile puts into the catalogue what the ledger knows better: that is how a
// takedown outlives a backup of the catalogue that was put back. Every record is
// opened, needed or not: damage shows while the catalogue knows the same. The
// error of it wraps ledger.ErrDamaged.
func (c *Catalog) reconcile(ctx context.Context) error {
	if c.ledger == nil {
		return nil
	}
	var lacking []takedownRecord
	err := c.ledger.Each(func(r ledger.Record) error {
		rec, err := c.openTakedown(r.Name, r.Sealed)
		if err != nil || rec.Generation != r.Generation {
			return fmt.Errorf("a record that the keyring of this home did not seal: %w", ledger.ErrDamaged)
		}
		if r.Generation > c.takedowns.generation(r.Name) {
			lacking = append(lacking, rec)
		}
		return nil
	})
	for _, rec := range lacking {
		if err == nil {
			err = c.reapply(ctx, rec)
		}
	}
	if err == nil && len(lacking) > 0 {
		c.log.Warn("the catalogue lacked takedowns, as an older copy does; they are in force again", "takedowns", len(lacking))
	}
	return c.failed(err, "put takedowns back that the catalogue lacks")
}

// reapply does what a record of the ledger says, unless the catalogue has a
// newer one by now.
func (c *Catalog) reapply(ctx context.Context, rec takedownRecord) error {
	return c.writer.write(ctx, change{
		wipes: rec.shredded(),
		apply: func(ctx context.Context, tx bun.Tx) error {
			old, err := c.readTakedown(ctx, tx, rec.root())
			if err != nil || old.Generation >= rec.Generation {
				return err
			}
			if rec.inForce() {
				r, ownErr := ownerRow(ctx, tx, []byte(rec.root()))
				if err = ownErr; err == nil && r != nil {
					err = c.refuse(ctx, tx, r, &rec)
				}
			} else if err = c.putBack(ctx, tx, rec); errors.Is(err, musen.ErrGone) {
				err = nil
			}
			if err != nil {
				return err
			}
			return c.putTakedown(ctx, tx, rec)
		},
		kind: ofTakedowns, also: ofSegments,
		done: func() { c.hold(rec) },
	})
}
