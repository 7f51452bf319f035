package deny

import (
	"sync"
	"testing"

	"github.com/ipfs/boxo/blockstore"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"
)

// one denies one block.
type one struct{ mh multihash.Multihash }

// Denied implements Denier.
func (o one) Denied(mh multihash.Multihash) bool { return string(mh) == string(o.mh) }

// H50, H25: what any source denies is hidden under every CID that it has, and
// nothing else is.
func TestHide(t *testing.T) {
	store := blockstore.NewBlockstore(dssync.MutexWrap(datastore.NewMapDatastore()))
	bad, worse, good := blocks.NewBlock([]byte("bad")), blocks.NewBlock([]byte("worse")), blocks.NewBlock([]byte("good"))
	if err := store.PutMany(t.Context(), []blocks.Block{bad, worse, good}); err != nil {
		t.Fatal(err)
	}
	var denied Sources
	hidden := Hide(store, &denied)
	there := func(c cid.Cid) bool {
		t.Helper()
		has, err := hidden.Has(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		_, err = hidden.Get(t.Context(), c)
		if has == ipld.IsNotFound(err) {
			t.Errorf("%s: has %t, get: %v", c, has, err)
		}
		if _, err = hidden.GetSize(t.Context(), c); has == ipld.IsNotFound(err) {
			t.Errorf("%s: has %t, size: %v", c, has, err)
		}
		return has
	}
	if !there(bad.Cid()) {
		t.Error("hidden before anything is denied")
	}
	var adding sync.WaitGroup
	for _, b := range []blocks.Block{bad, worse} {
		adding.Go(func() { denied.Add(one{b.Cid().Hash()}) })
	}
	adding.Wait()
	for _, b := range []blocks.Block{bad, worse} {
		mh := b.Cid().Hash()
		for _, c := range []cid.Cid{cid.NewCidV0(mh), cid.NewCidV1(cid.Raw, mh), cid.NewCidV1(cid.DagProtobuf, mh)} {
			if there(c) {
				t.Errorf("%s is not hidden", c)
			}
		}
	}
	if !there(good.Cid()) {
		t.Error("a good block is hidden")
	}
}
