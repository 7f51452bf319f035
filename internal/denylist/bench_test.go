package denylist

import (
	"bufio"
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/mr-tron/base58"
	"github.com/multiformats/go-multihash"
)

// numbered is the n-th of many blocks.
func numbered(n int) cid.Cid {
	mh, err := multihash.Sum(binary.BigEndian.AppendUint64(nil, uint64(n)), multihash.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return cid.NewCidV1(cid.Raw, mh)
}

// bigList writes a list of n rules; of a hundred, one is a double hash if that
// is asked for.
func bigList(b *testing.B, n int, doubled bool) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "big.deny")
	f, err := os.Create(path)
	must(b, err)
	out := bufio.NewWriter(f)
	for i := range n {
		c := numbered(i)
		line := "/ipfs/" + c.String() + "\n"
		if doubled && i%100 == 0 {
			sum, err := multihash.Sum([]byte(base58.Encode(c.Hash())), multihash.SHA2_256, -1)
			must(b, err)
			line = "//" + base58.Encode(sum) + "\n"
		}
		_, err := out.WriteString(line)
		must(b, err)
	}
	must(b, out.Flush())
	must(b, f.Close())
	return path
}

func openBig(b *testing.B, path string) *List {
	b.Helper()
	l, err := Open(Options{Files: []string{path}, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	must(b, err)
	return l
}

// cpu is how long this process has computed.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLoad is H52: a list of 10 million rules, and the memory that it takes
// once it is loaded and while it is.
func BenchmarkLoad(b *testing.B) {
	const n = 10_000_000
	path := bigList(b, n, false)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for b.Loop() {
		began := cpu(b)
		l := openBig(b, path)
		b.StopTimer()
		b.ReportMetric((cpu(b) - began).Seconds(), "CPU-s/op")
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.Sys-before.Sys)/(1<<20), "MiB-peak")
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
		if s := l.State()[0]; s.Rules != n {
			b.Fatalf("%d rules", s.Rules)
		}
		b.StartTimer()
	}
}

// BenchmarkLookUp is H52: look-ups of what is denied and of what is not, in 10
// million rules.
func BenchmarkLookUp(b *testing.B) {
	for name, doubled := range map[string]bool{"plain": false, "doubled": true} {
		l := openBig(b, bigList(b, 10_000_000, doubled))
		var hashes []multihash.Multihash
		for i := range 1 << 16 {
			hashes = append(hashes, numbered(i*300).Hash()) // half of them
		}
		b.Run(name, func(b *testing.B) {
			i, denied, began := 0, 0, cpu(b)
			for b.Loop() {
				if l.Denied(hashes[i%len(hashes)]) {
					denied++
				}
				i++
			}
			b.ReportMetric(float64(cpu(b)-began)/float64(i), "CPU-ns/op")
			b.ReportMetric(float64(denied)/float64(i), "denied")
		})
	}
}
