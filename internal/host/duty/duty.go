// Package duty carries out what a host is told: hold a segment, drop it, purge
// it. It refuses what the contract does not cover, holds again what was purged
// only if that was lifted, and keeps the record of what is held true.
//
// It does not know who gives the orders and how they come, how blocks are
// fetched, or what is served to whom.
package duty

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/internal/deny"
	"github.com/musenai/musen/internal/host/denylist"
	"github.com/musenai/musen/internal/host/shelf"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/control"
)

var (
	// ErrFull says that a segment does not fit on the disk that is offered.
	ErrFull = errors.New("no room")
	// ErrOutside says that the host does not carry a segment, and why.
	ErrOutside = errors.New("not carried here")
	// errOvertaken says that another order about the segment came meanwhile.
	errOvertaken = errors.New("overtaken by another order")
)

// maxLog is how many orders are remembered.
const maxLog = 1000

// Blocks hold segments on this machine.
type Blocks interface {
	// Fetch brings all of a segment here and pins it. size is how many bytes it
	// has, 0 if unknown. ErrFull says that there is no room.
	Fetch(ctx context.Context, root cid.Cid, size int64) error
	// Purge unpins a segment and deletes its blocks; to purge what is not here
	// is no error.
	Purge(ctx context.Context, root cid.Cid) error
	Pinned(ctx context.Context, root cid.Cid) (bool, error)
}

// A Checker looks into segments that are here.
type Checker interface {
	// Repair reads all of a segment and replaces what is rotten or gone. An
	// error says that it is not whole.
	Repair(ctx context.Context, root cid.Cid) error
	// Parts lists the blocks of a segment that can be learnt of here, its root
	// among them.
	Parts(ctx context.Context, root cid.Cid) []cid.Cid
}

// Terms are what the host offers.
type Terms interface {
	Contract() contract.Contract
	// Leaving reports that the host takes nothing more.
	Leaving() bool
}

// Options are the parts of a Desk.
type Options struct {
	Blocks  Blocks
	Checker Checker
	Terms   Terms // nil: whatever is ordered is held, as long as it fits
	Shelf   *shelf.Shelf
	Denied  *denylist.List // what was purged
	Refused deny.Denier    // what is not taken besides; nil: nothing
	Now     func() time.Time
}

// An Entry is an order and what became of it.
type Entry struct {
	Order   control.Order
	Outcome control.Outcome
	Reason  string
	At      time.Time
}

// A Desk carries orders out. It is safe for concurrent use; of the orders about
// one segment it does one at a time.
type Desk struct {
	o Options

	mu   sync.Mutex
	busy map[string]*task // by multihash of the root
	log  []Entry          // the newest last
}

// task is what is being done with one segment.
type task struct {
	cancel context.CancelCauseFunc // nil: it is not given up for another
	done   chan struct{}
}

// New makes a Desk.
func New(o Options) *Desk { return &Desk{o: o, busy: map[string]*task{}} }

// Carry carries an order out. What it did is durable with the next Sync of the
// store; a purge is durable on return.
func (d *Desk) Carry(ctx context.Context, o control.Order) (control.Outcome, string) {
	var err error
	switch o.Verb {
	case control.Hold:
		err = d.hold(ctx, shelf.Record{Root: o.Root, Size: o.Size, Label: o.Label, Seq: o.Seq}, true, o.Lifted)
	case control.Drop:
		err = d.Drop(ctx, o.Root)
	case control.Purge:
		err = d.Purge(ctx, o.Root)
	default:
		err = fmt.Errorf("%w: unknown order %q", ErrOutside, o.Verb)
	}
	outcome, reason := result(err)
	d.note(Entry{Order: o, Outcome: outcome, Reason: reason, At: d.o.Now()})
	return outcome, reason
}

// result is an error in the words of a receipt.
func result(err error) (control.Outcome, string) {
	switch {
	case err == nil:
		return control.Done, ""
	case errors.Is(err, ErrFull):
		return control.Full, err.Error()
	case errors.Is(err, ErrOutside):
		return control.Outside, err.Error()
	}
	return control.Failed, err.Error()
}

func (d *Desk) note(e Entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.log) == maxLog {
		d.log = append(d.log[:0], d.log[1:]...)
	}
	d.log = append(d.log, e)
}

// Log returns the newest orders that were carried out or tried, the newest
// first, at most n.
func (d *Desk) Log(n int) []Entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	n = min(n, len(d.log))
	out := make([]Entry, n)
	for i := range out {
		out[i] = d.log[len(d.log)-1-i]
	}
	return out
}

