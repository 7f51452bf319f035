package control

import (
	"context"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/pin/wire"
)

// urgentWorkers carry out purges and drops, and nothing else: those never wait
// for a hold.
const urgentWorkers = 2

// carryAll carries out orders until ctx ends.
func (c *Client) carryAll(ctx context.Context) {
	results := make(chan result, maxBatch)
	var workers, settling sync.WaitGroup
	for range c.o.Holds {
		workers.Go(func() { c.carry(ctx, results, Hold) })
	}
	for range urgentWorkers {
		workers.Go(func() { c.carry(ctx, results, Purge, Drop) })
	}
	workers.Go(func() { c.retry(ctx) })
	settling.Go(func() { c.settleAll(context.WithoutCancel(ctx), results) })
	workers.Wait()
	close(results)
	settling.Wait()
}

// carry carries out orders of some verbs, one at a time.
func (c *Client) carry(ctx context.Context, results chan<- result, verbs ...Verb) {
	for ctx.Err() == nil {
		r, runs, fresh := c.begin(ctx, verbs)
		if r.run == nil {
			select {
			case <-ctx.Done():
			case <-fresh:
			}
			continue
		}
		r.outcome, r.reason = c.call(runs, r)
		r.run.cancel()
		if ctx.Err() != nil && r.outcome != Done {
			return // it will be done after the next start
		}
		results <- r
	}
}

// begin takes the next order to carry out, or says what to wait for.
func (c *Client) begin(ctx context.Context, verbs []Verb) (r result, runs context.Context, fresh <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	root, t, ok := c.work.next(verbs...)
	if !ok {
		return result{}, nil, c.work.fresh
	}
	runs, cancel := context.WithCancel(ctx)
	t.run = &run{verb: t.verb, cancel: cancel}
	return result{root: root, run: t.run}, runs, nil
}

// call gives one order to the handler.
func (c *Client) call(ctx context.Context, r result) (Outcome, string) {
	b, err := c.get(ctx, c.orderKey(r.root))
	if err != nil {
		return Failed, "cannot read the order: " + err.Error()
	}
	o, err := unkept(r.root, b)
	if err != nil {
		return Failed, "cannot read the order: " + err.Error()
	}
	if o.Verb != r.run.verb {
		return Failed, "replaced"
	}
	o.Peer = c.self
	return c.o.Handler.Carry(ctx, o)
}

// retry queues failed orders again when it is time.
func (c *Client) retry(ctx context.Context) {
	for {
		c.mu.Lock()
		next, some := c.work.due(time.Now())
		c.mu.Unlock()
		var timer <-chan time.Time
		if some {
			timer = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return
		case <-c.work.alarm:
		case <-timer:
		}
	}
}

// settleAll records what came of orders, many at once when there are many.
func (c *Client) settleAll(ctx context.Context, results <-chan result) {
	for r := range results {
		batch := []result{r}
		for more := true; more && len(batch) < maxBatch; {
			select {
			case r, ok := <-results:
				if more = ok; ok {
					batch = append(batch, r)
				}
			default:
				more = false
			}
		}
		c.settle(ctx, batch)
	}
}

// settle makes receipts durable, then ends the orders that they answer.
func (c *Client) settle(ctx context.Context, batch []result) {
	c.tx.Lock()
	defer c.tx.Unlock()
	receipts := c.judge(batch)
	if err := c.post(ctx, receipts); err != nil {
		c.o.Log.Warn("cannot record what was done", "origin", c.o.Origin.ID, "err", err)
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, r := range receipts {
			if r.Outcome.final() {
				c.work.again(r.Root, c.o.Retry)
			}
			c.work.tasks[r.Root].told = untold
		}
	}
}

// judge is what to answer to the origin. The caller holds tx.
func (c *Client) judge(batch []result) []Receipt {
	c.mu.Lock()
	defer c.mu.Unlock()
	var receipts []Receipt
	for _, r := range batch {
		t := c.work.tasks[r.root]
		t.run = nil
		if r.run.void {
			c.work.enqueue(r.root, t)
			continue
		}
		if !r.outcome.final() {
			r.outcome = Failed
			c.work.again(r.root, c.o.Retry)
			if r.reason = plain(r.reason, maxReason); t.told == r.reason {
				continue
			}
			t.told = r.reason
		}
		receipts = append(receipts, Receipt{t.seq, t.verb, r.root, r.outcome, r.reason, c.o.Now()}.fit())
	}
	return receipts
}

// again tries a task again after a while.
func (w *work) again(root cid.Cid, after func(int) time.Duration) {
	t := w.tasks[root]
	if t.tries < 255 {
		t.tries++
	}
	w.delay(root, time.Now().Add(after(int(t.tries))))
}

// post puts receipts for orders in the outbox, durably, and then ends the
// orders that are over. The caller holds tx.
func (c *Client) post(ctx context.Context, receipts []Receipt) error {
	var puts, ends []write
	for _, r := range receipts {
		b, err := wire.Marshal(r)
		if err != nil {
			return err
		}
		puts = append(puts, write{c.key(answers, r.Root.String()), b})
		if r.Outcome.final() {
			ends = append(ends, write{key: c.orderKey(r.Root)})
		}
	}
	if err := c.save(ctx, puts); err != nil {
		return err
	}
	if err := c.commit(ctx, append(ends, c.outdated(receipts)...)); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range receipts {
		name := r.Root.String()
		c.outbox.add(outKey{answers, name})
		if r.Outcome.final() {
			c.outbox.remove(outKey{told, name})
			c.work.done(r.Root)
		}
	}
	c.line.stir()
	c.settled()
	return nil
}

// outdated deletes what was told about segments before an order about them was
// carried out.
func (c *Client) outdated(receipts []Receipt) (writes []write) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range receipts {
		k := outKey{told, r.Root.String()}
		if r.Outcome.final() && c.outbox.has(k) {
			writes = append(writes, write{key: c.key(k.dir, k.name)})
		}
	}
	return writes
}
