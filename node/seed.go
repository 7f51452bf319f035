package node

import (
	"bytes"
	"context"
	"fmt"

	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/datastore/dshelp"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	blocks "github.com/ipfs/go-block-format"
	ds "github.com/ipfs/go-datastore"
)

// seed puts two blocks where they belong unless they are there: the empty one,
// which peers never answer a request for, and the empty folder, without a good
// copy of which Kubo does not start.
func seed(d ds.Datastore) error {
	ctx := context.Background()
	for _, b := range seeds() {
		key := blockstore.BlockPrefix.Child(dshelp.MultihashToDsKey(b.Cid().Hash()))
		if have, err := d.Get(ctx, key); err == nil && bytes.Equal(have, b.RawData()) {
			continue
		}
		if err := d.Put(ctx, key, b.RawData()); err != nil {
			return fmt.Errorf("store block %s: %w", b.Cid(), noSpace(err))
		}
	}
	return nil
}

// seeds are the blocks that every node has.
func seeds() []blocks.Block { return []blocks.Block{emptyBlock(), unixfs.EmptyDirNode()} }

// emptyBlock is the raw block of no bytes.
func emptyBlock() blocks.Block {
	nd, err := merkledag.NewRawNodeWPrefix(nil, merkledag.V1CidPrefix())
	if err != nil {
		panic(err) // unreachable: the prefix is the default one
	}
	return nd
}
