// Package shelf is a host's own record of the segments that it holds: since
// when, how large, and under which station's label they were ordered.
//
// It does not hold the blocks, and does not know whether they are good.
package shelf

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/musenai/musen/pin/wire"
)

// prefix is where a Shelf is kept in its store.
const prefix = "/host/held"

// A Record is one segment that is held.
type Record struct {
	Root  cid.Cid   `cbor:"1,keyasint"`
	Size  int64     `cbor:"2,keyasint,omitempty"` // bytes of ciphertext, as ordered
	Label string    `cbor:"3,keyasint,omitempty"` // of the station
	Seq   uint64    `cbor:"4,keyasint,omitempty"` // of the order; 0: the pinset asked for it
	Since time.Time `cbor:"5,keyasint"`
}

// A Shelf holds the records of all segments, about 200 bytes of memory each. It
// is safe for concurrent use.
type Shelf struct {
	store datastore.Batching

	mu      sync.RWMutex
	records map[string]Record // by multihash
}

// Open reads the records in a store, which stays the caller's.
func Open(ctx context.Context, store datastore.Batching) (*Shelf, error) {
	s := &Shelf{store: store, records: map[string]Record{}}
	found, err := store.Query(ctx, query.Query{Prefix: prefix})
	if err != nil {
		return nil, fmt.Errorf("read the records of segments: %w", err)
	}
	defer found.Close()
	for r := range found.Next() {
		var rec Record
		if r.Error == nil {
			r.Error = wire.Unmarshal(r.Value, &rec)
		}
		if r.Error != nil {
			return nil, fmt.Errorf("read the record %s: %w", r.Key, r.Error)
		}
		s.records[string(rec.Root.Hash())] = rec
	}
	return s, nil
}

func key(root cid.Cid) datastore.Key {
	return datastore.NewKey(prefix).ChildString(cid.NewCidV1(cid.Raw, root.Hash()).String())
}

// Put records that a segment is held, over an older record. It is durable with
// the next Sync of the store.
func (s *Shelf) Put(ctx context.Context, r Record) error {
	b, err := wire.Marshal(r)
	if err == nil {
		err = s.store.Put(ctx, key(r.Root), b)
	}
	if err != nil {
		return fmt.Errorf("record segment %s: %w", r.Root, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[string(r.Root.Hash())] = r
	return nil
}

// Delete forgets a segment; one that is not known is no error. It is durable
// with the next Sync of the store.
func (s *Shelf) Delete(ctx context.Context, root cid.Cid) error {
	if err := s.store.Delete(ctx, key(root)); err != nil {
		return fmt.Errorf("forget segment %s: %w", root, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.records, string(root.Hash()))
	return nil
}

// Get returns the record of the segment whose root c names, in any spelling.
func (s *Shelf) Get(c cid.Cid) (Record, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, ok := s.records[string(c.Hash())]
	return r, ok
}

// Len is how many segments are held.
func (s *Shelf) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.records)
}

// All returns the records as they are now, the oldest first.
func (s *Shelf) All() []Record {
	s.mu.RLock()
	all := make([]Record, 0, len(s.records))
	for _, r := range s.records {
		all = append(all, r)
	}
	s.mu.RUnlock()
	slices.SortFunc(all, func(a, b Record) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Root.KeyString(), b.Root.KeyString()))
	})
	return all
}
