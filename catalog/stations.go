package catalog

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/base32"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/uptrace/bun"

	"github.com/musenai/musen"
)

type stationRow struct {
	bun.BaseModel `bun:"table:stations"`

	ID          string `bun:"id,pk"`
	Name        []byte `bun:"name"`
	NameMAC     []byte `bun:"name_mac"`
	Description []byte `bun:"description"`
	Downloads   bool   `bun:"downloads"`
	Epoch       int64  `bun:"epoch"`
	Created     int64  `bun:"created"`
	Label       string `bun:"label"`
	MinReplicas int    `bun:"min_replicas"`
	MaxReplicas int    `bun:"max_replicas"`
	Spread      bool   `bun:"spread"`
	Community   int    `bun:"community"`
}

func (c *Catalog) stationRow(s musen.Station) (r stationRow, err error) {
	if err := musen.CheckStationName(s.Name); err != nil {
		return r, err
	}
	if !musen.IsID(s.ID) || s.Epoch > math.MaxInt64 {
		return r, fmt.Errorf("station id %q or epoch %d: %w", s.ID, s.Epoch, musen.ErrInvalid)
	}
	if err := errors.Join(s.Replication.Check(), musen.CheckLabel(s.Label)); err != nil {
		return r, err
	}
	r = stationRow{
		ID: s.ID, NameMAC: c.box.lookup("station name", s.Name),
		Downloads: s.Downloads, Epoch: int64(s.Epoch), Created: micros(s.Created), Label: s.Label,
		MinReplicas: s.Replication.Min, MaxReplicas: s.Replication.Max,
		Spread: s.Replication.Spread, Community: s.Replication.Community,
	}
	if r.Name, err = c.box.seal(cell{"stations", s.ID, "name"}, s.Name); err == nil {
		r.Description, err = c.box.seal(cell{"stations", s.ID, "description"}, s.Description)
	}
	return r, err
}

func (c *Catalog) openStation(r stationRow) (s musen.Station, err error) {
	if r.Epoch < 0 {
		return s, fmt.Errorf("row of station %q: impossible epoch %d", r.ID, r.Epoch)
	}
	s = musen.Station{
		ID: r.ID, Label: r.Label, Downloads: r.Downloads, Epoch: uint64(r.Epoch), Created: instant(r.Created),
		Replication: musen.Replication{Min: r.MinReplicas, Max: r.MaxReplicas, Spread: r.Spread, Community: r.Community},
	}
	if s.Label == "" {
		s.Label = c.label(r.ID)
	}
	if err := errors.Join(s.Replication.Check(), musen.CheckLabel(s.Label)); err != nil {
		return s, damaged(fmt.Errorf("row of station %q: %w", r.ID, err))
	}
	if s.Name, err = c.box.open(cell{"stations", r.ID, "name"}, r.Name); err == nil {
		s.Description, err = c.box.open(cell{"stations", r.ID, "description"}, r.Description)
	}
	return s, err
}

// label is that of a station which was created before stations had one: always
// the same, and known to nobody without the keyring.
func (c *Catalog) label(id string) string {
	const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
	sum := c.box.lookup("station label", id)
	return base32.NewEncoding(alphabet).EncodeToString(sum[:10])
}

// stationMap holds every station in memory. Only the writer changes it.
type stationMap struct {
	byID   sync.Map // string to musen.Station
	byName sync.Map // string to id
}

func (m *stationMap) get(nameOrID string) (musen.Station, bool) {
	if id, ok := m.byName.Load(nameOrID); ok {
		nameOrID = id.(string)
	}
	s, ok := m.byID.Load(nameOrID)
	if !ok {
		return musen.Station{}, false
	}
	return s.(musen.Station), true
}

func (m *stationMap) put(s musen.Station) {
	old, had := m.byID.Swap(s.ID, s)
	m.byName.Store(s.Name, s.ID)
	if had && old.(musen.Station).Name != s.Name {
		m.byName.CompareAndDelete(old.(musen.Station).Name, s.ID) // another may have it by now
	}
}

// setEpoch begins an epoch of a station that is there.
func (m *stationMap) setEpoch(id string, epoch uint64) {
	if s, ok := m.byID.Load(id); ok {
		changed := s.(musen.Station)
		changed.Epoch = epoch
		m.put(changed)
	}
}

func (m *stationMap) remove(id string) {
	if old, had := m.byID.LoadAndDelete(id); had {
		m.byName.CompareAndDelete(old.(musen.Station).Name, id)
	}
}

// keep forgets all stations but those.
func (m *stationMap) keep(ids map[string]bool) {
	m.byID.Range(func(id, _ any) bool {
		if !ids[id.(string)] {
			m.remove(id.(string))
		}
		return true
	})
}

