package control

import (
	"context"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/go-datastore"
	levelds "github.com/ipfs/go-ds-leveldb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"

	"github.com/musenai/musen/pin/member"
)

// A journal is LevelDB as nodes use it: Sync makes durable, a write does not.
type journal struct {
	*levelds.Datastore
	syncs atomic.Int64
}

var _ datastore.Batching = (*journal)(nil)

func newJournal(t testing.TB) *journal {
	t.Helper()
	d, err := levelds.NewDatastore(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return &journal{Datastore: d}
}

func (j *journal) Put(_ context.Context, k datastore.Key, v []byte) error {
	return j.DB.Put(k.Bytes(), v, nil)
}

func (j *journal) Delete(_ context.Context, k datastore.Key) error {
	return j.DB.Delete(k.Bytes(), nil)
}

func (j *journal) Sync(context.Context, datastore.Key) error {
	j.syncs.Add(1)
	return j.DB.Put([]byte("/synced"), nil, &opt.WriteOptions{Sync: true})
}

type journalBatch struct {
	j *journal
	b leveldb.Batch
}

func (j *journal) Batch(context.Context) (datastore.Batch, error) { return &journalBatch{j: j}, nil }

func (b *journalBatch) Put(_ context.Context, k datastore.Key, v []byte) error {
	b.b.Put(k.Bytes(), v)
	return nil
}

func (b *journalBatch) Delete(_ context.Context, k datastore.Key) error {
	b.b.Delete(k.Bytes())
	return nil
}

func (b *journalBatch) Commit(context.Context) error { return b.j.DB.Write(&b.b, nil) }

func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// flow gives a peer n holds, that are given in calls of some, and waits until
// all are answered.
func flow(b *testing.B, n, some int) {
	store, own := newJournal(b), newJournal(b)
	o := newOrigin(b)
	_ = o.Close()
	var answered atomic.Int64
	all := make(chan struct{})
	o.store = store
	o.start(b, func(so *ServerOptions) {
		so.OnReceipt = func(peer.ID, Receipt) {
			if answered.Add(1) == int64(n) {
				close(all)
			}
		}
	})
	h := newHost(b)
	o.members.set(h.ID(), member.Replica)
	c := startClient(b, h, o, on(own, instant{}))
	c.awaitReady(b)
	is := ins(Hold, 0, n)
	began, used := time.Now(), cpu(b)
	for i := 0; i < n; i += some {
		o.order(b, h.ID(), is[i:min(n, i+some)]...)
	}
	select {
	case <-all:
	case <-time.After(10 * patience):
		b.Fatalf("%d of %d answered", answered.Load(), n)
	}
	took := time.Since(began)
	b.ReportMetric(float64(n)/took.Seconds(), "orders/s")
	b.ReportMetric(float64((cpu(b)-used).Microseconds())/float64(n), "µs-cpu/order")
	b.ReportMetric(float64(store.syncs.Load()), "syncs-origin")
	b.ReportMetric(float64(own.syncs.Load()), "syncs-peer")
	c.stop()
	_ = o.Close()
}

type instant struct{}

func (instant) Carry(context.Context, Order) (Outcome, string) { return Done, "" }

// BenchmarkFlow shows how many orders one line carries, both ends and their
// stores on one machine, from the call of Order to the receipt.
func BenchmarkFlow(b *testing.B) {
	for b.Loop() {
		flow(b, 30_000, 500)
	}
}

// BenchmarkFlowOneByOne is BenchmarkFlow with one order in each call.
func BenchmarkFlowOneByOne(b *testing.B) {
	for b.Loop() {
		flow(b, 3_000, 1)
	}
}
