// Package denylist remembers which blocks must never be served again: those of
// segments that the origin had purged. It goes by the hash of a block: one block
// answers to many CIDs.
//
// It does not know why, nor who is asking.
package denylist

import (
	"context"
	"fmt"
	"sync"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/multiformats/go-multibase"
	"github.com/multiformats/go-multihash"
)

// prefix is where a List is kept in its store.
const prefix = "/host/denied"

// A List is what was denied. It is safe for concurrent use. It grows with what
// is denied, by about a hundred bytes each.
type List struct {
	store datastore.Batching

	mu     sync.RWMutex
	hashes map[string]struct{}
}

// Open reads the list in a store, which stays the caller's.
func Open(ctx context.Context, store datastore.Batching) (*List, error) {
	l := &List{store: store, hashes: map[string]struct{}{}}
	found, err := store.Query(ctx, query.Query{Prefix: prefix, KeysOnly: true})
	if err != nil {
		return nil, fmt.Errorf("read the denylist: %w", err)
	}
	defer found.Close()
	for r := range found.Next() {
		if r.Error != nil {
			return nil, fmt.Errorf("read the denylist: %w", r.Error)
		}
		_, mh, err := multibase.Decode(datastore.RawKey(r.Key).BaseNamespace())
		if err != nil {
			return nil, fmt.Errorf("read the denylist: key %q: %w", r.Key, err)
		}
		l.hashes[string(mh)] = struct{}{}
	}
	return l, nil
}

func key(mh multihash.Multihash) (datastore.Key, error) {
	name, err := multibase.Encode(multibase.Base32, mh)
	return datastore.NewKey(prefix).ChildString(name), err
}

// Add denies blocks. They are denied when it returns, also if it fails; without
// an error that is durable.
func (l *List) Add(ctx context.Context, blocks ...cid.Cid) error {
	l.mu.Lock()
	for _, c := range blocks {
		l.hashes[string(c.Hash())] = struct{}{}
	}
	l.mu.Unlock()
	if err := l.save(ctx, blocks); err != nil {
		return fmt.Errorf("write the denylist: %w", err)
	}
	return nil
}

func (l *List) save(ctx context.Context, blocks []cid.Cid) error {
	batch, err := l.store.Batch(ctx)
	if err != nil {
		return err
	}
	for _, c := range blocks {
		k, err := key(c.Hash())
		if err != nil {
			return err
		}
		if err := batch.Put(ctx, k, nil); err != nil {
			return err
		}
	}
	if err := batch.Commit(ctx); err != nil {
		return err
	}
	return l.store.Sync(ctx, datastore.NewKey(prefix))
}

// Has reports whether the block that c names was denied, under any CID.
func (l *List) Has(c cid.Cid) bool { return c.Defined() && l.Denied(c.Hash()) }

// Denied reports whether the block of that hash was denied.
func (l *List) Denied(mh multihash.Multihash) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	_, denied := l.hashes[string(mh)]
	return denied
}
