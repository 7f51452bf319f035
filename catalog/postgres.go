package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
)

// This file and postgres_errors.go are the only ones that know PostgreSQL.

const (
	// channel is what processes tell each other of changes on.
	channel = "musen_changes"
	// pgReaders is how many connections serve look-ups.
	pgReaders = 8
	// stall is how long the server may take to answer anything. One that holds
	// a lock for longer is waited for no more.
	stall    = 10 * time.Second
	lockWait = "8s"
	// maxConnectionFile bounds the file with the connection string.
	maxConnectionFile = 16 << 10
)

type postgresStore struct {
	config        *pgx.ConnConfig
	reads, writes *bun.DB
	beats         *bun.DB // has a connection of its own: it must not wait for others
}

var (
	_ store  = (*postgresStore)(nil)
	_ herald = (*postgresStore)(nil)
)

// CreatePostgres makes an empty catalogue in the PostgreSQL database whose
// connection string is in a file, and opens it as OpenPostgres does. If there
// is a catalogue already it is left alone, and an error that wraps fs.ErrExist
// returned.
func CreatePostgres(ctx context.Context, file string, o Options) (*Catalog, error) {
	s, err := connectPostgres(file, o.Member)
	if err == nil {
		err = s.create(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("create the catalogue in PostgreSQL: %w", err)
	}
	return openPostgres(ctx, s, o)
}

// OpenPostgres opens the catalogue in the PostgreSQL database whose connection
// string is in a file of mode 0600. It refuses a database without one, or with
// one of a newer version. Other processes may have it open too. With a Member
// in the options this process hears of what they change, for as long as it is
// open; if another has its place already, the error wraps ErrTaken.
func OpenPostgres(ctx context.Context, file string, o Options) (*Catalog, error) {
	s, err := connectPostgres(file, o.Member)
	if err != nil {
		return nil, fmt.Errorf("open the catalogue in PostgreSQL: %w", err)
	}
	return openPostgres(ctx, s, o)
}

func openPostgres(ctx context.Context, s *postgresStore, o Options) (*Catalog, error) {
	err := explainPostgres(s.prepare(ctx))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the catalogue in PostgreSQL: %w", err), s.close())
	}
	c, err := newCatalog(ctx, s, s.reads, s.writes, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the catalogue in PostgreSQL: %w", err), s.close())
	}
	if o.Member == nil {
		return c, nil
	}
	if err := c.join(ctx, s, *o.Member); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// connectPostgres makes pools of connections; none is opened yet. The one that
// writes has the place of m in the fleet, if any.
func connectPostgres(file string, m *Member) (*postgresStore, error) {
	text, err := readConnection(file)
	if err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(text)
	if err != nil { // its text may hold what the string holds
		return nil, fmt.Errorf("%s: it is not a connection string like postgres://user:password@host/database, or names a file that cannot be read", file)
	}
	// What is asked is written out by bun, each time anew: nothing to prepare.
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	config.RuntimeParams["application_name"] = "musen"
	config.RuntimeParams["client_encoding"] = "UTF8"
	config.RuntimeParams["standard_conforming_strings"] = "on"
	config.RuntimeParams["lock_timeout"] = lockWait
	config.RuntimeParams["idle_in_transaction_session_timeout"] = lockWait
	if config.ConnectTimeout == 0 || config.ConnectTimeout > stall {
		config.ConnectTimeout = stall
	}
	s := &postgresStore{config: config}
	s.reads = s.pool(pgReaders, nil)
	writing := durable
	if m != nil {
		writing = placeOf(*m).take
	}
	s.writes = s.pool(1, writing)
	s.beats = s.pool(1, hasty)
	return s, nil
}

// readConnection reads a connection string, which nobody else may read.
func readConnection(file string) (string, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("read the connection string: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s: it is not a regular file", file)
	case info.Mode().Perm()&0o077 != 0:
		return "", fmt.Errorf("%s: its mode %04o lets others read the connection string: run chmod 0600 on it", file, info.Mode().Perm())
	case info.Size() == 0 || info.Size() > maxConnectionFile:
		return "", fmt.Errorf("%s: it has %d bytes, not 1 to %d", file, info.Size(), maxConnectionFile)
	}
	b := make([]byte, info.Size())
	if _, err := f.Read(b); err != nil {
		return "", fmt.Errorf("read the connection string: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// pool is at most n connections, each of which is set up.
func (s *postgresStore) pool(n int, setUp func(context.Context, *pgx.Conn) error) *bun.DB {
	config := s.config.Copy()
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &impatient{conn}, nil
	}
	var opts []stdlib.OptionOpenDB
	if setUp != nil {
		opts = append(opts, stdlib.OptionAfterConnect(setUp))
	}
	pool := stdlib.OpenDB(*config, opts...)
	pool.SetMaxOpenConns(n)
	pool.SetMaxIdleConns(n)
	return bun.NewDB(pool, pgdialect.New())
}

// durable makes a commit wait for the disk where a server is set not to.
func durable(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`)
	return err
}

// hasty makes commits not wait for the disk: what a process says of itself is
// of use for seconds.
func hasty(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SET synchronous_commit = off`)
	return err
}

// impatient is a connection on which an answer must come in time: a server that
// is cut off is noticed, whatever the caller waits for.
type impatient struct{ net.Conn }

// Write implements net.Conn.
func (c *impatient) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(stall)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// create refuses a database that has a catalogue.
func (s *postgresStore) create(ctx context.Context) error {
	there, err := s.exists(ctx)
	if err == nil && there {
		err = fmt.Errorf("the database has a catalogue: %w", fs.ErrExist)
	}
	if err == nil {
		err = s.migrate(ctx)
	}
	if err != nil {
		return errors.Join(explainPostgres(err), s.close())
	}
	return nil
}

// leastServer is the oldest version of the server that is known to do, as it
// spells it.
const leastServer = 150000

// exists reports whether the database has a catalogue. It refuses one that
// cannot.
func (s *postgresStore) exists(ctx context.Context) (there bool, err error) {
	var version int
	var encoding string
	err = s.writes.QueryRowContext(ctx, "SELECT current_setting('server_version_num')::int, current_setting('server_encoding')").Scan(&version, &encoding)
	switch {
	case err != nil:
		return false, err
	case version < leastServer:
		return false, fmt.Errorf("the server is PostgreSQL %d: run version %d or newer", version/10000, leastServer/10000)
	case encoding != "UTF8":
		return false, fmt.Errorf("the database has the encoding %s: make one with UTF8", encoding)
	}
	err = s.writes.QueryRowContext(ctx, "SELECT to_regclass('wrapped_keys') IS NOT NULL").Scan(&there)
	return there, err
}

// prepare brings the tables to this program's version.
func (s *postgresStore) prepare(ctx context.Context) error {
	there, err := s.exists(ctx)
	if err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("the database has no catalogue: restore its newest backup, or check which database is named; nothing was touched: %w", fs.ErrNotExist)
	}
	return s.migrate(ctx)
}

