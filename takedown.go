package musen

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
)

// A Takedown is the record of a refusal: while it is in force, the sealed bytes
// that it names are neither played, served nor accepted, under any spelling of
// their CIDs.
type Takedown struct {
	CID      cid.Cid               // the root of the segment, or whatever else was named
	Blocks   []multihash.Multihash // below it, as far as they are known
	Segment  string                // Segment.ID; empty: the catalogue knew none
	Station  string                // of the segment
	Category string                // see TakedownCategories
	Reason   string                // in words, for those who work here
	Actor    string                // who did it
	Created  time.Time
	Shredded time.Time // when the key was destroyed; zero: it is kept, for an appeal

	Lifted     time.Time // zero: in force
	LiftReason string
	LiftedBy   string
}

// InForce reports whether the takedown was not lifted.
func (t Takedown) InForce() bool { return t.Lifted.IsZero() }

// The states of a takedown in a word.
const (
	takedownInForce  = "in_force"
	takedownShredded = "shredded"
	takedownLifted   = "lifted"
)

// State is the takedown in a word: in_force, shredded, which is in force for
// good, or lifted.
func (t Takedown) State() string {
	switch {
	case !t.InForce():
		return takedownLifted
	case !t.Shredded.IsZero():
		return takedownShredded
	}
	return takedownInForce
}

// TakedownCategories are the words that say in public why something was taken
// down: those of reports, and what no listener reports.
func TakedownCategories() []string {
	categories := []string{"court_order", "terms"}
	for _, c := range ReportCategories() {
		categories = append(categories, string(c))
	}
	return categories
}

// IsTakedownCategory reports whether s is one of TakedownCategories.
func IsTakedownCategory(s string) bool { return slices.Contains(TakedownCategories(), s) }

// takenDown is the ErrTakenDown of a segment whose category is known.
type takenDown struct{ category string }

// TakedownError is an ErrTakenDown of that category.
func TakedownError(category string) error { return takenDown{category} }

func (t takenDown) Error() string { return ErrTakenDown.Error() + ": " + t.category }
func (takenDown) Unwrap() error   { return ErrTakenDown }

// TakedownCategory is the category of the takedown that err tells of, or empty.
func TakedownCategory(err error) string {
	t, _ := errors.AsType[takenDown](err)
	return t.category
}

// Enforce has what was recorded of a takedown done to copies and pins: in force,
// no other peer keeps a copy, and without a key this node keeps none either;
// lifted, copies are made again. It may be repeated.
func (o *Origin) Enforce(ctx context.Context, t Takedown) error {
	var err error
	switch {
	case !t.InForce():
		err = o.restore(ctx, t)
	case t.Shredded.IsZero():
		o.copies().Drop(t.CID)
	default:
		o.copies().Drop(t.CID)
		err = o.Blocks.Remove(ctx, t.CID)
	}
	if err != nil {
		return fmt.Errorf("enforce the takedown of %s: %w", t.CID, err)
	}
	return nil
}

// restore keeps what was taken down, and is not any more.
func (o *Origin) restore(ctx context.Context, t Takedown) error {
	s, err := o.Records.Segment(ctx, t.CID.Hash())
	if errors.Is(err, ErrNotFound) {
		return nil // it was never ours
	}
	if err != nil || s.State != Live {
		return err
	}
	station, err := o.Records.Station(ctx, s.Station)
	if err != nil {
		return err
	}
	if err := o.Blocks.Pin(ctx, s.CID); err != nil {
		return err
	}
	o.copies().Keep(s, station)
	return nil
}
