// Package wants is the catalogue as the keeper of copies sees it: which sealed
// bytes are to be kept, how many times, and which not any more.
//
// It does not know how copies are made, nor what any of the bytes mean.
package wants

import (
	"context"
	"errors"
	"iter"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog"
	"github.com/musenai/musen/pin/keep"
)

// Wants is a catalogue as a keeper and a swarm see it.
type Wants struct{ rows *catalog.Catalog }

var _ keep.Wants = Wants{}

// New returns the wants of a catalogue.
func New(rows *catalog.Catalog) Wants { return Wants{rows} }

// All implements keep.Wants.
func (w Wants) All(ctx context.Context) iter.Seq2[keep.Want, error] {
	return func(yield func(keep.Want, error) bool) {
		for s, err := range w.rows.Live(ctx) {
			if err != nil {
				yield(keep.Want{}, err)
				return
			}
			st, err := w.rows.Station(ctx, s.Station)
			if errors.Is(err, musen.ErrNotFound) || s.Takedown != "" { // removed meanwhile, or taken down
				continue
			}
			if !yield(Of(s, st), err) || err != nil {
				return
			}
		}
	}
}

// Gone implements keep.Wants.
func (w Wants) Gone(ctx context.Context, root cid.Cid) bool {
	if w.rows.Denied(root.Hash()) { // whether or not the catalogue knows of the segment
		return true
	}
	s, err := w.rows.Segment(ctx, root.Hash())
	return err == nil && s.State != musen.Live
}

// SegmentOf finds the root of the live segment that a block belongs to.
func (w Wants) SegmentOf(ctx context.Context, block multihash.Multihash) (root cid.Cid, live bool) {
	s, err := w.rows.SegmentOfBlock(ctx, block)
	if err != nil || s.State != musen.Live {
		return cid.Undef, false
	}
	return s.CID, true
}

// Of is what is wanted of a segment of st.
func Of(s musen.Segment, st musen.Station) keep.Want {
	r := st.Replication
	return keep.Want{Root: s.CID, Size: s.SealedSize, Label: st.Label, Min: r.Min, Max: r.Max, Spread: r.Spread, Community: r.Community, Lifted: s.Lifted}
}

// Copies has a keeper told of what comes and goes.
func Copies(k *keep.Keeper) musen.Copies { return copies{k} }

type copies struct{ keeper *keep.Keeper }

// Keep implements musen.Copies.
func (c copies) Keep(s musen.Segment, st musen.Station) { c.keeper.Keep(Of(s, st)) }

// Drop implements musen.Copies.
func (c copies) Drop(root cid.Cid) { c.keeper.Drop(root) }
