package catalog

import (
	"context"
	"slices"

	"github.com/uptrace/bun"
)

type revokedKeyRow struct {
	bun.BaseModel `bun:"table:revoked_keys"`

	ID      string `bun:"id,pk"`
	Revoked int64  `bun:"revoked"`
}

// loadRevokedKeys adds to what memory holds: they are few, and none is ever
// good again.
func (c *Catalog) loadRevokedKeys(ctx context.Context, db bun.IDB, _ int64) error {
	var rows []revokedKeyRow
	if err := db.NewSelect().Model(&rows).Scan(ctx); err != nil {
		return c.store.explain(err)
	}
	for _, r := range rows {
		c.revoked.keys.Store(r.ID, struct{}{})
	}
	return nil
}

// KeyRevoked reports, from memory, whether all that was signed with a key was
// revoked. The key of another issuer is named by the issuer's name, a bar, and
// its kid.
func (c *Catalog) KeyRevoked(key string) bool {
	_, ok := c.revoked.keys.Load(key)
	return ok
}

// RevokedKeys are the names of all keys that were revoked, sorted.
func (c *Catalog) RevokedKeys() []string {
	var names []string
	c.revoked.keys.Range(func(name, _ any) bool {
		names = append(names, name.(string))
		return true
	})
	slices.Sort(names)
	return names
}

// KeysRotated tells the other processes of a fleet that keys of the keyring
// changed.
func (c *Catalog) KeysRotated(ctx context.Context) error {
	nothing := func(context.Context, bun.Tx) error { return nil }
	return c.failed(c.writer.write(ctx, change{apply: nothing, kind: ofRevokedKeys}), "tell that keys changed")
}

// RevokeKey revokes for good all that was and will be signed with a key; when
// it returns, KeyRevoked says so. An error is as that of RevokeToken.
func (c *Catalog) RevokeKey(ctx context.Context, key string) error {
	err := checkName("key", key)
	if err == nil {
		err = c.writer.write(ctx, change{
			apply: func(ctx context.Context, tx bun.Tx) error {
				r := revokedKeyRow{ID: key, Revoked: micros(c.now())}
				_, err := tx.NewInsert().Model(&r).On("CONFLICT (id) DO NOTHING").Exec(ctx)
				return err
			},
			kind: ofRevokedKeys,
			done: func() { c.revoked.keys.Store(key, struct{}{}) },
		})
		if err != nil {
			c.revoked.keys.Store(key, struct{}{})
			err = unrecorded(err)
		}
	}
	return c.failed(err, "revoke key %.80q", key)
}
