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

// BenchmarkFetch brings segments of one leaf from one node to others of this
// process, some at a time to each, and says how many a second came to all, and
// how much CPU each takes of all nodes together.
func BenchmarkFetch(b *testing.B) {
	const size = 160 << 10
	for _, c := range []struct{ receivers, callers int }{{1, 4}, {1, 16}, {1, 64}, {2, 16}} {
		b.Run(fmt.Sprintf("to=%d/callers=%d", c.receivers, c.callers), func(b *testing.B) {
			from := start(b)
			to := make([]*Node, c.receivers)
			for i := range to {
				to[i] = start(b)
				connect(b, to[i], from)
			}
			roots := segments(b, from, b.N, size)
			used := cpu()
			b.SetBytes(size)
			b.ResetTimer()
			var all errgroup.Group
			for _, n := range to {
				all.Go(func() error { return fetchAll(n, roots, c.callers, size) })
			}
			if err := all.Wait(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "segments/s")
			b.ReportMetric((cpu()-used)/float64(b.N)*1e3, "cpu-ms/segment")
		})
	}
}

func fetchAll(n *Node, roots []cid.Cid, callers int, size int64) error {
	var group errgroup.Group
	group.SetLimit(callers)
	for _, root := range roots {
		group.Go(func() error { return n.Fetch(context.Background(), root, size) })
	}
	return group.Wait()
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
