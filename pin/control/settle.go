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
// it has: all that it has still to answer and may not have got will be sent.
func (s *Server) catchUp(ctx context.Context, l *line) error {
	a, h := l.a, l.hello
	a.tx.Lock()
	defer a.tx.Unlock()
	if h.Epoch != a.epoch || h.Last >= a.next {
		if err := s.renumber(ctx, a, h.Last); err != nil {
			return fmt.Errorf("number the orders to peer %s anew: %w", a.id, err)
		}
	}
	if err := s.remind(ctx, a, h.Last); err != nil {
		return fmt.Errorf("purge again at peer %s: %w", a.id, err)
	}
	orders, more, err := s.scan(ctx, a, h.Last, maxSeq)
	if err != nil {
		return fmt.Errorf("read the orders to peer %s: %w", a.id, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	l.queue, l.behind, l.cursor, l.latest = orders, more, h.Last, h.Last
	if more {
		l.latest = a.latest()
	} else if n := len(orders); n > 0 {
		l.latest = orders[n-1].Seq
	}
	return nil
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
		list, err := readReceipts(e)
		if err != nil || list[0].Verb != Purge {
			return err
		}
		since, _, err := s.waitingHead(ctx, a, list[0].Root)
		if since == 0 {
			again = append(again, Instruction{Verb: Purge, Root: list[0].Root})
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
	signed wire.Envelope // r, alone if it is for a drop or a purge
}

// receive deals with receipts: those that say something new are told, recorded
// and acknowledged, in this order. Others are acknowledged alone.
func (s *Server) receive(ctx context.Context, l *line, signed []wire.Envelope) error {
	a := l.a
	a.tx.Lock()
	latest := a.latest()
	a.tx.Unlock()
	var news []answer
	count := 0
	over := map[cid.Cid]bool{}
	for _, e := range signed {
		list, err := readReceipts(e)
		if err != nil {
			return err
		}
		if count += len(list); count > maxBatch {
			return fmt.Errorf("%w: %d receipts in one frame", ErrInvalid, count)
		}
		some, err := s.sift(ctx, a, list, latest)
		if err != nil {
			return err
		}
		if len(some) == 0 {
			continue
		}
		if err := wire.Open(a.id, kind(ReceiptKind, s.o.Realm), e, &list); err != nil {
			return err
		}
		for _, r := range some {
			if r.Seq > 0 && over[r.Root] {
				continue
			}
			over[r.Root] = over[r.Root] || r.final()
			news = append(news, answer{r, e})
		}
	}
	if err := a.tokens.WaitN(ctx, len(news)+stray*(count-len(news))); err != nil {
		return err
	}
	for _, n := range news {
		s.o.OnReceipt(a.id, n.Receipt)
	}
	if err := s.record(ctx, a, news, latest); err != nil {
		return fmt.Errorf("record %d: %w", len(news), err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	l.acked += uint64(count)
	l.stir()
	return nil
}

// final reports whether a receipt ends its order.
func (r Receipt) final() bool { return r.Seq > 0 && r.Outcome.final() }

// sift picks the receipts that answer a waiting order, and what a peer may tell
// unasked. It fails for what no honest peer sends.
func (s *Server) sift(ctx context.Context, a *account, list []Receipt, latest uint64) ([]Receipt, error) {
	role, _ := s.o.Members.Role(a.id)
	var some []Receipt
	for _, r := range list {
		if r.Seq > latest {
			return nil, fmt.Errorf("%w: receipt for order %d of %d", ErrInvalid, r.Seq, latest)
		}
		tells, err := s.tells(ctx, a, role, r)
		if err != nil {
			return nil, err
		}
		if tells {
			some = append(some, r)
		}
	}
	return some, nil
}

// tells reports whether a receipt of a peer in a role may say something new.
func (s *Server) tells(ctx context.Context, a *account, role member.Role, r Receipt) (bool, error) {
	if r.Seq == 0 {
		return r.Verb == Hold && (role == member.Storage || r.Outcome == Lost), nil
	}
	seq, verb, err := s.waitingHead(ctx, a, r.Root)
	return seq == r.Seq && verb == r.Verb, err
}

// record ends the orders that were answered, durably, and keeps the receipts
// for drops and purges. The order goes after its receipt is durable. The newest
// order was latest when the receipts were matched.
func (s *Server) record(ctx context.Context, a *account, news []answer, latest uint64) error {
	a.tx.Lock()
	defer a.tx.Unlock()
	var keep, end []write
	for _, n := range news {
		if !n.final() {
			continue
		}
		if a.latest() != latest {
			seq, _, err := s.waitingHead(ctx, a, n.Root)
			if err != nil {
				return err
			}
			if seq != n.Seq {
				continue // replaced in the meantime
			}
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
