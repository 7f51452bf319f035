package catalog

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

var _ policy.Shares = (*Catalog)(nil)

type shareRow struct {
	bun.BaseModel `bun:"table:shares"`

	ID         string `bun:"id,pk"`
	Station    string `bun:"station"`
	SecretMAC  []byte `bun:"secret_mac"`
	Password   []byte `bun:"password"`
	Generation int64  `bun:"generation"`
	Downloads  bool   `bun:"downloads"`
	SessionTTL int64  `bun:"session_ttl"`
	MaxUses    int64  `bun:"max_uses"`
	Uses       int64  `bun:"uses"`
	Epoch      int64  `bun:"epoch"`
	Created    int64  `bun:"created"`
	Expires    int64  `bun:"expires"`
	Revoked    int64  `bun:"revoked"`
}

// keepShares is how long the record of a share is kept after it ended, so that
// whoever comes with it is told so.
const keepShares = 90 * 24 * time.Hour

func (c *Catalog) shareRow(s musen.Share, secret string) (r shareRow, err error) {
	if !musen.IsID(s.ID) || !musen.IsShareSecret(secret) || s.Epoch > math.MaxInt64 || s.Generation > math.MaxInt64 ||
		s.SessionTTL <= 0 || s.MaxUses < 0 || s.Uses < 0 || s.Created.IsZero() {
		return r, fmt.Errorf("a share needs an id, a secret, a time and a length of sessions: %w", musen.ErrInvalid)
	}
	r = shareRow{
		ID: s.ID, Station: s.Station, SecretMAC: c.box.lookup("share", secret), Generation: int64(s.Generation),
		Downloads: s.Downloads, SessionTTL: int64(s.SessionTTL), MaxUses: int64(s.MaxUses), Uses: int64(s.Uses),
		Epoch: int64(s.Epoch), Created: micros(s.Created), Expires: micros(s.Expires), Revoked: micros(s.Revoked),
	}
	r.Password, err = c.sealPassword(s.ID, s.Password)
	return r, err
}

// sealPassword seals the hash of a share's password; none stays empty.
func (c *Catalog) sealPassword(id, hash string) ([]byte, error) {
	if hash == "" {
		return []byte{}, nil
	}
	return c.box.seal(cell{"shares", id, "password"}, hash)
}

func (c *Catalog) openShare(r shareRow) (s musen.Share, err error) {
	if r.Epoch < 0 || r.Generation < 0 || r.SessionTTL <= 0 || r.MaxUses < 0 || r.Uses < 0 || len(r.SecretMAC) == 0 {
		return s, damaged(fmt.Errorf("row of share %q: an impossible number", r.ID))
	}
	s = musen.Share{
		ID: r.ID, Station: r.Station, Generation: uint64(r.Generation), Downloads: r.Downloads,
		SessionTTL: time.Duration(r.SessionTTL), MaxUses: int(r.MaxUses), Uses: int(r.Uses), Epoch: uint64(r.Epoch),
		Created: instant(r.Created), Expires: instant(r.Expires), Revoked: instant(r.Revoked),
	}
	if len(r.Password) > 0 {
		s.Password, err = c.box.open(cell{"shares", r.ID, "password"}, r.Password)
	}
	return s, err
}

// shareMap holds every share in memory. The writer changes it, and a
// revocation that could not be written.
type shareMap struct {
	mu       sync.RWMutex
	byID     map[string]musen.Share
	bySecret map[string]string // keyed hash to id
}

func newShareMap() *shareMap {
	return &shareMap{byID: map[string]musen.Share{}, bySecret: map[string]string{}}
}

func (m *shareMap) get(id string) (musen.Share, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s, ok := m.byID[id]
	return s, ok
}

func (m *shareMap) find(mac []byte) (musen.Share, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s, ok := m.byID[m.bySecret[string(mac)]]
	return s, ok
}

// put keeps a revocation that could not be written.
func (m *shareMap) put(s musen.Share, mac []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.Revoked.IsZero() {
		s.Revoked = m.byID[s.ID].Revoked
	}
	m.byID[s.ID] = s
	m.bySecret[string(mac)] = s.ID
}

