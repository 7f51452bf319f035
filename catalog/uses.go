package catalog

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"

	"github.com/musenai/musen/policy"
)

var _ policy.Uses = (*Catalog)(nil)

type useRow struct {
	bun.BaseModel `bun:"table:uses"`

	KeyMAC []byte `bun:"key_mac,pk"`
	Key    []byte `bun:"key"`
	Used   int64  `bun:"used"`
}

// maxUsed bounds how many credentials memory follows, and roomyUsed to how many
// it is brought down now and then, so that there is room for new ones.
const (
	maxUsed   = 1 << 17
	roomyUsed = maxUsed / 8 * 7
)

// forgottenID is the key of the row that says until when what is not followed
// may have been used. No credential has it.
const forgottenID = ""

// useMap holds when credentials were last used, to the hour. Hours are counted
// since 1970.
type useMap struct {
	hours sync.Map // id to *atomic.Int64
	count atomic.Int64
	// forgotten is an hour: what is not in hours was used in it, for all that is
	// known. Nobody is refused for what was only forgotten.
	forgotten atomic.Int64
	limit     atomic.Int64 // in hours; 0: none
	keep      atomic.Int64 // for how many hours a use says anything; 0: for ever

	mu      sync.Mutex
	changed map[string]int64 // what is not recorded yet
}

// note makes the last use of id at least that hour. It reports whether that is
// news.
func (m *useMap) note(id string, hour int64) bool {
	if id == forgottenID {
		return raise(&m.forgotten, hour)
	}
	held, ok := m.hours.Load(id)
	if !ok {
		if m.count.Load() >= maxUsed {
			m.forget(hour)
			return false
		}
		fresh := &atomic.Int64{}
		if held, ok = m.hours.LoadOrStore(id, fresh); !ok {
			m.count.Add(1)
		}
	}
	return raise(held.(*atomic.Int64), hour)
}

// raise makes last at least that hour. It reports whether it was less.
func raise(last *atomic.Int64, hour int64) bool {
	for {
		was := last.Load()
		if was >= hour {
			return false
		}
		if last.CompareAndSwap(was, hour) {
			return true
		}
	}
}

// forget says that what is not followed may have been used in that hour.
func (m *useMap) forget(hour int64) {
	if raise(&m.forgotten, hour) {
		m.record(forgottenID, hour)
	}
}

// record has an hour written at the next flush.
func (m *useMap) record(id string, hour int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changed == nil {
		m.changed = map[string]int64{}
	}
	m.changed[id] = max(m.changed[id], hour)
}

// lastUsed is the hour in which id was last used, or may have been.
func (m *useMap) lastUsed(id string) int64 {
	if held, ok := m.hours.Load(id); ok {
		return held.(*atomic.Int64).Load()
	}
	return m.forgotten.Load()
}

// prune forgets what was used so long ago that it says nothing any more and, if
// there is little room, what was used the longest ago, but nothing of this hour.
func (m *useMap) prune(hour int64) {
	before := m.oldest(hour)
	removed := false
	m.hours.Range(func(id, held any) bool {
		if held.(*atomic.Int64).Load() < before {
			if !removed { // first, so that nobody is refused meanwhile
				removed = true
				m.forget(before)
			}
			m.hours.Delete(id)
			m.count.Add(-1)
		}
		return true
	})
}

// oldest is the hour before which uses are forgotten.
func (m *useMap) oldest(hour int64) int64 {
	var before int64
	if keep := m.keep.Load(); keep > 0 {
		before = hour - keep
	}
	many := int(m.count.Load()) - roomyUsed
	if many <= 0 {
		return before
	}
	in := map[int64]int{}
	m.hours.Range(func(_, held any) bool {
		in[held.(*atomic.Int64).Load()]++
		return true
	})
	for _, h := range slices.Sorted(maps.Keys(in)) {
		if many <= 0 {
			break
		}
		many -= in[h]
		before = max(before, min(h+1, hour))
	}
	return before
}

// DisableUnused has tokens refused that were not used for that long; 0: none.
// No token lives for longer than life. Uses that are older than both together
// are forgotten when others are recorded.
func (c *Catalog) DisableUnused(after, life time.Duration) {
	c.uses.limit.Store(int64(after / time.Hour))
	c.uses.keep.Store(int64((after+life)/time.Hour) + 1)
}

