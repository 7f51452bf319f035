package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/boxo/exchange"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
)

// firstPatience is how long peers have to send a block until all are asked
// anew, answerTime how long one may take until another is asked as well, half
// of that if it was quick before. lonePatience is firstPatience for a peer who
// is the only one: a block takes that long on a line of 64 KiB a second.
const (
	answerTime    = 800 * time.Millisecond
	firstPatience = 1200 * time.Millisecond
	lonePatience  = 4 * time.Second
)

// sessions are what Fetches ask for blocks through: one Bitswap session for
// all, so that it knows who answers. It asks those who did so first, and, once
// all of them left, nobody ever again. So it serves until a peer leaves.
type sessions struct {
	ctx     context.Context // ends with the Node
	begin   func(context.Context) exchange.Fetcher
	mu      sync.Mutex
	current *session // nil: none
}

// session is one of them, under sessions.mu.
type session struct {
	exchange.Fetcher
	end   context.CancelFunc
	users int
	stale bool // it ends with its last user
}

// borrow returns the session that serves. giveBack must follow.
func (s *sessions) borrow() *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		ctx, end := context.WithCancel(s.ctx)
		s.current = &session{Fetcher: s.begin(ctx), end: end}
	}
	s.current.users++
	return s.current
}

func (s *sessions) giveBack(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x.users--
	if x.stale && x.users == 0 {
		x.end()
	}
}

// departed has the next borrow begin anew.
func (s *sessions) departed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.current; x != nil {
		s.current, x.stale = nil, true
		if x.users == 0 {
			x.end()
		}
	}
}

// newSession begins a session of its own, which ends with ctx.
func (n *Node) newSession(ctx context.Context) exchange.Fetcher {
	if s, ok := n.kubo.Exchange.(exchange.SessionExchange); ok {
		return s.NewSession(ctx)
	}
	return n.kubo.Exchange
}

// demand asks for a block until ctx ends, at first through a session that is
// given. A peer that said it has the block and does not send it can keep a
// session from asking another one, and one that refused, since it has only just
// come back, say, is never asked again by any. So the block is asked for anew
// now and then, in a session that knows nothing of that. One that is denied is
// not asked for, nor taken if it comes.
func (n *Node) demand(ctx context.Context, c cid.Cid, through exchange.Fetcher) (blocks.Block, error) {
	if n.denied(c) {
		return nil, ErrDenied
	}
	for patience := firstPatience; ; patience += patience / 4 {
		try, cancel := context.WithCancel(ctx)
		if through == nil {
			through = n.newSession(try)
		}
		go n.askAnew(try, cancel, patience)
		b, err := through.GetBlock(try, c)
		late := try.Err() != nil
		cancel()
		if err == nil && n.denied(c) {
			return nil, ErrDenied
		}
		if err == nil || !late || ctx.Err() != nil {
			return b, err
		}
		through = nil
		n.unasked(ctx, c)
	}
}

// denied reports whether a block must not be had.
func (n *Node) denied(c cid.Cid) bool { return n.opts.Denied != nil && n.opts.Denied.Denied(c.Hash()) }

// askAnew ends a try when its time is up. With nobody else to ask, that is when
// no block came for a while, so that a slow peer is not disturbed.
func (n *Node) askAnew(try context.Context, end func(), patience time.Duration) {
	tick := time.NewTicker(patience)
	defer tick.Stop()
	came, last := n.received(), time.Now()
	for {
		select {
		case <-try.Done():
			return
		case <-tick.C:
		}
		if now := n.received(); now != came {
			came, last = now, time.Now()
		}
		peers := len(n.kubo.PeerHost.Network().Peers())
		if peers > 1 || peers == 1 && time.Since(last) >= lonePatience {
			end()
		}
	}
}

// received is how many blocks peers have sent.
func (n *Node) received() uint64 {
	if n.kubo.Bitswap == nil {
		return 0
	}
	st, err := n.kubo.Bitswap.Stat()
	if err != nil {
		return 0
	}
	return st.BlocksReceived
}

// unasked waits a moment until nobody is asked for a block any more. What is
// still asked for is not asked for again, and of that Bitswap tells nobody.
func (n *Node) unasked(ctx context.Context, c cid.Cid) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 20 { // another session may want it too
		if n.kubo.Bitswap == nil || !slices.Contains(n.kubo.Bitswap.GetWantlist(), c) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