// change changes shares that are there.
func (m *shareMap) change(f func(*musen.Share)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, s := range m.byID {
		f(&s)
		m.byID[id] = s
	}
}

// forget drops the shares whose secrets have those keyed hashes.
func (m *shareMap) forget(macs [][]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, mac := range macs {
		delete(m.byID, m.bySecret[string(mac)])
		delete(m.bySecret, string(mac))
	}
}

// loadShares makes memory what the table is, but for a revocation that could
// not be written.
func (c *Catalog) loadShares(ctx context.Context, db bun.IDB, _ int64) error {
	var rows []shareRow
	if err := db.NewSelect().Model(&rows).Scan(ctx); err != nil {
		return c.store.explain(err)
	}
	fresh := newShareMap()
	for _, r := range rows {
		s, err := c.openShare(r)
		if err != nil {
			return err
		}
		fresh.put(s, r.SecretMAC)
	}
	c.shares.mu.Lock()
	defer c.shares.mu.Unlock()
	for id, s := range fresh.byID {
		if s.Revoked.IsZero() {
			s.Revoked = c.shares.byID[id].Revoked
			fresh.byID[id] = s
		}
	}
	c.shares.byID, c.shares.bySecret = fresh.byID, fresh.bySecret
	return nil
}

// PutShare records a share under its secret, of which only a keyed hash is
// kept. The station must be there, at the share's epoch. Records of shares that
// ended more than 90 days ago go.
func (c *Catalog) PutShare(ctx context.Context, s musen.Share, secret string) error {
	r, err := c.shareRow(s, secret)
	if err == nil {
		var old [][]byte
		err = c.writer.write(ctx, change{
			apply: func(ctx context.Context, tx bun.Tx) (err error) {
				if old, err = c.pruneShares(ctx, tx); err != nil {
					return err
				}
				epoch, err := epochOf(ctx, tx, s.Station)
				if err == nil && epoch != r.Epoch {
					err = fmt.Errorf("the station has another epoch: %w", musen.ErrInvalid)
				}
				if err == nil {
					_, err = tx.NewInsert().Model(&r).Exec(ctx)
				}
				return err
			},
			kind: ofShares,
			done: func() {
				c.shares.forget(old)
				c.putShare(r)
			},
		})
	}
	return c.failed(err, "record share %q", s.ID)
}

// putShare brings memory up to a row that was written.
func (c *Catalog) putShare(r shareRow) {
	if s, err := c.openShare(r); err == nil { // it was sealed just now
		c.shares.put(s, r.SecretMAC)
	}
}

// pruneShares deletes the rows of shares that ended long ago.
func (c *Catalog) pruneShares(ctx context.Context, tx bun.Tx) (macs [][]byte, err error) {
	before := micros(c.now().Add(-keepShares))
	ended := "(revoked <> ? AND revoked < ?) OR (expires <> ? AND expires < ?)"
	err = tx.NewSelect().Model((*shareRow)(nil)).Column("secret_mac").Where(ended, zeroTime, before, zeroTime, before).Scan(ctx, &macs)
	if err != nil || len(macs) == 0 {
		return nil, err
	}
	_, err = tx.NewDelete().Model((*shareRow)(nil)).Where(ended, zeroTime, before, zeroTime, before).Exec(ctx)
	return macs, err
}

// epochOf is the epoch of a station that is there.
func epochOf(ctx context.Context, tx bun.Tx, station string) (int64, error) {
	r := stationRow{ID: station}
	err := tx.NewSelect().Model(&r).Column("epoch").WherePK().Where("name_mac IS NOT NULL").Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("station %.80q: %w", station, musen.ErrNotFound)
	}
	return r.Epoch, err
}

// Share finds the record of a share, from memory.
func (c *Catalog) Share(_ context.Context, id string) (musen.Share, error) {
	s, ok := c.shares.get(id)
	if !ok {
		return s, fmt.Errorf("share %.80q: %w", id, musen.ErrNotFound)
	}
	return s, nil
}

// ShareBySecret finds the share that has that secret, from memory, also one
// that has ended. It takes as long when there is none.
func (c *Catalog) ShareBySecret(secret string) (musen.Share, bool) {
	return c.shares.find(c.box.lookup("share", secret))
}

