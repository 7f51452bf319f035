package catalog

import (
	"context"
	"errors"
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

// maxUsed bounds how many credentials memory follows.
const maxUsed = 1 << 17

// useMap holds when credentials were last used, to the hour.
type useMap struct {
	hours   sync.Map // id to *atomic.Int64, hours since 1970
	count   atomic.Int64
	mu      sync.Mutex
	changed map[string]int64 // what is not recorded yet
	limit   atomic.Int64     // in hours; 0: none
}

// note makes the last use of id at least that hour. It reports whether that is
// news.
func (m *useMap) note(id string, hour int64) bool {
	held, ok := m.hours.Load(id)
	if !ok {
		if m.count.Load() >= maxUsed {
			return false
		}
		fresh := &atomic.Int64{}
		if held, ok = m.hours.LoadOrStore(id, fresh); !ok {
			m.count.Add(1)
		}
	}
	last := held.(*atomic.Int64)
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

// DisableUnused has tokens refused that were not used for that long; 0: none.
func (c *Catalog) DisableUnused(after time.Duration) { c.uses.limit.Store(int64(after / time.Hour)) }

// Use notes that a credential is used, and reports whether it may be: not one
// that was not used for too long since it was issued. A zero issued says that
// it is never too long. It looks in memory only.
func (c *Catalog) Use(id string, issued time.Time) bool {
	hour := c.now().Unix() / 3600
	if limit := c.uses.limit.Load(); limit > 0 && !issued.IsZero() {
		last := issued.Unix() / 3600
		if held, ok := c.uses.hours.Load(id); ok {
			last = max(last, held.(*atomic.Int64).Load())
		}
		if hour-last > limit {
			return false
		}
	}
	if c.uses.note(id, hour) {
		c.uses.mu.Lock()
		defer c.uses.mu.Unlock()
		if c.uses.changed == nil {
			c.uses.changed = map[string]int64{}
		}
		c.uses.changed[id] = hour
	}
	return true
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

// FlushUses records when credentials were last used. What cannot be recorded is
// tried again at the next flush.
func (c *Catalog) FlushUses(ctx context.Context) error {
	c.uses.mu.Lock()
	changed := c.uses.changed
	c.uses.changed = nil
	c.uses.mu.Unlock()
	if len(changed) == 0 {
		return nil
	}
	rows := make([]useRow, 0, len(changed))
	var err error
	for id, hour := range changed {
		r := useRow{KeyMAC: c.box.lookup("use", id), Used: micros(time.Unix(hour*3600, 0))}
		var sealErr error
		r.Key, sealErr = c.box.seal(cell{"uses", string(r.KeyMAC), "key"}, id)
		rows, err = append(rows, r), errors.Join(err, sealErr)
	}
	if err == nil {
		err = c.writer.write(ctx, change{apply: func(ctx context.Context, tx bun.Tx) error {
			for _, r := range rows {
				_, err := tx.NewInsert().Model(&r).On("CONFLICT (key_mac) DO UPDATE").Set("used = EXCLUDED.used").Exec(ctx)
				if err != nil {
					return err
				}
			}
			return nil
		}, kind: ofUses})
	}
	if err != nil {
		c.uses.mu.Lock()
		defer c.uses.mu.Unlock()
		if c.uses.changed == nil {
			c.uses.changed = map[string]int64{}
		}
		for id, hour := range changed {
			c.uses.changed[id] = max(c.uses.changed[id], hour)
		}
	}
	return c.failed(err, "record when credentials were used")
}

// loadUses adds what db says to memory.
func (c *Catalog) loadUses(ctx context.Context, db bun.IDB, _ int64) error {
	var rows []useRow
	if err := db.NewSelect().Model(&rows).Scan(ctx); err != nil {
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
