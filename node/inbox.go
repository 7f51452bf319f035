package node

import (
	"context"
	"strings"
	"sync"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"golang.org/x/sync/semaphore"
)

// inboxBytes bounds the messages of Bitswap that are in memory for one peer, as
// they came: a list of wants takes some ten times as much once it is read, and
// as long as Options.Serve makes it wait. It is as much as one message may have,
// or sixteen blocks: a peer sends eight at once.
const inboxBytes = 4 << 20

// inboxHost takes no more from a peer by Bitswap than it can deal with. What a
// peer sends beyond inboxBytes, on however many streams, waits with the peer.
type inboxHost struct {
	host.Host
	ctx context.Context // ends with the Node

	mu    sync.Mutex
	peers map[peer.ID]*inbox
}

func newInboxHost(ctx context.Context, h host.Host) *inboxHost {
	return &inboxHost{Host: h, ctx: ctx, peers: map[peer.ID]*inbox{}}
}

// inbox is what is shared by the streams of one peer.
type inbox struct {
	room    *semaphore.Weighted
	streams int // under inboxHost.mu
}

// SetStreamHandler has f read no more than there is room for.
func (h *inboxHost) SetStreamHandler(id protocol.ID, f network.StreamHandler) {
	if !strings.HasPrefix(string(id), bitswapProtocol) {
		h.Host.SetStreamHandler(id, f)
		return
	}
	h.Host.SetStreamHandler(id, func(s network.Stream) {
		p := s.Conn().RemotePeer()
		in := &inboxStream{Stream: s, ctx: h.ctx, room: h.enter(p)}
		defer h.leave(p)
		defer in.free()
		f(in)
	})
}

func (h *inboxHost) enter(p peer.ID) *semaphore.Weighted {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.peers[p]
	if b == nil {
		b = &inbox{room: semaphore.NewWeighted(inboxBytes)}
		h.peers[p] = b
	}
	b.streams++
	return b.room
}

func (h *inboxHost) leave(p peer.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if b := h.peers[p]; b.streams > 1 {
		b.streams--
	} else {
		delete(h.peers, p)
	}
}

// inboxStream is a stream of messages, each with its length before it. A
// message is let in when there is room, and is over when the next is asked for.
type inboxStream struct {
	network.Stream
	ctx  context.Context
	room *semaphore.Weighted

	head uint64 // of the length that is being read, with bits of it so far
	bits uint
	left uint64 // bytes of the message that are still to come
	held int64  // of room
}

// Read implements io.Reader. It is called by one goroutine at a time.
func (s *inboxStream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if s.left > 0 {
		n, err := s.Stream.Read(p[:min(uint64(len(p)), s.left)])
		s.left -= uint64(n)
		return n, err
	}
	s.free()
	n, err := s.Stream.Read(p[:1])
	if n == 0 {
		return 0, err
	}
	s.head |= uint64(p[0]&0x7f) << s.bits
	if s.bits += 7; p[0]&0x80 != 0 && s.bits < 63 {
		return n, err
	}
	s.left, s.head, s.bits = s.head, 0, 0
	s.held = int64(min(s.left, inboxBytes)) // a longer one is refused by the reader
	if full := s.room.Acquire(s.ctx, s.held); full != nil {
		s.held = 0
		return 0, full
	}
	return n, err
}

// free makes room for another message.
func (s *inboxStream) free() {
	s.room.Release(s.held)
	s.held = 0
}
