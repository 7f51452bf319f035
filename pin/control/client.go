package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/wire"
)

// A Handler carries out orders. Never two about one segment at once, but the
// same one again after a crash, or when it failed. When ctx ends it shall
// return soon: the order was replaced, or the peer stops. The outcome is Done,
// Full, Outside or Failed; an order that Failed is tried again after a while.
type Handler interface {
	Carry(ctx context.Context, o Order) (outcome Outcome, reason string)
}

// ClientOptions are the parts of a Client.
type ClientOptions struct {
	Host    host.Host
	Origin  peer.AddrInfo
	Store   datastore.Batching // everything of a Client is under /control/c and the ID of Origin
	Key     crypto.PrivKey     // of Host; signs the receipts
	Realm   string
	Handler Handler

	// Roster takes each roster that the origin sends. One that it refuses is
	// logged, and answered with the one that Known returns. May be nil.
	Roster func(wire.Envelope) error
	// Known returns the roster that this peer follows; nil: it shows none.
	Known func() wire.Envelope
	// Ousted is asked, when the origin took the connection and no line, whether
	// it says that this peer was removed; nil: it is not asked.
	Ousted func(context.Context) bool
	// Removed tells that the origin said so, once until there is a line again.
	Removed func()
	// Regard takes what the origin thinks of this peer, when it is another than
	// before. May be nil.
	Regard func(Regard)
	// Report is asked for what to tell the origin, about once per heartbeat.
	Report func() Report

	Holds     int                             // how many are carried out at once; 0: 4
	Heartbeat time.Duration                   // of the line; 0: 15 s
	Backoff   func(attempt int) time.Duration // before the line is tried again, from attempt 1; nil: 1 s to 1 min
	Retry     func(attempt int) time.Duration // before a failed order is tried again; nil: 2 s to 10 min
	Return    time.Duration                   // before a peer that was removed looks for the origin again; 0: 1 h
	Now       func() time.Time
	Log       *slog.Logger
}

