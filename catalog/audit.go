package catalog

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"
)

type headRow struct {
	bun.BaseModel `bun:"table:audit_heads"`

	Log  string `bun:"log,pk"`
	Size int64  `bun:"size"`
	Hash []byte `bun:"hash"`
	Made int64  `bun:"made"`
}

// PutAuditHead keeps the state of the audit log of that name: how many records
// it has, and the hash of the last.
func (c *Catalog) PutAuditHead(ctx context.Context, log string, size uint64, hash []byte) error {
	r := headRow{Log: log, Size: int64(size), Hash: hash, Made: micros(c.now())}
	err := c.writer.write(ctx, change{apply: func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(&r).On("CONFLICT (log) DO UPDATE").
			Set("size = EXCLUDED.size").Set("hash = EXCLUDED.hash").Set("made = EXCLUDED.made").Exec(ctx)
		return err
	}})
	return c.failed(err, "keep the head of the audit log")
}

// AuditHead is what PutAuditHead kept last; size 0: nothing.
func (c *Catalog) AuditHead(ctx context.Context, log string) (size uint64, hash []byte, err error) {
	var r headRow
	err = c.reads.NewSelect().Model(&r).Where("log = ?", log).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil, nil
	}
	return uint64(r.Size), r.Hash, c.failed(err, "find the head of the audit log")
}
