package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"syscall"
	"testing"

	"github.com/ipfs/go-cid"
	"golang.org/x/sync/errgroup"
)

// BenchmarkFetch brings segments of one leaf from one node to another of this
// process, some at a time, and says how many a second, and how much CPU each
// takes of both nodes together.
func BenchmarkFetch(b *testing.B) {
	const size = 160 << 10
	for _, callers := range []int{4, 16, 64} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			from, to := start(b), start(b)
			connect(b, to, from)
			roots := segments(b, from, b.N, size)
			used := cpu()
			b.SetBytes(size)
			b.ResetTimer()
			var group errgroup.Group
			group.SetLimit(callers)
			for _, root := range roots {
				group.Go(func() error { return to.Fetch(context.Background(), root, size) })
			}
			if err := group.Wait(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "segments/s")
			b.ReportMetric((cpu()-used)/float64(b.N)*1e3, "cpu-ms/segment")
		})
	}
}

// segments adds n segments that differ.
func segments(b *testing.B, n *Node, count, size int) []cid.Cid {
	b.Helper()
	roots := make([]cid.Cid, count)
	var group errgroup.Group
	group.SetLimit(8)
	for i := range roots {
		group.Go(func() error {
			data := sealedBytes(1, size)
			binary.LittleEndian.PutUint64(data, uint64(i))
			root, _, _, err := n.Add(context.Background(), bytes.NewReader(data))
			roots[i] = root
			return err
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	return roots
}

// cpu is what the process has used so far, in seconds.
func cpu() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
