package node

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

const (
	bitswapProtocol = "/ipfs/bitswap"
	// uploadSlice is how much is written at a time: small, so that streams
	// share what the Throttle allows.
	uploadSlice = 16 << 10
)

// throttledHost opens streams of Bitswap, the only ones that blocks go out on,
// such that writes to them wait for a Throttle.
type throttledHost struct {
	host.Host
	ctx   context.Context // ends with the Node
	limit Throttle
	slice int
}

func newThrottledHost(ctx context.Context, h host.Host, limit Throttle) *throttledHost {
	return &throttledHost{Host: h, ctx: ctx, limit: limit, slice: sliceOf(limit)}
}

// sliceOf is how many bytes may wait for a Throttle, or for none, at a time.
func sliceOf(limit Throttle) int {
	if b, ok := limit.(interface{ Burst() int }); ok {
		return max(1, min(uploadSlice, b.Burst()))
	}
	return uploadSlice
}

func (h *throttledHost) NewStream(ctx context.Context, p peer.ID, protocols ...protocol.ID) (network.Stream, error) {
	s, err := h.Host.NewStream(ctx, p, protocols...)
	if err != nil || !strings.HasPrefix(string(s.Protocol()), bitswapProtocol) {
		return s, err
	}
	return &throttledStream{Stream: s, host: h}, nil
}

// throttledStream is a stream whose writes wait for a Throttle. The time that
// they wait does not count towards the deadline.
type throttledStream struct {
	network.Stream
	host *throttledHost

	mu       sync.Mutex
	deadline time.Time // of writes; zero: none
}

func (s *throttledStream) Write(p []byte) (n int, err error) {
	for {
		k := min(len(p), s.host.slice)
		begun := time.Now()
		if err := s.host.limit.WaitN(s.host.ctx, k); err != nil {
			return n, err
		}
		if err := s.extend(time.Since(begun)); err != nil {
			return n, err
		}
		m, err := s.Stream.Write(p[:k])
		n += m
		if p = p[m:]; err != nil || len(p) == 0 {
			return n, err
		}
	}
}

func (s *throttledStream) extend(waited time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deadline.IsZero() {
		return nil
	}
	s.deadline = s.deadline.Add(waited)
	return s.Stream.SetWriteDeadline(s.deadline)
}

func (s *throttledStream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	return s.Stream.SetWriteDeadline(t)
}

func (s *throttledStream) SetDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	return s.Stream.SetDeadline(t)
}
