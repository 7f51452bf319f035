package control

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"golang.org/x/sync/errgroup"

	"github.com/musenai/musen/pin/wire"
)

// A line is the server's end of one stream. What is not set at its beginning is
// guarded by mu of its account.
type line struct {
	a      *account
	stream network.Stream
	cancel context.CancelFunc
	hello  hello
	wake   chan struct{} // something is to be sent
	done   chan struct{} // closed when all is over
	regard Regard        // that the peer was told; talk's alone
	roster []byte        // signature of the roster that it was sent; likewise

	up     bool
	queue  []Order  // to be sent, by number
	behind bool     // the store has orders after those in queue
	cursor uint64   // the newest order that was sent
	flight []uint64 // the last order of each frame that the peer has not got
	latest uint64   // the newest order at the beginning
	caught bool     // the peer was told that it has got that far
	stale  bool     // the peer's roster may be
	last   bool     // the peer shall hear that it was removed
	acked  uint64   // receipts dealt with
	told   uint64   // of which the peer knows
}

// stir makes the line look what there is to send. The caller holds mu.
func (l *line) stir() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// end ends the line and waits until it is over.
func (l *line) end(ctx context.Context) error {
	l.cancel()
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answer is the handler of streams.
func (s *Server) answer(ctx context.Context, st network.Stream) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = st.Reset()
		return
	}
	s.wg.Add(1)
	s.mu.Unlock()
	defer s.wg.Done()
	err := s.converse(ctx, st)
	_ = st.Reset() // nothing is left to be said
	level := slog.LevelDebug
	if errors.Is(err, ErrInvalid) || errors.Is(err, wire.ErrMalformed) || errors.Is(err, wire.ErrSignature) || errors.Is(err, wire.ErrTooLong) {
		level = slog.LevelWarn
	}
	s.o.Log.Log(ctx, level, "line ended", "peer", st.Conn().RemotePeer(), "err", err)
}

// converse is the whole of a line.
func (s *Server) converse(ctx context.Context, st network.Stream) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = st.Reset() })()
	p := st.Conn().RemotePeer()
	if !s.gets(p) {
		return ErrStranger
	}
	a, err := s.account(p)
	if err != nil {
		return err
	}
	from := bufio.NewReader(st)
	l := &line{a: a, stream: st, cancel: cancel, wake: make(chan struct{}, 1), done: make(chan struct{}), behind: true}
	if err := s.shake(ctx, l, from); err != nil {
		return err
	}
	defer s.drop(l)
	s.o.Host.ConnManager().Protect(p, connTag)
	defer s.o.Host.ConnManager().Unprotect(p, connTag)
	if err := s.greet(ctx, l); err != nil {
		return err
	}
	s.o.OnLine(p, true)
	defer s.o.OnLine(p, false)
	both, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, func() { _ = st.Reset() })()
	both.Go(func() error { return s.talk(ctx, l) })
	both.Go(func() error { return s.listen(ctx, l, from) })
	return both.Wait()
}

// shake takes the hello and makes l the peer's line. A peer has few tries at a
// time.
func (s *Server) shake(ctx context.Context, l *line, from *bufio.Reader) (err error) {
	l.a.mu.Lock()
	tooMany := l.a.shaking >= shakes || !l.a.hellos.Allow()
	if !tooMany {
		l.a.shaking++
	}
	l.a.mu.Unlock()
	if tooMany {
		return fmt.Errorf("%w: too many lines at once", ErrInvalid)
	}
	defer func() {
		l.a.mu.Lock()
		l.a.shaking--
		l.a.mu.Unlock()
	}()
	if l.hello, err = s.hear(l.stream, from); err != nil {
		return err
	}
	return s.take(ctx, l)
}

