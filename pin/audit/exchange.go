package audit

import (
	"bufio"
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/wire"
)

// errMismatch says that an answer is well formed, and not the right one.
var errMismatch = errors.New("not the answer that the bytes give")

// connected reports whether there is any connection to p.
func connected(h host.Host, p peer.ID) bool {
	c := h.Network().Connectedness(p)
	return c == network.Connected || c == network.Limited
}

// ask sends the challenges and sets the result of each. It fails only with ctx.
func (a *Auditor) ask(ctx context.Context, s network.Stream, chs []challenge) error {
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	asked, limit := make([]Challenge, len(chs)), a.o.Deadline
	for i, ch := range chs {
		asked[i] = ch.Challenge
		limit += time.Duration(ch.want.leaves) * a.o.PerLeaf
	}
	begun := a.o.Now()
	if err := send(s, asked, limit); err != nil {
		a.unanswered(s, chs, err)
		return ctx.Err()
	}
	r := bufio.NewReader(s)
	for i := range chs {
		said, err := readReply(r, i)
		if err != nil {
			a.unanswered(s, chs[i:], err)
			return ctx.Err()
		}
		judge(&chs[i], said)
		chs[i].result.Took = a.o.Now().Sub(begun)
	}
	return nil
}

// send puts the challenges to a peer, which then has until limit to answer them.
func send(s network.Stream, chs []Challenge, limit time.Duration) error {
	if err := s.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if err := writeRequest(s, chs); err != nil {
		return err
	}
	return s.CloseWrite()
}

// judge compares what a peer said with what is so.
func judge(ch *challenge, said reply) {
	switch {
	case said.Missing:
		ch.result.Outcome, ch.result.Err = Missing, errors.New("the peer has not got it")
	case !hmac.Equal(said.Answer, ch.want.mac[:]):
		ch.result.Outcome, ch.result.Err = Wrong, errMismatch
	default:
		ch.result.Outcome = Proved
	}
}

// unanswered says what becomes of challenges when the reading of an answer to
// the first of them ended with err. What was no answer at all is wrong; the rest
// were not answered in time, or nobody was there.
func (a *Auditor) unanswered(s network.Stream, chs []challenge, err error) {
	outcome := Late
	if gone(err) || s.Conn().IsClosed() || !connected(a.o.Host, s.Conn().RemotePeer()) {
		outcome = Offline
	}
	for i := range chs {
		chs[i].result.Outcome, chs[i].result.Err = outcome, fmt.Errorf("no answer: %w", err)
	}
	if errors.Is(err, wire.ErrMalformed) || errors.Is(err, wire.ErrTooLong) {
		chs[0].result.Outcome = Wrong
	}
}

// gone reports whether err is of a connection that broke, rather than of a peer
// that hung up or let the time pass.
func gone(err error) bool {
	var conn *network.ConnError
	var stream *network.StreamError
	if errors.As(err, &conn) {
		return true
	}
	return errors.Is(err, network.ErrReset) && !errors.As(err, &stream)
}

// lines lets one at a time audit each peer.
type lines struct {
	mu    sync.Mutex
	peers map[peer.ID]*line
}

type line struct {
	turn  chan struct{}
	users int
}

func newLines() *lines { return &lines{peers: map[peer.ID]*line{}} }

// enter waits for the turn at p; leave ends it.
func (l *lines) enter(ctx context.Context, p peer.ID) (leave func(), err error) {
	l.mu.Lock()
	at := l.peers[p]
	if at == nil {
		at = &line{turn: make(chan struct{}, 1)}
		l.peers[p] = at
	}
	at.users++
	l.mu.Unlock()
	done := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if at.users--; at.users == 0 {
			delete(l.peers, p)
		}
	}
	select {
	case at.turn <- struct{}{}:
		return func() { <-at.turn; done() }, nil
	case <-ctx.Done():
		done()
		return nil, ctx.Err()
	}
}
