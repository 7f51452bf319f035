package pin

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"
)

var errStranger = errors.New("not a trusted peer, or not connected")

// door is the host as the parts of Cluster see it. Streams go to trusted peers
// and come from them alone, and no peer is dialled: connections are the
// caller's. Peers that were connected or trusted before a part began to listen
// are told to it as well, and again every while, so that a part that once gave
// a peer up takes it back.
type door struct {
	host.Host
	trust *trust
	ajar  bool
	bus   event.Bus
	met   event.Emitter
	heard event.Subscription
	stop  context.CancelFunc
	wg    sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	streams   map[network.Stream]struct{}
	protocols []protocol.ID
	listeners []network.Notifiee
}

var _ host.Host = (*door)(nil)

// newDoor must be closed. again is the while after which peers are told again.
func newDoor(h host.Host, t *trust, again time.Duration, ajar bool) (*door, error) {
	d := &door{Host: h, trust: t, ajar: ajar, bus: eventbus.NewBus(), streams: map[network.Stream]struct{}{}}
	var err error
	if d.met, err = d.bus.Emitter(new(event.EvtPeerIdentificationCompleted)); err != nil {
		return nil, err
	}
	d.heard, err = h.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerProtocolsUpdated),
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.stop = cancel
	h.Network().Notify((*doorbell)(d))
	d.wg.Go(func() { d.watch(ctx, again) })
	return d, nil
}

// Close ends all streams that came or went through d, and returns when nobody
// handles one any more. The host stays open.
func (d *door) Close() error {
	d.mu.Lock()
	d.closed = true
	protocols, streams := d.protocols, d.open("")
	d.mu.Unlock()

	for _, p := range protocols {
		d.Host.RemoveStreamHandler(p)
	}
	d.Host.Network().StopNotify((*doorbell)(d))
	d.stop()
	_ = d.heard.Close()
	for _, s := range streams {
		_ = s.Reset()
	}
	d.wg.Wait()
	return d.met.Close()
}

// open lists the streams with one peer, or with all. The lock must be held.
func (d *door) open(p peer.ID) []network.Stream {
	var l []network.Stream
	for s := range d.streams {
		if p == "" || s.Conn().RemotePeer() == p {
			l = append(l, s)
		}
	}
	return l
}

// evict ends all streams with a peer that is trusted no longer.
func (d *door) evict(p peer.ID) {
	d.mu.Lock()
	streams := d.open(p)
	d.mu.Unlock()
	for _, s := range streams {
		_ = s.Reset()
	}
}

// watch greets peers as they are identified, and all of them every while.
func (d *door) watch(ctx context.Context, again time.Duration) {
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-d.heard.Out():
			if !ok {
				return
			}
			switch e := e.(type) {
			case event.EvtPeerIdentificationCompleted:
				d.greet(e.Peer)
			case event.EvtPeerProtocolsUpdated:
				d.greet(e.Peer)
			}
		case <-tick.C:
			for _, p := range d.trust.list() {
				d.greet(p)
			}
		}
	}
}

// greet tells all parts of a trusted peer that is connected.
func (d *door) greet(p peer.ID) {
	if !d.trust.has(p) {
		return
	}
	conns := slices.DeleteFunc(d.Host.Network().ConnsToPeer(p), func(c network.Conn) bool { return c.Stat().Limited })
	if len(conns) == 0 {
		return
	}
	d.mu.Lock()
	listeners := slices.Clone(d.listeners)
	d.mu.Unlock()
	for _, l := range listeners {
		l.Connected(d.Host.Network(), conns[0])
	}
	// Gossip asks what the peer speaks; it finds out by itself whether that is so.
	_ = d.met.Emit(event.EvtPeerIdentificationCompleted{Peer: p, Protocols: pubsub.GossipSubDefaultProtocols})
}

// EventBus carries which peers were met, and nothing else.
func (d *door) EventBus() event.Bus { return d.bus }

// Network sees trusted peers alone.
func (d *door) Network() network.Network { return &doorway{Network: d.Host.Network(), door: d} }

// Connect succeeds if p is trusted and connected already.
func (d *door) Connect(_ context.Context, p peer.AddrInfo) error {
	if d.trust.has(p.ID) && d.Host.Network().Connectedness(p.ID) == network.Connected {
		return nil
	}
	return errStranger
}

