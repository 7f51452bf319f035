package control

import (
	"bufio"
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"golang.org/x/sync/errgroup"

	"github.com/musenai/musen/pin/wire"
)

// dialing is how long an origin may take to be reached.
const dialing = 30 * time.Second

// An uplink is the client's end of a stream.
type uplink struct {
	up     bool
	since  time.Time
	fault  string // why it is down; "": it is not
	heard  time.Time
	wake   chan struct{} // something is to be sent
	nudged bool          // a report is wanted
	got    uint64        // the newest order that is durable here
	said   uint64        // of which the origin knows
	latest uint64        // the newest order when the line began
	caught bool          // the orders up to latest are here
	regard Regard        // what the origin thinks of this peer; it outlives the line
	show   bool          // a roster was refused: the origin shall see the one that is followed

	removed time.Time // when the origin said that this peer is no member; zero: it is
}

// stir makes the line look what there is to send. The caller holds mu.
func (u *uplink) stir() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// session is one line from beginning to end. It reports whether it was up.
func (c *Client) session(ctx context.Context) (up bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	st, err := c.dial(ctx)
	if err != nil {
		return false, fmt.Errorf("reach origin %s: %w", c.o.Origin.ID, err)
	}
	defer func() { _ = st.Reset() }()
	defer context.AfterFunc(ctx, func() { _ = st.Reset() })()
	from := bufio.NewReader(st)
	if err := c.begun(ctx, st, from); err != nil {
		return false, err
	}
	defer c.over()
	c.o.Host.ConnManager().Protect(c.o.Origin.ID, connTag)
	defer c.o.Host.ConnManager().Unprotect(c.o.Origin.ID, connTag)
	both, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, func() { _ = st.Reset() })()
	both.Go(func() error { return c.talk(ctx, st) })
	both.Go(func() error { return c.listen(ctx, st, from) })
	return true, both.Wait()
}

// dial opens the stream, whenever it was last tried: libp2p would wait on its
// own for up to minutes.
func (c *Client) dial(ctx context.Context) (network.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, dialing)
	defer cancel()
	direct := network.WithForceDirectDial(ctx, "the line to an origin")
	if err := c.o.Host.Connect(direct, c.o.Origin); err != nil {
		return nil, err
	}
	return c.o.Host.NewStream(direct, c.o.Origin.ID, Protocol)
}

// begun says hello and takes the welcome.
func (c *Client) begun(ctx context.Context, st network.Stream, from *bufio.Reader) error {
	c.tx.Lock()
	m := c.mark
	c.tx.Unlock()
	h := hello{Realm: c.o.Realm, Epoch: m.Epoch, Last: m.Last}
	if err := send(st, up{Hello: &h}, greeting); err != nil {
		return fmt.Errorf("greet origin %s: %w", c.o.Origin.ID, err)
	}
	f, err := c.read(st, from, true)
	if err != nil {
		return err
	}
	if err := c.newMark(ctx, mark{f.Welcome.Epoch, m.Last}); err != nil {
		return err
	}
	now := c.o.Now()
	c.mu.Lock()
	l := &c.line
	l.up, l.since, l.heard, l.fault = true, now, now, ""
	l.nudged, l.got, l.said, l.latest, l.caught = true, m.Last, m.Last, f.Welcome.Latest, false
	l.removed, l.show = time.Time{}, false
	c.outbox.restart()
	c.behind = c.behind || l.latest > m.Last
	c.mu.Unlock()
	c.roster(f)
	return nil
}

func (c *Client) newMark(ctx context.Context, m mark) error {
	c.tx.Lock()
	defer c.tx.Unlock()
	return c.setMark(ctx, m)
}

// setMark stores how far the peer is, not yet durably: an older mark makes the
// origin send again what is not answered. The caller holds tx.
func (c *Client) setMark(ctx context.Context, m mark) error {
	if m == c.mark {
		return nil
	}
	b, err := wire.Marshal(m)
	if err != nil {
		return err
	}
	if err := c.commit(ctx, []write{{c.key("mark"), b}}); err != nil {
		return err
	}
	c.mark = m
	return nil
}

func (c *Client) over() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.line.up, c.line.since, c.line.caught = false, c.o.Now(), false
}

func (c *Client) roster(f down) {
	if f.Roster == nil {
		return
	}
	if err := c.o.Roster(*f.Roster); err != nil {
		c.o.Log.Warn("roster refused", "origin", c.o.Origin.ID, "err", err)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.line.show = true
		c.line.stir()
	}
}

