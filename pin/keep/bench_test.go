package keep

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
)

// settled is a keeper that does not run, with n segments of three proved copies
// each, of which one is on a replica.
func settled(tb testing.TB, n int) (*world, *Keeper) {
	tb.Helper()
	w := newWorld(tb)
	for i := range 4 {
		w.join(i+1, member.Storage, "")
		w.join(i+10, member.Replica, "")
	}
	k, err := New(Options{
		Self: w.self, Store: w.store, Wants: w, Roster: w, Local: w, Pinset: w, Trusted: metrics{w}, Orders: w, Auditor: w,
	})
	if err != nil {
		tb.Fatal(err)
	}
	w.k = k
	k.pause = 0
	k.observe(context.Background(), true)
	for _, m := range w.machines() {
		m.up, m.mute = true, true
		k.Line(m.ID, true)
		k.Report(m.ID, control.Report{Contract: m.Contract, Free: m.free})
	}
	k.observe(context.Background(), true)
	for i := range n {
		w.add(i, func(x *Want) { x.Min, x.Max, x.Community = 2, 2, 1 })
	}
	w.workOff(k)
	k.mu.Lock()
	now := k.nowNS()
	for _, s := range k.segments {
		for i := range s.slots {
			if x := &s.slots[i]; x.stage == ordered {
				s.move(x, held, now)
				k.prove(s, x, now)
			}
		}
		k.dirty(s)
	}
	k.mu.Unlock()
	w.workOff(k)
	if s := k.Summary(""); s.Durable != n || s.Unhealthy != 0 || s.Proved != 3*n {
		tb.Fatalf("not settled: %+v", s)
	}
	return w, k
}

// workOff does what Run does with all that is to be done.
func (w *world) workOff(k *Keeper) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { k.save(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	for more := true; more; {
		var jobs []*job
		jobs, more, _ = k.round(ctx)
		for _, j := range jobs {
			k.carry(ctx, j)
		}
		more = more || len(jobs) > 0
	}
}

// BenchmarkSurvey is one comparison of everything that is wanted, pinned and
// known, when nothing is amiss.
func BenchmarkSurvey(b *testing.B) {
	const n = 10_000
	_, k := settled(b, n)
	b.ReportAllocs()
	for b.Loop() {
		if err := k.surveyAll(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/segment")
	if jobs, _, _ := k.round(context.Background()); len(jobs) != 0 {
		b.Errorf("%d things to do", len(jobs))
	}
}

// BenchmarkPlan is a look at every segment, when nothing is amiss.
func BenchmarkPlan(b *testing.B) {
	const n = 10_000
	_, k := settled(b, n)
	all := make([]*segment, 0, n)
	for _, s := range k.segments {
		all = append(all, s)
	}
	b.ReportAllocs()
	for b.Loop() {
		now := k.nowNS()
		for _, s := range all {
			if !k.plan(s, now).empty() {
				b.Fatal("something to do")
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/segment")
}

// BenchmarkRank is a look at every segment after a replica came, which may be a
// better place for each.
func BenchmarkRank(b *testing.B) {
	const n = 10_000
	_, k := settled(b, n)
	all := make([]*segment, 0, n)
	for _, s := range k.segments {
		all = append(all, s)
	}
	b.ReportAllocs()
	for b.Loop() {
		k.epoch++
		now := k.nowNS()
		for _, s := range all {
			k.plan(s, now)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/segment")
}

// BenchmarkRankMany is BenchmarkRank by how many replicas there are to choose
// from, every tenth of which is full.
func BenchmarkRankMany(b *testing.B) {
	const n = 200
	for _, replicas := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprintf("replicas=%d", replicas), func(b *testing.B) {
			w := newWorld(b)
			for i := range replicas {
				m := w.join(i+1, member.Replica, fmt.Sprintf("site%d", i%50))
				if i%10 == 0 {
					m.free = 0
				}
			}
			k, err := New(Options{Self: w.self, Store: w.store, Wants: w, Roster: w, Local: w, Orders: w, Auditor: w})
			if err != nil {
				b.Fatal(err)
			}
			w.k = k
			for _, m := range w.machines() {
				m.mute = true
				k.Line(m.ID, true)
				k.Report(m.ID, w.reportOf(m))
			}
			for i := range n {
				w.add(i, func(x *Want) { x.Min, x.Max, x.Community, x.Spread = 1, 1, 3, i%2 == 0 })
			}
			w.workOff(k)
			b.ReportAllocs()
			for b.Loop() {
				k.epoch++
				now := k.nowNS()
				for _, s := range k.segments {
					k.plan(s, now)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/segment")
		})
	}
}

// BenchmarkMemory is what a keeper needs for each segment and its copies.
func BenchmarkMemory(b *testing.B) {
	const n = 10_000
	w, _ := settled(b, n)
	w.k = nil
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		k, err := New(Options{Self: w.self, Store: w.store, Wants: w, Roster: w, Orders: w, Pinset: w, Trusted: metrics{w}})
		if err != nil {
			b.Fatal(err)
		}
		k.queue, k.scratch = nil, nil
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/segment")
		runtime.KeepAlive(k)
	}
}

// BenchmarkCatchUp brings segments that the keeper has never heard of from the
// catalogue to proved copies, with peers that answer at once.
func BenchmarkCatchUp(b *testing.B) {
	const n = 10_000
	for b.Loop() {
		b.StopTimer()
		w := newWorld(b)
		for i := range 4 {
			w.join(i+1, member.Storage, "").delay = time.Millisecond
		}
		for i := range n {
			w.add(i, func(x *Want) { x.Min, x.Max = 3, 3 })
		}
		b.StartTimer()
		w.start()
		for i := range n {
			last := seg(i)
			h, err := w.k.Wait(context.Background(), last, Stored)
			for err != nil {
				time.Sleep(time.Millisecond)
				h, err = w.k.Wait(context.Background(), last, Stored)
			}
			if h.Level < Durable {
				if _, err := w.k.Wait(context.Background(), last, Durable); err != nil {
					b.Fatal(err)
				}
			}
		}
		w.stop()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/segment")
}
