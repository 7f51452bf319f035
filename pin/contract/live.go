package contract

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Live is the contract in force. It is safe for concurrent use.
type Live struct {
	now    func() time.Time
	served atomic.Int64

	mu      sync.Mutex
	terms   Contract
	paused  time.Time
	bucket  *rate.Limiter // nil: no cap
	changed chan struct{} // closed, and replaced, by each change of the cap
}

// NewLive puts a contract in force. now is the clock by which hours and pauses
// go, its zone the one of the hours.
func NewLive(c Contract, now func() time.Time) *Live {
	l := &Live{now: now, changed: make(chan struct{})}
	l.terms, l.bucket = c, newBucket(c.Up)
	return l
}

// newBucket lets a quarter of a second's bytes go at once, so that a cap is
// one also over short times.
func newBucket(up int64) *rate.Limiter {
	if up == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(up), int(min(max(up/4, 512), 256<<10)))
}

// Contract is the one in force, its hours ahead of UTC as the clock is now.
func (l *Live) Contract() Contract {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.terms
	c.Hours = l.hours()
	return c
}

// hours are those in force. l.mu is held.
func (l *Live) hours() Hours {
	h := l.terms.Hours
	if h.From != h.To {
		_, h.Offset = l.now().Zone()
	}
	return h
}

// Set puts another contract in force: who waits to send, waits by its cap from
// now on. One that Check refuses changes nothing.
func (l *Live) Set(c Contract) error {
	if err := c.Check(); err != nil {
		return fmt.Errorf("set the contract: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.Up != l.terms.Up {
		l.bucket = newBucket(c.Up)
		close(l.changed)
		l.changed = make(chan struct{})
	}
	l.terms = c
	return nil
}

// Pause closes until then; the zero time, or one that has passed, ends a pause.
func (l *Live) Pause(until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = until
}

// Paused is until when the host has paused; zero: it has not.
func (l *Live) Paused() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.paused.After(l.now()) {
		return time.Time{}
	}
	return l.paused
}

// Open reports whether the host serves now: within its hours and not paused.
func (l *Live) Open() bool { return l.Opens().IsZero() }

// Opens is when the host will serve again; zero: it does now.
func (l *Live) Opens() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	at := now
	if l.paused.After(at) {
		at = l.paused
	}
	if at = l.hours().Next(at); at.After(now) {
		return at
	}
	return time.Time{}
}

// WaitN waits until n bytes may be sent under the cap, and counts them as
// served. When ctx ends first it returns the error of ctx, having counted only
// those that could have gone. n may be larger than any burst.
func (l *Live) WaitN(ctx context.Context, n int) error {
	if err := ctx.Err(); err != nil || n <= 0 {
		return err
	}
	for n > 0 {
		bucket, changed := l.limit()
		if bucket == nil {
			break
		}
		m := min(n, bucket.Burst())
		ok, err := reserve(ctx, bucket, m, changed)
		if err != nil {
			return err
		}
		if ok {
			n -= m
			l.served.Add(int64(m))
		}
	}
	l.served.Add(int64(n))
	return nil
}

func (l *Live) limit() (*rate.Limiter, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bucket, l.changed
}

// reserve takes n from the bucket as soon as they are there. It is not ok when
// the bucket was replaced meanwhile.
func reserve(ctx context.Context, bucket *rate.Limiter, n int, changed <-chan struct{}) (ok bool, err error) {
	r := bucket.ReserveN(time.Now(), n) // the bucket's clock is the one that timers have
	wait := r.Delay()
	if wait <= 0 {
		return true, nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true, nil
	case <-changed:
		r.Cancel()
		return false, nil
	case <-ctx.Done():
		r.Cancel()
		return false, ctx.Err()
	}
}

// Served is how many bytes WaitN has let go.
func (l *Live) Served() int64 { return l.served.Load() }
