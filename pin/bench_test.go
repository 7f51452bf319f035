package pin

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	leveldb "github.com/ipfs/go-ds-leveldb"
)

// cpu is how much processor time the process has used.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// heap is what is in use after a collection.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkPin brings segments to three peers of one process, each with a
// LevelDB, and measures the pinset alone: the segments take no bytes.
func BenchmarkPin(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				benchmarkPin(b, n)
			}
		})
	}
}

func benchmarkPin(b *testing.B, n int) {
	d := newDepot()
	ps := []*peerUnder{newPeer(b, d, "north"), newPeer(b, d, "south"), newPeer(b, d, "west")}
	connect(b, ps...)
	for _, p := range ps {
		ds, err := leveldb.NewDatastore(b.TempDir(), nil)
		if err != nil {
			b.Fatal(err)
		}
		defer ds.Close()
		p.store = ds
		o := p.options(ps...)
		o.Timing = Timing{}
		p.openWith(b, o)
	}
	awaitAlive(b, len(ps), ps...)
	roots := make([]cid.Cid, n)
	for i := range roots {
		roots[i] = rootN(b, "bench", i)
		d.add(ps[0].id, roots[i])
	}
	used, before, began := cpu(b), heap(), time.Now()
	for _, root := range roots {
		if err := ps[0].cluster.Pin(b.Context(), root, Placement{Label: "k3j4k3j4k3j4k3j4", Size: 160 << 10, Min: 3, Max: 3}); err != nil {
			b.Fatal(err)
		}
	}
	await(b, "three copies of each", func() bool {
		for _, p := range ps {
			if d.count(p.id) != n {
				return false
			}
		}
		return true
	})
	took, used := time.Since(began), cpu(b)-used
	var disk int64
	for _, p := range ps {
		disk += diskUsage(b, p.store)
	}
	b.ReportMetric(float64(n)/took.Seconds(), "pins/s")
	b.ReportMetric(used.Seconds()*1e3/float64(n), "CPU-ms/pin")
	b.ReportMetric(float64(heap()-before)/float64(3*n), "heap-B/pin/peer")
	b.ReportMetric(float64(disk)/float64(3*n), "disk-B/pin/peer")
	for _, p := range ps {
		if err := p.cluster.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func diskUsage(b *testing.B, ds datastore.Batching) int64 {
	b.Helper()
	n, err := datastore.DiskUsage(b.Context(), ds)
	if err != nil {
		b.Fatal(err)
	}
	return int64(n)
}
