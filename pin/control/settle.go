package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore/query"

	"github.com/musenai/musen/pin/member"
	"github.com/musenai/musen/pin/wire"
)

// errEnough ends a listing.
var errEnough = errors.New("enough")

// catchUp brings the numbers of a peer's orders in line with what it says that
// it has: all that it has still to answer and may not have got will be sent. It
// returns the number of the newest order.
func (s *Server) catchUp(ctx context.Context, a *account, h hello) (uint64, error) {
	a.tx.Lock()
	defer a.tx.Unlock()
	if h.Epoch != a.epoch || h.Last >= a.next {
		if err := s.renumber(ctx, a, h.Last); err != nil {
			return 0, fmt.Errorf("number the orders to peer %s anew: %w", a.id, err)
		}
	}
	if err := s.remind(ctx, a, h.Last); err != nil {
		return 0, fmt.Errorf("purge again at peer %s: %w", a.id, err)
	}
	return a.latest(), nil
}

// renumber gives all waiting orders a number above last: the server began to
// count anew since the peer had that order, perhaps from an older state.
func (s *Server) renumber(ctx context.Context, a *account, last uint64) error {
	a.next = max(a.next, last+1)
	for more := last > 0; more; {
		var orders []Order
		var err error
		if orders, more, err = s.scan(ctx, a, 0, last); err != nil {
			return err
		}
		if err := s.setAside(ctx, []*account{a}, len(orders)); err != nil {
			return err
		}
		for i := range orders {
			orders[i].Seq = a.next
			a.next++
		}
		writes, err := s.puts(orders)
		if err != nil {
			return err
		}
		if err := s.save(ctx, writes); err != nil {
			return err
		}
	}
	return nil
}

// remind gives purges again that a peer carried out after the last order that
// it knows: it was set back to an older state, and what it purged may be there.
func (s *Server) remind(ctx context.Context, a *account, last uint64) error {
	var again []Instruction
	q := query.Query{Prefix: s.receiptsKey(a.id).String(), Orders: []query.Order{query.OrderByKeyDescending{}}}
	err := s.each(ctx, q, func(name string, value []byte) error {
		seq, err := nameSeq(name)
		if err != nil {
			return err
		}
		if seq <= last {
			return errEnough
		}
		var e wire.Envelope
		if err := wire.Unmarshal(value, &e); err != nil {
			return err
		}
		r, err := readReceipt(e)
		if r.Verb == Purge {
			again = append(again, Instruction{Verb: Purge, Root: r.Root})
		}
		return err
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	if err := s.setAside(ctx, []*account{a}, len(again)); err != nil {
		return err
	}
	orders, _, err := s.plan(ctx, a, again)
	if err != nil {
		return err
	}
	writes, err := s.puts(orders)
	if err != nil {
		return err
	}
	return s.save(ctx, writes)
}

// An answer is a receipt that says something new.
type answer struct {
	Receipt
	signed wire.Envelope
	final  bool // it ends the order that waits
}

// receive deals with receipts: those that say something new are told, recorded
// and acknowledged, in this order. Others are acknowledged alone.
func (s *Server) receive(ctx context.Context, l *line, signed []wire.Envelope) error {
	news, err := s.sift(ctx, l.a, signed)
	if err != nil {
		return err
	}
	if err := l.a.tokens.WaitN(ctx, len(news)+stray*(len(signed)-len(news))); err != nil {
		return err
	}
	for _, n := range news {
		s.o.OnReceipt(l.a.id, n.Receipt)
	}
	if err := s.record(ctx, l.a, news); err != nil {
		return fmt.Errorf("record %d: %w", len(news), err)
	}
	l.a.mu.Lock()
	defer l.a.mu.Unlock()
	l.acked += uint64(len(signed))
	l.stir()
	return nil
}

// sift picks the receipts that answer a waiting order, and what a peer may tell
// unasked, and verifies them. It fails for what no honest peer sends.
func (s *Server) sift(ctx context.Context, a *account, signed []wire.Envelope) ([]answer, error) {
	a.tx.Lock()
	latest := a.latest()
	a.tx.Unlock()
	role, _ := s.o.Members.Role(a.id)
	over := map[cid.Cid]bool{}
	var news []answer
	for _, e := range signed {
		r, err := readReceipt(e)
		if err != nil {
			return nil, err
		}
		if r.Seq > latest {
			return nil, fmt.Errorf("%w: receipt for order %d of %d", ErrInvalid, r.Seq, latest)
		}
		tells, err := s.tells(ctx, a, role, r)
		if err != nil {
			return nil, err
		}
		if !tells || r.Seq > 0 && over[r.Root] {
			continue
		}
		if err := wire.Open(a.id, kind(ReceiptKind, s.o.Realm), e, &r); err != nil {
			return nil, err
		}
		r.At = r.At.UTC()
		n := answer{Receipt: r, signed: e, final: r.Seq > 0 && r.Outcome.final()}
		over[r.Root] = over[r.Root] || n.final
		news = append(news, n)
	}
	return news, nil
}

// tells reports whether a receipt of a peer in a role may say something new.
func (s *Server) tells(ctx context.Context, a *account, role member.Role, r Receipt) (bool, error) {
	if r.Seq == 0 {
		return r.Verb == Hold && (role == member.Storage || r.Outcome == Lost), nil
	}
	o, ok, err := s.waiting(ctx, a, r.Root)
	return ok && o.Seq == r.Seq && o.Verb == r.Verb, err
}

// record ends the orders that were answered, durably, and keeps the receipts
// for drops and purges. The order goes after its receipt is durable.
func (s *Server) record(ctx context.Context, a *account, news []answer) error {
	a.tx.Lock()
	defer a.tx.Unlock()
	var keep, end []write
	for _, n := range news {
		if !n.final {
			continue
		}
		o, ok, err := s.waiting(ctx, a, n.Root)
		if err != nil {
			return err
		}
		if !ok || o.Seq != n.Seq {
			continue // replaced in the meantime
		}
		end = append(end, write{key: s.orderKey(a.id, n.Root)})
		if n.Verb.urgent() {
			b, err := wire.Marshal(n.signed)
			if err != nil {
				return err
			}
			keep = append(keep, write{s.receiptKey(a.id, n.Seq), b})
		}
	}
	if err := s.save(ctx, keep); err != nil {
		return err
	}
	if err := s.trim(ctx, a, len(keep)); err != nil {
		return err
	}
	return s.save(ctx, end)
}

// trim drops the oldest receipts when there are too many. The caller holds tx.
func (s *Server) trim(ctx context.Context, a *account, added int) error {
	if added == 0 {
		return nil
	}
	if a.kept += added; a.kept >= added && a.kept <= keptMost+keptSlack {
		return nil
	}
	var all []write
	dir := s.receiptsKey(a.id)
	q := query.Query{Prefix: dir.String(), KeysOnly: true, Orders: []query.Order{query.OrderByKey{}}}
	err := s.each(ctx, q, func(name string, _ []byte) error {
		all = append(all, write{key: dir.ChildString(name)})
		return nil
	})
	if err != nil {
		return err
	}
	a.kept = min(len(all), keptMost)
	return s.commit(ctx, all[:len(all)-a.kept])
}
