package swarm_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/swarm"
	"github.com/musenai/musen/internal/testnet"
	"github.com/musenai/musen/node"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
)

// A clock goes by the real one, and leaps.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) leap(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// segment adds audio of size bytes to a station that wants a copy on a replica.
func segment(t testing.TB, o *testnet.Origin, size int) musen.Segment {
	t.Helper()
	st := o.Station(t, "jazz", musen.Replication{Min: 1, Max: 1, Community: 1})
	header := []byte("RIFF\xff\xff\xff\x7fWAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00data")
	audio := append(binary.LittleEndian.AppendUint32(header, uint32(size)), make([]byte, size)...)
	s, _, err := o.Adds.Add(t.Context(), musen.AddRequest{Station: st.ID, Title: "song"}, bytes.NewReader(audio))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A replica that begins again a few times, as on a bad line, is served. One that
// is never done takes its share no more until much later.
func TestGreed(t *testing.T) {
	t.Parallel()
	var c clock
	o := testnet.NewOrigin(t, func(o *swarm.Options) { o.Now = c.now })
	orders := make(chan *testnet.Carrier, 1)
	greedy := testnet.Behaviour{Carry: func(ctx context.Context, c *testnet.Carrier, _ control.Order) (control.Outcome, string) {
		select {
		case orders <- c:
		default:
		}
		<-ctx.Done()
		return control.Failed, "never"
	}}
	testnet.NewCarrier(t, o, "greedy", greedy)
	s := segment(t, o, 300<<10)
	replica := <-orders
	forget := func() {
		if err := replica.Forget(t.Context(), s.CID); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 4 { // honest so far
		if err := replica.Fetch(t.Context(), s.CID); err != nil {
			t.Fatalf("fetch %d: %v", i, err)
		}
		forget()
	}
	refused := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		return replica.Fetch(ctx, s.CID) != nil
	}
	more := 0
	for !refused() {
		forget()
		if more++; more > 4 {
			t.Fatal("it takes its share again and again")
		}
	}
	c.leap(24 * time.Hour)
	if err := replica.Fetch(t.Context(), s.CID); err != nil {
		t.Errorf("much later: %v", err)
	}
}

// nowhere is the CID of a block that nobody has.
func nowhere(i int) cid.Cid {
	mh, err := multihash.Sum(binary.BigEndian.AppendUint64(nil, uint64(i)), multihash.SHA2_256, -1)
	if err != nil {
		panic(err) // unreachable: the hash is known
	}
	return cid.NewCidV1(cid.Raw, mh)
}

// BenchmarkDeniedWant is what wants of blocks that are not there cost the
// origin, of a storage peer, whose wants are looked up as they come, and of a
// replica, whose wants are looked up at a pace.
func BenchmarkDeniedWant(b *testing.B) {
	for _, role := range []member.Role{member.Storage, member.Replica} {
		b.Run(string(role), func(b *testing.B) {
			o := testnet.NewOrigin(b)
			testnet.Join(b, o, role, "peer", contract.Contract{Disk: 1 << 40})
			m, err := o.Swarm.Peer(b.Context(), "peer")
			if err != nil {
				b.Fatal(err)
			}
			var opts node.Options
			o.Swarm.Guard(&opts)
			i := 0
			for ; i < 5000; i++ { // past the burst
				opts.Serve(m.ID, nowhere(i))
			}
			var before, after syscall.Rusage
			_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before) // cannot fail
			began := time.Now()
			for b.Loop() {
				i++
				opts.Serve(m.ID, nowhere(i))
			}
			wall := time.Since(began)
			_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
			cpu := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
			b.ReportMetric(100*cpu.Seconds()/wall.Seconds(), "%core")
			b.ReportMetric(float64(cpu.Nanoseconds())/float64(b.N), "cpu-ns/want")
		})
	}
}