func (s *postgresStore) migrate(ctx context.Context) error {
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return err
	}
	m, err := goose.NewProvider(goose.DialectPostgres, s.reads.DB, mustSub(migrations, "migrations"),
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()), goose.WithSessionLocker(locker))
	if err != nil {
		return err
	}
	sources := m.ListSources()
	newest := sources[len(sources)-1].Version
	reached, err := m.GetDBVersion(ctx)
	if err != nil {
		return err
	}
	if reached > newest {
		return newerProgram(reached, newest)
	}
	if _, err := m.Up(ctx); err != nil {
		return fmt.Errorf("bring it to version %d: %w", newest, err)
	}
	return nil
}

// begin lets one process of the fleet write at a time, as on SQLite: what it
// reads in a transaction stays true until it commits, and the numbers of
// changes are in the order of their commits.
func (s *postgresStore) begin(ctx context.Context, tx bun.Tx) error {
	var n int64
	return tx.QueryRowContext(ctx, "SELECT counter FROM changes WHERE kind = 'any' FOR UPDATE").Scan(&n)
}

func (s *postgresStore) announce(ctx context.Context, tx bun.Tx, kinds []kind) (made step, err error) {
	if made.number, err = nextChange(ctx, tx); err != nil {
		return made, err
	}
	rows := []changeRow{{Kind: string(ofAny), Counter: made.number}}
	for _, k := range kinds {
		rows = append(rows, changeRow{Kind: string(k), Counter: made.number})
	}
	if _, err = tx.NewInsert().Model(&rows).On("CONFLICT (kind) DO UPDATE").Set("counter = EXCLUDED.counter").Exec(ctx); err != nil {
		return made, err
	}
	err = tx.NewRaw("INSERT INTO marks (number, mark) VALUES (?, gen_random_uuid()::text) RETURNING mark", made.number).Scan(ctx, &made.mark)
	if err == nil {
		_, err = tx.NewDelete().Model((*markRow)(nil)).Where("number <= ?", made.number-keepMarks).Exec(ctx)
	}
	if err == nil {
		_, err = tx.ExecContext(ctx, "NOTIFY "+channel)
	}
	return made, err
}

