package control

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"

	"github.com/musenai/musen/pin/wire"
)

const (
	window    = 2048 // orders to one peer that are in memory
	reserve   = 1024 // numbers that are put aside at once
	keptMost  = 10_000
	keptSlack = 500 // receipts above keptMost until the oldest are dropped

	// A peer has so many tokens for what it sends. A receipt that answers an
	// order costs one, a frame or any other receipt costs stray.
	tokens      = 10_000 // per second
	tokensBurst = 2 * maxBatch * stray
	stray       = 8
	shakes      = 4  // lines of a peer that are not up yet
	hellosBurst = 30 // lines that a peer may open at once; one per second after that

	// Reports cost the whole swarm something: what they say of a peer is told to
	// others. A peer may send so many at once, and then so many per heartbeat.
	reportsBurst = 20
	reportsBeat  = 4
)

// An account is what the server knows of one peer.
type account struct {
	id      peer.ID
	epoch   uint64        // of this counting of its orders
	tokens  *rate.Limiter // for what it sends
	hellos  *rate.Limiter // for the lines it opens
	reports *rate.Limiter

	// tx is held while something stored about the peer changes. It guards what
	// follows and is taken before mu.
	tx   sync.Mutex
	rec  record
	next uint64 // number of the next order
	kept int    // receipts in the store; -1: not counted yet

	mu      sync.Mutex // guards what follows, and the line; held for moments
	gone    bool       // forgotten
	line    *line      // nil: down
	shaking int        // streams without a hello so far
	since   time.Time
	heard   time.Time
	report  Report
}

// A record is what is stored about a peer besides orders and receipts.
type record struct {
	Reserved uint64    `cbor:"1,keyasint"` // no order has a higher number
	Heard    time.Time `cbor:"2,keyasint"`
	Report   Report    `cbor:"3,keyasint"`
}

func newAccount(p peer.ID, epoch uint64, beat time.Duration) *account {
	return &account{
		id: p, epoch: epoch, next: 1, kept: -1,
		tokens:  rate.NewLimiter(tokens, tokensBurst),
		hellos:  rate.NewLimiter(1, hellosBurst),
		reports: rate.NewLimiter(rate.Every(beat/reportsBeat), reportsBurst),
	}
}

func (a *account) status() Line {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Line{Peer: a.id, Up: a.line != nil && a.line.up, Since: a.since, LastHeard: a.heard, Report: a.report}
}

func (a *account) forgotten() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.gone
}

// latest is the newest number given. The caller holds tx.
func (a *account) latest() uint64 { return a.next - 1 }

// ordersKey is where orders of a peer wait, each under the CID of its segment:
// there is never more than one about the same.
func (s *Server) ordersKey(p peer.ID) datastore.Key { return s.key("o", p.String()) }

func (s *Server) orderKey(p peer.ID, root cid.Cid) datastore.Key {
	return s.key("o", p.String(), root.String())
}

func (s *Server) receiptsKey(p peer.ID) datastore.Key { return s.key("k", p.String()) }

func (s *Server) receiptKey(p peer.ID, seq uint64) datastore.Key {
	return s.key("k", p.String(), seqName(seq))
}

// waiting is the order about a segment that a peer has not answered.
func (s *Server) waiting(ctx context.Context, a *account, root cid.Cid) (Order, bool, error) {
	b, err := s.get(ctx, s.orderKey(a.id, root))
	if b == nil || err != nil {
		return Order{}, false, err
	}
	o, err := unkept(root, b)
	o.Peer = a.id
	return o, err == nil, err
}

// waitingHead is the number and verb of the order about a segment that a peer
// has not answered, 0 if there is none.
func (s *Server) waitingHead(ctx context.Context, a *account, root cid.Cid) (uint64, Verb, error) {
	b, err := s.get(ctx, s.orderKey(a.id, root))
	if b == nil || err != nil {
		return 0, "", err
	}
	return keptHead(b)
}

// scan returns the orders with the lowest numbers above one and up to another,
// at most window, and whether there are more. The caller holds tx.
func (s *Server) scan(ctx context.Context, a *account, above, upTo uint64) (orders []Order, more bool, err error) {
	type found struct {
		seq   uint64
		name  string
		value []byte
	}
	var lowest []found
	cut := func() {
		slices.SortFunc(lowest, func(x, y found) int { return cmp.Compare(x.seq, y.seq) })
		if len(lowest) > window {
			clear(lowest[window:])
			lowest, more = lowest[:window], true
		}
	}
	q := query.Query{Prefix: s.ordersKey(a.id).String()}
	err = s.each(ctx, q, func(name string, value []byte) error {
		seq, _, err := keptHead(value)
		if err != nil || seq <= above || seq > upTo {
			return err
		}
		if lowest = append(lowest, found{seq, name, value}); len(lowest) >= 2*window {
			cut()
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	cut()
	for _, f := range lowest {
		root, err := cid.Decode(f.name)
		if err != nil {
			return nil, false, err
		}
		o, err := unkept(root, f.value)
		if err != nil {
			return nil, false, err
		}
		o.Peer = a.id
		orders = append(orders, o)
	}
	return orders, more, nil
}

// setAside makes sure that the next n numbers can be given: none is ever given
// twice, whatever a crash leaves. The caller holds tx of each account.
func (s *Server) setAside(ctx context.Context, as []*account, n int) error {
	var writes []write
	for _, a := range as {
		if a.latest()+uint64(n) <= a.rec.Reserved || a.forgotten() {
			continue
		}
		rec := a.rec
		rec.Reserved = a.latest() + uint64(n) + reserve
		b, err := wire.Marshal(rec)
		if err != nil {
			return err
		}
		a.rec = rec
		writes = append(writes, write{s.recordKey(a.id), b})
	}
	if err := s.save(ctx, writes); err != nil {
		for _, a := range as {
			a.rec.Reserved = a.latest() // ask again
		}
		return err
	}
	return nil
}

// remember stores when a peer was heard and what it reported.
func (s *Server) remember(ctx context.Context, a *account) error {
	a.tx.Lock()
	defer a.tx.Unlock()
	a.mu.Lock()
	a.rec.Heard, a.rec.Report = a.heard, a.report
	a.mu.Unlock()
	if a.forgotten() {
		return nil
	}
	b, err := wire.Marshal(a.rec)
	if err != nil {
		return err
	}
	return s.commit(ctx, []write{{s.recordKey(a.id), b}})
}
