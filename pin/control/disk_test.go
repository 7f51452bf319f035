package control

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"sync"

	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
)

var errDead = errors.New("the process was killed")

// A disk is a datastore whose process can be killed: writes that were not
// synced are lost, all or some of them, in any combination.
type disk struct {
	mu      sync.Mutex
	durable map[string][]byte
	view    map[string][]byte
	since   []write // not synced
	dead    bool
	syncs   int
	commits int
}

var _ datastore.Batching = (*disk)(nil)

func newDisk() *disk {
	return &disk{durable: map[string][]byte{}, view: map[string][]byte{}}
}

func (d *disk) apply(to map[string][]byte, w write) {
	if w.value == nil {
		delete(to, w.key.String())
	} else {
		to[w.key.String()] = w.value
	}
}

// kill makes every further use of d fail, and returns what a new process finds.
func (d *disk) kill(r *rand.Rand) *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
	left := maps.Clone(d.durable)
	odds := r.IntN(3) // lost: all, half, none
	for _, w := range d.since {
		if r.IntN(2) < odds {
			d.apply(left, w)
		}
	}
	return &disk{durable: left, view: maps.Clone(left), syncs: d.syncs, commits: d.commits}
}

// copied is d as it is, as from a backup.
func (d *disk) copied() *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &disk{durable: maps.Clone(d.view), view: maps.Clone(d.view)}
}

func (d *disk) use(do func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return errDead
	}
	return do()
}

func (d *disk) write(ws ...write) error {
	return d.use(func() error {
		d.commits++
		for _, w := range ws {
			d.apply(d.view, w)
		}
		d.since = append(d.since, ws...)
		return nil
	})
}

func (d *disk) Put(_ context.Context, k datastore.Key, v []byte) error { return d.write(write{k, v}) }
func (d *disk) Delete(_ context.Context, k datastore.Key) error        { return d.write(write{key: k}) }

func (d *disk) Get(_ context.Context, k datastore.Key) (v []byte, err error) {
	err = d.use(func() error {
		var ok bool
		if v, ok = d.view[k.String()]; !ok {
			return datastore.ErrNotFound
		}
		return nil
	})
	return v, err
}

func (d *disk) Has(ctx context.Context, k datastore.Key) (bool, error) {
	return datastore.GetBackedHas(ctx, d, k)
}

func (d *disk) GetSize(ctx context.Context, k datastore.Key) (int, error) {
	return datastore.GetBackedSize(ctx, d, k)
}

func (d *disk) Query(_ context.Context, q query.Query) (query.Results, error) {
	var entries []query.Entry
	err := d.use(func() error {
		for k, v := range d.view {
			entries = append(entries, query.Entry{Key: k, Value: v, Size: len(v)})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return query.NaiveQueryApply(q, query.ResultsWithEntries(q, entries)), nil
}

func (d *disk) Sync(context.Context, datastore.Key) error {
	return d.use(func() error {
		d.syncs++
		for _, w := range d.since {
			d.apply(d.durable, w)
		}
		d.since = nil
		return nil
	})
}

func (d *disk) Close() error { return nil }

type diskBatch struct {
	d  *disk
	ws []write
}

func (d *disk) Batch(context.Context) (datastore.Batch, error) { return &diskBatch{d: d}, nil }

func (b *diskBatch) Put(_ context.Context, k datastore.Key, v []byte) error {
	b.ws = append(b.ws, write{k, v})
	return nil
}

func (b *diskBatch) Delete(_ context.Context, k datastore.Key) error {
	b.ws = append(b.ws, write{key: k})
	return nil
}

func (b *diskBatch) Commit(context.Context) error { return b.d.write(b.ws...) }