func (o *ClientOptions) fill() {
	if o.Roster == nil {
		o.Roster = func(wire.Envelope) error { return nil }
	}
	if o.Report == nil {
		o.Report = func() Report { return Report{} }
	}
	if o.Regard == nil {
		o.Regard = func(Regard) {}
	}
	if o.Ousted == nil {
		o.Ousted = func(context.Context) bool { return false }
	}
	if o.Removed == nil {
		o.Removed = func() {}
	}
	if o.Backoff == nil {
		o.Backoff = growing(time.Second, time.Minute)
	}
	if o.Retry == nil {
		o.Retry = growing(2*time.Second, 10*time.Minute)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Holds, o.Heartbeat = cmp.Or(o.Holds, 4), cmp.Or(o.Heartbeat, heartbeat)
	o.Return = cmp.Or(o.Return, time.Hour)
}

// growing doubles from least to most, less up to a half at random, so that many
// peers do not come at once.
func growing(least, most time.Duration) func(int) time.Duration {
	return func(attempt int) time.Duration {
		d := min(most, least<<min(max(attempt-1, 0), 20))
		return d/2 + rand.N(d/2+1)
	}
}

// A Client is a peer's end of the line with one origin. It does nothing until
// Run, except to take what it is told.
type Client struct {
	o    ClientOptions
	self peer.ID
	shelf

	// tx is held while something stored changes, and taken before mu.
	tx   sync.Mutex
	mark mark // guarded by tx

	mu     sync.Mutex // guards what follows; held for moments
	work   work
	outbox outbox
	tells  []*tell // wait to be stored
	line   uplink
	behind bool // of what the origin ordered before the line began
	ready  chan struct{}
	once   bool // ready is closed
}

// A mark is how far a peer is with the orders of its origin.
type mark struct {
	Epoch uint64 `cbor:"1,keyasint"`
	Last  uint64 `cbor:"2,keyasint"`
}

// Status is how a Client is.
type Status struct {
	Origin   peer.ID
	Up       bool
	Since    time.Time // when the line went up or down; zero: it was never up
	Fault    string    // why it is down, in words on one line; "": it is not, or was not tried yet
	Heard    time.Time // when the origin was last heard; zero: never
	Waiting  int       // orders that are not carried out
	Unsent   int       // receipts that the origin has not recorded
	CaughtUp bool
	Removed  time.Time // when the origin said that this peer is no member any more; zero: it did not
	Regard   Regard    // the newest that the origin told since the start
}

// NewClient reads what the store has of orders and receipts.
func NewClient(ctx context.Context, o ClientOptions) (*Client, error) {
	o.fill()
	c := &Client{
		o: o, self: o.Host.ID(), behind: true, ready: make(chan struct{}),
		shelf:  shelf{o.Store, "/control/c/" + o.Origin.ID.String()},
		work:   newWork(),
		outbox: newOutbox(),
		line:   uplink{wake: make(chan struct{}, 1)},
	}
	if err := c.load(ctx); err != nil {
		return nil, fmt.Errorf("open the line to origin %s: %w", o.Origin.ID, err)
	}
	return c, nil
}

func (c *Client) load(ctx context.Context) error {
	b, err := c.get(ctx, c.key("mark"))
	if err != nil {
		return err
	}
	if b != nil {
		if err := wire.Unmarshal(b, &c.mark); err != nil {
			return err
		}
	}
	err = c.each(ctx, query.Query{Prefix: c.key("o").String()}, func(name string, value []byte) error {
		root, err := cid.Decode(name)
		if err != nil {
			return err
		}
		seq, verb, err := keptHead(value)
		if err != nil {
			return err
		}
		c.work.add(root, seq, verb)
		return nil
	})
	if err != nil {
		return err
	}
	c.work.sort()
	for _, dir := range []string{answers, told} {
		q := query.Query{Prefix: c.key(dir).String(), KeysOnly: true}
		err := c.each(ctx, q, func(name string, _ []byte) error {
			c.outbox.add(outKey{dir, name})
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Run keeps the line and carries out orders until ctx ends, and returns after
// everything that it began has ended. It is called once.
func (c *Client) Run(ctx context.Context) error {
	var all sync.WaitGroup
	all.Go(func() { c.carryAll(ctx) })
	all.Go(func() { c.keepLine(ctx) })
	all.Wait()
	return nil
}

// A line that the origin ends so soon, so often in a row, though it can be
// reached, was probably taken by another node with the same identity.
const (
	soonTaken = time.Minute
	mostTaken = 3
)

// keepLine opens the line again and again.
func (c *Client) keepLine(ctx context.Context) {
	taken := 0
	for attempt := 1; ctx.Err() == nil; attempt++ {
		began := time.Now()
		up, err := c.session(ctx)
		if taken++; !up || !c.connected() || time.Since(began) > soonTaken {
			taken = 0
		}
		if taken == mostTaken && ctx.Err() == nil {
			c.o.Log.Warn("the origin ends the line again and again: does another node run with the identity of this one, on a copy of its home?", "origin", c.o.Origin.ID)
		}
		if !up && c.connected() && c.o.Ousted(ctx) {
			err = fmt.Errorf("%w: %w", ErrRemoved, err)
		}
		if ctx.Err() != nil {
			return
		}
		c.fault(err)
		if up {
			attempt = 1
		}
		wait := c.o.Backoff(attempt)
		if errors.Is(err, ErrRemoved) {
			wait = c.o.Return/2 + rand.N(c.o.Return/2+1)
			c.part()
		}
		c.o.Log.Info("no line to the origin", "origin", c.o.Origin.ID, "again_in", wait, "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// fault takes note why there is no line.
func (c *Client) fault(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.line.fault = "the origin ended it"; err != nil {
		c.line.fault = strings.ToValidUTF8(strings.Join(strings.Fields(err.Error()), " "), "")
	}
}

// connected reports whether the origin can be spoken with, about whatever.
func (c *Client) connected() bool {
	return c.o.Host.Network().Connectedness(c.o.Origin.ID) == network.Connected
}

// part takes note that this peer was removed: nobody will tell it what must not
// be served any more, so it serves nothing.
func (c *Client) part() {
	c.mu.Lock()
	first := c.line.removed.IsZero()
	if first {
		c.line.removed = c.o.Now()
	}
	c.behind = true
	c.mu.Unlock()
	if first {
		c.o.Log.Warn("the origin removed this peer: it serves nothing more, and seldom looks whether it was let in again", "origin", c.o.Origin.ID, "every", c.o.Return)
		c.o.Removed()
	}
}

// Ready is closed when all orders that were given before the client began have
// been received, and the drops and purges among them carried out.
func (c *Client) Ready() <-chan struct{} { return c.ready }

// CaughtUp reports whether the peer may serve: Ready is closed, and the origin
// did not say since, when the line came back, that there are older orders which
// take something away, nor that it removed this peer.
func (c *Client) CaughtUp() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.behind
}

// Status returns how things are.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Status{
		Origin: c.o.Origin.ID, Up: c.line.up, Since: c.line.since, Fault: c.line.fault, Heard: c.line.heard,
		Waiting: len(c.work.tasks), Unsent: len(c.outbox.keys), CaughtUp: !c.behind,
		Removed: c.line.removed, Regard: c.line.regard,
	}
}

// Orders returns the orders that are not carried out, at most so many.
func (c *Client) Orders(ctx context.Context, limit int) ([]Order, error) {
	var orders []Order
	err := c.each(ctx, query.Query{Prefix: c.key("o").String()}, func(name string, value []byte) error {
		if len(orders) == limit {
			return errEnough
		}
		root, err := cid.Decode(name)
		if err != nil {
			return err
		}
		o, err := unkept(root, value)
		o.Peer = c.self
		orders = append(orders, o)
		return err
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, fmt.Errorf("list the orders of origin %s: %w", c.o.Origin.ID, err)
	}
	return orders, nil
}

// Nudge sends a report now, if the line is up.
func (c *Client) Nudge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.line.nudged = true
	c.line.stir()
}

// settled sees whether the peer has caught up. The caller holds mu.
func (c *Client) settled() {
	if !c.behind || !c.line.caught || c.work.owed > 0 {
		return
	}
	c.behind = false
	if !c.once {
		c.once = true
		close(c.ready)
	}
}
