// Package swarm runs the origin's side of a swarm: it lets enrolled peers in,
// gives them their orders, challenges them, and keeps as many copies of each
// segment as the catalogue wants. The pinset of trusted peers is joined when
// the first of them enrols, so that a node alone costs nothing more.
//
// By the import rules it cannot see keys, plaintext, stations or the catalogue:
// whoever opens it says what is wanted.
package swarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen/node"
	"github.com/musenai/musen/pin"
	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/keep"
	"github.com/musenai/musen/pin/member"
	"github.com/musenai/musen/pin/remote"
	"github.com/musenai/musen/pin/wire"
)

// Catalogue is what is wanted, and what must not be.
type Catalogue interface {
	keep.Wants
	// SegmentOf finds the root of the live segment that a block belongs to.
	SegmentOf(ctx context.Context, block multihash.Multihash) (root cid.Cid, live bool)
}

// Options are what a Swarm is made with.
type Options struct {
	Realm     string
	Site      string // where this node is
	Mark      string // file that notes how far the ledger is; see member.LedgerOptions
	Catalogue Catalogue

	Pinset   pin.Timing
	Copies   keep.Timing
	Deadline time.Duration  // of one batch of challenges; 0: the default
	Services remote.Options // how services are reached, and how long things take; Start sets the rest

	Now  func() time.Time
	Rand io.Reader
	Log  *slog.Logger
}

// A Swarm is the origin's side of its swarm.
type Swarm struct {
	o    Options
	node *node.Node

	ledger    *member.Ledger
	lines     *control.Server
	auditor   *audit.Auditor
	standings *audit.Standings
	keeper    *keep.Keeper
	services  *remote.Services
	cluster   atomic.Pointer[pin.Cluster] // nil: no peer is trusted yet
	joining   sync.Mutex                  // one goroutine opens it
	limits    *limits

	stop    context.CancelFunc
	running sync.WaitGroup
	closers []func() // run last to first
	ready   atomic.Bool
}

// New makes a Swarm. Until Start it admits nobody and serves nothing.
func New() *Swarm { return &Swarm{} }

// Guard closes the node that is opened with o to all but the peers of the
// swarm, and to each of them what it is not to have.
func (s *Swarm) Guard(o *node.Options) {
	o.Gate, o.Serve, o.Sent, o.Restrict = gate{s}, s.serve, s.sent, s.restrict
}

// Start begins to run the swarm on a node that was opened with Guard. The
// catalogue must be readable until Close, which comes before that of the node.
func (s *Swarm) Start(ctx context.Context, n *node.Node, o Options) (err error) {
	s.o, s.node = o, n
	run, stop := context.WithCancel(context.Background())
	s.stop, s.limits = stop, newLimits(run, o.Now, o.Log)
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start the swarm: %w", err), s.Close())
		}
	}()
	if err := s.open(ctx); err != nil {
		return err
	}
	if err := s.ledger.Update(ctx, n.Host().ID(), contract.Contract{}, s.addresses()); err != nil {
		return err
	}
	if err := s.makeKeeper(ctx); err != nil {
		return err
	}
	s.ready.Store(true)
	if err := s.meet(ctx); err != nil {
		return err
	}
	s.closers = append(s.closers, s.ledger.ServeEnrol(n.Host()), s.ledger.Gate().Guard(n.Host()))
	s.running.Go(func() { s.follow(run) })
	s.running.Go(func() {
		if err := s.services.Run(run); err != nil && run.Err() == nil {
			s.o.Log.Error("pinning services are not looked after", "err", err)
		}
	})
	s.running.Go(func() {
		if err := s.keeper.Run(run); err != nil {
			s.o.Log.Error("copies are not looked after", "err", err)
		}
	})
	return nil
}

// open opens what lies in the node's store.
func (s *Swarm) open(ctx context.Context) (err error) {
	h, store := s.node.Host(), s.node.Store()
	key := h.Peerstore().PrivKey(h.ID())
	if s.ledger, err = member.OpenLedger(ctx, member.LedgerOptions{
		Store: store, Key: key, Realm: s.o.Realm, Mark: s.o.Mark, Now: s.o.Now, Rand: s.o.Rand, Log: s.o.Log,
	}); err != nil {
		return err
	}
	if s.standings, err = audit.OpenStandings(ctx, store, s.o.Now); err != nil {
		return err
	}
	if err = s.openServices(ctx); err != nil {
		return err
	}
	s.auditor = audit.NewAuditor(audit.AuditorOptions{
		Host: h, Source: source{s}, Store: store, Deadline: s.o.Deadline, Spares: spares,
		Rand: s.o.Rand, Now: s.o.Now, Log: s.o.Log,
	})
	return nil
}

// addresses are where peers find this node: what it announces, or listens on.
func (s *Swarm) addresses() []string {
	var addrs []string
	for _, a := range s.node.Host().Addrs() {
		if text := a.String(); len(addrs) < maxAddresses && !strings.Contains(text, "/p2p-circuit") {
			addrs = append(addrs, text)
		}
	}
	return addrs
}

// maxAddresses is how many addresses one peer may have on a roster.
const maxAddresses = 16

// spares is how many challenges of a segment are prepared while its bytes are
// at hand, so that it can be audited when they are not.
const spares = 4

