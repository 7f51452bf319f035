package contract

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// send passes total bytes through l in pieces and says how long that took.
func send(t *testing.T, l *Live, total, piece int) time.Duration {
	t.Helper()
	start := time.Now()
	for sent := 0; sent < total; sent += piece {
		if err := l.WaitN(t.Context(), piece); err != nil {
			t.Fatal(err)
		}
	}
	return time.Since(start)
}

func TestCapHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLive(Contract{Up: 100_000}, time.Now)
		got := send(t, l, 1_000_000, 262_144/4)
		if got < 9500*time.Millisecond || got > 11*time.Second {
			t.Errorf("1 MB at 100 kB/s took %s", got)
		}
		if l.Served() < 1_000_000 {
			t.Errorf("served %d bytes", l.Served())
		}
		free := NewLive(Contract{}, time.Now)
		if took := send(t, free, 1<<30, 1<<20); took != 0 || free.Served() != 1<<30 {
			t.Errorf("without a cap: %s, %d bytes", took, free.Served())
		}
	})
}

// All who send share one cap.
func TestCapIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLive(Contract{Up: 100_000}, time.Now)
		start := time.Now()
		var senders sync.WaitGroup
		for range 10 {
			senders.Go(func() { send(t, l, 100_000, 50_000) })
		}
		senders.Wait()
		if took := time.Since(start); took < 9500*time.Millisecond {
			t.Errorf("10 senders sent 1 MB at 100 kB/s in %s", took)
		}
	})
}

// Who waits under a low cap goes on at once under a higher one.
func TestCapChangesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLive(Contract{Up: 1000}, time.Now)
		start := time.Now()
		done := make(chan error, 1)
		go func() { done <- l.WaitN(t.Context(), 1_000_000) }()
		time.Sleep(10 * time.Second)
		if l.Served() > 12_000 {
			t.Errorf("%d bytes in 10 s at 1 kB/s", l.Served())
		}
		if err := l.Set(Contract{}); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil || time.Since(start) != 10*time.Second {
			t.Errorf("took %s, %v", time.Since(start), err)
		}
		if err := l.Set(Contract{Up: 1000}); err != nil {
			t.Fatal(err)
		}
		if took := send(t, l, 10_000, 1000); took < 9*time.Second {
			t.Errorf("10 kB at the new cap took %s", took)
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLive(Contract{Up: 1000}, time.Now)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := l.WaitN(ctx, 1_000_000); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if l.Served() > 3000 {
			t.Errorf("%d bytes were counted of which nothing could go", l.Served())
		}
		if err := l.WaitN(ctx, 1); err == nil {
			t.Error("sent after the end")
		}
	})
}

func TestSetRefuses(t *testing.T) {
	l := NewLive(Contract{Disk: MinDisk}, time.Now)
	if err := l.Set(Contract{Disk: 1}); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v", err)
	}
	if l.Contract().Disk != MinDisk {
		t.Error("the contract changed")
	}
}

// Hours are by the clock of the machine, whatever its zone becomes.
func TestHoursAndPauses(t *testing.T) {
	now := time.Date(2026, 3, 28, 21, 0, 0, 0, time.FixedZone("", 3600))
	l := NewLive(Contract{Hours: Hours{From: 22 * 60, To: 7 * 60}}, func() time.Time { return now })
	if l.Open() || !l.Opens().Equal(now.Add(time.Hour)) {
		t.Errorf("at 21:00: open %v, opens %s", l.Open(), l.Opens())
	}
	if off := l.Contract().Hours.Offset; off != 3600 {
		t.Errorf("hours are %d s ahead of UTC", off)
	}
	now = now.In(time.FixedZone("", 7200)) // the same moment in summer time
	if !l.Open() || l.Contract().Hours.Offset != 7200 {
		t.Error("closed at 22:00 of summer time")
	}
	l.Pause(now.Add(2 * time.Hour))
	if l.Open() || !l.Opens().Equal(now.Add(2*time.Hour)) || !l.Paused().Equal(now.Add(2*time.Hour)) {
		t.Errorf("paused: open %v, opens %s", l.Open(), l.Opens())
	}
	l.Pause(now.Add(10 * time.Hour)) // until 08:00, when the hours are over
	if want := now.Add(24 * time.Hour); !l.Opens().Equal(want) {
		t.Errorf("opens %s, not %s", l.Opens(), want)
	}
	if err := l.Set(Contract{}); err != nil || !l.Opens().Equal(now.Add(10*time.Hour)) {
		t.Errorf("without hours: opens %s, %v", l.Opens(), err)
	}
	now = now.Add(10 * time.Hour)
	if !l.Open() || !l.Paused().IsZero() {
		t.Error("the pause did not end")
	}
	l.Pause(now.Add(time.Hour))
	if l.Pause(time.Time{}); !l.Open() {
		t.Error("the pause was not ended")
	}
}
