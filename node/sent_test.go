package node

import (
	"sync/atomic"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"
)

// Each block that goes out is told of once, with its size, also when the line
// is so slow that the peer loses patience.
func TestSent(t *testing.T) {
	for name, limit := range map[string]rate.Limit{"quick": rate.Inf, "slow": 256 << 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var sent atomic.Int64
			a := start(t, func(o *Options) {
				o.Upload = rate.NewLimiter(limit, 16<<10)
				o.Sent = func(_ peer.ID, n int) { sent.Add(int64(n)) }
			})
			b := start(t)
			connect(t, b, a)
			x := add(t, a, sealedBytes(1, 4*leafSize))
			fetch(t, b, x)
			if n := sent.Load(); n < int64(len(x.data)) || n > int64(len(x.data))*3/2 {
				t.Errorf("%d bytes for %d", n, len(x.data))
			}
		})
	}
}
