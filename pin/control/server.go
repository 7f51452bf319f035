package control

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/member"
	"github.com/musenai/musen/pin/wire"
)

// Members is what a Server asks about peers. The methods are called from many
// goroutines and answer at once.
type Members interface {
	RosterFor(p peer.ID) (wire.Envelope, error)
	Role(p peer.ID) (member.Role, bool)
	Peers() []member.Peer
}

// ServerOptions are the parts of a Server. The On functions may be nil. They
// are called one after another for one peer, for several peers at once; while
// one takes its time nothing more is read from that peer. They may call the
// Server, but not Close nor Forget.
type ServerOptions struct {
	Host    host.Host
	Store   datastore.Batching // everything of a Server is under /control/s
	Key     crypto.PrivKey     // of Host; signs the orders
	Realm   string
	Members Members
	// Regard is what is thought of a peer; nil: nothing is told about that. It
	// is asked often, from many goroutines, and answers at once.
	Regard func(p peer.ID) Regard

	// OnLine tells that a line with a peer is up, or not any more.
	OnLine func(p peer.ID, up bool)
	// OnReceipt tells of each receipt that says something new, before it is
	// recorded: after a crash the same one may come again.
	OnReceipt func(p peer.ID, r Receipt)
	// OnReport tells of each report that a peer sent.
	OnReport func(p peer.ID, r Report)
	// OnRoster gives the roster that a peer follows, which has refused the one
	// that it was sent. Its signature is still to be verified.
	OnRoster func(p peer.ID, e wire.Envelope)

	Heartbeat time.Duration // of each line; 0: 15 s
	Now       func() time.Time
	Rand      io.Reader
	Log       *slog.Logger
}

func (o *ServerOptions) fill() {
	if o.Regard == nil {
		o.Regard = func(peer.ID) Regard { return Regard{} }
	}
	if o.OnLine == nil {
		o.OnLine = func(peer.ID, bool) {}
	}
	if o.OnReceipt == nil {
		o.OnReceipt = func(peer.ID, Receipt) {}
	}
	if o.OnReport == nil {
		o.OnReport = func(peer.ID, Report) {}
	}
	if o.OnRoster == nil {
		o.OnRoster = func(peer.ID, wire.Envelope) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Heartbeat = cmp.Or(o.Heartbeat, heartbeat)
}

// A Server is the origin's end of the lines with all its peers.
type Server struct {
	o ServerOptions
	shelf
	stop context.CancelFunc
	wg   sync.WaitGroup // the lines

	mu       sync.Mutex // guards what follows
	accounts map[peer.ID]*account
	closed   bool
}

// A Line is what is known of the line with one peer.
type Line struct {
	Peer      peer.ID
	Up        bool
	Since     time.Time // when it went up or down; zero: it was never up since the server began
	LastHeard time.Time // zero: never
	Report    Report    // the newest
}

// NewServer reads what its store has about peers and answers their lines from
// now on. The caller closes it before the host and the store.
func NewServer(ctx context.Context, o ServerOptions) (*Server, error) {
	o.fill()
	lines, cancel := context.WithCancel(context.Background())
	s := &Server{o: o, shelf: shelf{o.Store, "/control/s"}, stop: cancel, accounts: map[peer.ID]*account{}}
	if err := s.load(ctx); err != nil {
		cancel()
		return nil, fmt.Errorf("open the control server: %w", err)
	}
	o.Host.SetStreamHandler(Protocol, func(st network.Stream) { s.answer(lines, st) })
	return s, nil
}

func (s *Server) load(ctx context.Context) error {
	q := query.Query{Prefix: s.key("p").String()}
	return s.each(ctx, q, func(name string, value []byte) error {
		id, err := peer.Decode(name)
		if err != nil {
			return err
		}
		a, err := s.account(id)
		if err != nil {
			return err
		}
		if err := wire.Unmarshal(value, &a.rec); err != nil {
			return err
		}
		a.next = a.rec.Reserved + 1
		a.heard, a.report = a.rec.Heard.UTC(), a.rec.Report
		return nil
	})
}

// Close ends the lines and waits for them. Orders stay.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.o.Host.RemoveStreamHandler(Protocol)
	s.stop()
	s.wg.Wait()
	return nil
}

// gets reports whether p is a peer that orders are for.
func (s *Server) gets(p peer.ID) bool {
	r, ok := s.o.Members.Role(p)
	return ok && ordered(r)
}

