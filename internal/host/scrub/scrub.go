// Package scrub reads the blocks of a host's disk in the background, a few at a
// time, and has those that are rotten or gone replaced. What cannot be replaced
// makes a copy of a segment no copy any more, and is told.
//
// It does not know where a good block comes from, nor what a segment is worth.
package scrub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/ipfs/go-cid"
	"golang.org/x/time/rate"
)

var (
	// ErrRotten says that the bytes on the disk are not those that a CID names.
	ErrRotten = errors.New("rotten")
	// ErrMissing says that a block is not on the disk.
	ErrMissing = errors.New("missing")
	// ErrOrdered says that a good block comes with an order alone, after Lost.
	ErrOrdered = errors.New("it comes with an order")
)

const (
	// maxBad bounds how many blocks that could not be replaced a pass remembers.
	maxBad = 100_000
	// again is how long after a pass that failed the next one begins.
	again = time.Hour
)

// A Disk holds blocks.
type Disk interface {
	// Blocks lists all that are there, in no order.
	Blocks(ctx context.Context) iter.Seq2[cid.Cid, error]
	// Size is the length of a block, or ErrMissing.
	Size(ctx context.Context, c cid.Cid) (int64, error)
	// Verify reads a block and returns ErrRotten or ErrMissing if it is not
	// good.
	Verify(ctx context.Context, c cid.Cid) error
}

// Segments are what the blocks belong to.
type Segments interface {
	// Roots lists the segments that are held.
	Roots(ctx context.Context) iter.Seq2[cid.Cid, error]
	// Leaves lists the blocks that the audio of a segment is in, from this disk
	// alone; ErrRotten or ErrMissing if one above them is not good.
	Leaves(ctx context.Context, root cid.Cid) ([]cid.Cid, error)
}

// A Mender does something about what is found.
type Mender interface {
	// Heal replaces a block by a good one. ErrOrdered says that nobody gives it
	// before the segment is told to be lost.
	Heal(ctx context.Context, c cid.Cid) error
	// Lost is told that a segment is not whole, and will not be soon.
	Lost(ctx context.Context, root cid.Cid, reason string)
}

// Options are the parts of a Scrubber.
type Options struct {
	Disk     Disk
	Segments Segments
	Mender   Mender
	Rate     int64         // bytes per second that it may read
	Every    time.Duration // from the beginning of one pass to that of the next
	Last     time.Time     // when the last pass began; zero: none did
	Done     func(Result)  // called after each pass that came to its end
	Now      func() time.Time
	Log      *slog.Logger
}

// A Result is what one pass found.
type Result struct {
	Began  time.Time `json:"began"`
	Ended  time.Time `json:"ended"`
	Blocks int64     `json:"blocks"` // read
	Bytes  int64     `json:"bytes"`
	Healed int64     `json:"healed"` // blocks that were replaced
	Lost   int64     `json:"lost"`   // segments that are not whole
}

// A Scrubber checks a disk.
type Scrubber struct {
	o      Options
	bucket *rate.Limiter
}

// New makes a Scrubber; nothing runs yet.
func New(o Options) *Scrubber {
	burst := int(min(max(o.Rate, 1<<10), 1<<20))
	return &Scrubber{o: o, bucket: rate.NewLimiter(rate.Limit(o.Rate), burst)}
}

// Run makes passes until ctx ends. The first begins when it is due, which may
// be at once.
func (s *Scrubber) Run(ctx context.Context) {
	last := s.o.Last
	for {
		wait := max(0, last.Add(s.o.Every).Sub(s.o.Now()))
		timer := time.NewTimer(min(wait, s.o.Every))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		last = s.o.Now()
		r, err := s.Pass(ctx)
		switch {
		case err == nil && s.o.Done != nil:
			s.o.Done(r)
		case err != nil && ctx.Err() == nil:
			s.o.Log.Error("check the blocks of this disk", "err", err)
			last = last.Add(min(0, again-s.o.Every))
		}
	}
}

// Pass reads every block once and then looks whether the segments are whole.
func (s *Scrubber) Pass(ctx context.Context) (Result, error) {
	p := pass{s: s, result: Result{Began: s.o.Now()}, bad: map[string]string{}}
	err := p.blocks(ctx)
	if err == nil {
		err = p.segments(ctx)
	}
	if err != nil {
		return p.result, fmt.Errorf("scrub: %w", err)
	}
	p.result.Ended = s.o.Now()
	return p.result, nil
}

