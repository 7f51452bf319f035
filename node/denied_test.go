package node

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
)

// shunned denies blocks.
type shunned struct {
	mu  sync.Mutex
	all map[string]bool // by multihash; nil: everything
}

func shun(cids ...cid.Cid) *shunned {
	s := &shunned{all: map[string]bool{}}
	s.set(true, cids...)
	return s
}

func (s *shunned) set(denied bool, cids ...cid.Cid) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range cids {
		s.all[string(c.Hash())] = denied
	}
}

// Denied implements Denier.
func (s *shunned) Denied(mh multihash.Multihash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all == nil || s.all[string(mh)]
}

func denying(s *shunned) func(*Options) { return func(o *Options) { o.Denied = s } }

// H50, H25: a peer gets nothing that is denied, under whichever CID it asks, and
// all else. What is denied no more it gets, without a restart.
func TestDeniedIsNotServed(t *testing.T) {
	denied := shun()
	a, b := start(t, denying(denied)), start(t, impatient)
	connect(t, b, a)
	bad, good := add(t, a, sealedBytes(1, 1000)), add(t, a, sealedBytes(2, 3*leafSize))
	denied.set(true, bad.root)
	p := make([]byte, 1000)
	for _, codec := range []uint64{cid.Raw, cid.DagProtobuf} {
		alias := cid.NewCidV1(codec, bad.root.Hash())
		if _, err := b.ReadBlockAt(t.Context(), alias, p, 0); !errors.Is(err, ErrNotFound) {
			t.Errorf("read %s: %v", alias, err)
		}
	}
	fetch(t, b, good)
	denied.set(false, bad.root)
	fetch(t, b, bad)
	readBack(t, b, bad, 1000)

	half := add(t, a, sealedBytes(3, 3*leafSize))
	denied.set(true, half.leaves[1])
	if err := b.Fetch(t.Context(), half.root, 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("fetch with a leaf that is denied: %v", err)
	}
}

// H50: what was taken note of when a peer asked for it is not sent if it is
// denied by then.
func TestDeniedWhileItWaits(t *testing.T) {
	denied := &deniedLater{}
	a := start(t, func(o *Options) { o.Denied = denied })
	b := start(t, impatient)
	connect(t, b, a)
	x := add(t, a, sealedBytes(1, 1000))
	denied.asked.Store(0)
	if err := b.Fetch(t.Context(), x.root, 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("fetch: %v", err)
	}
	if denied.asked.Load() < 2 {
		t.Error("nobody asked when the block was to be sent")
	}
}

// deniedLater denies everything from the second time on that it is asked.
type deniedLater struct{ asked atomic.Int32 }

// Denied implements Denier.
func (d *deniedLater) Denied(multihash.Multihash) bool { return d.asked.Add(1) > 1 }

// H50: what is denied here is neither asked for nor taken, be it a whole segment
// or one block of it, and nothing is left of a fetch that comes upon it.
func TestDeniedIsNotFetched(t *testing.T) {
	var asked sync.Map
	denied := shun()
	a := start(t, func(o *Options) {
		o.Serve = func(_ peer.ID, c cid.Cid) bool { asked.Store(string(c.Hash()), true); return true }
	})
	b := start(t, denying(denied), impatient)
	connect(t, b, a)
	whole, part := add(t, a, sealedBytes(1, 1000)), add(t, a, sealedBytes(2, 3*leafSize))
	denied.set(true, whole.root, part.leaves[2])
	before := blocksOf(t, b)
	for what, err := range map[string]error{
		"fetch":        b.Fetch(t.Context(), whole.root, 1000),
		"mend":         b.Mend(t.Context(), whole.root),
		"heal":         b.Heal(t.Context(), whole.root),
		"read":         func() error { _, err := b.ReadBlockAt(t.Context(), whole.root, make([]byte, 9), 0); return err }(),
		"fetch a part": b.Fetch(t.Context(), part.root, 3*leafSize),
	} {
		if !errors.Is(err, ErrDenied) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, c := range []cid.Cid{whole.root, part.leaves[2]} {
		if _, was := asked.Load(string(c.Hash())); was {
			t.Errorf("%s was asked for", c)
		}
	}
	if after := blocksOf(t, b); after != before {
		t.Errorf("%d blocks, before %d", after, before)
	}
	mustPinned(t, b, part.root, false)
	denied.set(false, whole.root, part.leaves[2])
	fetch(t, b, whole)
	fetch(t, b, part)
	denied.set(true, whole.root)
	if err := b.Fetch(t.Context(), whole.root, 1000); !errors.Is(err, ErrDenied) {
		t.Errorf("fetch of what is here: %v", err)
	}
}

// What is here stays and is looked after, whatever is denied: it may be denied
// by mistake. A node to which all is denied starts.
func TestDeniedIsKept(t *testing.T) {
	a := start(t, denying(&shunned{}))
	x := add(t, a, sealedBytes(1, 3*leafSize))
	if _, _, err := a.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	a = reopen(t, a.opts.Dir, denying(&shunned{}))
	mustPinned(t, a, x.root, true)
	readBack(t, a, x, leafSize)
	for _, c := range append(x.leaves, x.root) {
		if err := a.Verify(t.Context(), c); err != nil {
			t.Error(err)
		}
	}
	if blk, err := a.Offline().GetBlock(t.Context(), x.leaves[0]); err != nil || len(blk.RawData()) != leafSize {
		t.Errorf("%v", err)
	}
	if err := a.Purge(t.Context(), x.root); err != nil {
		t.Fatal(err)
	}
}