// hear takes the hello.
func (s *Server) hear(st network.Stream, from *bufio.Reader) (hello, error) {
	if err := st.SetReadDeadline(time.Now().Add(greeting)); err != nil {
		return hello{}, err
	}
	var f up
	if err := wire.Read(from, maxUp, &f); err != nil {
		return hello{}, fmt.Errorf("read a hello: %w", err)
	}
	if err := f.check(true); err != nil {
		return hello{}, err
	}
	if f.Hello.Realm != s.o.Realm {
		return hello{}, fmt.Errorf("%w: a hello of realm %q", ErrInvalid, f.Hello.Realm)
	}
	return *f.Hello, nil
}

// take makes l the peer's line, after an earlier one is over.
func (s *Server) take(ctx context.Context, l *line) error {
	for {
		l.a.mu.Lock()
		old := l.a.line
		if l.a.gone {
			l.a.mu.Unlock()
			return ErrStranger
		}
		if old == nil {
			l.a.line = l
			l.a.mu.Unlock()
			return nil
		}
		l.a.mu.Unlock()
		if err := old.end(ctx); err != nil {
			return err
		}
	}
}

// drop is the end of what take began.
func (s *Server) drop(l *line) {
	l.a.mu.Lock()
	if l.up {
		l.a.since = s.now()
	}
	l.a.line = nil
	l.a.mu.Unlock()
	if err := s.remember(context.Background(), l.a); err != nil {
		s.o.Log.Warn("cannot remember when a peer was heard", "peer", l.a.id, "err", err)
	}
	close(l.done)
}

// greet finds out what the peer missed, and welcomes it.
func (s *Server) greet(ctx context.Context, l *line) error {
	roster, err := s.o.Members.RosterFor(l.a.id)
	if err != nil {
		return fmt.Errorf("roster for peer %s: %w", l.a.id, err)
	}
	if err := s.catchUp(ctx, l); err != nil {
		return err
	}
	l.a.mu.Lock()
	l.up = true
	l.a.since, l.a.heard = s.now(), s.now()
	latest := l.latest
	l.a.mu.Unlock()
	if err := s.remember(ctx, l.a); err != nil {
		return err
	}
	l.roster = roster.Signature
	return send(l.stream, down{Welcome: &welcome{l.a.epoch, latest}, Roster: &roster}, beats*s.o.Heartbeat)
}

// talk sends what there is, and a heartbeat where there is nothing.
func (s *Server) talk(ctx context.Context, l *line) error {
	beat := time.NewTicker(s.o.Heartbeat)
	defer beat.Stop()
	for {
		f, some, err := s.next(ctx, l)
		if err != nil {
			return err
		}
		if f.Removed {
			return s.part(ctx, l)
		}
		if !some {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-l.wake:
				continue
			case <-beat.C:
			}
		}
		if err := send(l.stream, f, beats*s.o.Heartbeat); err != nil {
			return fmt.Errorf("send to peer %s: %w", l.a.id, err)
		}
	}
}

// part says the last word, and waits until the peer has heard it, which ends
// the line, or is late.
func (s *Server) part(ctx context.Context, l *line) error {
	late := time.NewTimer(farewell)
	defer late.Stop()
	if err := send(l.stream, down{Removed: true}, farewell); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-late.C:
	}
	return ErrStranger
}

// next is the frame to send, if there is one.
func (s *Server) next(ctx context.Context, l *line) (f down, some bool, err error) {
	l.a.mu.Lock()
	last := l.last
	l.a.mu.Unlock()
	if last || !s.gets(l.a.id) {
		return down{Removed: true}, true, nil
	}
	orders, err := s.nextOrders(ctx, l)
	if err != nil {
		return down{}, false, err
	}
	l.a.mu.Lock()
	stale := l.stale
	l.stale = false
	if !l.caught && l.sent() {
		l.caught, f.Caught = true, true
	}
	if l.acked != l.told {
		l.told, f.Acked = l.acked, l.acked
	}
	l.a.mu.Unlock()
	if stale {
		roster, err := s.o.Members.RosterFor(l.a.id)
		if err != nil {
			return down{}, false, fmt.Errorf("roster for peer %s: %w", l.a.id, err)
		}
		if !bytes.Equal(roster.Signature, l.roster) {
			l.roster, f.Roster = roster.Signature, &roster
		}
	}
	if len(orders) > 0 {
		e, err := wire.Seal(s.o.Key, kind(OrderKind, s.o.Realm), orders)
		if err != nil {
			return down{}, false, err
		}
		f.Orders = &e
	}
	if r := s.o.Regard(l.a.id).fit(); r != l.regard {
		l.regard, f.Regard = r, &r
	}
	return f, f.Caught || f.Acked != 0 || f.Regard != nil || f.Roster != nil || len(orders) > 0, nil
}

