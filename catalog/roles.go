package catalog

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

var _ policy.Roles = (*Catalog)(nil)

type roleRow struct {
	bun.BaseModel `bun:"table:roles"`

	SubjectMAC []byte `bun:"subject_mac,pk"`
	Role       string `bun:"role,pk"`
	Station    string `bun:"station,pk"`
	Subject    []byte `bun:"subject"`
	Until      int64  `bun:"until"`
	Granted    int64  `bun:"granted"`
	Actor      []byte `bun:"actor"`
}

// cell names a sealed column of the row.
func (r roleRow) cell(column string) cell {
	return cell{"roles", string(r.SubjectMAC) + r.Role + r.Station, column}
}

// roleMap holds all assignments by subject. The writer replaces it, so that a
// look-up takes no lock.
type roleMap struct {
	held atomic.Pointer[map[string][]musen.Assignment]
}

func (m *roleMap) get() map[string][]musen.Assignment {
	if p := m.held.Load(); p != nil {
		return *p
	}
	return nil
}

// change replaces what one subject holds.
func (m *roleMap) change(subject string, held []musen.Assignment) {
	next := maps.Clone(m.get())
	if next == nil {
		next = map[string][]musen.Assignment{}
	}
	if next[subject] = held; len(held) == 0 {
		delete(next, subject)
	}
	m.held.Store(&next)
}

// loadRoles makes memory say what db says.
func (c *Catalog) loadRoles(ctx context.Context, db bun.IDB, _ int64) error {
	all, err := c.readRoles(ctx, db)
	if err != nil {
		return err
	}
	next := map[string][]musen.Assignment{}
	for _, a := range all {
		next[a.Subject] = append(next[a.Subject], a)
	}
	c.roles.held.Store(&next)
	return nil
}

// Held are the roles that the subject holds at that time on the station of that
// id, which is empty for the node, from memory.
func (c *Catalog) Held(subject, station string, at time.Time) (held policy.RoleSet) {
	for _, a := range c.roles.get()[subject] {
		if (a.Station == "" || a.Station == station) && (a.Until.IsZero() || at.Before(a.Until)) {
			held = held.With(a.Role)
		}
	}
	return held
}

// GrantRole records that a subject holds a role, in place of what was recorded
// of the same role and station; when it returns, Held says so. Records of
// assignments that ended more than 30 days ago go.
func (c *Catalog) GrantRole(ctx context.Context, a musen.Assignment) error {
	r, err := c.roleRow(a)
	if err == nil {
		err = c.writer.write(ctx, change{
			apply: func(ctx context.Context, tx bun.Tx) error {
				if a.Station != "" {
					if err := c.hasStation(ctx, tx, a.Station); err != nil {
						return err
					}
				}
				old := micros(c.now().Add(-keepTokens))
				if _, err := tx.NewDelete().Model((*roleRow)(nil)).Where("until <> ? AND until < ?", zeroTime, old).Exec(ctx); err != nil {
					return err
				}
				_, err := tx.NewInsert().Model(&r).On("CONFLICT (subject_mac, role, station) DO UPDATE").
					Set("subject = EXCLUDED.subject, until = EXCLUDED.until, granted = EXCLUDED.granted, actor = EXCLUDED.actor").Exec(ctx)
				return err
			},
			kind: ofRoles,
			done: func() { c.roles.change(a.Subject, append(c.heldBut(a), a)) },
		})
	}
	return c.failed(err, "grant role %.40q", a.Role)
}

// heldBut are the assignments of the subject of a, without that of its role and
// station.
func (c *Catalog) heldBut(a musen.Assignment) []musen.Assignment {
	return slices.DeleteFunc(slices.Clone(c.roles.get()[a.Subject]), func(b musen.Assignment) bool {
		return b.Role == a.Role && b.Station == a.Station
	})
}

// RevokeRole takes a role away; when it returns, Held says so. It returns
// musen.ErrNotFound if the subject does not hold it there.
func (c *Catalog) RevokeRole(ctx context.Context, a musen.Assignment) error {
	err := checkName("subject", a.Subject)
	if err == nil {
		err = c.writer.write(ctx, change{
			apply: func(ctx context.Context, tx bun.Tx) error {
				r := roleRow{SubjectMAC: c.box.lookup("subject", a.Subject), Role: string(a.Role), Station: a.Station}
				result, err := tx.NewDelete().Model(&r).WherePK().Exec(ctx)
				if err != nil {
					return err
				}
				if n, err := result.RowsAffected(); err != nil || n == 0 {
					return notFoundUnless(err)
				}
				return nil
			},
			kind: ofRoles,
			done: func() { c.roles.change(a.Subject, c.heldBut(a)) },
		})
	}
	return c.failed(err, "revoke role %.40q", a.Role)
}

// notFoundUnless is err, or that nothing was there.
func notFoundUnless(err error) error {
	if err == nil {
		err = musen.ErrNotFound
	}
	return err
}

func (c *Catalog) roleRow(a musen.Assignment) (r roleRow, err error) {
	if err := checkName("subject", a.Subject); err != nil {
		return r, err
	}
	if !slices.Contains(policy.AllRoles(), a.Role) || a.Granted.IsZero() || len(a.Actor) > maxName {
		return r, fmt.Errorf("role %.40q: an assignment needs a role that there is, and a time: %w", a.Role, musen.ErrInvalid)
	}
	r = roleRow{
		SubjectMAC: c.box.lookup("subject", a.Subject), Role: string(a.Role), Station: a.Station,
		Until: micros(a.Until), Granted: micros(a.Granted),
	}
	if r.Subject, err = c.box.seal(r.cell("subject"), a.Subject); err == nil {
		r.Actor, err = c.box.seal(r.cell("actor"), a.Actor)
	}
	return r, err
}

// Assignments are who holds which role where, by subject, role and station.
func (c *Catalog) Assignments(ctx context.Context) ([]musen.Assignment, error) {
	all, err := c.readRoles(ctx, c.reads)
	return all, c.failed(err, "list roles")
}

func (c *Catalog) readRoles(ctx context.Context, db bun.IDB) ([]musen.Assignment, error) {
	var rows []roleRow
	if err := db.NewSelect().Model(&rows).Order("subject_mac", "role", "station").Scan(ctx); err != nil {
		return nil, c.store.explain(err)
	}
	all := make([]musen.Assignment, len(rows))
	for i, r := range rows {
		all[i] = musen.Assignment{Role: policy.Role(r.Role), Station: r.Station, Until: instant(r.Until), Granted: instant(r.Granted)}
		var err error
		if all[i].Subject, err = c.box.open(r.cell("subject"), r.Subject); err == nil {
			all[i].Actor, err = c.box.open(r.cell("actor"), r.Actor)
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}
