package catalog

import (
	"context"
	"database/sql"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"

	"github.com/pressly/goose/v3"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/musenai/musen"
)

// This file is the only one that knows SQLite.

//go:embed migrations/*.sql
var migrations embed.FS

// applicationID marks a file as a catalogue, in SQLite's header: "musn".
const applicationID = 0x6d75736e

// readers is how many connections serve look-ups.
const readers = 4

type sqliteStore struct {
	path          string
	reads, writes *bun.DB
}

var _ store = (*sqliteStore)(nil)

func openSQLite(ctx context.Context, path string) (*sqliteStore, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := checkFile(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the catalogue is missing: restore its newest backup; nothing else was touched: %w", err)
	} else if err != nil {
		return nil, err
	}
	s := &sqliteStore{path: path, writes: connect(path, 1, false), reads: connect(path, readers, true)}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(explainSQLite(err), s.close())
	}
	return s, nil
}

// connect makes a pool of at most n connections; none is opened yet.
func connect(path string, n int, readOnly bool) *bun.DB {
	q := url.Values{"_txlock": {"immediate"}, "_dqs": {"0"}, "_defensive": {"1"}, "_error_rc": {"1"}}
	q["_pragma"] = []string{
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)",
		"foreign_keys(1)", "secure_delete(1)", "trusted_schema(0)", "temp_store(MEMORY)",
	}
	if readOnly {
		q.Set("_query_only", "1")
	}
	u := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: q.Encode()}
	pool, err := sql.Open("sqlite", u.String())
	if err != nil {
		panic(err) // the driver is linked in, and nothing is opened before use
	}
	pool.SetMaxOpenConns(n)
	pool.SetMaxIdleConns(n)
	return bun.NewDB(pool, sqlitedialect.New())
}

// checkFile looks at a file before SQLite may touch it.
func checkFile(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	if info.Mode().Perm()&0o200 == 0 {
		return fmt.Errorf("the file is read-only: make it writable by its owner (chmod 600): %w", fs.ErrPermission)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("the file cannot be written: run as its owner, on a file system that is not read-only: %w", err)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Chmod(0o600); err != nil {
		return err
	}
	return checkHeader(f)
}

func checkHeader(f io.Reader) error {
	var h [100]byte
	_, err := io.ReadFull(f, h[:])
	switch {
	case err != nil || string(h[:16]) != "SQLite format 3\x00":
		return errors.New("the file is not a catalogue or is damaged: restore a backup, or move the file away")
	case binary.BigEndian.Uint32(h[68:]) != applicationID:
		return errors.New("the file is the database of another program: move it away, or give another home")
	}
	return nil
}

// createSQLite makes an empty catalogue where there is no file.
func createSQLite(ctx context.Context, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, fs.ErrExist)
	}
	return explainSQLite(createFile(ctx, path))
}

// createFile makes an empty catalogue. The file is there whole, or not at all,
// also after a power cut.
func createFile(ctx context.Context, path string) error {
	draft := path + ".new"
	if err := os.RemoveAll(draft); err != nil {
		return err
	}
	f, err := os.OpenFile(draft, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	pool, err := sql.Open("sqlite", (&url.URL{Scheme: "file", OmitHost: true, Path: draft}).String())
	if err != nil {
		return err
	}
	_, err = pool.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID))
	if err := errors.Join(err, pool.Close(), f.Sync()); err != nil {
		return err
	}
	if err := os.Rename(draft, path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// prepare checks the database and brings it to this program's version.
func (s *sqliteStore) prepare(ctx context.Context) error {
	m, err := goose.NewProvider(goose.DialectSQLite3, s.writes.DB, mustSub(migrations, "migrations"),
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()),
		goose.WithAllowOutofOrder(true)) // none depends on another but the first
	if err != nil {
		return err
	}
	if err := s.check(ctx); err != nil {
		return err
	}
	if err := s.migrate(ctx, m); err != nil {
		return err
	}
	if err := syncFolder(filepath.Dir(s.path)); err != nil {
		return err
	}
	return s.wipe(ctx) // what a crash kept from being wiped
}

