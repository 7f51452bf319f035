package node

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	levelds "github.com/ipfs/go-ds-leveldb"
	"github.com/ipfs/kubo/repo"
	"github.com/ipfs/kubo/repo/fsrepo"
	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
)

// metaType names metaStore in a Kubo datastore spec.
const metaType = "musen-levelds"

// metaConfig is the part of a datastore spec that describes a metaStore.
type metaConfig struct{ path string }

var _ fsrepo.DatastoreConfig = metaConfig{}

func parseMetaConfig(params map[string]any) (fsrepo.DatastoreConfig, error) {
	path, ok := params["path"].(string)
	if !ok {
		return nil, fmt.Errorf("datastore %q: path is missing", metaType)
	}
	return metaConfig{path}, nil
}

// DiskSpec is what must not change while the datastore exists.
func (c metaConfig) DiskSpec() fsrepo.DiskSpec {
	return fsrepo.DiskSpec{"type": metaType, "path": c.path}
}

// Create opens the datastore in the folder of the repo.
func (c metaConfig) Create(dir string) (repo.Datastore, error) {
	path := filepath.Join(dir, c.path)
	d, err := levelds.NewDatastore(path, nil)
	if err != nil {
		return nil, err
	}
	return &metaStore{path: path, level: d}, nil
}

// metaStore is LevelDB that makes its journal durable on Sync, where Kubo asks
// for it, and not on every write: a pin is four writes. A power cut loses the
// last writes, never earlier ones out of order.
type metaStore struct {
	path  string
	mu    sync.RWMutex // guards level, which is replaced when it is stuck
	level *levelds.Datastore
	// stuck tells that a write failed. LevelDB then takes no further write,
	// also when the disk has room again, until it is opened anew.
	stuck atomic.Bool
}

var (
	_ ds.Batching            = (*metaStore)(nil)
	_ ds.PersistentDatastore = (*metaStore)(nil)
)

const (
	// syncKey is written, durably, to make what was written before it durable.
	syncKey = "/local/synced"
	// metaRoom is how much must be free on the disk before a stuck LevelDB is
	// opened anew: it can be read as it is.
	metaRoom = 1 << 20
)

// now is the LevelDB of this moment.
func (m *metaStore) now() *levelds.Datastore {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.level
}

// write does one write, on a fresh LevelDB if an earlier one failed.
func (m *metaStore) write(do func(*leveldb.DB) error) error {
	if m.stuck.Load() {
		if err := m.reopen(); err != nil {
			return err
		}
	}
	err := do(m.now().DB)
	if err != nil {
		m.stuck.Store(true)
	}
	return err
}

func (m *metaStore) reopen() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.stuck.Load() {
		return nil // another write was first
	}
	free, err := diskFree(m.path)
	if err == nil && free < metaRoom {
		err = syscall.ENOSPC
	}
	if err != nil {
		return fmt.Errorf("open %q anew: %w", m.path, err)
	}
	_ = m.level.Close() // it is broken
	fresh, err := levelds.NewDatastore(m.path, nil)
	if err != nil {
		return fmt.Errorf("open %q anew: %w", m.path, err)
	}
	m.level = fresh
	m.stuck.Store(false)
	return nil
}

func (m *metaStore) Get(ctx context.Context, key ds.Key) ([]byte, error) {
	return m.now().Get(ctx, key)
}

func (m *metaStore) Has(ctx context.Context, key ds.Key) (bool, error) {
	return m.now().Has(ctx, key)
}

func (m *metaStore) GetSize(ctx context.Context, key ds.Key) (int, error) {
	return m.now().GetSize(ctx, key)
}

func (m *metaStore) Query(ctx context.Context, q query.Query) (query.Results, error) {
	return m.now().Query(ctx, q)
}

func (m *metaStore) DiskUsage(ctx context.Context) (uint64, error) {
	return m.now().DiskUsage(ctx)
}

func (m *metaStore) Close() error { return m.now().Close() }

func (m *metaStore) Put(_ context.Context, key ds.Key, value []byte) error {
	return m.write(func(db *leveldb.DB) error { return db.Put(key.Bytes(), value, nil) })
}

func (m *metaStore) Delete(_ context.Context, key ds.Key) error {
	return m.write(func(db *leveldb.DB) error { return db.Delete(key.Bytes(), nil) })
}

func (m *metaStore) Sync(context.Context, ds.Key) error {
	durable := &opt.WriteOptions{Sync: true}
	return m.write(func(db *leveldb.DB) error { return db.Put([]byte(syncKey), nil, durable) })
}

func (m *metaStore) Batch(context.Context) (ds.Batch, error) { return &metaBatch{store: m}, nil }

// metaBatch is several writes of a metaStore that happen together.
type metaBatch struct {
	store *metaStore
	batch leveldb.Batch
}

func (b *metaBatch) Put(_ context.Context, key ds.Key, value []byte) error {
	b.batch.Put(key.Bytes(), value)
	return nil
}

func (b *metaBatch) Delete(_ context.Context, key ds.Key) error {
	b.batch.Delete(key.Bytes())
	return nil
}

func (b *metaBatch) Commit(context.Context) error {
	return b.store.write(func(db *leveldb.DB) error { return db.Write(&b.batch, nil) })
}
