package audit

import (
	"bufio"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/wire"
)

const (
	streamsPerPeer = 2                // at once; an auditor needs one
	streamsAtOnce  = 16               // of all peers together
	requestTime    = 30 * time.Second // until the challenges are read
	writeTime      = 30 * time.Second // until one answer is taken
)

// ProverOptions are what a prover needs. Source and Allow must be set.
type ProverOptions struct {
	Source     Source
	Allow      func(peer.ID) bool // who may challenge; others are hung up on
	Concurrent int                // answers worked out at once; 0: 2
	Log        *slog.Logger       // nil: silent
}

// A Prover answers the challenges of those who may ask.
type Prover struct {
	host   host.Host
	source Source
	allow  func(peer.ID) bool
	log    *slog.Logger
	turns  chan struct{} // has as many places as answers are worked out at once
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	closed  bool
	streams map[peer.ID]int
	open    int
	wg      sync.WaitGroup
}

// Serve answers challenges that come to h until Close.
func Serve(h host.Host, o ProverOptions) *Prover {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Concurrent <= 0 {
		o.Concurrent = 2
	}
	p := &Prover{
		host: h, source: o.Source, allow: o.Allow, log: o.Log,
		turns:   make(chan struct{}, o.Concurrent),
		streams: map[peer.ID]int{},
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	h.SetStreamHandler(Protocol, p.handle)
	return p
}

// Close stops answering, hangs up on those who wait, and returns when nothing
// of the prover runs any more. It does not close the host.
func (p *Prover) Close() error {
	p.host.RemoveStreamHandler(Protocol)
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.wg.Wait()
	return nil
}

// enter counts a stream of a peer, unless there are enough.
func (p *Prover) enter(id peer.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.streams[id] >= streamsPerPeer || p.open >= streamsAtOnce {
		return false
	}
	p.streams[id]++
	p.open++
	p.wg.Add(1)
	return true
}

func (p *Prover) leave(id peer.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
	if p.streams[id]--; p.streams[id] == 0 {
		delete(p.streams, id)
	}
	p.wg.Done()
}

func (p *Prover) handle(s network.Stream) {
	id := s.Conn().RemotePeer()
	if !p.allow(id) || !p.enter(id) {
		s.Reset()
		return
	}
	defer p.leave(id)
	stop := context.AfterFunc(p.ctx, func() { s.Reset() })
	defer stop()
	if err := p.serve(s); err != nil {
		s.Reset()
		p.log.Debug("audit not answered to its end", "peer", id, "err", err)
		return
	}
	s.Close()
}

func (p *Prover) serve(s network.Stream) error {
	if err := s.SetReadDeadline(time.Now().Add(requestTime)); err != nil {
		return err
	}
	chs, err := readRequest(bufio.NewReader(s))
	if err != nil {
		return err
	}
	for i, ch := range chs {
		r, err := p.reply(i, ch)
		if err != nil {
			return err
		}
		if err := s.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
			return err
		}
		if err := wire.Write(s, r); err != nil {
			return err
		}
	}
	return nil
}

// reply works out one answer when it is its turn. Whatever cannot be read here
// is missing.
func (p *Prover) reply(i int, ch Challenge) (reply, error) {
	select {
	case p.turns <- struct{}{}:
		defer func() { <-p.turns }()
	case <-p.ctx.Done():
		return reply{}, p.ctx.Err()
	}
	a, err := Answer(p.ctx, ch, p.source)
	if p.ctx.Err() != nil {
		return reply{}, p.ctx.Err()
	}
	if err != nil {
		p.log.Info("segment cannot be proved", "root", ch.Root, "err", err)
		return reply{Index: uint64(i), Missing: true}, nil
	}
	return reply{Index: uint64(i), Answer: a[:]}, nil
}
