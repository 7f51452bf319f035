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
	hashes map[string]string // to the hash of the root of the segment
}

// Open reads the list in a store, which stays the caller's.
func Open(ctx context.Context, store datastore.Batching) (*List, error) {
	l := &List{store: store, hashes: map[string]string{}}
	found, err := store.Query(ctx, query.Query{Prefix: prefix})
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
		l.hashes[string(mh)] = string(r.Value)
	}
	return l, nil
}

func key(mh multihash.Multihash) (datastore.Key, error) {
	name, err := multibase.Encode(multibase.Base32, mh)
	return datastore.NewKey(prefix).ChildString(name), err
}

// Add denies a segment and blocks of it. They are denied when it returns, also
// if it fails; without an error that is durable.
func (l *List) Add(ctx context.Context, root cid.Cid, blocks ...cid.Cid) error {
	blocks = append([]cid.Cid{root}, blocks...)
	l.mu.Lock()
	for _, c := range blocks {
		l.hashes[string(c.Hash())] = string(root.Hash())
	}
	l.mu.Unlock()
	if err := l.save(ctx, root, blocks); err != nil {
		return fmt.Errorf("write the denylist: %w", err)
	}
	return nil
}

// Remove denies a segment no more, nor the blocks that were denied with it,
// durably when it returns without an error.
func (l *List) Remove(ctx context.Context, root cid.Cid) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lifted []string
	for mh, of := range l.hashes {
		if of == string(root.Hash()) {
			lifted = append(lifted, mh)
		}
	}
	if len(lifted) == 0 {
		return nil
	}
	if err := l.erase(ctx, lifted); err != nil {
		return fmt.Errorf("write the denylist: %w", err)
	}
	for _, mh := range lifted {
		delete(l.hashes, mh)
	}
	return nil
}

func (l *List) erase(ctx context.Context, hashes []string) error {
	batch, err := l.store.Batch(ctx)
	if err != nil {
		return err
	}
	for _, mh := range hashes {
		k, err := key(multihash.Multihash(mh))
		if err != nil {
			return err
		}
		if err := batch.Delete(ctx, k); err != nil {
			return err
		}
	}
	if err := batch.Commit(ctx); err != nil {
		return err
	}
	return l.store.Sync(ctx, datastore.NewKey(prefix))
}

func (l *List) save(ctx context.Context, root cid.Cid, blocks []cid.Cid) error {
	batch, err := l.store.Batch(ctx)
	if err != nil {
		return err
	}
	for _, c := range blocks {
		k, err := key(c.Hash())
		if err != nil {
			return err
		}
		if err := batch.Put(ctx, k, root.Hash()); err != nil {
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
