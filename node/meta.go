package node

import (
	"context"
	"fmt"
	"path/filepath"

	ds "github.com/ipfs/go-datastore"
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
	d, err := levelds.NewDatastore(filepath.Join(dir, c.path), nil)
	if err != nil {
		return nil, err
	}
	return &metaStore{Datastore: d}, nil
}

// metaStore is LevelDB that makes its journal durable on Sync, where Kubo asks
// for it, and not on every write: a pin is four writes. A power cut loses the
// last writes, never earlier ones out of order.
type metaStore struct{ *levelds.Datastore }

var (
	_ ds.Batching            = (*metaStore)(nil)
	_ ds.PersistentDatastore = (*metaStore)(nil)
)

// syncKey is written, durably, to make what was written before it durable.
const syncKey = "/local/synced"

func (m *metaStore) Put(_ context.Context, key ds.Key, value []byte) error {
	return m.DB.Put(key.Bytes(), value, nil)
}

func (m *metaStore) Delete(_ context.Context, key ds.Key) error {
	return m.DB.Delete(key.Bytes(), nil)
}

func (m *metaStore) Sync(context.Context, ds.Key) error {
	return m.DB.Put([]byte(syncKey), nil, &opt.WriteOptions{Sync: true})
}

func (m *metaStore) Batch(context.Context) (ds.Batch, error) {
	return &metaBatch{db: m.DB}, nil
}

// metaBatch is several writes of a metaStore that happen together.
type metaBatch struct {
	db    *leveldb.DB
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

func (b *metaBatch) Commit(context.Context) error { return b.db.Write(&b.batch, nil) }