// Last returns the newest order about a segment, if it is remembered.
func (d *Desk) Last(root cid.Cid) (Entry, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := len(d.log) - 1; i >= 0; i-- {
		if string(d.log[i].Order.Root.Hash()) == string(root.Hash()) {
			return d.log[i], true
		}
	}
	return Entry{}, false
}

// Working is how many orders are being carried out.
func (d *Desk) Working() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.busy)
}

// take waits until nothing is done with a segment, and keeps others away from
// it until end. One that is overtaking ends what is under way, if that can be
// ended; ctx of a task that can be ends when another overtakes it.
func (d *Desk) take(ctx context.Context, root cid.Cid, overtaking bool) (_ context.Context, end func(), err error) {
	name := string(root.Hash())
	for {
		d.mu.Lock()
		t, taken := d.busy[name]
		if !taken {
			t = &task{done: make(chan struct{})}
			if !overtaking {
				ctx, t.cancel = context.WithCancelCause(ctx)
			}
			d.busy[name] = t
			d.mu.Unlock()
			return ctx, func() { d.leave(name, t) }, nil
		}
		d.mu.Unlock()
		if overtaking && t.cancel != nil {
			t.cancel(errOvertaken)
		}
		select {
		case <-t.done:
		case <-ctx.Done():
			return ctx, nil, ctx.Err()
		}
	}
}

func (d *Desk) leave(name string, t *task) {
	if t.cancel != nil {
		t.cancel(nil)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.busy, name)
	close(t.done)
}

// Hold brings a segment here, and records it. One that is here already is not
// read.
func (d *Desk) Hold(ctx context.Context, r shelf.Record) error { return d.hold(ctx, r, false, false) }

// hold does what Hold does. With again, what is here already is read, and mended
// if need be: nobody orders what it knows to be well. With lifted, what was
// purged is denied no more.
func (d *Desk) hold(ctx context.Context, r shelf.Record, again, lifted bool) error {
	ctx, end, err := d.take(ctx, r.Root, false)
	if err != nil {
		return err
	}
	defer end()
	if lifted {
		if err := d.o.Denied.Remove(ctx, r.Root); err != nil {
			return err
		}
	}
	if err := d.covers(r); err != nil {
		return err
	}
	if err := d.bring(ctx, r, again); err != nil {
		if why := context.Cause(ctx); why != nil {
			err = why
		}
		return err
	}
	r.Since = d.o.Now().UTC().Truncate(time.Second)
	if old, known := d.o.Shelf.Get(r.Root); known {
		r.Since = old.Since
	}
	return d.o.Shelf.Put(ctx, r)
}

// bring makes a segment be here.
func (d *Desk) bring(ctx context.Context, r shelf.Record, again bool) error {
	pinned, err := d.o.Blocks.Pinned(ctx, r.Root)
	if err != nil {
		return err
	}
	if pinned && again {
		return d.o.Checker.Repair(ctx, r.Root)
	}
	return d.o.Blocks.Fetch(ctx, r.Root, r.Size)
}

// covers refuses what the host does not take.
func (d *Desk) covers(r shelf.Record) error {
	switch {
	case d.o.Denied.Has(r.Root):
		return fmt.Errorf("%w: it was purged", ErrOutside)
	case d.o.Refused != nil && d.o.Refused.Denied(r.Root.Hash()):
		return fmt.Errorf("%w: it is on a denylist of this host", ErrOutside)
	case d.o.Terms == nil:
		return nil
	case d.o.Terms.Leaving():
		return fmt.Errorf("%w: the host is leaving", ErrOutside)
	case !d.o.Terms.Contract().Carries(r.Label):
		return fmt.Errorf("%w: the host does not carry this station", ErrOutside)
	}
	return nil
}

// Drop deletes a segment. A fetch of it that is under way is given up.
func (d *Desk) Drop(ctx context.Context, root cid.Cid) error {
	ctx, end, err := d.take(ctx, root, true)
	if err != nil {
		return err
	}
	defer end()
	if err := d.o.Blocks.Purge(ctx, root); err != nil {
		return err
	}
	return d.o.Shelf.Delete(ctx, root)
}

// Purge denies a segment, with all its blocks, until the origin lifts that, and
// deletes it. It is denied at once, also if the rest fails.
func (d *Desk) Purge(ctx context.Context, root cid.Cid) error {
	if err := d.o.Denied.Add(ctx, root); err != nil {
		return err
	}
	ctx, end, err := d.take(ctx, root, true)
	if err != nil {
		return err
	}
	defer end()
	if err := d.o.Denied.Add(ctx, root, d.o.Checker.Parts(ctx, root)...); err != nil {
		return err
	}
	if err := d.o.Blocks.Purge(ctx, root); err != nil {
		return err
	}
	return d.o.Shelf.Delete(ctx, root)
}
