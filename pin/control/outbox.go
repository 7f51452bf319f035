package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"

	"github.com/musenai/musen/pin/wire"
)

// Where receipts are kept until the origin has recorded them.
const (
	answers = "a" // to orders, by segment
	told    = "t" // unasked, by segment
)

type outKey struct{ dir, name string }

// An entry of the outbox is one receipt.
type entry struct {
	version uint64 // grows when another receipt takes its place
	queued  bool
}

type sent struct {
	key     outKey
	version uint64
}

// An outbox knows which receipts the origin has not recorded. The receipts are
// in the store.
type outbox struct {
	keys    map[outKey]entry
	version uint64
	queue   []outKey // to be sent on this line, the oldest first
	flight  []sent   // sent on this line and not acknowledged
	acked   uint64   // acknowledged on this line
}

func newOutbox() outbox { return outbox{keys: map[outKey]entry{}} }

func (o *outbox) has(k outKey) bool { _, ok := o.keys[k]; return ok }

func (o *outbox) add(k outKey) {
	o.version++
	if !o.keys[k].queued {
		o.queue = append(o.queue, k)
	}
	o.keys[k] = entry{o.version, true}
}

func (o *outbox) remove(k outKey) { delete(o.keys, k) }

// restart queues everything for a new line: answers before what was told, which
// came later.
func (o *outbox) restart() {
	o.queue, o.flight, o.acked = o.queue[:0], nil, 0
	for k, e := range o.keys {
		e.queued = true
		o.keys[k] = e
		o.queue = append(o.queue, k)
	}
	slices.SortFunc(o.queue, func(a, b outKey) int {
		return cmp.Or(cmp.Compare(a.dir, b.dir), cmp.Compare(o.keys[a].version, o.keys[b].version))
	})
}

// waits reports whether there is a receipt as old as a version.
func (o *outbox) waits(version uint64) bool {
	for _, e := range o.keys {
		if e.version <= version {
			return true
		}
	}
	return false
}

// next takes the receipts to send now: a full frame while one is under way, any
// while there is none.
func (o *outbox) next() (some []sent) {
	if len(o.flight) > maxBatch || len(o.flight) > 0 && len(o.queue) < maxBatch {
		return nil
	}
	for len(o.queue) > 0 && len(some) < maxBatch {
		k := o.queue[0]
		o.queue = o.queue[1:]
		if e, ok := o.keys[k]; ok && e.queued {
			some = append(some, sent{k, e.version})
			o.keys[k] = entry{e.version, false}
		}
	}
	if len(o.queue) == 0 {
		o.queue = nil
	}
	return some
}

// ack takes the count of receipts that the origin dealt with on this line, and
// returns those that need not be kept.
func (o *outbox) ack(n uint64) ([]outKey, error) {
	if n < o.acked || n-o.acked > uint64(len(o.flight)) {
		return nil, fmt.Errorf("%w: %d receipts acknowledged of %d", ErrInvalid, n, o.acked+uint64(len(o.flight)))
	}
	var over []outKey
	for _, s := range o.flight[:n-o.acked] {
		if o.keys[s.key].version == s.version {
			over = append(over, s.key)
		}
	}
	o.flight = o.flight[n-o.acked:]
	o.acked = n
	return over, nil
}

// A tell is what Tell was called with.
type tell struct {
	key  outKey
	put  write
	done bool
	err  error
}

