package catalog

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/uptrace/bun"

	"github.com/musenai/musen"
)

// maxBatch bounds how many requests share one commit.
const maxBatch = 256

// A change is one write. It is all there or not at all.
type change struct {
	apply func(ctx context.Context, tx bun.Tx) error
	// kind is what memory, also that of other processes, holds of the rows that
	// are changed, and also, if it is more than one. Empty: nothing.
	kind, also kind
	// done runs after the commit and before the answer, in commit order. It
	// brings memory up to what is on disk. May be nil.
	done func()
	// wipes says that what the change overwrote must be gone from every file
	// when the answer comes.
	wipes bool
}

type request struct {
	change
	taken  atomic.Bool // by the writer, or by a caller who gave up
	answer chan error
}

// A writer puts all changes that wait into one transaction: one wait for the
// disk serves them all.
type writer struct {
	db      *bun.DB
	store   store
	mirrors *mirrors
	queue   chan *request
	stopped chan struct{}
	broken  error // of the loop alone: no change is tried any more

	mu     sync.RWMutex // held to send on queue, locked to close it
	closed bool
}

func startWriter(db *bun.DB, s store, m *mirrors) *writer {
	w := &writer{db: db, store: s, mirrors: m, queue: make(chan *request, maxBatch), stopped: make(chan struct{})}
	go w.loop()
	return w
}

// write makes ch durable. If ctx ends before the writer takes ch up, ch does
// not happen; afterwards write waits for the outcome.
func (w *writer) write(ctx context.Context, ch change) error {
	r := &request{change: ch, answer: make(chan error, 1)}
	if err := w.send(ctx, r); err != nil {
		return err
	}
	select {
	case err := <-r.answer:
		return err
	case <-ctx.Done():
		if r.taken.CompareAndSwap(false, true) {
			return ctx.Err()
		}
		return <-r.answer
	}
}

func (w *writer) send(ctx context.Context, r *request) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return errClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case w.queue <- r:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close answers what waits and stops the loop.
func (w *writer) close() {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.queue)
	}
	w.mu.Unlock()
	<-w.stopped
}

func (w *writer) loop() {
	defer close(w.stopped)
	for first := range w.queue {
		w.serve(w.gather(first))
	}
}

// gather takes first and all that wait with it. It lets the callers who were
// answered just now run once, for they often come back at once.
func (w *writer) gather(first *request) []*request {
	batch := []*request{}
	keep := func(r *request) {
		if r.taken.CompareAndSwap(false, true) {
			batch = append(batch, r)
		}
	}
	keep(first)
	for yielded := false; len(batch) < maxBatch; {
		select {
		case r, ok := <-w.queue:
			if !ok {
				return batch
			}
			keep(r)
			yielded = false
		default:
			if yielded {
				return batch
			}
			runtime.Gosched()
			yielded = true
		}
	}
	return batch
}

// serve commits a batch, wipes what it destroyed, then answers its requests.
func (w *writer) serve(batch []*request) {
	errs := w.transact(batch)
	wipes := false
	for i, r := range batch {
		wipes = wipes || (errs[i] == nil && r.wipes)
	}
	var wipeErr error
	if wipes {
		wipeErr = w.store.wipe(context.Background())
		w.stopIfFinal(wipeErr)
	}
	for i, r := range batch {
		if errs[i] == nil && r.wipes && wipeErr != nil {
			errs[i] = fmt.Errorf("done, but destroyed bytes may still be on the disk until the next start: %w", wipeErr)
		}
		r.answer <- errs[i]
	}
}

// transact runs each request behind a savepoint of one transaction, so that
// one that fails leaves the others alone, and brings memory up to what was
// committed. The outcome of each is at its index.
func (w *writer) transact(batch []*request) []error {
	errs := make([]error, len(batch))
	if w.broken != nil {
		return failAll(errs, w.broken)
	}
	ctx := context.Background() // a caller who leaves must not undo the others' changes
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return failAll(errs, err)
	}
	if err := w.store.begin(ctx, tx); err != nil {
		_ = tx.Rollback()
		return failAll(errs, err)
	}
	for i, r := range batch {
		var lost error
		if errs[i], lost = attempt(ctx, tx, r.apply); lost != nil {
			_ = tx.Rollback() // the database did so already; the cause is what matters
			return w.fail(errs, lost)
		}
	}
	kinds := kindsOf(batch, errs)
	var made step
	if len(kinds) > 0 {
		if made, err = w.store.announce(ctx, tx, kinds); err != nil {
			_ = tx.Rollback()
			return w.fail(errs, err)
		}
	}
	w.mirrors.mu.Lock()
	defer w.mirrors.mu.Unlock()
	if err := tx.Commit(); err != nil {
		return w.fail(errs, err)
	}
	for i, r := range batch {
		if errs[i] == nil && r.done != nil {
			r.done()
		}
	}
	w.mirrors.committed(made, kinds)
	return errs
}

// kindsOf are the kinds of the changes without an error, each once.
func kindsOf(batch []*request, errs []error) (kinds []kind) {
	for i, r := range batch {
		for _, k := range [...]kind{r.kind, r.also} {
			if errs[i] == nil && k != "" && !slices.Contains(kinds, k) {
				kinds = append(kinds, k)
			}
		}
	}
	return kinds
}

// attempt runs apply behind a savepoint. lost says that the whole transaction
// cannot go on.
func attempt(ctx context.Context, tx bun.Tx, apply func(context.Context, bun.Tx) error) (err, lost error) {
	if _, err := tx.ExecContext(ctx, "SAVEPOINT change"); err != nil {
		return err, err
	}
	if err = apply(ctx, tx); err != nil {
		if _, back := tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT change"); back != nil {
			return err, err
		}
	}
	if _, lost := tx.ExecContext(ctx, "RELEASE SAVEPOINT change"); lost != nil {
		return lost, lost
	}
	return err, nil
}

// fail gives cause to every request that has no error of its own.
func (w *writer) fail(errs []error, cause error) []error {
	w.stopIfFinal(cause)
	return failAll(errs, cause)
}

// stopIfFinal ends all writing after an error that says that the disk cannot
// be trusted to hold what it was given.
func (w *writer) stopIfFinal(err error) {
	if err != nil && w.store.final(err) {
		w.broken = fmt.Errorf("the disk failed, check it and restart: %w: %w", musen.ErrUnavailable, err)
	}
}

func failAll(errs []error, cause error) []error {
	for i := range errs {
		if errs[i] == nil {
			errs[i] = cause
		}
	}
	return errs
}
