package testnet_test

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	"go.uber.org/goleak"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/testnet"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/keep"
	"github.com/musenai/musen/pin/member"
)

// fleetOnce starts an origin, two storage nodes and two replicas, has them hold
// segments, each of them played and one removed again, and closes all. It
// returns how much of the memory was in use in between.
func fleetOnce(t *testing.T, round int) (running int64) {
	t.Helper()
	t.Run(fmt.Sprint("round ", round), func(t *testing.T) {
		o := testnet.NewOrigin(t)
		station := o.Station(t, "jazz", musen.Replication{Min: 3, Max: 3, Spread: true, Community: 2})
		for _, name := range []string{"north", "south"} {
			testnet.Join(t, o, member.Storage, name, contract.Contract{})
			testnet.Join(t, o, member.Replica, "replica-"+name, contract.Contract{Disk: 1 << 30})
		}
		var all []musen.Segment
		for range 4 {
			audio := wave(600 << 10)
			s, _, err := o.Adds.Add(t.Context(), musen.AddRequest{Station: station.ID, Title: "song", Again: true}, bytes.NewReader(audio))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, s)
			if h := durable(t, o, s.CID); h.Level < keep.Durable {
				t.Errorf("%+v", h)
			}
			if !heard(t, o, s, audio) {
				t.Error("a listener hears something else")
			}
		}
		if err := o.Adds.Remove(t.Context(), all[0].CID); err != nil {
			t.Fatal(err)
		}
		running = heap()
	})
	return running
}

// heap is what is in use after garbage was collected.
func heap() int64 {
	for range 3 { // finalizers, and what they let go
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// perFleet is what a closed fleet may keep of the memory. Kubo never ends the
// manager of provider queries of a node, which knows the node, and so all that
// this was opened with: of a storage peer that is the queues of its pinset, 3
// MiB, of each node about half a MiB. In the program a node ends with its
// process.
const perFleet = 2*3<<20 + 5<<20

// Nothing runs on once a fleet is closed, and what it took of the memory is
// free again. It runs alone: the tests beside it have goroutines of their own.
func TestFleetLeavesNothing(t *testing.T) {
	const rounds = 3
	before := goleak.IgnoreCurrent()
	fleetOnce(t, 0) // what is made once for all fleets is there from now on
	settle(t, before)
	base := heap()
	var running int64
	for round := range rounds {
		running = fleetOnce(t, 1+round)
		settle(t, before)
	}
	now := heap()
	t.Logf("%d KiB in use after one fleet, %d KiB after %d more; %d KiB while the last ran", base>>10, now>>10, rounds, running>>10)
	if now > base+rounds*perFleet {
		t.Errorf("%d bytes are in use after %d fleets more, %d before", now, rounds, base)
	}
}

// settle waits until nothing runs but what Kubo is known to leave: the manager
// of provider queries, of which there is one a node and which is idle, and a
// timer of LevelDB that ends within a minute.
func settle(t *testing.T, before goleak.Option) {
	t.Helper()
	known := []goleak.Option{
		before,
		goleak.IgnoreAnyFunction("github.com/ipfs/boxo/routing/providerquerymanager.(*ProviderQueryManager).run"),
		goleak.IgnoreAnyFunction("github.com/ipfs/boxo/routing/providerquerymanager.(*ProviderQueryManager).findProviderWorker"),
		goleak.IgnoreAnyFunction("github.com/gammazero/chanqueue.(*ChanQueue[...]).bufferData"),
		goleak.IgnoreAnyFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"),
	}
	var leak error
	for range 10 { // each waits about a second
		if leak = goleak.Find(known...); leak == nil {
			return
		}
	}
	t.Error(leak)
}