// migrate brings the tables to the newest version that m knows.
func (s *sqliteStore) migrate(ctx context.Context, m *goose.Provider) error {
	sources := m.ListSources()
	newest := sources[len(sources)-1].Version
	var marked int64
	if err := s.writes.QueryRowContext(ctx, "PRAGMA user_version").Scan(&marked); err != nil {
		return err
	}
	reached := marked // is behind if a newer program was killed between its tables and its mark
	if marked <= newest {
		var err error
		if reached, err = m.GetDBVersion(ctx); err != nil {
			return err
		}
	}
	if reached > newest {
		return newerProgram(reached, newest)
	}
	if _, err := m.Up(ctx); err != nil {
		return fmt.Errorf("bring it to version %d: %w", newest, err)
	}
	if marked == newest {
		return nil
	}
	_, err := s.writes.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", newest))
	return err
}

func newerProgram(reached, newest int64) error {
	return fmt.Errorf("a newer program wrote it (version %d, this program knows up to %d): use that program", reached, newest)
}

// check reads the whole database and looks for damage.
func (s *sqliteStore) check(ctx context.Context) error {
	var found string
	if err := s.writes.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&found); err != nil {
		return err
	}
	if found != "ok" {
		return damaged(errors.New(found))
	}
	return nil
}

func mustSub(f fs.FS, dir string) fs.FS {
	sub, err := fs.Sub(f, dir)
	if err != nil {
		panic(err) // dir is a constant and valid
	}
	return sub
}

// wipe copies the log into the database and empties it, so that no file holds
// bytes that were overwritten. It waits for readers of older states.
func (s *sqliteStore) wipe(ctx context.Context) error {
	var busy, logged, copied int
	err := s.writes.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &logged, &copied)
	if err == nil && busy != 0 {
		err = errors.New("readers kept the write-ahead log busy")
	}
	return explainSQLite(err)
}

// begin does nothing: no other process writes.
func (s *sqliteStore) begin(context.Context, bun.Tx) error { return nil }

// announce does nothing: no other process hears.
func (s *sqliteStore) announce(context.Context, bun.Tx, []kind) (step, error) { return step{}, nil }

func (s *sqliteStore) shared() bool { return false }

func (s *sqliteStore) quick(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }

func (s *sqliteStore) snapshot(_ context.Context, f func(bun.IDB) error) error { return f(s.reads) }

func (s *sqliteStore) explain(err error) error { return explainSQLite(err) }

// final: after a failed fsync the kernel may have dropped what was written.
func (s *sqliteStore) final(err error) bool {
	code := codeOf(err)
	return code == sqlite3.SQLITE_IOERR_FSYNC || code == sqlite3.SQLITE_IOERR_DIR_FSYNC
}

func (s *sqliteStore) close() error {
	return errors.Join(s.reads.Close(), s.writes.Close())
}

func codeOf(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

// explainSQLite wraps what an error of SQLite means to the caller.
func explainSQLite(err error) error {
	code := codeOf(err)
	switch {
	// A write that found no space is FULL, one that failed otherwise is
	// IOERR_WRITE; only growing the shared index has one code for both.
	case code == sqlite3.SQLITE_FULL, code == sqlite3.SQLITE_IOERR_SHMSIZE, errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w: %w", musen.ErrNoSpace, err)
	case code == sqlite3.SQLITE_CONSTRAINT_UNIQUE, code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return fmt.Errorf("%w: %w", musen.ErrExists, err)
	case code&0xff == sqlite3.SQLITE_CORRUPT, code&0xff == sqlite3.SQLITE_NOTADB:
		return damaged(err)
	case code&0xff == sqlite3.SQLITE_IOERR, code&0xff == sqlite3.SQLITE_BUSY, code&0xff == sqlite3.SQLITE_CANTOPEN:
		return fmt.Errorf("%w: %w", musen.ErrUnavailable, err)
	}
	return err
}
