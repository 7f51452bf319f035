package catalog_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
)

// BenchmarkAdd measures the two durable writes that an add takes.
func BenchmarkAdd(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			f, _ := onFile(b)
			st := f.station("jazz")
			var left atomic.Int64
			left.Store(int64(b.N))
			var all sync.WaitGroup
			b.ResetTimer()
			for range callers {
				all.Go(func() {
					for left.Add(-1) >= 0 {
						s := newSegment(st.ID, 1, f.clock.Now())
						if err := f.Begin(b.Context(), s); err != nil {
							b.Error(err)
						}
						if err := f.Commit(b.Context(), s, []byte(s.ID), nil); err != nil {
							b.Error(err)
						}
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "adds/s")
		})
	}
}

// filled is a catalogue of n segments of five leaves.
func filled(b *testing.B, n int) (*fixture, []musen.Segment) {
	f, _ := onFile(b)
	st := f.station("jazz")
	all := make([]musen.Segment, n)
	for i := range all {
		all[i] = newSegment(st.ID, 5, f.clock.Now())
	}
	f.inParallel(all, func(s musen.Segment) error {
		if err := f.Begin(b.Context(), s); err != nil {
			return err
		}
		return f.Commit(b.Context(), s, nil, nil)
	})
	b.ResetTimer()
	return f, all
}

func BenchmarkSegment(b *testing.B) {
	f, all := filled(b, 2000)
	for i := 0; b.Loop(); i++ {
		if _, err := f.Segment(b.Context(), all[i%len(all)].CID.Hash()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSegmentAbsent is asked for every CID that is none of a segment.
func BenchmarkSegmentAbsent(b *testing.B) {
	f, _ := filled(b, 2000)
	absent := randomCID(cid.Raw).Hash()
	for b.Loop() {
		if _, err := f.Segment(b.Context(), absent); !errors.Is(err, musen.ErrNotFound) {
			b.Fatal(err)
		}
	}
}

// BenchmarkSegmentOfBlock is asked for every block that a peer wants.
func BenchmarkSegmentOfBlock(b *testing.B) {
	f, all := filled(b, 2000)
	for i := 0; b.Loop(); i++ {
		if _, err := f.SegmentOfBlock(b.Context(), all[i%len(all)].Leaves[i%5].Hash()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHasBlock(b *testing.B) {
	f, all := filled(b, 2000)
	for i := 0; b.Loop(); i++ {
		if ok, err := f.HasBlock(b.Context(), all[i%len(all)].Leaves[i%5].Hash()); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

// BenchmarkInMemory measures what every request asks.
func BenchmarkInMemory(b *testing.B) {
	f, _ := onFile(b)
	st := f.station("jazz")
	for i := range 1000 {
		if err := f.RevokeToken(b.Context(), fmt.Sprint("token ", i)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if f.Revoked("another token", "a listener", st.Created) {
				b.Error("revoked")
			}
			if _, err := f.Station(b.Context(), st.ID); err != nil {
				b.Error(err)
			}
			if _, ok := f.Epoch(st.ID); !ok {
				b.Error("no epoch")
			}
		}
	})
}
