package testnet

import (
	"testing"

	"github.com/ipfs/boxo/bitswap"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"

	"github.com/musenai/musen/node"
)

// Connect makes an IPFS peer that keeps a copy of blocks of n, connects it to
// n, and returns once n has the connection. The peer speaks Bitswap over TCP of
// loopback and is gone when the test ends.
func Connect(t testing.TB, n *node.Node, blocks ...cid.Cid) {
	t.Helper()
	host, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableRelay())
	must(t, err)
	t.Cleanup(func() { must(t, host.Close()) })
	store := blockstore.NewBlockstore(dssync.MutexWrap(datastore.NewMapDatastore()))
	for _, c := range blocks {
		b, err := n.Offline().GetBlock(t.Context(), c)
		must(t, err)
		must(t, store.Put(t.Context(), b))
	}
	swap := bitswap.New(t.Context(), bsnet.NewFromIpfsHost(host), nil, store)
	t.Cleanup(func() { must(t, swap.Close()) })
	info, err := peer.AddrInfoFromString(n.Addrs()[0])
	must(t, err)
	must(t, host.Connect(t.Context(), *info))
	must(t, (<-ping.Ping(t.Context(), host, info.ID)).Error) // an answer shows that n has the connection too
}
