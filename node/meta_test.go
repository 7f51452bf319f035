package node

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/syndtr/goleveldb/leveldb"
)

// H69: a write that found the disk full does not end all writes to come, nor
// lose those before it.
func TestMetaStoreGoesOnAfterAFailedWrite(t *testing.T) {
	dir := t.TempDir()
	store := func() ds.Batching {
		c, err := parseMetaConfig(map[string]any{"path": "meta"})
		if err != nil {
			t.Fatal(err)
		}
		d, err := c.Create(dir)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := store()
	put := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if err := d.Put(t.Context(), ds.NewKey(fmt.Sprint(i)), []byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(0, 100)
	full := func(*leveldb.DB) error { return syscall.ENOSPC }
	if err := d.(*metaStore).write(full); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if _, err := d.Get(t.Context(), ds.NewKey("7")); err != nil {
		t.Errorf("read after a failed write: %v", err)
	}
	put(100, 200)
	if err := d.Sync(t.Context(), ds.NewKey("/")); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = store()
	defer d.Close()
	for i := range 200 {
		if v, err := d.Get(t.Context(), ds.NewKey(fmt.Sprint(i))); err != nil || v[0] != byte(i) {
			t.Fatalf("entry %d: %v, %v", i, v, err)
		}
	}
}

func TestMetaConfigNeedsAPath(t *testing.T) {
	if _, err := parseMetaConfig(map[string]any{}); err == nil {
		t.Error("a spec without a path is accepted")
	}
}
