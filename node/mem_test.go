package node

import (
	"context"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// footprint notes the most memory that the process has while r is read.
type footprint struct {
	r    io.Reader
	most *atomic.Uint64
}

func (f footprint) Read(p []byte) (int, error) {
	now := memory()
	for old := f.most.Load(); now > old && !f.most.CompareAndSwap(old, now); old = f.most.Load() {
	}
	return f.r.Read(p)
}

func memory() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Sys - m.HeapReleased
}

// Fifty uploads at once need little memory, and no more for being long.
func TestManyLongAddsInLittleMemory(t *testing.T) {
	const uploads, size, limit = 50, 6_000_000, 150 << 20
	n := start(t)
	base := memory()
	var most atomic.Uint64
	var wg sync.WaitGroup
	for i := range uploads {
		wg.Go(func() {
			data := io.LimitReader(rand.NewChaCha8([32]byte{byte(i)}), size)
			if _, _, _, err := n.Add(context.Background(), footprint{data, &most}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if grown := int64(most.Load()) - int64(base); grown > limit {
		t.Errorf("%d MiB more for %d uploads, want at most %d", grown>>20, uploads, limit>>20)
	}
}
