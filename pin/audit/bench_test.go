package audit

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
)

// folder is blocks in files, opened for each read as a node does it.
type folder struct {
	*shelf
	dir string
}

func newFolder(b *testing.B, s *shelf) folder {
	b.Helper()
	f := folder{s, b.TempDir()}
	for c, data := range s.blocks {
		if err := os.WriteFile(filepath.Join(f.dir, c.String()), data, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	return f
}

func (f folder) ReadBlockAt(_ context.Context, c cid.Cid, p []byte, off int64) (int, error) {
	file, err := os.Open(filepath.Join(f.dir, c.String()))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	return file.ReadAt(p, off)
}

// cpu is the time that this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkAudit is whole audits between two hosts over loopback, both sides
// together, in batches of 64.
func BenchmarkAudit(b *testing.B) {
	for _, size := range []int64{160 << 10, 5_000_000} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			own := newShelf()
			roots := own.several(b, MaxBatch, size)
			blocks := newFolder(b, own)
			p := newPair(b, own)
			p.o.Source = blocks
			p.serve(b, blocks)
			audits := 0
			b.ReportAllocs()
			begun := cpu(b)
			for b.Loop() {
				for _, o := range p.outcomes(b, roots...) {
					if o != Proved {
						b.Fatal(o)
					}
				}
				audits += len(roots)
			}
			each := (cpu(b) - begun) / time.Duration(audits)
			b.ReportMetric(float64(audits)/b.Elapsed().Seconds(), "audits/s")
			b.ReportMetric(float64(each.Microseconds()), "cpu-µs/audit")
			b.ReportMetric(100*10_000*each.Seconds()/3600, "%cpu-at-10000/h")
		})
	}
}

// BenchmarkAnswer is the work of one side, without the wire.
func BenchmarkAnswer(b *testing.B) {
	for _, size := range []int64{160 << 10, 5_000_000, 64 << 20} {
		own := newShelf()
		root := own.add(b, "song", size)
		blocks := newFolder(b, own)
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			ch := Challenge{Root: root}
			for b.Loop() {
				ch.Nonce[0]++
				if _, err := Answer(b.Context(), ch, blocks); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("size=%d/8-spares", size), func(b *testing.B) {
			for b.Loop() {
				a := NewAuditor(AuditorOptions{Source: blocks, Store: newStore()})
				if err := a.Precompute(b.Context(), root, 8); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRecord(b *testing.B) {
	l := newLedger(b)
	for b.Loop() {
		l.sees(Proved, MaxBatch)
	}
}
