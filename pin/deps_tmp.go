// Package pin embeds IPFS Cluster.
package pin

import (
	_ "github.com/hsanjuan/ipfs-lite"
	_ "github.com/ipfs-cluster/ipfs-cluster"
	_ "github.com/ipfs-cluster/ipfs-cluster/consensus/crdt"
	_ "github.com/ipfs-cluster/ipfs-cluster/informer/disk"
	_ "github.com/ipfs-cluster/ipfs-cluster/informer/tags"
	_ "github.com/ipfs-cluster/ipfs-cluster/monitor/pubsubmon"
	_ "github.com/ipfs-cluster/ipfs-cluster/observations"
	_ "github.com/ipfs-cluster/ipfs-cluster/pintracker/stateless"
	_ "github.com/ipfs/boxo/pinning/remote/client"
	_ "github.com/ipfs/go-ds-crdt"
	_ "github.com/libp2p/go-libp2p-gorpc"
	_ "github.com/libp2p/go-libp2p-pubsub"
	_ "github.com/libp2p/go-libp2p-routing-helpers"
	_ "github.com/ugorji/go/codec"
	_ "go.uber.org/fx"
)