// Shares are the records of a station's shares, or of all if station is empty,
// newest first. How often each was used is read from the disk, for it may have
// been through another process.
func (c *Catalog) Shares(ctx context.Context, station string) ([]musen.Share, error) {
	var rows []shareRow
	if err := c.reads.NewSelect().Model(&rows).Column("id", "uses").Scan(ctx); err != nil {
		return nil, c.failed(err, "list shares")
	}
	var all []musen.Share
	for _, r := range rows {
		if s, ok := c.shares.get(r.ID); ok && (station == "" || s.Station == station) {
			s.Uses = int(r.Uses)
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b musen.Share) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// Generation is how often the password of a share was changed, from memory;
// false when there is no such share or it was revoked.
func (c *Catalog) Generation(share string) (uint64, bool) {
	s, ok := c.shares.get(share)
	return s.Generation, ok && s.Revoked.IsZero()
}

// UseShare counts one more session of a share. It returns musen.ErrGone, and
// counts nothing, when the share has ended; of many calls at once no more
// succeed than the share has uses. Other processes are not told: nothing but
// this count depends on it.
func (c *Catalog) UseShare(ctx context.Context, id string) error {
	if s, ok := c.shares.get(id); ok && !s.Revoked.IsZero() {
		return c.failed(musen.ErrGone, "use share %.80q", id)
	}
	r := shareRow{ID: id}
	err := c.writer.write(ctx, change{
		apply: func(ctx context.Context, tx bun.Tx) error {
			res, err := tx.NewUpdate().Model((*shareRow)(nil)).Set("uses = uses + 1").
				Where("id = ? AND revoked = ? AND (expires = ? OR expires > ?)", id, zeroTime, zeroTime, micros(c.now())).
				Where("max_uses = 0 OR uses < max_uses").
				Where("epoch = (SELECT st.epoch FROM stations AS st WHERE st.id = station AND st.name_mac IS NOT NULL)").Exec(ctx)
			if err := oneRow(res, err); errors.Is(err, musen.ErrNotFound) {
				return musen.ErrGone
			} else if err != nil {
				return err
			}
			return tx.NewSelect().Model(&r).WherePK().Scan(ctx)
		},
		done: func() { c.putShare(r) },
	})
	return c.failed(err, "use share %.80q", id)
}

// RevokeShare ends a share with its sessions and their links; when it returns,
// Generation says so. That holds for this process also if it could not be
// recorded, of which the error tells.
func (c *Catalog) RevokeShare(ctx context.Context, id string) error {
	if _, err := c.Share(ctx, id); err != nil {
		return c.failed(err, "revoke a share")
	}
	now := instant(micros(c.now()))
	revoke := func() {
		c.shares.change(func(s *musen.Share) {
			if s.ID == id && s.Revoked.IsZero() {
				s.Revoked = now
			}
		})
	}
	err := c.writer.write(ctx, change{
		apply: func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.NewUpdate().Model((*shareRow)(nil)).Set("revoked = ?", micros(now)).
				Where("id = ? AND revoked = ?", id, zeroTime).Exec(ctx)
			return err
		},
		kind: ofShares,
		done: revoke,
	})
	if err != nil {
		revoke()
		err = unrecorded(err)
	}
	return c.failed(err, "revoke share %.80q", id)
}

// SetSharePassword puts the hash of another password in the place of the one
// that a share has, or has none, and ends the sessions that the old one opened.
func (c *Catalog) SetSharePassword(ctx context.Context, id, hash string) error {
	r := shareRow{ID: id}
	sealed, err := c.sealPassword(id, hash)
	if err == nil {
		err = c.writer.write(ctx, change{
			apply: func(ctx context.Context, tx bun.Tx) error {
				res, err := tx.NewUpdate().Model((*shareRow)(nil)).
					Set("password = ?, generation = generation + 1", sealed).Where("id = ?", id).Exec(ctx)
				if err = oneRow(res, err); err == nil {
					err = tx.NewSelect().Model(&r).WherePK().Scan(ctx)
				}
				return err
			},
			kind: ofShares,
			done: func() { c.putShare(r) },
		})
	}
	return c.failed(err, "change the password of share %.80q", id)
}
