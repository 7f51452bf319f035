package pin

import (
	"context"

	"github.com/ipfs/boxo/bitswap"
	"github.com/ipfs/boxo/bitswap/client"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-datastore"
	crdt "github.com/ipfs/go-ds-crdt"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// deltaPrefix stands before the protocols of the Bitswap that moves changes of
// the pinset, so that it does not take the node's own streams.
const deltaPrefix = protocol.ID("/musen/pinset")

// deltas is where changes of the pinset are kept and fetched from other peers:
// the pinset is a DAG of them. Its Bitswap asks all trusted peers that are
// connected and announces nothing.
type deltas struct {
	ipld.DAGService
	blocks blockservice.BlockService
	swap   *bitswap.Bitswap
}

var _ crdt.SessionDAGService = (*deltas)(nil)

// newDeltas must be closed.
func newDeltas(ctx context.Context, d *door, store datastore.Batching) *deltas {
	bs := blockstore.NewBlockstore(store, blockstore.WriteThrough(true))
	swap := bitswap.New(ctx, bsnet.NewFromIpfsHost(d, bsnet.Prefix(deltaPrefix)), nil, bs,
		bitswap.EngineBlockstoreWorkerCount(8),
		bitswap.EngineTaskWorkerCount(4),
		bitswap.TaskWorkerCount(4),
		bitswap.MaxOutstandingBytesPerPeer(4<<20),
		bitswap.MaxQueuedWantlistEntriesPerPeer(1024),
		bitswap.MaxCidSize(64),
		bitswap.WithClientOption(client.BroadcastControlEnable(false)),
	)
	blocks := blockservice.New(bs, swap)
	return &deltas{DAGService: merkledag.NewDAGService(blocks), blocks: blocks, swap: swap}
}

// Session fetches related changes together.
func (d *deltas) Session(ctx context.Context) ipld.NodeGetter {
	return merkledag.NewSession(ctx, d.DAGService)
}

// Close ends the exchange.
func (d *deltas) Close() error { return d.blocks.Close() }
