package node

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Who sent blocks before is asked first. When all of those are gone, the others
// are asked none the less.
func TestAskOthersThanThoseWhoLeft(t *testing.T) {
	a, b, c := start(t), start(t), start(t)
	x, y, z := add(t, b, sealedBytes(1, 3*leafSize)), add(t, c, sealedBytes(2, 2*leafSize)), add(t, c, sealedBytes(3, 2*leafSize))
	connect(t, a, b)
	connect(t, a, c)
	readBack(t, a, x, leafSize)
	fetch(t, a, x)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, a, b, false)
	readBack(t, a, y, leafSize)
	fetch(t, a, z)
	readBack(t, a, z, leafSize)
}

// Whoever gives up to wait for a block takes it from nobody else who waits.
func TestAskersAreApart(t *testing.T) {
	a, b := start(t), start(t)
	x := add(t, b, sealedBytes(1, 100))
	connect(t, a, start(t)) // who has nothing
	wanted := func() bool { return slices.Contains(a.kubo.Bitswap.GetWantlist(), x.root) }

	ctx, giveUp := context.WithCancel(t.Context())
	given := make(chan error)
	go func() { given <- a.Fetch(ctx, x.root, 100) }()
	for !wanted() {
		runtime.Gosched()
	}
	read := make(chan error)
	p := make([]byte, 100)
	go func() {
		_, err := a.ReadBlockAt(t.Context(), x.root, p, 0)
		read <- err
	}()
	for a.fetched.Load() == 0 {
		runtime.Gosched()
	}
	giveUp()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	connect(t, a, b)
	if err := <-read; err != nil || !bytes.Equal(p, x.data) {
		t.Errorf("read something else, %v", err)
	}
}

// The only peer there is, which refused at first as one does that has only just
// come back, is asked again before time is up.
func TestAskTheOnlyPeerAgain(t *testing.T) {
	var asked atomic.Int64
	a, b := start(t), start(t, func(o *Options) {
		o.Serve = func(peer.ID, cid.Cid) bool { return asked.Add(1) > 1 }
	})
	x := add(t, b, sealedBytes(1, 100))
	connect(t, a, b)
	if err := a.Fetch(t.Context(), x.root, 100); err != nil {
		t.Errorf("asked %d times: %v", asked.Load(), err)
	}
}
