package denylist

import (
	"context"
	"errors"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	leveldb "github.com/ipfs/go-ds-leveldb"
	"github.com/multiformats/go-multihash"
)

func block(t *testing.T, text string) cid.Cid {
	t.Helper()
	mh, err := multihash.Sum([]byte(text), multihash.SHA2_256, -1)
	if err != nil {
		t.Fatal(err)
	}
	return cid.NewCidV1(cid.Raw, mh)
}

func open(t *testing.T, store datastore.Batching) *List {
	t.Helper()
	l, err := Open(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestDeniedForEver(t *testing.T) {
	dir := t.TempDir()
	store, err := leveldb.NewDatastore(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := open(t, store)
	bad, leaf, good := block(t, "bad"), block(t, "leaf"), block(t, "good")
	if l.Has(bad) || l.Has(cid.Undef) {
		t.Error("denied from the start")
	}
	for range 2 {
		if err := l.Add(t.Context(), bad, leaf); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if store, err = leveldb.NewDatastore(dir, nil); err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	l = open(t, store)
	for _, c := range []cid.Cid{bad, leaf, cid.NewCidV0(bad.Hash()), cid.NewCidV1(cid.DagProtobuf, bad.Hash())} {
		if !l.Has(c) {
			t.Errorf("%s is not denied", c)
		}
	}
	if l.Has(good) {
		t.Error("a good block is denied")
	}
}

// broken is a store that cannot write.
type broken struct{ datastore.Batching }

func (broken) Batch(context.Context) (datastore.Batch, error) { return nil, errors.New("disk full") }

// What cannot be written down is denied nevertheless, as long as the process
// lives.
func TestDeniedThoughNotWritten(t *testing.T) {
	l := open(t, broken{datastore.NewMapDatastore()})
	if err := l.Add(t.Context(), block(t, "bad")); err == nil {
		t.Error("no error")
	}
	if !l.Has(block(t, "bad")) {
		t.Error("not denied")
	}
}