// Tell tells the origin, unasked, that a segment is held (Done), could not be
// (Failed) or is not any more (Lost); the other fields of r are filled in. It is
// durable on return, and sent until the origin has it, unless something newer is
// said about the segment. It may be called before and while Run runs, from many
// goroutines: they share the cost.
func (c *Client) Tell(ctx context.Context, r Receipt) error {
	r.Seq, r.Verb, r.At = 0, Hold, c.o.Now()
	r = r.fit()
	if r.Outcome != Done && r.Outcome != Failed && r.Outcome != Lost {
		return fmt.Errorf("tell that %s is %q: %w", r.Root, r.Outcome, ErrInvalid)
	}
	if err := checkRoot(r.Root); err != nil {
		return fmt.Errorf("tell: %w", err)
	}
	b, err := wire.Marshal(r)
	if err != nil {
		return fmt.Errorf("tell about %s: %w", r.Root, err)
	}
	k := outKey{told, r.Root.String()}
	t := &tell{key: k, put: write{c.key(k.dir, k.name), b}}
	c.mu.Lock()
	c.tells = append(c.tells, t)
	c.mu.Unlock()
	c.tx.Lock()
	defer c.tx.Unlock()
	if !t.done {
		c.storeTells(context.WithoutCancel(ctx))
	}
	return t.err
}

// Sent waits until the origin has recorded all that was answered and told
// before the call, or ctx ends: then it returns why.
func (c *Client) Sent(ctx context.Context) error {
	c.mu.Lock()
	last := c.outbox.version
	c.mu.Unlock()
	tick := time.NewTicker(sentLook)
	defer tick.Stop()
	for {
		c.mu.Lock()
		waits := c.outbox.waits(last)
		c.mu.Unlock()
		if !waits {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sentLook is how often Sent looks.
const sentLook = 50 * time.Millisecond

// storeTells makes durable what all callers of Tell wait for. The caller holds
// tx.
func (c *Client) storeTells(ctx context.Context) {
	c.mu.Lock()
	all := c.tells
	c.tells = nil
	c.mu.Unlock()
	puts := make([]write, len(all))
	for i, t := range all {
		puts[i] = t.put
	}
	err := c.save(ctx, puts)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range all {
		if t.done, t.err = true, err; err == nil {
			c.outbox.add(t.key)
		}
	}
	c.line.stir()
}

// receipts are those to send now, signed.
func (c *Client) receipts(ctx context.Context) ([]wire.Envelope, error) {
	c.mu.Lock()
	some := c.outbox.next()
	c.mu.Unlock()
	var list []Receipt
	var flight []sent
	for _, s := range some {
		b, err := c.get(ctx, c.key(s.key.dir, s.key.name))
		if err != nil {
			return nil, err
		}
		if b == nil {
			continue // taken back in the meantime
		}
		var r Receipt
		if err := wire.Unmarshal(b, &r); err != nil {
			return nil, err
		}
		list, flight = append(list, r), append(flight, s)
	}
	c.mu.Lock()
	c.outbox.flight = append(c.outbox.flight, flight...)
	if len(flight) < len(some) {
		c.line.stir() // there may be more
	}
	c.mu.Unlock()
	return c.sign(list)
}

// sign signs receipts, those for drops and purges each alone.
func (c *Client) sign(list []Receipt) ([]wire.Envelope, error) {
	var holds []Receipt
	var lists [][]Receipt
	for _, r := range list {
		if r.Verb.urgent() {
			lists = append(lists, []Receipt{r})
		} else {
			holds = append(holds, r)
		}
	}
	if len(holds) > 0 {
		lists = append(lists, holds)
	}
	var signed []wire.Envelope
	for _, l := range lists {
		e, err := sealReceipts(c.o.Key, c.o.Realm, l...)
		if err != nil {
			return nil, err
		}
		signed = append(signed, e)
	}
	return signed, nil
}

// acknowledged forgets receipts that the origin has recorded.
func (c *Client) acknowledged(ctx context.Context, n uint64) error {
	c.tx.Lock()
	defer c.tx.Unlock()
	c.mu.Lock()
	over, err := c.outbox.ack(n)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	writes := make([]write, len(over))
	for i, k := range over {
		writes[i].key = c.key(k.dir, k.name)
	}
	if err := c.commit(ctx, writes); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range over {
		c.outbox.remove(k)
	}
	c.line.stir()
	return nil
}

func (c *Client) orderKey(root cid.Cid) datastore.Key { return c.key("o", root.String()) }
