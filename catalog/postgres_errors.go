package catalog

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/musenai/musen"
)

// explainPostgres wraps what an error of PostgreSQL means to the caller. What
// it returns tells nothing of the connection string.
func explainPostgres(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return explainServer(e, err)
	}
	if isLost(err) && !errors.Is(err, musen.ErrUnavailable) {
		return fmt.Errorf("PostgreSQL does not answer: %w: %w", musen.ErrUnavailable, bare(err))
	}
	return err
}

// explainServer is explainPostgres of what the server itself said.
func explainServer(e *pgconn.PgError, err error) error {
	if _, connecting := errors.AsType[*pgconn.ConnectError](err); connecting {
		err = e
	}
	switch {
	case e.Code == "23505": // unique_violation
		return fmt.Errorf("%w: %w", musen.ErrExists, err)
	case e.Code == "53100": // disk_full
		return fmt.Errorf("%w: %w", musen.ErrNoSpace, err)
	case e.Code == "25006": // read_only_sql_transaction
		return fmt.Errorf("the database takes no writes, is it a standby?: %w: %w", musen.ErrUnavailable, err)
	case e.Code == "22021": // character_not_in_repertoire
		return fmt.Errorf("%w: %w", musen.ErrInvalid, err)
	case e.Code == "42501": // insufficient_privilege
		return fmt.Errorf("the user of the connection string lacks a right, make it the owner of the database: %w", err)
	case e.Code == "XX001", e.Code == "XX002": // data_corrupted, index_corrupted
		return damaged(err)
	case e.Code == "55P03": // lock_not_available
		return fmt.Errorf("another process writes for too long: %w: %w", musen.ErrUnavailable, err)
	}
	switch e.Code[:min(2, len(e.Code))] {
	case "08", "28", "3D", "40", "53", "57", "58": // connection, log-in, no database, conflict, resources, shut down, system
		return fmt.Errorf("%w: %w", musen.ErrUnavailable, err)
	}
	return err
}

// isLost reports whether an error is of the connection.
func isLost(err error) bool {
	var n net.Error
	var c *pgconn.ConnectError
	return errors.As(err, &n) || errors.As(err, &c) || pgconn.Timeout(err) || pgconn.SafeToRetry(err) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, sql.ErrTxDone) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// bare is the cause of an error without the address that it happened at.
func bare(err error) error {
	var errno syscall.Errno
	for _, cause := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, cause) {
			return cause
		}
	}
	switch {
	case errors.As(err, &errno):
		return errno
	case pgconn.Timeout(err):
		return errors.New("it took too long")
	}
	return errors.New("the connection was lost")
}