func ordered(r member.Role) bool { return r == member.Storage || r == member.Replica }

// peers are those that orders are for.
func (s *Server) peers() []peer.ID {
	var ids []peer.ID
	for _, p := range s.o.Members.Peers() {
		if ordered(p.Role) {
			ids = append(ids, p.ID)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// account is what the server knows of a peer, from nothing if need be.
func (s *Server) account(p peer.ID) (*account, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if a := s.accounts[p]; a != nil {
		return a, nil
	}
	var epoch [8]byte
	if _, err := io.ReadFull(s.o.Rand, epoch[:]); err != nil {
		return nil, fmt.Errorf("begin to count orders: %w", err)
	}
	a := newAccount(p, binary.BigEndian.Uint64(epoch[:])|1, s.o.Heartbeat)
	s.accounts[p] = a
	return a, nil
}

// known are the accounts of the peers given, in their order.
func (s *Server) known(ids []peer.ID) ([]*account, error) {
	as := make([]*account, 0, len(ids))
	for _, id := range ids {
		a, err := s.account(id)
		if err != nil {
			return nil, err
		}
		as = append(as, a)
	}
	return as, nil
}

// Lines returns the lines with all peers that orders are for, by peer ID.
func (s *Server) Lines() []Line {
	ids := s.peers()
	lines := make([]Line, 0, len(ids))
	for _, id := range ids {
		s.mu.Lock()
		a := s.accounts[id]
		s.mu.Unlock()
		if a == nil {
			lines = append(lines, Line{Peer: id})
			continue
		}
		lines = append(lines, a.status())
	}
	return lines
}

// Silent returns the lines with peers that were not heard for longer than a
// while, those never heard among them.
func (s *Server) Silent(than time.Duration) []Line {
	before := s.o.Now().Add(-than)
	return slices.DeleteFunc(s.Lines(), func(l Line) bool { return !l.LastHeard.Before(before) })
}

// PushRoster sends each peer the roster that is for it now, and ends the lines
// with those that no longer get one. It does not wait for either.
func (s *Server) PushRoster() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.accounts {
		a.mu.Lock()
		if a.line != nil {
			a.line.stale = true
			a.line.stir()
		}
		a.mu.Unlock()
	}
}

// farewell is how long a peer may take to hear the last word.
const farewell = 2 * time.Second

// Farewell tells a peer that it is no member any more, if its line is up, and
// returns when it has heard so, or after two seconds. The line ends.
func (s *Server) Farewell(ctx context.Context, p peer.ID) {
	s.mu.Lock()
	a := s.accounts[p]
	s.mu.Unlock()
	if a == nil {
		return
	}
	a.mu.Lock()
	l := a.line
	if l == nil || !l.up {
		a.mu.Unlock()
		return
	}
	l.last = true
	l.stir()
	a.mu.Unlock()
	late := time.NewTimer(2 * farewell)
	defer late.Stop()
	select {
	case <-l.done:
	case <-late.C:
	case <-ctx.Done():
	}
}

// Forget ends the line with a peer and drops all that is kept about it: its
// orders, waiting or not, and its receipts.
func (s *Server) Forget(ctx context.Context, p peer.ID) error {
	s.mu.Lock()
	a := s.accounts[p]
	s.mu.Unlock()
	if a == nil {
		return nil
	}
	if err := s.erase(ctx, a); err != nil {
		return fmt.Errorf("forget peer %s: %w", p, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accounts[p] == a {
		delete(s.accounts, p)
	}
	return nil
}

func (s *Server) erase(ctx context.Context, a *account) error {
	a.mu.Lock()
	a.gone = true
	l := a.line
	a.mu.Unlock()
	if l != nil {
		if err := l.end(ctx); err != nil {
			return err
		}
	}
	a.tx.Lock()
	defer a.tx.Unlock()
	writes := []write{{key: s.recordKey(a.id)}}
	for _, part := range []string{"o", "k"} {
		dir := s.key(part, a.id.String())
		q := query.Query{Prefix: dir.String(), KeysOnly: true}
		err := s.each(ctx, q, func(name string, _ []byte) error {
			writes = append(writes, write{key: dir.ChildString(name)})
			return nil
		})
		if err != nil {
			return err
		}
	}
	return s.save(ctx, writes)
}

func (s *Server) recordKey(p peer.ID) datastore.Key { return s.key("p", p.String()) }