func (s *postgresStore) shared() bool { return true }

func (s *postgresStore) quick(ctx context.Context) context.Context { return ctx }

func (s *postgresStore) snapshot(ctx context.Context, f func(bun.IDB) error) error {
	err := s.reads.RunInTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true},
		func(_ context.Context, tx bun.Tx) error { return f(tx) })
	return explainPostgres(err)
}

// wipe does nothing. What was overwritten stays in PostgreSQL's files until
// they are vacuumed, in its log until that is recycled, and in backups; a
// statement cannot change that.
func (s *postgresStore) wipe(context.Context) error { return nil }

func (s *postgresStore) explain(err error) error { return explainPostgres(err) }

// final: a server whose disk failed stops by itself and recovers from its log.
func (s *postgresStore) final(error) bool { return false }

func (s *postgresStore) close() error {
	return errors.Join(s.reads.Close(), s.writes.Close(), s.beats.Close())
}

func (s *postgresStore) beat(ctx context.Context, r gatewayRow) (newest int64, mark string, err error) {
	err = s.beats.NewRaw(`WITH beat AS (
			INSERT INTO gateways (id, about, seen, applied)
			VALUES (?, ?, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, ?)
			ON CONFLICT (id) DO UPDATE SET about = EXCLUDED.about, seen = EXCLUDED.seen, applied = EXCLUDED.applied
		) SELECT counter, coalesce((SELECT mark FROM marks WHERE number = ?), '') FROM changes WHERE kind = 'any'`,
		r.ID, r.About, r.Applied, r.Applied).Scan(ctx, &newest, &mark)
	return newest, mark, err
}

func (s *postgresStore) clock(ctx context.Context) (time.Time, error) {
	var us int64
	err := s.reads.QueryRowContext(ctx, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").Scan(&us)
	return instant(us), err
}

func (s *postgresStore) listen(ctx context.Context, nudge func(), log *slog.Logger) {
	const pause = time.Second
	for ctx.Err() == nil {
		if err := s.hear(ctx, nudge); err != nil && ctx.Err() == nil {
			log.Debug("not told of changes for now, only by asking", "err", explainPostgres(err))
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// hear nudges for everything that it is told, until the connection is lost.
func (s *postgresStore) hear(ctx context.Context, nudge func()) error {
	conn, err := pgx.ConnectConfig(ctx, s.config)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	for {
		nudge() // also for what came before it listened
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
	}
}
