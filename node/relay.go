package node

import (
	"context"
	"errors"
	"sync"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"golang.org/x/time/rate"
)

const (
	// relayGuests bounds how many peers a relay is there for, relayShare how
	// many of them may come from one place: the Gate chose them all. As many may
	// be connected to one of them, each of them by relayCircuits.
	relayGuests   = 1024
	relayShare    = 128
	relayCircuits = 16
	// relayRate is how many bytes a second one peer may send through the relay,
	// relayTotal how many all may.
	relayRate  = 1 << 20
	relayTotal = 8 << 20
	relayBurst = 256 << 10
)

// relayHost is a host that is a relay besides. A circuit lasts as long as its
// ends want and carries as much: one with a limit in libp2p's sense is
// announced as such, and then Bitswap and the pinset do not use it. What is
// bounded is how quickly a peer sends, whatever it opens.
type relayHost struct {
	host.Host
	relay *relay.Relay
}

// newRelayHost starts a relay on h, whose bytes wait for upload too if there is
// one. ctx ends with the Node.
func newRelayHost(ctx context.Context, h host.Host, upload Throttle) (*relayHost, error) {
	limits := relay.DefaultResources()
	limits.Limit = nil
	limits.MaxReservations, limits.MaxCircuits = relayGuests, relayGuests
	limits.MaxReservationsPerIP, limits.MaxReservationsPerASN = relayShare, relayShare
	r, err := relay.New(&hopHost{Host: h, pace: newRelayPace(ctx, upload)}, relay.WithResources(limits))
	if err != nil {
		return nil, err
	}
	return &relayHost{h, r}, nil
}

// Close implements io.Closer.
func (h *relayHost) Close() error { return errors.Join(h.relay.Close(), h.Host.Close()) }

// hopHost is a host as its relay sees it: what comes from peers comes at a pace.
type hopHost struct {
	host.Host
	pace *relayPace
}

// SetStreamHandler has f handle streams of peers that have not too many.
func (h *hopHost) SetStreamHandler(id protocol.ID, f network.StreamHandler) {
	h.Host.SetStreamHandler(id, func(s network.Stream) {
		if h.hops(s.Conn().RemotePeer()) > relayCircuits {
			_ = s.Reset() // as it would be without a relay
			return
		}
		f(&hopStream{s, h.pace})
	})
}

// hops counts what p has asked the relay for and is still open.
func (h *hopHost) hops(p peer.ID) (n int) {
	for _, c := range h.Network().ConnsToPeer(p) {
		for _, s := range c.GetStreams() {
			if s.Protocol() == proto.ProtoIDv2Hop && s.Stat().Direction == network.DirInbound {
				n++
			}
		}
	}
	return n
}

// NewStream opens the further half of a circuit.
func (h *hopHost) NewStream(ctx context.Context, p peer.ID, protocols ...protocol.ID) (network.Stream, error) {
	s, err := h.Host.NewStream(ctx, p, protocols...)
	if err != nil {
		return nil, err
	}
	return &hopStream{s, h.pace}, nil
}

// hopStream is one half of a circuit.
type hopStream struct {
	network.Stream
	pace *relayPace
}

// Read returns once its bytes may go on.
func (s *hopStream) Read(p []byte) (int, error) {
	n, err := s.Stream.Read(p[:min(len(p), s.pace.slice)])
	if n > 0 {
		if late := s.pace.wait(s.Conn().RemotePeer(), n); late != nil {
			return 0, late
		}
	}
	return n, err
}

// relayPace says when bytes that came from a peer may go on.
type relayPace struct {
	ctx   context.Context // ends with the Node
	all   *rate.Limiter
	out   Throttle // nil: none
	slice int      // bytes at a time

	mu    sync.Mutex
	peers map[peer.ID]*rate.Limiter
}

func newRelayPace(ctx context.Context, out Throttle) *relayPace {
	return &relayPace{
		ctx: ctx, all: rate.NewLimiter(relayTotal, relayBurst), out: out, slice: sliceOf(out), peers: map[peer.ID]*rate.Limiter{},
	}
}

// wait waits until n bytes of p may go on: first for p, so that what it sends
// too quickly keeps nobody else waiting.
func (r *relayPace) wait(p peer.ID, n int) error {
	for _, l := range []Throttle{r.of(p), r.all, r.out} {
		if l == nil {
			continue
		}
		if err := l.WaitN(r.ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// of is the limiter of one peer. Those that are as good as new are forgotten.
func (r *relayPace) of(p peer.ID) *rate.Limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.peers[p]
	if l == nil {
		for other, o := range r.peers {
			if o.Tokens() >= relayBurst {
				delete(r.peers, other)
			}
		}
		l = rate.NewLimiter(relayRate, relayBurst)
		r.peers[p] = l
	}
	return l
}