// Use notes that a credential is used, and reports whether it may be: not one
// that was not used for too long since it was issued. A zero issued says that
// it is never too long. What was forgotten for want of room, see Unfollowed, is
// given the benefit of the doubt. It looks in memory only.
func (c *Catalog) Use(id string, issued time.Time) bool {
	if !c.Usable(id, issued) {
		return false
	}
	if hour := c.hour(); c.uses.note(id, hour) {
		c.uses.record(id, hour)
	}
	return true
}

// Usable reports what Use would, and notes nothing.
func (c *Catalog) Usable(id string, issued time.Time) bool {
	limit := c.uses.limit.Load()
	return limit == 0 || issued.IsZero() || c.hour()-max(issued.Unix()/3600, c.uses.lastUsed(id)) <= limit
}

// hour is the number of this hour.
func (c *Catalog) hour() int64 { return c.now().Unix() / 3600 }

// Unfollowed is until when credentials were used that are not followed any
// more, because more than there is room for are in use: those are let in that
// DisableUnused may have had refused. It is zero if there are none of them.
func (c *Catalog) Unfollowed() time.Time {
	limit, forgotten := c.uses.limit.Load(), c.uses.forgotten.Load()
	if limit == 0 || c.hour()-forgotten > limit {
		return time.Time{}
	}
	return time.Unix(forgotten*3600, 0).UTC()
}

// LastUsed is when a credential was last used, to the hour; zero if it is not
// known to have been.
func (c *Catalog) LastUsed(id string) time.Time {
	held, ok := c.uses.hours.Load(id)
	if !ok {
		return time.Time{}
	}
	return time.Unix(held.(*atomic.Int64).Load()*3600, 0).UTC()
}

// FlushUses records when credentials were last used, and forgets what says
// nothing any more. What cannot be recorded is tried again at the next flush.
func (c *Catalog) FlushUses(ctx context.Context) error {
	c.uses.prune(c.hour())
	c.uses.mu.Lock()
	changed := c.uses.changed
	c.uses.changed = nil
	c.uses.mu.Unlock()
	if len(changed) == 0 {
		return nil
	}
	err := c.writeUses(ctx, changed)
	if err != nil {
		for id, hour := range changed {
			c.uses.record(id, hour)
		}
	}
	return c.failed(err, "record when credentials were used")
}

// usesAtOnce bounds the rows of one statement.
const usesAtOnce = 500

// writeUses writes what changed, but over no later use that another process
// knew of, and deletes what was forgotten.
func (c *Catalog) writeUses(ctx context.Context, changed map[string]int64) error {
	rows := make([]useRow, 0, len(changed))
	for id, hour := range changed {
		r := useRow{KeyMAC: c.box.lookup("use", id), Used: micros(time.Unix(hour*3600, 0))}
		var err error
		if r.Key, err = c.box.seal(cell{"uses", string(r.KeyMAC), "key"}, id); err != nil {
			return err
		}
		rows = append(rows, r)
	}
	return c.writer.write(ctx, change{apply: func(ctx context.Context, tx bun.Tx) error {
		for some := range slices.Chunk(rows, usesAtOnce) {
			_, err := tx.NewInsert().Model(&some).On("CONFLICT (key_mac) DO UPDATE").
				Set("used = EXCLUDED.used").Where("?TableAlias.used < EXCLUDED.used").Exec(ctx)
			if err != nil {
				return err
			}
		}
		if before, ok := changed[forgottenID]; ok {
			_, err := tx.NewDelete().Model((*useRow)(nil)).Where("used < ?", micros(time.Unix(before*3600, 0))).Exec(ctx)
			return err
		}
		return nil
	}, kind: ofUses})
}

// loadUses adds what db says to memory.
func (c *Catalog) loadUses(ctx context.Context, db bun.IDB, _ int64) error {
	var rows []useRow
	if err := db.NewSelect().Model(&rows).Order("used DESC").Scan(ctx); err != nil { // what there is no room for is the oldest
		return c.store.explain(err)
	}
	for _, r := range rows {
		id, err := c.box.open(cell{"uses", string(r.KeyMAC), "key"}, r.Key)
		if err != nil {
			return err
		}
		c.uses.note(id, instant(r.Used).Unix()/3600)
	}
	return nil
}