// sent reports whether all orders up to latest were sent. The caller holds mu.
func (l *line) sent() bool {
	if len(l.queue) > 0 {
		return l.queue[0].Seq > l.latest
	}
	return !l.behind || l.cursor >= l.latest
}

// nextOrders are the orders to send now: a full frame while one is under way,
// any while there is none. So frames grow when the peer is slow to keep them.
func (s *Server) nextOrders(ctx context.Context, l *line) ([]Order, error) {
	a := l.a
	a.mu.Lock()
	refill := l.behind && len(l.queue) == 0 && len(l.flight) < 2
	a.mu.Unlock()
	if refill {
		if err := s.refill(ctx, l); err != nil {
			return nil, err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	n := min(len(l.queue), maxBatch)
	if n == 0 || len(l.flight) > 1 || len(l.flight) == 1 && n < maxBatch {
		return nil, nil
	}
	orders := l.queue[:n:n]
	l.queue = l.queue[n:]
	l.cursor = orders[n-1].Seq
	l.flight = append(l.flight, l.cursor)
	return orders, nil
}

// refill reads the next orders from the store.
func (s *Server) refill(ctx context.Context, l *line) error {
	l.a.tx.Lock()
	defer l.a.tx.Unlock()
	orders, more, err := s.scan(ctx, l.a, l.cursor, maxSeq)
	if err != nil {
		return fmt.Errorf("read the orders to peer %s: %w", l.a.id, err)
	}
	l.a.mu.Lock()
	defer l.a.mu.Unlock()
	l.queue, l.behind = orders, more
	return nil
}

// listen takes what the peer sends, no faster than its tokens allow.
func (s *Server) listen(ctx context.Context, l *line, from *bufio.Reader) error {
	for {
		if err := l.stream.SetReadDeadline(time.Now().Add(beats * s.o.Heartbeat)); err != nil {
			return err
		}
		var f up
		if err := wire.Read(from, maxUp, &f); err != nil {
			return fmt.Errorf("read from peer %s: %w", l.a.id, err)
		}
		if err := f.check(false); err != nil {
			return fmt.Errorf("frame of peer %s: %w", l.a.id, err)
		}
		if err := l.a.tokens.WaitN(ctx, stray); err != nil {
			return err
		}
		if !s.gets(l.a.id) { // talk tells it so
			l.a.mu.Lock()
			l.stir()
			l.a.mu.Unlock()
			continue
		}
		if f.Report != nil {
			if err := l.a.reports.Wait(ctx); err != nil {
				return err
			}
			f.Report.Paused = earlier(f.Report.Paused, s.now().Add(maxPause))
		}
		l.heard(s.now(), f)
		if f.Report != nil {
			s.o.OnReport(l.a.id, *f.Report)
		}
		if f.Roster != nil {
			if err := l.a.reports.Wait(ctx); err != nil {
				return err
			}
			s.o.OnRoster(l.a.id, *f.Roster)
		}
		if len(f.Receipts) > 0 {
			if err := s.receive(ctx, l, f.Receipts); err != nil {
				return fmt.Errorf("receipts of peer %s: %w", l.a.id, err)
			}
		}
	}
}

func (l *line) heard(now time.Time, f up) {
	l.a.mu.Lock()
	defer l.a.mu.Unlock()
	l.a.heard = now
	if f.Report != nil {
		l.a.report = *f.Report
	}
	for len(l.flight) > 0 && l.flight[0] <= f.Got {
		l.flight = l.flight[1:]
		l.stir()
	}
}

func (s *Server) now() time.Time { return s.o.Now().UTC().Truncate(time.Second) }