func (c *Catalog) loadStations(ctx context.Context, db bun.IDB, _ int64) error {
	var rows []stationRow
	if err := db.NewSelect().Model(&rows).Where("name_mac IS NOT NULL").Scan(ctx); err != nil {
		return c.store.explain(err)
	}
	all := make([]musen.Station, len(rows))
	there := map[string]bool{}
	for i, r := range rows {
		var err error
		if all[i], err = c.openStation(r); err != nil {
			return err
		}
		there[r.ID] = true
	}
	c.stations.keep(there)
	for _, s := range all {
		c.stations.put(s)
	}
	return nil
}

// CreateStation records a station. It returns musen.ErrExists if its name or
// id is taken; an id is never free again.
func (c *Catalog) CreateStation(ctx context.Context, s musen.Station) error {
	s.Created = instant(micros(s.Created))
	r, err := c.stationRow(s)
	if err == nil {
		err = c.writer.write(ctx, change{
			apply: func(ctx context.Context, tx bun.Tx) error {
				_, err := tx.NewInsert().Model(&r).Exec(ctx)
				return err
			},
			kind: ofStations,
			done: func() { c.stations.put(s) },
		})
	}
	return c.failed(err, "create station %q", s.Name)
}

// Station finds a station by its name or id, in memory: what UpdateStation
// changed is seen by every call that begins after it returned.
func (c *Catalog) Station(_ context.Context, nameOrID string) (musen.Station, error) {
	s, ok := c.stations.get(nameOrID)
	if !ok {
		return s, fmt.Errorf("station %.80q: %w", nameOrID, musen.ErrNotFound)
	}
	return s, nil
}

// Stations are all stations, by name.
func (c *Catalog) Stations(context.Context) ([]musen.Station, error) {
	var all []musen.Station
	c.stations.byID.Range(func(_, s any) bool {
		all = append(all, s.(musen.Station))
		return true
	})
	slices.SortFunc(all, func(a, b musen.Station) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// UpdateStation changes the name, description, downloads, epoch and replication
// of the station with that id. An epoch never goes back, a label never changes.
// It returns musen.ErrExists if another station has the name.
func (c *Catalog) UpdateStation(ctx context.Context, s musen.Station) error {
	if old, ok := c.stations.byID.Load(s.ID); ok {
		s.Label = old.(musen.Station).Label
	}
	r, err := c.stationRow(s)
	if err == nil {
		err = c.writer.write(ctx, change{
			apply: func(ctx context.Context, tx bun.Tx) error {
				created, err := checkUpdate(ctx, tx, r)
				if err != nil {
					return err
				}
				r.Created, s.Created = created, instant(created)
				_, err = tx.NewUpdate().Model(&r).WherePK().Exec(ctx)
				return err
			},
			kind: ofStations,
			done: func() { c.stations.put(s) },
		})
	}
	return c.failed(err, "update station %q", s.Name)
}

// checkUpdate says whether the row of a station may become r, and when the
// station was created.
func checkUpdate(ctx context.Context, tx bun.Tx, r stationRow) (created int64, err error) {
	old := stationRow{ID: r.ID}
	err = tx.NewSelect().Model(&old).WherePK().Where("name_mac IS NOT NULL").Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, musen.ErrNotFound
	}
	if err != nil {
		return 0, err
	}
	if old.Epoch > r.Epoch {
		return 0, fmt.Errorf("epoch %d after %d: %w", r.Epoch, old.Epoch, musen.ErrInvalid)
	}
	return old.Created, nil
}

// RemoveStation removes a station that has neither live segments nor adds in
// flight; else it returns musen.ErrInvalid. Its tombstones stay.
func (c *Catalog) RemoveStation(ctx context.Context, id string) error {
	err := c.writer.write(ctx, change{
		apply: func(ctx context.Context, tx bun.Tx) error {
			busy, err := tx.NewSelect().Model((*segmentRow)(nil)).Where("station = ? AND state <> ?", id, removed).Exists(ctx)
			if err == nil && busy {
				err = fmt.Errorf("it still has segments, remove them first: %w", musen.ErrInvalid)
			}
			if err != nil {
				return err
			}
			res, err := tx.NewUpdate().Table("stations").
				Set("name_mac = NULL, name = ?, description = ?", []byte{}, []byte{}).
				Where("id = ? AND name_mac IS NOT NULL", id).Exec(ctx)
			return oneRow(res, err)
		},
		kind: ofStations,
		done: func() { c.stations.remove(id) },
	})
	return c.failed(err, "remove station %q", id)
}

// oneRow turns a write that met no row into musen.ErrNotFound.
func oneRow(res sql.Result, err error) error {
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 0 {
		return err
	}
	return musen.ErrNotFound
}
