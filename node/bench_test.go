package node

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/ipfs/boxo/files"
	"github.com/ipfs/boxo/path"
	"github.com/ipfs/kubo/core/coreapi"
)

func BenchmarkAdd160K(b *testing.B) {
	for _, callers := range []int{1, 8} {
		b.Run(map[int]string{1: "1", 8: "8"}[callers], func(b *testing.B) {
			n := start(b)
			data := sealedBytes(1, 160<<10)
			var seq, next atomic.Uint64
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			b.ResetTimer()
			done := make(chan error, callers)
			for range callers {
				go func() {
					mine := bytes.Clone(data)
					for next.Add(1) <= uint64(b.N) {
						binary.LittleEndian.PutUint64(mine, seq.Add(1))
						if _, _, _, err := n.Add(b.Context(), bytes.NewReader(mine)); err != nil {
							done <- err
							return
						}
					}
					done <- nil
				}()
			}
			for range callers {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "adds/s")
		})
	}
}

func BenchmarkInitOpenClose(b *testing.B) {
	dir := b.TempDir()
	for i := 0; b.Loop(); i++ {
		opts := Options{Dir: filepath.Join(dir, strconv.Itoa(i))}
		if _, err := Init(opts.Dir); err != nil {
			b.Fatal(err)
		}
		n, err := Open(b.Context(), opts)
		if err != nil {
			b.Fatal(err)
		}
		if err := n.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReadBlockAt reads 64 KiB at random of 32 MiB: from files, from the
// warm cache of hot blocks, and as Kubo's own file reader does it.
func BenchmarkReadBlockAt(b *testing.B) {
	const size, piece = 32 << 20, 64 << 10
	data := sealedBytes(1, size)
	p := make([]byte, piece)
	run := func(b *testing.B, read func(off int64) error) {
		r := rand.New(rand.NewPCG(1, 2))
		b.SetBytes(piece)
		b.ReportAllocs()
		for b.Loop() {
			if err := read(r.Int64N(size/piece) * piece); err != nil {
				b.Fatal(err)
			}
		}
	}
	for name, cache := range map[string]int64{"files": -1, "hot": 64 << 20} {
		b.Run(name, func(b *testing.B) {
			n := start(b, func(o *Options) { o.CacheBytes = cache })
			a := add(b, n, data)
			for range 8 {
				readBack(b, n, a, leafSize)
			}
			run(b, func(off int64) error {
				_, err := n.ReadBlockAt(b.Context(), a.leaves[off/leafSize], p, off%leafSize)
				return err
			})
		})
	}
	b.Run("kubo", func(b *testing.B) {
		n := start(b)
		a := add(b, n, data)
		api, err := coreapi.NewCoreAPI(n.kubo)
		if err != nil {
			b.Fatal(err)
		}
		run(b, func(off int64) error {
			nd, err := api.Unixfs().Get(b.Context(), path.FromCid(a.root))
			if err != nil {
				return err
			}
			defer nd.Close()
			f := nd.(files.File).(io.ReadSeeker)
			if _, err := f.Seek(off, io.SeekStart); err != nil {
				return err
			}
			_, err = io.ReadFull(f, p)
			return err
		})
	})
}