// NewStream opens a stream over a connection that there is.
func (d *door) NewStream(ctx context.Context, p peer.ID, ids ...protocol.ID) (network.Stream, error) {
	if !d.trust.has(p) {
		return nil, errStranger
	}
	s, err := d.Host.NewStream(network.WithNoDial(ctx, "the pinset dials nobody"), p, ids...)
	if err != nil {
		return nil, err
	}
	out := &outgoing{Stream: s, door: d}
	if !d.enter(out) {
		_ = s.Reset()
		return nil, ErrClosed
	}
	return out, nil
}

// SetStreamHandler lets trusted peers alone reach f.
func (d *door) SetStreamHandler(id protocol.ID, f network.StreamHandler) {
	d.own(id)
	d.Host.SetStreamHandler(id, d.admit(f))
}

// SetStreamHandlerMatch lets trusted peers alone reach f.
func (d *door) SetStreamHandlerMatch(id protocol.ID, m func(protocol.ID) bool, f network.StreamHandler) {
	d.own(id)
	d.Host.SetStreamHandlerMatch(id, m, d.admit(f))
}

func (d *door) own(id protocol.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.protocols = append(d.protocols, id)
}

func (d *door) admit(f network.StreamHandler) network.StreamHandler {
	return func(s network.Stream) {
		if !d.ajar && !d.trust.has(s.Conn().RemotePeer()) || !d.enter(s) {
			_ = s.Reset()
			return
		}
		defer d.leave(s)
		defer d.wg.Done()
		f(s)
	}
}

// enter reports whether s may live. A stream that came in is waited for when
// the door closes.
func (d *door) enter(s network.Stream) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.streams[s] = struct{}{}
	if _, ours := s.(*outgoing); !ours {
		d.wg.Add(1)
	}
	return true
}

func (d *door) leave(s network.Stream) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.streams, s)
}

// outgoing is a stream that the door forgets when it ends.
type outgoing struct {
	network.Stream
	door *door
}

// Close ends the stream, reads included.
func (o *outgoing) Close() error {
	o.door.leave(o)
	return o.Stream.Close()
}

// Reset breaks the stream off.
func (o *outgoing) Reset() error {
	o.door.leave(o)
	return o.Stream.Reset()
}

// ResetWithError breaks the stream off and tells why.
func (o *outgoing) ResetWithError(code network.StreamErrorCode) error {
	o.door.leave(o)
	return o.Stream.ResetWithError(code)
}

// doorbell passes on that trusted peers come, and that anybody goes.
type doorbell door

var _ network.Notifiee = (*doorbell)(nil)

// Connected is told when the peer is identified: until then it may be unknown
// what it speaks.
func (b *doorbell) Connected(network.Network, network.Conn) {}

// Listen is of no concern here.
func (b *doorbell) Listen(network.Network, ma.Multiaddr) {}

// ListenClose is of no concern here.
func (b *doorbell) ListenClose(network.Network, ma.Multiaddr) {}

// Disconnected tells all parts.
func (b *doorbell) Disconnected(n network.Network, c network.Conn) {
	d := (*door)(b)
	d.mu.Lock()
	listeners := slices.Clone(d.listeners)
	d.mu.Unlock()
	for _, l := range listeners {
		l.Disconnected(n, c)
	}
}

// doorway is the network behind a door.
type doorway struct {
	network.Network
	door *door
}

// Peers are the trusted peers that are connected.
func (w *doorway) Peers() []peer.ID {
	return slices.DeleteFunc(w.Network.Peers(), func(p peer.ID) bool { return !w.door.trust.has(p) })
}

// Notify tells l of trusted peers, those that are connected already included.
func (w *doorway) Notify(l network.Notifiee) {
	w.door.mu.Lock()
	w.door.listeners = append(w.door.listeners, l)
	w.door.mu.Unlock()
	for _, c := range w.Conns() {
		if w.door.trust.has(c.RemotePeer()) {
			l.Connected(w.Network, c)
		}
	}
}

// StopNotify ends what Notify began.
func (w *doorway) StopNotify(l network.Notifiee) {
	w.door.mu.Lock()
	defer w.door.mu.Unlock()
	w.door.listeners = slices.DeleteFunc(w.door.listeners, func(o network.Notifiee) bool { return o == l })
}
