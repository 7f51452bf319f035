package limit_test

import (
	"fmt"
	"runtime"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/musenai/musen/internal/limit"
)

// clock is a clock that a test moves.
type clock struct{ at time.Time }

func newClock() *clock { return &clock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time          { return c.at }
func (c *clock) advance(d time.Duration) { c.at = c.at.Add(d) }

// P66: a key gets its burst, then one token each time, and is told how long it
// is to the next one.
func TestTake(t *testing.T) {
	c := newClock()
	b := limit.New(limit.Options{Every: time.Second, Burst: 3, Now: c.now})
	expect := func(when string, want time.Duration) {
		t.Helper()
		if look := b.Wait("a"); look != want {
			t.Errorf("%s: Wait %v, want %v", when, look, want)
		}
		if got := b.Take("a"); got != want {
			t.Errorf("%s: Take %v, want %v", when, got, want)
		}
	}
	for range 3 {
		expect("burst", 0)
	}
	expect("empty", time.Second)
	c.advance(300 * time.Millisecond)
	expect("a moment later", 700*time.Millisecond)
	if b.Take("b") != 0 {
		t.Error("another key is refused")
	}
	c.advance(700 * time.Millisecond)
	expect("a token later", 0)
	expect("empty again", time.Second)
	c.advance(time.Hour)
	for range 3 {
		expect("full again", 0)
	}
	expect("no more than full", time.Second)
	c.advance(-time.Hour)
	if b.Wait("a") == 0 {
		t.Error("a clock that is set back gives tokens")
	}
}

// A token that is given back is there for the next, and a bucket never holds
// more than its burst.
func TestGive(t *testing.T) {
	c := newClock()
	b := limit.New(limit.Options{Every: time.Second, Burst: 2, Now: c.now})
	b.Give("a")
	for range 2 {
		if b.Take("a") != 0 {
			t.Fatal("refused within the burst")
		}
	}
	b.Give("a")
	if b.Take("a") != 0 {
		t.Error("what was given back is not there")
	}
	if b.Take("a") == 0 {
		t.Error("more than the burst")
	}
	for range 5 {
		b.Give("a")
	}
	for range 2 {
		if b.Take("a") != 0 {
			t.Error("refused after all was given back")
		}
	}
	if b.Take("a") == 0 {
		t.Error("a bucket holds more than its burst")
	}
}

func TestWithoutLimit(t *testing.T) {
	b := limit.New(limit.Options{Now: newClock().now})
	for range 1000 {
		if b.Take("a") != 0 {
			t.Fatal("refused")
		}
	}
}

func TestVeryLongBurst(t *testing.T) {
	b := limit.New(limit.Options{Every: 24 * time.Hour, Burst: 1 << 40, Now: newClock().now})
	for range 36500 {
		if b.Take("a") != 0 {
			t.Fatal("refused")
		}
	}
	if b.Take("a") == 0 {
		t.Error("more than a century's worth")
	}
}

// P66: whatever the order of requests and the pace, no key that fits in memory
// gets more than its burst and what the time gave it, or less than a bucket of
// its own would have.
func TestBucketsAgreeWithAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClock()
		every := time.Duration(rapid.IntRange(1, 1_000_000).Draw(t, "every"))
		burst := rapid.IntRange(1, 20).Draw(t, "burst")
		b := limit.New(limit.Options{Every: every, Burst: burst, Now: c.now})
		lacks := map[string]time.Duration{} // until the bucket is full
		for range rapid.IntRange(1, 300).Draw(t, "takes") {
			pass := time.Duration(rapid.IntRange(0, int(every)*3).Draw(t, "pass"))
			c.advance(pass)
			for k := range lacks {
				lacks[k] = max(0, lacks[k]-pass)
			}
			key := strconv.Itoa(rapid.IntRange(0, 4).Draw(t, "key"))
			want := max(0, lacks[key]-every*time.Duration(burst-1))
			if got := b.Take(key); got != want {
				t.Fatalf("key %s: wait %v, want %v", key, got, want)
			}
			if want == 0 {
				lacks[key] += every
			}
		}
	})
}

// H45: with far more keys than there is room for, all of them together get no
// more than what the buckets hold, and memory does not grow.
func TestFloodOfKeys(t *testing.T) {
	const slots, burst = 512, 4 // the least there is
	c := newClock()
	b := limit.New(limit.Options{Every: time.Hour, Burst: burst, Keys: 1, Now: c.now})
	taken := 0
	for i := range 200_000 {
		if b.Take(strconv.Itoa(i)) == 0 {
			taken++
		}
	}
	if taken > slots*burst || taken < slots*burst*9/10 {
		t.Errorf("a flood of keys got %d tokens of %d", taken, slots*burst)
	}
}

// H45: who is refused does not get out of it with keys that nobody has seen.
func TestFloodDoesNotFreeWhoIsRefused(t *testing.T) {
	c := newClock()
	b := limit.New(limit.Options{Every: time.Hour, Burst: 100, Keys: 1, Now: c.now})
	for b.Take("guesser") == 0 {
	}
	for i := range 512 * 20 {
		b.Take(strconv.Itoa(i))
		if b.Take("guesser") == 0 {
			t.Fatalf("a token after %d other keys", i)
		}
	}
}

// H45: a client with a full bucket is served in the midst of a flood.
func TestFloodKeepsNobodyOut(t *testing.T) {
	c := newClock()
	b := limit.New(limit.Options{Every: 20 * time.Millisecond, Burst: 50, Keys: 1000, Now: c.now})
	for i := range 100_000 {
		c.advance(10 * time.Microsecond) // 100,000 a second
		b.Take(strconv.Itoa(i))
		if i%10_000 == 0 && b.Take("listener") != 0 {
			t.Fatalf("refused after %d keys", i)
		}
	}
}

func TestConcurrentTakes(t *testing.T) {
	b := limit.New(limit.Options{Every: time.Hour, Burst: 1000, Now: newClock().now})
	got := make(chan int)
	for range 8 {
		go func() {
			n := 0
			for range 1000 {
				if b.Take("a") == 0 {
					n++
				}
			}
			got <- n
		}()
	}
	sum := 0
	for range 8 {
		sum += <-got
	}
	if sum != 1000 {
		t.Errorf("%d tokens of 1000", sum)
	}
}

// allocated is the heap that is in use.
func allocated() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// H45: a million clients cost what Options.Keys says, and not a byte more.
func TestMemoryIsBounded(t *testing.T) {
	before := allocated()
	b := limit.New(limit.Options{Every: time.Second, Burst: 10, Keys: 1 << 14, Now: newClock().now})
	for i := range 1_000_000 {
		b.Take(strconv.Itoa(i))
	}
	if grown := int64(allocated()) - int64(before); grown > 64<<14+64<<10 {
		t.Errorf("%d bytes for %d keys", grown, 1<<14)
	}
	runtime.KeepAlive(b)
}

func BenchmarkTake(b *testing.B) {
	for _, clients := range []int{1, 1_000_000} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			keys := make([]string, clients)
			for i := range keys {
				keys[i] = fmt.Sprintf("%016x", i)
			}
			before := allocated()
			l := limit.New(limit.Options{Every: 20 * time.Millisecond, Burst: 100, Now: time.Now})
			for _, k := range keys {
				l.Take(k)
			}
			grown := allocated() - before
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				l.Take(keys[i%clients])
			}
			b.ReportMetric(float64(grown), "bytes")
		})
	}
}
