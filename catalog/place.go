package catalog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/musenai/musen"
)

// ErrTaken says that another process is what this one would be in the fleet:
// its origin, or the edge of its peer ID. Nothing was changed. It wraps
// musen.ErrUnavailable, for the other may go.
var ErrTaken = fmt.Errorf("another process has this place in the fleet: %w", musen.ErrUnavailable)

// placeWait is how long the session of a process that was killed may take to
// go, before its place counts as taken.
const placeWait = "2s"

// A place is what only one process of a fleet can be. It is a lock of the
// session that writes: whoever has not got it cannot write, and a session that
// is lost takes the place with it. So nothing is ever committed by two.
type place struct {
	name string

	mu      sync.Mutex
	session session // the last that had the place
}

// A session is one of PostgreSQL's processes, by when it began too: numbers come
// again.
type session struct{ pid, began int64 }

// placeOf is the place that a member takes.
func placeOf(m Member) *place {
	if m.Role == "origin" {
		return &place{name: "origin"}
	}
	return &place{name: "gateway " + m.ID}
}

// take has a new session that writes have the place, or closes it.
func (p *place) take(ctx context.Context, conn *pgx.Conn) error {
	err := durable(ctx, conn)
	if err == nil {
		err = p.lock(ctx, conn)
	}
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx)) // the cause is what matters
	}
	return err
}

func (p *place) lock(ctx context.Context, conn *pgx.Conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	// A session of this process that was cut off may not know it yet.
	_, err := conn.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE pid = $1 AND (extract(epoch FROM backend_start) * 1000000)::bigint = $2`, p.session.pid, p.session.began)
	if err != nil {
		return err
	}
	// The server finds out in seconds that a process was cut off, not in hours.
	_, err = conn.Exec(ctx, `SELECT set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '2', false),
		set_config('tcp_keepalives_count', '3', false), set_config('lock_timeout', $1, false)`, placeWait)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `SELECT pg_advisory_lock(hashtextextended(concat_ws(' ', 'musen', current_schema()::text, $1::text), 0))`, p.name)
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "55P03" { // lock_not_available
		return fmt.Errorf("%s: %w", p.name, ErrTaken)
	}
	if err != nil {
		return err
	}
	var got session
	err = conn.QueryRow(ctx, `SELECT pid::bigint, (extract(epoch FROM backend_start) * 1000000)::bigint, set_config('lock_timeout', $1, false)
		FROM pg_stat_activity WHERE pid = pg_backend_pid()`, lockWait).Scan(&got.pid, &got.began, nil)
	if err == nil {
		p.session = got
	}
	return err
}

// keepPlace takes the place again when the session that had it was lost, also
// while nobody writes, until ctx ends.
func (s *postgresStore) keepPlace(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = s.writes.PingContext(ctx) // who writes is told why not
		}
	}
}
