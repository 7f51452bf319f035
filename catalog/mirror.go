package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/uptrace/bun"

	"github.com/musenai/musen"
)

// A kind is a kind of rows that every process holds in memory, or notices
// changes of. A change names its kind, so that other processes hear of it.
type kind string

const (
	ofAny         kind = "any" // all kinds together: the number of the newest change
	ofStations    kind = "stations"
	ofRevocations kind = "revocations"
	ofRevokedKeys kind = "revoked_keys"
	ofShares      kind = "shares" // but for how often they were used
	ofSubjects    kind = "subjects"
	ofRoles       kind = "roles"
	ofUses        kind = "uses"
	ofSegments    kind = "segments" // that were committed before
	ofTakedowns   kind = "takedowns"
)

// A loader brings memory up to the rows that db shows. What was loaded before
// was everything up to the change with the number since; -1: nothing was.
type loader func(ctx context.Context, db bun.IDB, since int64) error

// loaders are those of all kinds.
func (c *Catalog) loaders() map[kind]loader {
	return map[kind]loader{
		ofStations:    c.loadStations,
		ofRevocations: c.loadRevocations,
		ofRevokedKeys: c.loadRevokedKeys,
		ofShares:      c.loadShares,
		ofSubjects:    c.loadSubjects,
		ofRoles:       c.loadRoles,
		ofUses:        c.loadUses,
		ofTakedowns:   c.loadTakedowns,
		ofSegments: func(context.Context, bun.IDB, int64) error {
			c.version.Add(1)
			return nil
		},
	}
}

// A step is one change of the database: its number, and the random mark by which
// it is told from another change of that number in a database that took another
// turn.
type step struct {
	number int64
	mark   string
}

// mirrors is how far memory is. Who brings it up to what was committed holds
// the lock from before the commit, or before the rows are read, until memory
// shows it: so the newest state is never overwritten by an older one.
type mirrors struct {
	mu      sync.Mutex
	applied map[kind]int64 // number of the newest change of each kind that memory shows
	mark    string         // of the newest of all of them
	own     int64          // number of the newest change of this process
}

// progress are the newest change up to which memory shows all, and the number of
// the newest that this process made.
func (m *mirrors) progress() (applied step, own int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return step{m.applied[ofAny], m.mark}, m.own
}

// committed notes a change of this process, which memory shows. If another
// process made one that memory does not show yet, the next refresh loads both.
func (m *mirrors) committed(made step, kinds []kind) {
	if made.number == 0 {
		return
	}
	m.own = made.number
	if m.applied[ofAny] != made.number-1 {
		return
	}
	for _, k := range append(slices.Clone(kinds), ofAny) {
		m.applied[k] = made.number
	}
	m.mark = made.mark
}

type changeRow struct {
	bun.BaseModel `bun:"table:changes"`

	Kind    string `bun:"kind,pk"`
	Counter int64  `bun:"counter"`
}

// refresh loads the kinds that changed since they were loaded.
func (c *Catalog) refresh(ctx context.Context) error {
	m := &c.mirrors
	m.mu.Lock()
	defer m.mu.Unlock()
	return c.store.snapshot(ctx, func(db bun.IDB) error {
		var rows []changeRow
		if err := db.NewSelect().Model(&rows).Scan(ctx); err != nil {
			return c.store.explain(err)
		}
		counters := map[kind]int64{}
		for _, r := range rows {
			counters[kind(r.Kind)] = r.Counter
		}
		for k, load := range c.loaders() {
			since, loaded := m.applied[k]
			if !loaded {
				since = -1
			}
			if since == counters[k] {
				continue
			}
			if err := load(ctx, db, since); err != nil {
				return fmt.Errorf("load %s: %w", k, err)
			}
			m.applied[k] = counters[k]
		}
		mark, err := markOf(ctx, db, counters[ofAny])
		if err != nil {
			return c.store.explain(err)
		}
		m.applied[ofAny], m.mark = counters[ofAny], mark
		return nil
	})
}

type markRow struct {
	bun.BaseModel `bun:"table:marks"`

	Number int64  `bun:"number,pk"`
	Mark   string `bun:"mark"`
}

// keepMarks is how many changes a process may be behind and still know whether
// the database has what it has seen.
const keepMarks = 10_000

// markOf is the mark of a change, or empty if there is none.
func markOf(ctx context.Context, db bun.IDB, number int64) (string, error) {
	r := markRow{Number: number}
	err := db.NewSelect().Model(&r).WherePK().Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return r.Mark, err
}

// nextChange is the number that the change under way will have.
func nextChange(ctx context.Context, tx bun.Tx) (n int64, err error) {
	err = tx.NewSelect().Model((*changeRow)(nil)).ColumnExpr("counter + 1").Where("kind = ?", ofAny).Scan(ctx, &n)
	return n, err
}

// hasStation says, in the transaction that depends on it, whether a station is
// there. Memory may not know yet that another process removed it.
func (c *Catalog) hasStation(ctx context.Context, tx bun.Tx, id string) error {
	if !c.store.shared() {
		_, err := c.Station(ctx, id)
		return err
	}
	there, err := tx.NewSelect().Model((*stationRow)(nil)).Where("id = ? AND name_mac IS NOT NULL", id).Exists(ctx)
	if err == nil && !there {
		err = musen.ErrNotFound
	}
	return err
}
