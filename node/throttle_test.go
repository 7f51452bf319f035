package node

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"golang.org/x/time/rate"
)

var _ Throttle = (*rate.Limiter)(nil)

// meter is a Throttle that counts, and lets nothing through while it is shut.
type meter struct {
	mu      sync.Mutex
	granted int
	most    int
	shut    bool
	waits   chan struct{} // gets one for each wait while it is shut
}

func (m *meter) Burst() int { return 10_000 }

func (m *meter) WaitN(ctx context.Context, n int) error {
	m.mu.Lock()
	m.most = max(m.most, n)
	shut := m.shut
	if !shut {
		m.granted += n
	}
	m.mu.Unlock()
	if !shut {
		return nil
	}
	select {
	case m.waits <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return ctx.Err()
}

// All bytes of blocks wait for the Throttle of their node, in small pieces.
func TestUploadIsThrottled(t *testing.T) {
	m := &meter{waits: make(chan struct{}, 1)}
	a, b := start(t, func(o *Options) { o.Upload = m }), start(t, impatient)
	connect(t, b, a)
	x := add(t, a, sealedBytes(1, 5*leafSize))
	fetch(t, b, x)
	m.mu.Lock()
	if m.granted < len(x.data) || m.granted > len(x.data)*11/10 || m.most != m.Burst() {
		t.Errorf("%d bytes in pieces of %d at most, for %d of data", m.granted, m.most, len(x.data))
	}
	m.shut = true
	m.mu.Unlock()
	y := add(t, a, sealedBytes(2, leafSize))
	if err := b.Fetch(t.Context(), y.root, 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("past a Throttle that lets nothing through: %v", err)
	}
	<-m.waits
	if err := a.Close(); err != nil { // and nothing keeps it from closing
		t.Fatal(err)
	}
}

// sunk is a stream that takes everything and notes the deadline.
type sunk struct {
	network.Stream
	deadline time.Time
	got      int
}

func (s *sunk) Write(p []byte) (int, error)        { s.got += len(p); return len(p), nil }
func (s *sunk) SetWriteDeadline(t time.Time) error { s.deadline = t; return nil }
func (s *sunk) SetDeadline(t time.Time) error      { s.deadline = t; return nil }

type slow struct{ pause time.Duration }

func (s slow) WaitN(context.Context, int) error { time.Sleep(s.pause); return nil }

// A slow Throttle does not make writes late.
func TestWaitingDoesNotCountAsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var under sunk
		s := &throttledStream{Stream: &under, host: newThrottledHost(t.Context(), nil, slow{time.Minute})}
		late := time.Now().Add(10 * time.Second)
		if err := s.SetWriteDeadline(late); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Write(make([]byte, 3*uploadSlice+1)); err != nil || n != 3*uploadSlice+1 || under.got != n {
			t.Errorf("wrote %d, %v", n, err)
		}
		if want := late.Add(4 * time.Minute); !under.deadline.Equal(want) {
			t.Errorf("deadline %v, want %v", under.deadline, want)
		}
		if err := s.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(nil); err != nil || !under.deadline.IsZero() {
			t.Errorf("deadline %v after it was taken away, %v", under.deadline, err)
		}
	})
}
