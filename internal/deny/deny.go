// Package deny keeps blocks that are denied from whoever reads a blockstore. A
// block is denied by its multihash: it answers to many CIDs.
//
// It does not know why a block is denied, nor who asks for it.
package deny

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/ipfs/boxo/blockstore"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"
)

// A Denier says which blocks must not be had. It is asked for every block of
// every request: it must be quick, and safe for concurrent use.
type Denier interface {
	Denied(mh multihash.Multihash) bool
}

// Sources deny what any of them denies. The zero Sources deny nothing. They are
// safe for concurrent use.
type Sources struct {
	adding sync.Mutex
	all    atomic.Pointer[[]Denier]
}

var _ Denier = (*Sources)(nil)

// Add adds a source, which is asked from now on.
func (s *Sources) Add(d Denier) {
	s.adding.Lock()
	defer s.adding.Unlock()
	var all []Denier
	if before := s.all.Load(); before != nil {
		all = append(all, *before...)
	}
	all = append(all, d)
	s.all.Store(&all)
}

// Denied implements Denier.
func (s *Sources) Denied(mh multihash.Multihash) bool {
	all := s.all.Load()
	if all == nil {
		return false
	}
	for _, d := range *all {
		if d.Denied(mh) {
			return true
		}
	}
	return false
}

// Hide returns b as it is for a reader to whom denied blocks do not exist. What
// is written goes to b, and all of its keys are listed.
func Hide(b blockstore.Blockstore, d Denier) blockstore.Blockstore { return hiding{b, d} }

type hiding struct {
	blockstore.Blockstore
	denied Denier
}

// Has implements blockstore.Blockstore.
func (h hiding) Has(ctx context.Context, c cid.Cid) (bool, error) {
	if h.denied.Denied(c.Hash()) {
		return false, nil
	}
	return h.Blockstore.Has(ctx, c)
}

// Get implements blockstore.Blockstore.
func (h hiding) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	if h.denied.Denied(c.Hash()) {
		return nil, ipld.ErrNotFound{Cid: c}
	}
	return h.Blockstore.Get(ctx, c)
}

// GetSize implements blockstore.Blockstore.
func (h hiding) GetSize(ctx context.Context, c cid.Cid) (int, error) {
	if h.denied.Denied(c.Hash()) {
		return -1, ipld.ErrNotFound{Cid: c}
	}
	return h.Blockstore.GetSize(ctx, c)
}
