package shelf

import (
	"fmt"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	leveldb "github.com/ipfs/go-ds-leveldb"
	"github.com/multiformats/go-multihash"
)

func root(t *testing.T, n int) cid.Cid {
	t.Helper()
	mh, err := multihash.Sum(fmt.Append(nil, n), multihash.SHA2_256, -1)
	if err != nil {
		t.Fatal(err)
	}
	return cid.NewCidV1(cid.DagProtobuf, mh)
}

func TestRecordsOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	store, err := leveldb.NewDatastore(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		r := Record{Root: root(t, i), Size: int64(i), Label: "abc", Seq: uint64(i), Since: at.Add(-time.Duration(i) * time.Hour)}
		if err := s.Put(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Delete(t.Context(), root(t, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), root(t, 9)); err != nil {
		t.Errorf("forget what is not there: %v", err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if store, err = leveldb.NewDatastore(dir, nil); err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if s, err = Open(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	all := s.All()
	if s.Len() != 2 || len(all) != 2 || !all[0].Root.Equals(root(t, 2)) || !all[1].Root.Equals(root(t, 0)) {
		t.Errorf("got %+v", all)
	}
	got, ok := s.Get(cid.NewCidV1(cid.Raw, root(t, 2).Hash()))
	if !ok || got.Size != 2 || got.Label != "abc" || got.Seq != 2 || !got.Since.Equal(at.Add(-2*time.Hour)) {
		t.Errorf("by another spelling: %+v, %v", got, ok)
	}
	if _, ok := s.Get(root(t, 1)); ok {
		t.Error("what was forgotten is back")
	}
}
