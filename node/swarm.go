package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/boxo/bitswap"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/kubo/config"
	"github.com/ipfs/kubo/core"
	kubolibp2p "github.com/ipfs/kubo/core/node/libp2p"
	"github.com/ipfs/kubo/repo"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/host/autorelay"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/fx"

	"github.com/musenai/musen/internal/deny"
)

// ownRepo is a repo that carries what Bitswap of its node is told besides
// Kubo's settings.
type ownRepo struct {
	repo.Repo
	bitswap []bitswap.Option
	denied  Denier // nil: nothing is
}

// ownBitswap are options in the group that Kubo makes Bitswap with.
type ownBitswap struct {
	fx.Out
	Options []bitswap.Option `group:"bitswap-options,flatten"`
}

// withOwnBitswap is called for every Kubo node of the process. Which one it is
// called for shows in the repo alone.
func withOwnBitswap(info core.FXNodeInfo) ([]fx.Option, error) {
	return append(info.FXOptions, fx.Provide(func(r repo.Repo) (out ownBitswap) {
		if own, ok := r.(*ownRepo); ok {
			out.Options = own.bitswap
		}
		return out
	}), fx.Decorate(func(r repo.Repo, b blockstore.GCBlockstore) blockstore.GCBlockstore {
		if own, ok := r.(*ownRepo); ok && own.denied != nil {
			return hidden{blockstore.NewGCBlockstore(deny.Hide(b, own.denied), b), b}
		}
		return b
	})), nil
}

// hidden is the blockstore that Bitswap serves from. It is asked anew when a
// block is about to be sent, however long ago the peer asked for it.
type hidden struct {
	blockstore.GCBlockstore
	whole blockstore.GCBlockstore
}

func flag(on bool) config.Flag {
	if on {
		return config.True
	}
	return config.False
}

const (
	// relaySearch is how often relays are looked for while there are too few,
	// relayRetry how long one that had no place is left alone.
	relaySearch = 5 * time.Second
	relayRetry  = 30 * time.Second
)

// swarm returns what libp2p is told besides Kubo's settings.
func (o Options) swarm() ([]libp2p.Option, error) {
	var opts []libp2p.Option
	if o.Relay {
		opts = append(opts, libp2p.ForceReachabilityPublic(), libp2p.EnableHolePunching())
	}
	if len(o.Relays) == 0 {
		return opts, nil
	}
	var addrs []ma.Multiaddr
	for _, r := range o.Relays {
		a, err := ma.NewMultiaddr(r)
		if err != nil {
			return nil, fmt.Errorf("relay %q: %w", r, err)
		}
		addrs = append(addrs, a)
	}
	relays, err := peer.AddrInfosFromP2pAddrs(addrs...)
	if err != nil {
		return nil, fmt.Errorf("relays %q: %w", o.Relays, err)
	}
	opts = append(opts, libp2p.EnableAutoRelayWithStaticRelays(relays,
		autorelay.WithBootDelay(0), autorelay.WithMinInterval(relaySearch), autorelay.WithBackoff(relayRetry)))
	if !o.Relay {
		opts = append(opts, libp2p.ForceReachabilityPrivate(), libp2p.EnableHolePunching())
	}
	return opts, nil
}

// hostOption makes Kubo's host with our gater around Kubo's own, with a relay,
// with what peers send bounded and uploads throttled. libp2p refuses a second
// ConnectionGater, so the gater is exchanged in the finished configuration.
func hostOption(ctx context.Context, o Options, more []libp2p.Option) kubolibp2p.HostOption {
	return func(id peer.ID, ps peerstore.Peerstore, opts ...libp2p.Option) (host.Host, error) {
		opts = append(opts, more...)
		if o.Gate != nil {
			opts = append(opts, func(c *libp2p.Config) error {
				c.ConnectionGater = &gater{gate: o.Gate, next: c.ConnectionGater}
				return nil
			})
		}
		if o.Restrict != nil {
			opts = append(opts, func(c *libp2p.Config) error {
				c.ResourceManager = o.Restrict(c.ResourceManager)
				return nil
			})
		}
		h, err := kubolibp2p.DefaultHostOption(id, ps, opts...)
		if err != nil {
			return nil, err
		}
		if o.Relay {
			r, err := newRelayHost(ctx, h, o.Upload)
			if err != nil {
				return nil, errors.Join(fmt.Errorf("start the relay: %w", err), h.Close())
			}
			h = r
		}
		h = newInboxHost(ctx, h)
		if o.Upload != nil {
			h = newThrottledHost(ctx, h, o.Upload)
		}
		return h, nil
	}
}

// gater ends every connection with a peer that is not admitted as soon as the
// handshake has proved who it is.
type gater struct {
	gate Gate
	next connmgr.ConnectionGater
}

var _ connmgr.ConnectionGater = (*gater)(nil)

func (g *gater) InterceptPeerDial(p peer.ID) bool {
	return g.gate.Admits(p) && g.next.InterceptPeerDial(p)
}

func (g *gater) InterceptAddrDial(p peer.ID, a ma.Multiaddr) bool {
	return g.gate.Admits(p) && g.next.InterceptAddrDial(p, a)
}

func (g *gater) InterceptAccept(a network.ConnMultiaddrs) bool { return g.next.InterceptAccept(a) }

func (g *gater) InterceptSecured(d network.Direction, p peer.ID, a network.ConnMultiaddrs) bool {
	return g.gate.Admits(p) && g.next.InterceptSecured(d, p, a)
}

func (g *gater) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	if !g.gate.Admits(c.RemotePeer()) {
		return false, 0
	}
	return g.next.InterceptUpgraded(c)
}

// sweepPeers closes connections to peers that are not admitted any more, until
// the Node is closed.
func (n *Node) sweepPeers() {
	tick := time.NewTicker(n.opts.Sweep)
	defer tick.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-tick.C:
		}
		for _, p := range n.kubo.PeerHost.Network().Peers() {
			if !n.opts.Gate.Admits(p) {
				_ = n.kubo.PeerHost.Network().ClosePeer(p) // gone already
			}
		}
	}
}