// pass is one pass.
type pass struct {
	s      *Scrubber
	result Result
	bad    map[string]string // what is wrong with blocks that could not be replaced, by multihash
}

// blocks reads all blocks.
func (p *pass) blocks(ctx context.Context) error {
	for c, err := range p.s.o.Disk.Blocks(ctx) {
		if err != nil {
			return err
		}
		size, err := p.s.o.Disk.Size(ctx, c)
		if err != nil {
			continue // it went meanwhile
		}
		if err := p.wait(ctx, size); err != nil {
			return err
		}
		if err := p.block(ctx, c); err != nil {
			return err
		}
		p.result.Blocks++
		p.result.Bytes += size
	}
	return ctx.Err()
}

// wait is until size bytes may be read.
func (p *pass) wait(ctx context.Context, size int64) error {
	for size > 0 {
		n := min(size, int64(p.s.bucket.Burst()))
		if err := p.s.bucket.WaitN(ctx, int(n)); err != nil {
			return err
		}
		size -= n
	}
	return ctx.Err()
}

// block checks one block, and notes it if it is rotten and stays so. Any other
// error than that of ctx is one of this block.
func (p *pass) block(ctx context.Context, c cid.Cid) error {
	err := p.s.o.Disk.Verify(ctx, c)
	if err == nil || errors.Is(err, ErrMissing) || ctx.Err() != nil {
		return ctx.Err() // what is missing is found segment by segment
	}
	if !errors.Is(err, ErrRotten) {
		p.s.o.Log.Error("read a block", "cid", c.String(), "err", err)
		return nil
	}
	return p.heal(ctx, c, err)
}

// heal replaces a block.
func (p *pass) heal(ctx context.Context, c cid.Cid, why error) error {
	err := p.s.o.Mender.Heal(ctx, c)
	switch {
	case err == nil:
		p.result.Healed++
		p.s.o.Log.Warn("replaced a block that was not good", "cid", c.String(), "was", why)
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ErrOrdered):
		p.s.o.Log.Warn("a block is not good, and is asked for anew", "cid", c.String(), "is", why)
		p.note(c, "a block is "+word(why))
	default:
		p.s.o.Log.Error("a block is not good and nobody gives another", "cid", c.String(), "is", why, "err", err)
		p.note(c, "a block is "+word(why)+", and no peer gave another")
	}
	return nil
}

// note remembers what is wrong with a block.
func (p *pass) note(c cid.Cid, what string) {
	if len(p.bad) < maxBad {
		p.bad[string(c.Hash())] = what
	}
}

// word is what is wrong with a block, in one.
func word(err error) string {
	if errors.Is(err, ErrMissing) {
		return ErrMissing.Error()
	}
	return ErrRotten.Error()
}

// segments looks whether each segment has all its blocks.
func (p *pass) segments(ctx context.Context) error {
	for root, err := range p.s.o.Segments.Roots(ctx) {
		if err != nil {
			return err
		}
		reason, err := p.segment(ctx, root)
		if err != nil {
			return err
		}
		if reason != "" {
			p.result.Lost++
			p.s.o.Mender.Lost(ctx, root, reason)
		}
	}
	return ctx.Err()
}

// segment returns why a segment is not whole; "" if it is.
func (p *pass) segment(ctx context.Context, root cid.Cid) (reason string, err error) {
	leaves, err := p.s.o.Segments.Leaves(ctx, root)
	if errors.Is(err, ErrMissing) || errors.Is(err, ErrRotten) {
		if err := p.heal(ctx, root, err); err != nil {
			return "", err
		}
		leaves, err = p.s.o.Segments.Leaves(ctx, root)
	}
	if err != nil {
		return cmp.Or(p.bad[string(root.Hash())], "a block above its leaves is not good"), ctx.Err()
	}
	for _, leaf := range leaves {
		if _, err := p.s.o.Disk.Size(ctx, leaf); errors.Is(err, ErrMissing) {
			if err := p.heal(ctx, leaf, err); err != nil {
				return "", err
			}
		}
		if what, bad := p.bad[string(leaf.Hash())]; bad {
			return what, ctx.Err()
		}
	}
	return "", ctx.Err()
}
