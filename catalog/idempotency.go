package catalog

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/musenai/musen"
)

type idempotencyRow struct {
	bun.BaseModel `bun:"table:idempotency"`

	KeyMAC   []byte `bun:"key_mac,pk"`
	Request  []byte `bun:"request"`
	Response []byte `bun:"response"`
	Expires  int64  `bun:"expires"`
}

// Idempotent finds the response that was recorded under a key, if there is one
// that has not expired. It returns musen.ErrInvalid if the key was used for a
// request with another digest.
func (c *Catalog) Idempotent(ctx context.Context, key string, request []byte) (response []byte, found bool, err error) {
	r := idempotencyRow{KeyMAC: c.box.lookup("idempotency key", key)}
	err = c.reads.NewSelect().Model(&r).WherePK().Where("expires > ?", micros(c.now())).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	if err == nil && !bytes.Equal(r.Request, request) {
		err = fmt.Errorf("it was used for another request: %w", musen.ErrInvalid)
	}
	var plain string
	if err == nil {
		plain, err = c.box.open(cell{"idempotency", string(r.KeyMAC), "response"}, r.Response)
	}
	if err != nil {
		return nil, false, c.failed(err, "look up an idempotency key")
	}
	return []byte(plain), true, nil
}

// PutIdempotent records the response to a request under a key, until expires.
// It returns musen.ErrExists, and leaves the first response, if the key is taken.
func (c *Catalog) PutIdempotent(ctx context.Context, key string, request, response []byte, expires time.Time) error {
	mac := c.box.lookup("idempotency key", key)
	sealed, err := c.box.seal(cell{"idempotency", string(mac), "response"}, string(response))
	r := idempotencyRow{KeyMAC: mac, Request: append([]byte{}, request...), Response: sealed, Expires: micros(expires)}
	if err == nil {
		err = c.writer.write(ctx, change{apply: func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.NewDelete().Model((*idempotencyRow)(nil)).Where("expires <= ?", micros(c.now())).Exec(ctx)
			if err != nil {
				return err
			}
			res, err := tx.NewInsert().Model(&r).On("CONFLICT (key_mac) DO NOTHING").Exec(ctx)
			if err = oneRow(res, err); errors.Is(err, musen.ErrNotFound) {
				err = musen.ErrExists
			}
			return err
		}})
	}
	return c.failed(err, "record an idempotency key")
}
