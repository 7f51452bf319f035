package member

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/wire"
)

// Bounds of enrolments that go on at once.
const (
	maxEnrolling = 32 // in all
	maxPerInvite = 2  // by one invitation: the rightful one, and one who races it
	maxParting   = 16 // peers that are being told that they were removed
)

// partTime is how long a peer may take to hear that it was removed.
const partTime = 2 * time.Second

// enrolServer lets peers in over one host.
type enrolServer struct {
	ledger *Ledger

	mu      sync.Mutex
	closed  bool
	running map[peer.ID]int // enrolments by one-time identity
	total   int
	parting int
	limits  map[network.Conn]*time.Timer // of connections under one-time identities
	done    sync.WaitGroup
}

// ServeEnrol answers the enrolment protocol on h until stop, which waits for the
// answers that are being given. A connection under a one-time identity, or with
// a peer that was removed, is closed after one answer, or when the time for an
// enrolment has passed.
func (l *Ledger) ServeEnrol(h host.Host) (stop func()) {
	s := &enrolServer{ledger: l, running: map[peer.ID]int{}, limits: map[network.Conn]*time.Timer{}}
	ctx, cancel := context.WithCancel(context.Background())
	bundle := &network.NotifyBundle{
		ConnectedF:    func(_ network.Network, c network.Conn) { s.limit(c) },
		DisconnectedF: func(_ network.Network, c network.Conn) { s.unlimit(c) },
	}
	h.Network().Notify(bundle)
	for _, c := range h.Network().Conns() {
		s.limit(c)
	}
	h.SetStreamHandler(Protocol, func(stream network.Stream) { s.handle(ctx, stream) })
	return sync.OnceFunc(func() {
		h.RemoveStreamHandler(Protocol)
		h.Network().StopNotify(bundle)
		cancel()
		s.stop()
	})
}

// stop begins nothing more and waits for what goes on.
func (s *enrolServer) stop() {
	s.mu.Lock()
	s.closed = true
	for _, t := range s.limits {
		t.Stop()
	}
	s.mu.Unlock()
	s.done.Wait()
}

// limit closes a connection with somebody who is no member in time.
func (s *enrolServer) limit(c network.Conn) {
	if p := c.RemotePeer(); !s.ledger.gate.onlyInvited(p) && !s.ledger.gate.onlyRemoved(p) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.limits[c] != nil || c.IsClosed() {
		return
	}
	patience := s.ledger.opts.EnrolTimeout
	if s.ledger.gate.onlyRemoved(c.RemotePeer()) {
		patience = min(patience, 2*partTime)
	}
	s.limits[c] = time.AfterFunc(patience, func() { _ = c.Close() })
}

func (s *enrolServer) unlimit(c network.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.limits[c]; t != nil {
		t.Stop()
		delete(s.limits, c)
	}
}

// begin takes a place for an enrolment, if there is one.
func (s *enrolServer) begin(once peer.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.total >= maxEnrolling || s.running[once] >= maxPerInvite {
		return false
	}
	s.total++
	s.running[once]++
	s.done.Add(1)
	return true
}

func (s *enrolServer) end(once peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.running[once]--; s.running[once] == 0 {
		delete(s.running, once)
	}
	s.done.Done()
}

// handle serves one stream.
func (s *enrolServer) handle(ctx context.Context, stream network.Stream) {
	once := stream.Conn().RemotePeer()
	if s.ledger.gate.onlyRemoved(once) {
		s.part(stream)
		return
	}
	if !s.ledger.gate.onlyInvited(once) || !s.begin(once) {
		s.ledger.gate.Refused(once)
		_ = stream.Reset()
		return
	}
	defer s.end(once)
	defer stream.Conn().Close()
	defer context.AfterFunc(ctx, func() { _ = stream.Reset() })()
	log := s.ledger.opts.Log.With("invite", once)
	err := stream.SetDeadline(time.Now().Add(s.ledger.opts.EnrolTimeout))
	if err == nil {
		err = s.converse(ctx, stream, once)
	}
	if err != nil {
		_ = stream.Reset()
		log.Warn("enrolment refused", "error", err)
	}
}

// part tells a peer that it was removed. It takes no place from those who enrol.
func (s *enrolServer) part(stream network.Stream) {
	s.mu.Lock()
	full := s.closed || s.parting >= maxParting
	if !full {
		s.parting++
		s.done.Add(1)
	}
	s.mu.Unlock()
	if full {
		_ = stream.Reset()
		return
	}
	defer func() {
		_ = stream.Conn().Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.parting--
		s.done.Done()
	}()
	err := stream.SetDeadline(time.Now().Add(partTime))
	if err == nil {
		err = finish(stream, refuse(ErrRemoved))
	}
	if err != nil {
		s.ledger.opts.Log.Debug("a removed peer was not told", "peer", stream.Conn().RemotePeer(), "error", err)
	}
}

// converse reads a request, answers it and waits until the answer was read.
func (s *enrolServer) converse(ctx context.Context, stream network.Stream, once peer.ID) error {
	l := s.ledger
	e, err := readEnrolment(stream, l.opts.Realm, l.self, once)
	switch {
	case errors.Is(err, ErrInvalid):
		return errors.Join(err, finish(stream, refuse(err)))
	case err != nil:
		return fmt.Errorf("read the enrolment: %w", err)
	}
	p, err := l.take(ctx, once, Peer{ID: e.Own, Name: e.Name, Site: e.Site, Contract: e.Contract, Addrs: e.Addrs})
	if err != nil {
		return errors.Join(fmt.Errorf("enrol peer %s: %w", e.Own, err), finish(stream, refuse(err)))
	}
	roster, err := l.RosterFor(p.ID)
	if err != nil {
		return errors.Join(err, finish(stream, refuse(err)))
	}
	l.opts.Log.Info("peer enrolled", "peer", p.ID, "role", p.Role, "name", p.Name, "site", p.Site, "version", e.Version)
	return finish(stream, enrolAnswer{Role: p.Role, Name: p.Name, Site: p.Site, Roster: &roster})
}

// finish sends an answer and waits until the other side has closed the stream,
// as it does once it has read it: the connection is closed then.
func finish(stream network.Stream, a enrolAnswer) error {
	if err := wire.Write(stream, a); err != nil {
		return fmt.Errorf("send the answer: %w", err)
	}
	if err := stream.CloseWrite(); err != nil {
		return fmt.Errorf("send the answer: %w", err)
	}
	_, _ = io.CopyN(io.Discard, stream, 1) // how it closes does not matter
	return nil
}