// read takes one frame.
func (c *Client) read(st network.Stream, from *bufio.Reader, first bool) (down, error) {
	patience := beats * c.o.Heartbeat
	if first {
		patience = max(patience, greeting)
	}
	if err := st.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return down{}, err
	}
	var f down
	if err := wire.Read(from, maxDown, &f); err != nil {
		return down{}, fmt.Errorf("read from origin %s: %w", c.o.Origin.ID, err)
	}
	if err := f.check(first); err != nil {
		return down{}, fmt.Errorf("frame of origin %s: %w", c.o.Origin.ID, err)
	}
	return f, nil
}

// listen takes what the origin sends.
func (c *Client) listen(ctx context.Context, st network.Stream, from *bufio.Reader) error {
	for {
		f, err := c.read(st, from, false)
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.line.heard = c.o.Now()
		if f.Regard != nil {
			c.line.regard = f.Regard.fit()
		}
		c.mu.Unlock()
		if f.Regard != nil {
			c.o.Regard(f.Regard.fit())
		}
		if f.Removed {
			return ErrRemoved
		}
		if f.Acked > 0 {
			if err := c.acknowledged(ctx, f.Acked); err != nil {
				return err
			}
		}
		c.roster(f)
		if f.Orders != nil {
			if err := c.receive(ctx, *f.Orders); err != nil {
				return fmt.Errorf("orders of origin %s: %w", c.o.Origin.ID, err)
			}
		}
		if f.Caught {
			c.mu.Lock()
			c.line.caught = true
			c.work.owe(c.line.latest)
			c.settled()
			c.mu.Unlock()
		}
	}
}

// receive verifies orders, makes them durable and hands them to the workers.
// None of a frame is taken if one is not what it should be.
func (c *Client) receive(ctx context.Context, signed wire.Envelope) error {
	orders, err := openOrders(signed, c.o.Origin.ID, c.self, c.o.Realm)
	if err != nil {
		return err
	}
	writes := make([]write, len(orders))
	for i, o := range orders {
		b, err := o.kept()
		if err != nil {
			return err
		}
		writes[i] = write{c.orderKey(o.Root), b}
	}
	c.tx.Lock()
	defer c.tx.Unlock()
	last := c.mark.Last
	for _, o := range orders {
		if o.Seq <= last {
			return fmt.Errorf("%w: order %d after order %d", ErrInvalid, o.Seq, last)
		}
		last = o.Seq
	}
	if err := c.save(ctx, writes); err != nil {
		return err
	}
	if err := c.setMark(ctx, mark{c.mark.Epoch, last}); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range orders {
		c.work.add(o.Root, o.Seq, o.Verb)
	}
	c.line.got = last
	c.line.stir()
	return nil
}

// talk sends what there is: a report when it changed, and at least an empty
// frame per heartbeat.
func (c *Client) talk(ctx context.Context, st network.Stream) error {
	beat := time.NewTicker(c.o.Heartbeat)
	defer beat.Stop()
	var last []byte // report, encoded
	for due := false; ; {
		f, nudged, err := c.next(ctx)
		if err != nil {
			return err
		}
		if nudged || due {
			r := c.o.Report().fit()
			b, err := wire.Marshal(r)
			if err != nil {
				return err
			}
			if string(b) != string(last) || nudged {
				f.Report, last = &r, b
			}
		}
		if due || f.Report != nil || f.Got != 0 || f.Roster != nil || len(f.Receipts) > 0 {
			due = false
			if err := send(st, f, beats*c.o.Heartbeat); err != nil {
				return fmt.Errorf("send to origin %s: %w", c.o.Origin.ID, err)
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.line.wake:
		case <-beat.C:
			due = true
		}
	}
}

// next is what there is to send.
func (c *Client) next(ctx context.Context) (f up, nudged bool, err error) {
	if f.Receipts, err = c.receipts(ctx); err != nil {
		return up{}, false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	nudged = c.line.nudged
	c.line.nudged = false
	if c.line.got != c.line.said {
		c.line.said, f.Got = c.line.got, c.line.got
	}
	if c.line.show && c.o.Known != nil {
		if known := c.o.Known(); len(known.Payload) <= maxShown && len(f.Receipts) == 0 {
			f.Roster, c.line.show = &known, false
		}
	}
	return f, nudged, nil
}