// makeKeeper makes the keeper and the lines that it hears and speaks through.
func (s *Swarm) makeKeeper(ctx context.Context) (err error) {
	o := keep.Options{
		Self: s.node.Host().ID(), Site: s.o.Site, Store: s.node.Store(),
		Wants: s.o.Catalogue, Roster: s.ledger, Local: local{s.node},
		Pinset: pinset{s}, Trusted: pinset{s}, Orders: orders{s}, Auditor: auditor{s.auditor}, Standings: standings{s},
		Services: s.services, Timing: s.o.Copies, Now: s.o.Now, Rand: s.o.Rand, Log: s.o.Log,
	}
	if s.keeper, err = keep.New(o); err != nil {
		return err
	}
	h := s.node.Host()
	s.lines, err = control.NewServer(ctx, control.ServerOptions{
		Host: h, Store: s.node.Store(), Key: h.Peerstore().PrivKey(h.ID()), Realm: s.o.Realm, Members: members{s.ledger}, Regard: s.regard,
		OnLine: s.keeper.Line, OnReceipt: s.keeper.Receipt, OnReport: s.heard, OnRoster: s.outrun,
		Now: s.o.Now, Rand: s.o.Rand, Log: s.o.Log,
	})
	if err == nil {
		s.closers = append(s.closers, func() {
			if err := s.lines.Close(); err != nil {
				s.o.Log.Warn("close the lines to peers", "err", err)
			}
		})
	}
	return err
}

// heard takes what a peer says of itself.
func (s *Swarm) heard(p peer.ID, r control.Report) {
	ctx := context.Background()
	err := s.ledger.Update(ctx, p, r.Contract, r.Addrs)
	if err = errors.Join(err, s.appealed(ctx, p, r.Appeal)); err != nil {
		s.o.Log.Warn("record what a peer says of itself", "peer", p.String(), "err", err)
	}
	if now := s.o.Now(); r.Paused.After(now) || s.standings.Get(p).Excused.After(now) { // it began, or ended early
		if err := s.standings.Excuse(ctx, p, r.Paused); err != nil {
			s.o.Log.Warn("record that a peer is excused", "peer", p.String(), "err", err)
		}
	}
	s.keeper.Report(p, r)
}

// outrun hears of a roster that a peer follows in place of this origin's.
func (s *Swarm) outrun(p peer.ID, e wire.Envelope) {
	if err := s.ledger.Outrun(context.Background(), p, e); err != nil {
		s.o.Log.Warn("a peer follows another roster", "peer", p.String(), "err", err)
	}
}

// follow acts on changes of who belongs to the swarm.
func (s *Swarm) follow(ctx context.Context) {
	for {
		changed := s.ledger.Changed()
		if err := s.meet(ctx); err != nil && ctx.Err() == nil {
			s.o.Log.Error("act on a change of the peers", "err", err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// meet brings pinset, lines and keeper up to date with the ledger.
func (s *Swarm) meet(ctx context.Context) error {
	trusted := map[peer.ID]member.Peer{}
	for _, p := range s.ledger.Peers() {
		if p.Role.Trusted() && p.ID != s.node.Host().ID() {
			trusted[p.ID] = p
		}
	}
	err := s.trust(ctx, trusted)
	s.lines.PushRoster()
	s.keeper.Members()
	return err
}

// trust joins the pinset once there are peers for it, and tells it who they
// are.
func (s *Swarm) trust(ctx context.Context, peers map[peer.ID]member.Peer) (err error) {
	s.joining.Lock()
	defer s.joining.Unlock()
	c := s.cluster.Load()
	if c == nil {
		if len(peers) == 0 {
			return nil
		}
		if c, err = s.join(ctx); err != nil {
			return err
		}
		s.cluster.Store(c)
	}
	var errs []error
	for id := range peers {
		errs = append(errs, c.Trust(ctx, id))
	}
	for _, m := range c.Peers(ctx) {
		if _, ok := peers[m.ID]; !ok && m.ID != s.node.Host().ID() {
			errs = append(errs, c.Distrust(ctx, m.ID))
		}
	}
	for id, p := range peers {
		if len(p.Addrs) > 0 {
			s.node.Peer(p.AddrInfo())
		} else {
			s.node.Unpeer(id) // it dials
		}
	}
	return errors.Join(errs...)
}

func (s *Swarm) join(ctx context.Context) (*pin.Cluster, error) {
	h := s.node.Host()
	return pin.Open(ctx, pin.Options{
		Host: h, Store: s.node.Store(), Site: s.o.Site, Realm: s.o.Realm, Name: "origin",
		Trusted: []peer.ID{h.ID()}, Blocks: holder{s.node},
		Denied: s.denied,
		Timing: s.o.Pinset, Log: s.o.Log,
	})
}

// Close ends all that runs. What was begun and not finished is taken up by the
// next Start.
func (s *Swarm) Close() error {
	s.ready.Store(false)
	if s.stop == nil {
		return nil
	}
	s.stop()
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
	s.closers = nil
	s.running.Wait()
	if s.standings != nil {
		if err := s.standings.Flush(context.Background()); err != nil {
			s.o.Log.Error("write what audits showed", "err", err)
		}
	}
	if c := s.cluster.Swap(nil); c != nil {
		if err := c.Close(); err != nil {
			return fmt.Errorf("leave the pinset: %w", err)
		}
	}
	return nil
}

// Ledger is who belongs to the swarm.
func (s *Swarm) Ledger() *member.Ledger { return s.ledger }

// Keeper is how the copies are.
func (s *Swarm) Keeper() *keep.Keeper { return s.keeper }

// Lines are the lines to the peers.
func (s *Swarm) Lines() *control.Server { return s.lines }

// Services are the pinning services that keep further copies.
func (s *Swarm) Services() *remote.Services { return s.services }

// Standings are what is thought of the peers.
func (s *Swarm) Standings() *audit.Standings { return s.standings }
