package node

import (
	"bytes"
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"
)

// rot flips a bit of a block on the disk.
func rot(t testing.TB, n *Node, c cid.Cid) {
	t.Helper()
	d, _ := digestOf(c)
	path := n.files.path(d)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func impatient(o *Options) { o.FetchTimeout = 300 * time.Millisecond }

// The files are where flatfs says that they are.
func TestBlockFilesAreThoseOfKubo(t *testing.T) {
	n := start(t)
	a := add(t, n, sealedBytes(1, 3*leafSize+1))
	for _, c := range append(a.inner, a.leaves...) {
		b, err := n.kubo.Blockstore.Get(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		d, ok := digestOf(c)
		if !ok {
			t.Fatalf("no digest of %s", c)
		}
		got, err := n.files.read(d)
		if err != nil || !bytes.Equal(got, b.RawData()) {
			t.Errorf("block %s: file has %d bytes, %v", c, len(got), err)
		}
	}
}

// H25: every spelling of a CID reads the same block.
func TestEverySpellingOfACID(t *testing.T) {
	n := start(t)
	a := add(t, n, sealedBytes(1, 1000))
	for _, c := range []cid.Cid{cid.NewCidV0(a.root.Hash()), cid.NewCidV1(cid.DagProtobuf, a.root.Hash()), cid.NewCidV1(cid.DagCBOR, a.root.Hash())} {
		p := make([]byte, 1000)
		if m, err := n.ReadBlockAt(t.Context(), c, p, 0); err != nil || !bytes.Equal(p[:m], a.data) {
			t.Errorf("%s: %d bytes, %v", c, m, err)
		}
	}
}

func TestFetchFromAPeer(t *testing.T) {
	a, b := start(t), start(t)
	x := add(t, a, sealedBytes(1, 4*leafSize+9))
	connect(t, b, a)
	readBack(t, b, x, 64<<10)
	if got := b.fetched.Load(); got != int64(len(x.leaves)) {
		t.Errorf("%d fetches for %d leaves", got, len(x.leaves))
	}
	if err := b.Verify(t.Context(), x.leaves[4]); err != nil {
		t.Errorf("what was fetched is not kept: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	readBack(t, b, x, 64<<10)
}

func TestStampedeFetchesOnce(t *testing.T) {
	a, b := start(t), start(t)
	x := add(t, a, sealedBytes(1, leafSize))
	connect(t, b, a)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			p := make([]byte, 1000)
			if m, err := b.ReadBlockAt(context.Background(), x.root, p, 500); err != nil || !bytes.Equal(p[:m], x.data[500:1500]) {
				t.Errorf("read %d, %v", m, err)
			}
		})
	}
	wg.Wait()
	if got := b.fetched.Load(); got != 1 {
		t.Errorf("%d fetches for one block", got)
	}
}

func TestFetchWhatNobodyHas(t *testing.T) {
	a, b := start(t), start(t, impatient)
	lone := cid.NewCidV1(cid.Raw, add(t, start(t), sealedBytes(1, 100)).root.Hash())
	p := make([]byte, 10)
	if _, err := b.ReadBlockAt(t.Context(), lone, p, 0); !errors.Is(err, ErrNotFound) || b.fetched.Load() != 0 {
		t.Errorf("without a peer: %v, %d fetches", err, b.fetched.Load())
	}
	connect(t, b, a)
	if _, err := b.ReadBlockAt(t.Context(), lone, p, 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("from a peer that has it not: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.ReadBlockAt(ctx, lone, p, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled before: %v", err)
	}
}

func TestCanceledReaderDoesNotWait(t *testing.T) {
	a, b := start(t), start(t, func(o *Options) { o.FetchTimeout = time.Hour })
	connect(t, b, a)
	lone := add(t, start(t), sealedBytes(1, 100)).root
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := b.ReadBlockAt(ctx, lone, make([]byte, 10), 0)
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// The empty block is never sent over Bitswap, so every node has it.
func TestEmptyBlockIsAlwaysThere(t *testing.T) {
	n := start(t)
	if _, _, err := n.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := add(t, n, nil); a.root != emptyBlock().Cid() {
		t.Errorf("empty file has root %s", a.root)
	}
	if err := n.Verify(t.Context(), emptyBlock().Cid()); err != nil {
		t.Error(err)
	}
}

// The blocks that a start needs are made good by the start.
func TestStartWithRottenOwnBlocks(t *testing.T) {
	n := start(t)
	rot(t, n, unixfs.EmptyDirNode().Cid())
	d, _ := digestOf(emptyBlock().Cid())
	if err := os.Remove(n.files.path(d)); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = reopen(t, n.opts.Dir)
	for _, c := range []cid.Cid{unixfs.EmptyDirNode().Cid(), emptyBlock().Cid()} {
		if err := n.Verify(t.Context(), c); err != nil {
			t.Error(err)
		}
	}
}

func TestForeignHashesAreNotFound(t *testing.T) {
	n := start(t)
	for _, code := range []uint64{multihash.IDENTITY, multihash.SHA2_512, multihash.BLAKE2B_MIN + 31} {
		mh, err := multihash.Sum([]byte("0123456789abcdef0123456789abcdef"), code, -1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.ReadBlockAt(t.Context(), cid.NewCidV1(cid.Raw, mh), make([]byte, 1), 0); !errors.Is(err, ErrNotFound) {
			t.Errorf("hash %x: %v", code, err)
		}
	}
	if _, err := n.ReadBlockAt(t.Context(), cid.Undef, make([]byte, 1), 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("undefined CID: %v", err)
	}
}

// A node that has no room passes on what it fetches.
func TestFetchWithoutRoom(t *testing.T) {
	a, b := start(t), start(t, func(o *Options) { o.StorageMax = 1 })
	x := add(t, a, sealedBytes(1, leafSize))
	connect(t, b, a)
	readBack(t, b, x, 64<<10)
	if got := b.fetched.Load(); got != 1 {
		t.Errorf("%d fetches for one block", got)
	}
	if err := b.Verify(t.Context(), x.root); !errors.Is(err, ErrNotFound) {
		t.Errorf("kept: %v", err)
	}
}

// A rotten block is an error wherever ciphertext leaves, never wrong bytes.
func TestRottenBlockIsNotServed(t *testing.T) {
	a, b := start(t), start(t, impatient)
	connect(t, b, a)
	x := add(t, a, sealedBytes(1, leafSize))
	rot(t, a, x.root)
	if err := a.Verify(t.Context(), x.root); !errors.Is(err, ErrRotten) {
		t.Errorf("Verify: %v", err)
	}
	if _, err := a.Offline().GetBlock(t.Context(), x.root); !errors.Is(err, blockstore.ErrHashMismatch) {
		t.Errorf("Offline: %v", err)
	}
	if _, err := b.ReadBlockAt(t.Context(), x.root, make([]byte, 10), 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("fetched from the peer that has it rotten: %v", err)
	}
}

// A root of more than 174 leaves has inner blocks of its own below it.
func TestVerifyReadsInnerBlocks(t *testing.T) {
	n := start(t)
	x := add(t, n, sealedBytes(1, 180*leafSize))
	if len(x.inner) < 3 {
		t.Fatalf("%d inner blocks", len(x.inner))
	}
	if err := n.Verify(t.Context(), x.root); err != nil {
		t.Fatal(err)
	}
	for _, c := range x.inner {
		if c != x.root {
			rot(t, n, c)
			break
		}
	}
	if err := n.Verify(t.Context(), x.root); !errors.Is(err, ErrRotten) {
		t.Errorf("Verify of the root above a rotten block: %v", err)
	}
}

func TestOfflineNeverAsksPeers(t *testing.T) {
	a, b := start(t), start(t)
	connect(t, b, a)
	x := add(t, a, sealedBytes(1, 1000))
	if _, err := b.Offline().GetBlock(t.Context(), x.root); !ipld.IsNotFound(err) {
		t.Errorf("block of a peer: %v", err)
	}
	blk, err := a.Offline().GetBlock(t.Context(), x.root)
	if err != nil || !bytes.Equal(blk.RawData(), x.data) {
		t.Errorf("own block: %v", err)
	}
}

func TestHeal(t *testing.T) {
	a, b := start(t), start(t)
	x := add(t, a, sealedBytes(1, leafSize))
	connect(t, b, a)
	readBack(t, b, x, leafSize)

	rot(t, a, x.root)
	heat(t, a, x) // the rotten bytes are in memory as well
	if err := a.Heal(t.Context(), x.root); err != nil {
		t.Fatal(err)
	}
	if err := a.Verify(t.Context(), x.root); err != nil {
		t.Error(err)
	}
	readBack(t, a, x, 64<<10)

	d, _ := digestOf(x.root)
	if err := os.Remove(a.files.path(d)); err != nil {
		t.Fatal(err)
	}
	if err := a.Heal(t.Context(), x.root); err != nil {
		t.Errorf("heal a block whose file is gone: %v", err)
	}
	readBack(t, a, x, 64<<10)
	if err := a.Heal(t.Context(), x.root); err != nil {
		t.Errorf("heal a good block: %v", err)
	}
}

func TestHealWithoutAGoodCopy(t *testing.T) {
	a, b := start(t, impatient), start(t)
	x := add(t, a, sealedBytes(1, leafSize))
	rot(t, a, x.root)
	if err := a.Heal(t.Context(), x.root); !errors.Is(err, ErrRotten) {
		t.Errorf("without a peer: %v", err)
	}
	connect(t, a, b)
	if err := a.Heal(t.Context(), x.root); !errors.Is(err, ErrRotten) {
		t.Errorf("from a peer that has it not: %v", err)
	}
	if err := a.Verify(t.Context(), x.root); !errors.Is(err, ErrRotten) {
		t.Errorf("the rotten copy is not there any more: %v", err)
	}
	if _, err := a.kubo.Blockstore.GetSize(t.Context(), x.root); err != nil {
		t.Error(err)
	}
}
