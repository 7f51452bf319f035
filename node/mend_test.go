package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"golang.org/x/sync/errgroup"
)

// What a Mend got stays even if it could not get all.
func TestMend(t *testing.T) {
	a, b := start(t, impatient), start(t)
	x := add(t, a, sealedBytes(1, 5*leafSize))
	connect(t, b, a)
	fetch(t, b, x)
	for _, c := range []cid.Cid{x.leaves[1], x.leaves[4]} {
		d, _ := digestOf(c)
		if err := os.Remove(a.files.path(d)); err != nil {
			t.Fatal(err)
		}
	}
	rot(t, a, x.leaves[3])
	if err := a.Mend(t.Context(), x.root); err != nil {
		t.Fatal(err)
	}
	readBack(t, a, x, leafSize)
	for _, c := range x.leaves {
		if err := a.Verify(t.Context(), c); err != nil {
			t.Error(err)
		}
	}

	rot(t, a, x.leaves[1])
	rot(t, a, x.leaves[4])
	rot(t, b, x.leaves[4])
	if err := a.Mend(t.Context(), x.root); !errors.Is(err, ErrNotFound) {
		t.Errorf("with a leaf that nobody has: %v", err)
	}
	mustPinned(t, a, x.root, true)
	if st, err := a.Stat(); err != nil || st.Reserved != 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

// A full node can heal: the rotten copy makes room for the good one.
func TestHealOfAFullNode(t *testing.T) {
	a, b := start(t), limited(t, 8*leafSize)
	connect(t, b, a)
	x := add(t, a, sealedBytes(1, leafSize))
	fetch(t, b, x)
	st, err := b.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b.SetStorageMax(st.Used)
	if err := b.Fetch(t.Context(), add(t, a, sealedBytes(2, leafSize)).root, leafSize); !errors.Is(err, ErrNoSpace) {
		t.Errorf("fetch past a limit that was lowered: %v", err)
	}
	rot(t, b, x.root)
	if err := b.Heal(t.Context(), x.root); err != nil {
		t.Fatal(err)
	}
	readBack(t, b, x, leafSize)
	if after, err := b.Stat(); err != nil || after.Used > st.Used+fileUnit {
		t.Errorf("%+v, before %+v, %v", after, st, err)
	}
}

// Bytes of this disk alone: neither a peer's nor those in memory.
func TestReadLocalAt(t *testing.T) {
	a, b := start(t), start(t)
	connect(t, b, a)
	x := add(t, a, sealedBytes(1, 1000))
	if _, err := b.ReadLocalAt(t.Context(), x.root, make([]byte, 10), 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("what a peer has: %v", err)
	}
	p := make([]byte, 20)
	if m, err := a.ReadLocalAt(t.Context(), x.root, p, 990); m != 10 || err != io.EOF || !bytes.Equal(p[:m], x.data[990:]) {
		t.Errorf("read %d, %v", m, err)
	}
	if _, err := a.ReadLocalAt(t.Context(), x.root, p, -1); err == nil {
		t.Error("negative offset is accepted")
	}
	y := add(t, a, sealedBytes(2, leafSize))
	heat(t, a, y)
	d, _ := digestOf(y.root)
	if err := os.Remove(a.files.path(d)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.ReadLocalAt(t.Context(), y.root, p, 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("what is in memory alone: %v", err)
	}
}

// A Purge ends a Mend as it ends a Fetch.
func TestPurgeEndsAMend(t *testing.T) {
	a, b := start(t), start(t, func(o *Options) { o.FetchTimeout = time.Hour })
	connect(t, b, a)
	lone := add(t, start(t), sealedBytes(1, 100)).root
	failed := make(chan error)
	go func() { failed <- b.Mend(context.Background(), lone) }()
	awaitRun(b)
	if err := b.Purge(t.Context(), lone); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, errPurged) {
		t.Errorf("Mend: %v", err)
	}
}

// A folder of blocks that goes away is missed, not made anew in the place where
// a disk may have been.
func TestFolderIsGone(t *testing.T) {
	a, b := start(t), start(t)
	connect(t, a, b)
	x := add(t, b, sealedBytes(1, 100))
	if err := os.Rename(a.files.root, a.files.root+".away"); err != nil {
		t.Fatal(err)
	}
	if err := a.Fetch(t.Context(), x.root, 100); !errors.Is(err, ErrNoFolder) {
		t.Errorf("fetch: %v", err)
	}
	if _, _, _, err := a.Add(t.Context(), bytes.NewReader(sealedBytes(2, 100))); !errors.Is(err, ErrNoFolder) {
		t.Errorf("add: %v", err)
	}
	if err := a.Heal(t.Context(), x.root); !errors.Is(err, ErrNoFolder) {
		t.Errorf("heal: %v", err)
	}
	if st, err := a.Stat(); err != nil || st.Reserved != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	if err := os.Rename(a.files.root+".away", a.files.root); err != nil {
		t.Fatal(err)
	}
	fetch(t, a, x)
}

// Of many who mend a block at once none takes away what another has just made
// good.
func TestMendersDoNotUndoEachOther(t *testing.T) {
	a, b := start(t), start(t)
	connect(t, b, a)
	x := add(t, a, sealedBytes(1, leafSize))
	fetch(t, b, x)
	for range 10 {
		rot(t, b, x.root)
		var menders errgroup.Group
		for n := range 6 {
			menders.Go(func() error {
				mend := b.Heal
				if n == 0 {
					mend = b.Mend
				}
				return errors.Join(mend(t.Context(), x.root), b.Verify(t.Context(), x.root))
			})
		}
		if err := menders.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}
