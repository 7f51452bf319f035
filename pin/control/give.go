package control

import (
	"context"
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/wire"
)

// giveBatch is how many orders are made durable at once.
const giveBatch = 8192

// Order gives a peer orders. They are durable when it returns, and on their
// way if the line is up. Many in one call cost little more than one. An order
// replaces an earlier one about the same segment that waits for its answer; one
// that is the same as the waiting one is not given again. A purge that waits is
// not replaced but by a hold that is lifted: a drop is covered by it, another hold
// is left out and ErrPurged returned after all others were given. ErrStranger: there is no such peer to
// give orders to.
func (s *Server) Order(ctx context.Context, to peer.ID, ins ...Instruction) error {
	if !s.gets(to) {
		return fmt.Errorf("order %d things of peer %s: %w", len(ins), to, ErrStranger)
	}
	return s.give(ctx, []peer.ID{to}, ins)
}

// OrderAll is Order to all peers that orders are for.
func (s *Server) OrderAll(ctx context.Context, ins ...Instruction) error {
	return s.give(ctx, s.peers(), ins)
}

func (s *Server) give(ctx context.Context, to []peer.ID, ins []Instruction) error {
	for _, i := range ins {
		if err := i.check(); err != nil {
			return fmt.Errorf("order %s of %s: %w", i.Verb, i.Root, err)
		}
	}
	as, err := s.known(to)
	if err != nil {
		return err
	}
	var left []cid.Cid
	for some := range slices.Chunk(ins, maxBatch) {
		for few := range slices.Chunk(as, max(1, giveBatch/len(some))) {
			l, err := s.giveTo(ctx, few, some)
			if err != nil {
				return fmt.Errorf("order %s of %s and %d more of %d peers: %w", some[0].Verb, some[0].Root, len(some)-1, len(few), err)
			}
			left = append(left, l...)
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("hold %s and %d more: %w", left[0], len(left)-1, ErrPurged)
	}
	return nil
}

// giveTo gives all instructions to all peers, durably and at once. It returns
// what cannot be held because it is to be purged.
func (s *Server) giveTo(ctx context.Context, as []*account, ins []Instruction) (left []cid.Cid, err error) {
	for _, a := range as { // in the order of their IDs, as everywhere
		a.tx.Lock()
		defer a.tx.Unlock()
	}
	if err := s.setAside(ctx, as, len(ins)); err != nil {
		return nil, err
	}
	given := make([][]Order, len(as))
	var writes []write
	for i, a := range as {
		orders, l, err := s.plan(ctx, a, ins)
		if err != nil {
			return nil, err
		}
		w, err := s.puts(orders)
		if err != nil {
			return nil, err
		}
		given[i], writes, left = orders, append(writes, w...), append(left, l...)
	}
	if err := s.save(ctx, writes); err != nil {
		return nil, err
	}
	for i, a := range as {
		a.push(given[i])
	}
	return left, nil
}

// plan numbers the orders that follow from instructions. The caller holds tx
// and has set the numbers aside.
func (s *Server) plan(ctx context.Context, a *account, ins []Instruction) (orders []Order, left []cid.Cid, err error) {
	if a.forgotten() {
		return nil, nil, nil
	}
	at := map[cid.Cid]int{} // where in orders a segment is
	for _, i := range ins {
		old, ok, err := s.waiting(ctx, a, i.Root)
		if err != nil {
			return nil, nil, err
		}
		n, again := at[i.Root]
		if again {
			old, ok = orders[n], true
		}
		if ok && old.Verb == Purge && !i.Lifted {
			if i.Verb == Hold {
				left = append(left, i.Root)
			}
			continue
		}
		if ok && old.instruction() == i {
			continue
		}
		o := Order{Seq: a.next, Peer: a.id, Verb: i.Verb, Root: i.Root, Size: i.Size, Label: i.Label, Issued: s.now(), Lifted: i.Lifted}
		a.next++
		if again {
			orders[n].Seq = 0 // replaced before it was given
		}
		at[i.Root] = len(orders)
		orders = append(orders, o)
	}
	return slices.DeleteFunc(orders, func(o Order) bool { return o.Seq == 0 }), left, nil
}

func (s *Server) puts(orders []Order) ([]write, error) {
	writes := make([]write, 0, len(orders))
	for _, o := range orders {
		b, err := o.kept()
		if err != nil {
			return nil, err
		}
		writes = append(writes, write{s.orderKey(o.Peer, o.Root), b})
	}
	return writes, nil
}

// push hands new orders to the line. The caller holds tx.
func (a *account) push(orders []Order) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.line
	if l == nil || len(orders) == 0 {
		return
	}
	if l.behind || len(l.queue)+len(orders) > window {
		l.behind = true // it reads them from the store when it is that far
	} else {
		l.queue = append(l.queue, orders...)
	}
	l.stir()
}

// Waiting returns the orders that a peer has not answered, the oldest first.
// Failed is no answer: the peer tries again.
func (s *Server) Waiting(ctx context.Context, p peer.ID) ([]Order, error) {
	a, err := s.account(p)
	if err != nil {
		return nil, err
	}
	a.tx.Lock()
	defer a.tx.Unlock()
	var all []Order
	for above, more := uint64(0), true; more; {
		var some []Order
		some, more, err = s.scan(ctx, a, above, maxSeq)
		if err != nil {
			return nil, fmt.Errorf("list the orders to peer %s: %w", p, err)
		}
		if all = append(all, some...); more {
			above = some[len(some)-1].Seq
		}
	}
	return all, nil
}

// Receipts returns the newest receipts of a peer for drops and purges, the
// newest order first. A limit of 0 is none.
func (s *Server) Receipts(ctx context.Context, p peer.ID, limit int) ([]Receipt, error) {
	var all []Receipt
	q := query.Query{Prefix: s.receiptsKey(p).String(), Orders: []query.Order{query.OrderByKeyDescending{}}, Limit: limit}
	err := s.each(ctx, q, func(_ string, value []byte) error {
		var e wire.Envelope
		if err := wire.Unmarshal(value, &e); err != nil {
			return err
		}
		list, err := readReceipts(e)
		all = append(all, list...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the receipts of peer %s: %w", p, err)
	}
	return all, nil
}
