package catalog

import "context"

// Exec runs SQL on the connection that writes.
func (c *Catalog) Exec(ctx context.Context, query string) error {
	_, err := c.writer.db.ExecContext(ctx, query)
	return err
}

// Query reads one text.
func (c *Catalog) Query(ctx context.Context, query string) (found string, err error) {
	err = c.reads.QueryRowContext(ctx, query).Scan(&found)
	return found, err
}

// MaxOpenOfOne is how many open reports one station may have.
const MaxOpenOfOne = maxOpenOfOne
