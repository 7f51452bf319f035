// Package catalog records which CID is which segment, of which station, and
// which credentials and shares were issued and revoked.
//
// It runs on SQLite, in one process, or on PostgreSQL, in a fleet of processes
// that hear of each other's changes. What it asks of the database is plain
// enough for both; what is not stands in files of their own. Content is found
// by its multihash, never by the spelling of a CID. Columns that say who or what are
// sealed, and looked up by a keyed hash.
//
// It does not know audio, blocks, HTTP, or how a key is unwrapped: wrapped keys
// are bytes that it keeps and, when told to, destroys. It takes for granted
// that no other process writes to its SQLite file.
package catalog

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog/ledger"
	"github.com/musenai/musen/policy"
)

// A Cipher seals columns; a tink.AEAD is one. Associated data binds what is
// sealed to its table, row and column.
type Cipher interface {
	Encrypt(plaintext, associatedData []byte) ([]byte, error)
	Decrypt(ciphertext, associatedData []byte) ([]byte, error)
}

// Options are what a Catalog needs besides its database.
type Options struct {
	Cipher    Cipher
	LookupMAC func(data []byte) []byte // keyed hash that finds sealed columns again
	Now       func() time.Time
	// Member is this process in the fleet that shares the database; nil: none.
	// SQLite has no fleet.
	Member *Member
	// Ledger keeps takedowns apart from the catalogue, so that they outlive a
	// backup of it that is put back; nil: nothing does.
	Ledger *ledger.Ledger
	Log    *slog.Logger // nil: nobody is told
}

// A Catalog is safe for concurrent use. A write is durable when its call
// returns without an error; one that returns an error left nothing, unless the
// method says otherwise, or the error wraps musen.ErrUnavailable: then the
// connection to PostgreSQL may have been lost after it was done. Errors wrap
// those of package musen.
type Catalog struct {
	store    store
	reads    *bun.DB
	owner    *sql.Stmt // ownerQuery
	segment  *sql.Stmt // a whole row, by its multihash
	writer   *writer
	box      box
	now      func() time.Time
	stations stationMap
	revoked  revocations
	subjects subjectMap
	roles    roleMap
	uses     useMap
	shares   *shareMap
	version  atomic.Uint64
	mirrors  mirrors
	fleet    *fleet // nil: no other process

	reportsNotKept atomic.Uint64

	takedowns *takedownMap
	ledger    *ledger.Ledger // nil: none
	log       *slog.Logger
}

var (
	_ musen.Records      = (*Catalog)(nil)
	_ musen.Directory    = (*Catalog)(nil)
	_ policy.Revocations = (*Catalog)(nil)
)

// store is what one kind of database does in its own way.
type store interface {
	// begin comes first in every transaction that writes: until it ends, no
	// other process writes.
	begin(ctx context.Context, tx bun.Tx) error
	// announce has other processes told, if tx commits, that rows of these kinds
	// changed. The zero step is returned where there are no others.
	announce(ctx context.Context, tx bun.Tx, kinds []kind) (step, error)
	// shared reports whether other processes may write.
	shared() bool
	// quick is ctx for the look-up of one row by an index. Where that takes
	// microseconds it is not cancelled: to be ready for that would cost as much.
	quick(ctx context.Context) context.Context
	// snapshot has f read one state of the database.
	snapshot(ctx context.Context, f func(db bun.IDB) error) error
	// wipe makes what committed writes overwrote vanish from every file.
	wipe(ctx context.Context) error
	// explain wraps the musen error that a driver's error amounts to.
	explain(err error) error
	// final tells that after this error nothing more can be trusted to be
	// durable until the database is opened anew.
	final(err error) bool
	close() error
}

// Create makes an empty catalogue in a new SQLite file and opens it. What is
// there already is left alone and an error that wraps fs.ErrExist returned. The
// folder must exist.
func Create(ctx context.Context, path string, o Options) (*Catalog, error) {
	if err := createSQLite(ctx, path); err != nil {
		return nil, fmt.Errorf("create catalogue %q: %w", path, err)
	}
	return Open(ctx, path, o)
}

// Open opens the catalogue in an SQLite file. It refuses a file that is
// missing, damaged, foreign, read-only or of a newer version, and says what to
// do: an empty catalogue in the place of a lost one would own no audio at all.
func Open(ctx context.Context, path string, o Options) (*Catalog, error) {
	s, err := openSQLite(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("open catalogue %q: %w", path, err)
	}
	c, err := newCatalog(ctx, s, s.reads, s.writes, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open catalogue %q: %w", path, err), s.close())
	}
	return c, nil
}

// damaged says what to do about a database that is.
func damaged(cause error) error {
	return fmt.Errorf("the catalogue is damaged: keep a copy of it, then restore a backup: %w", cause)
}

func newCatalog(ctx context.Context, s store, reads, writes *bun.DB, o Options) (*Catalog, error) {
	c := &Catalog{store: s, reads: reads, box: box{cipher: o.Cipher, mac: o.LookupMAC}, now: o.Now, shares: newShareMap()}
	c.takedowns, c.ledger, c.log = newTakedownMap(), o.Ledger, cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	c.mirrors.applied = map[kind]int64{}
	err := c.refresh(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.prepare(ctx); err != nil {
		return nil, fmt.Errorf("prepare look-ups: %w", err)
	}
	c.writer = startWriter(writes, s, &c.mirrors)
	if err := c.reconcile(ctx); err != nil {
		c.writer.close()
		return nil, errors.Join(err, c.owner.Close(), c.segment.Close())
	}
	return c, nil
}

// prepare has the database read the queries once that are asked all the time.
func (c *Catalog) prepare(ctx context.Context) (err error) {
	if c.owner, err = c.reads.DB.PrepareContext(ctx, ownerQuery); err != nil {
		return err
	}
	query := c.selectSegments(&segmentRow{}).Where("s.multihash = $1")
	c.segment, err = c.reads.DB.PrepareContext(ctx, query.String())
	return err
}

// Close answers the writes that wait, and closes the database. Calls made
// afterwards fail.
func (c *Catalog) Close() error {
	c.leave()
	c.writer.close()
	if err := errors.Join(c.owner.Close(), c.segment.Close(), c.store.close()); err != nil {
		return fmt.Errorf("close catalogue: %w", err)
	}
	return nil
}

// Version changes whenever a segment that was committed changes. It does not
// touch the disk.
func (c *Catalog) Version() uint64 { return c.version.Load() }

// failed names the verb and the object of an error, once.
func (c *Catalog) failed(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), c.store.explain(err))
}

var errClosed = fmt.Errorf("the catalogue is closed: %w", musen.ErrUnavailable)
