package pin

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	capi "github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs/go-cid"
)

// A change is a pin that is to be put into the pinset, or none: one that is to
// be taken out.
type change struct{ pin *capi.Pin }

// batch collects changes and commits them together. Of several changes to one
// root the last counts. What waits can be read back.
type batch struct {
	size   int
	age    time.Duration
	log    *slog.Logger
	commit func(map[cid.Cid]change) error // makes changes durable and tells the other peers
	wake   chan struct{}

	committing sync.Mutex // held while commit runs

	mu      sync.Mutex
	waiting map[cid.Cid]change
	going   map[cid.Cid]change // being committed
}

func newBatch(size int, age time.Duration, log *slog.Logger, commit func(map[cid.Cid]change) error) *batch {
	return &batch{
		size: size, age: age, log: log, commit: commit, wake: make(chan struct{}, 1),
		waiting: map[cid.Cid]change{},
	}
}

// put adds a change. When the batch is full it returns after it is committed.
func (b *batch) put(root cid.Cid, c change) error {
	b.mu.Lock()
	b.waiting[root] = c
	full := len(b.waiting) >= b.size
	b.mu.Unlock()
	if full {
		return b.flush()
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return nil
}

// get finds a change that is not committed yet.
func (b *batch) get(root cid.Cid) (change, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c, ok := b.waiting[root]; ok {
		return c, true
	}
	c, ok := b.going[root]
	return c, ok
}

// flush commits what was put before. Changes that could not be committed wait
// on.
func (b *batch) flush() error {
	b.committing.Lock()
	defer b.committing.Unlock()
	b.mu.Lock()
	b.going, b.waiting = b.waiting, map[cid.Cid]change{}
	going := b.going
	b.mu.Unlock()

	var err error
	if len(going) > 0 {
		err = b.commit(going)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		maps.Copy(going, b.waiting) // newer ones win
		b.waiting = going
	}
	b.going = nil
	return err
}

// run commits what waits, each change at most an age after it came.
func (b *batch) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.wake:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(b.age):
		}
		if err := b.flush(); err != nil {
			b.log.Warn("changes of the pinset wait", "error", err)
			select {
			case b.wake <- struct{}{}:
			default:
			}
		}
	}
}
