package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
)

func fetch(t testing.TB, n *Node, a added) {
	t.Helper()
	if err := n.Fetch(t.Context(), a.root, int64(len(a.data))); err != nil {
		t.Fatal(err)
	}
}

func mustPinned(t testing.TB, n *Node, root cid.Cid, want bool) {
	t.Helper()
	if got, err := n.Pinned(t.Context(), root); err != nil || got != want {
		t.Errorf("pinned: %v, %v; want %v", got, err, want)
	}
}

// blocksOf counts the blocks on a disk.
func blocksOf(t testing.TB, n *Node) (count int) {
	t.Helper()
	for _, err := range n.Blocks(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		count++
	}
	return count
}

// diskUsage is what du says of the repo at one moment, however much comes and
// goes: what is there in two walks was there between them.
func diskUsage(t testing.TB, n *Node) (total int64) {
	t.Helper()
	before := walk(t, n)
	for file, bytes := range walk(t, n) {
		total += min(bytes, before[file])
	}
	return total
}

// A diskFile is a file under one name, and another one if it is written anew.
type diskFile struct {
	path  string
	inode uint64
}

func walk(t testing.TB, n *Node) map[diskFile]int64 {
	t.Helper()
	found := map[diskFile]int64{}
	err := filepath.Walk(n.opts.Dir, func(path string, info os.FileInfo, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		found[diskFile{path, st.Ino}] = st.Blocks * 512
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A segment of every shape comes whole, is pinned, stays through a GC, and is
// there when the peer is gone.
func TestFetch(t *testing.T) {
	a, b := start(t), start(t)
	connect(t, b, a)
	var all []added
	for i, size := range []int{0, 1, 100, leafSize, leafSize + 1, 5*leafSize + 7, 180 * leafSize} {
		x := add(t, a, sealedBytes(byte(i), size))
		fetch(t, b, x)
		mustPinned(t, b, x.root, true)
		all = append(all, x)
	}
	if err := b.Fetch(t.Context(), add(t, a, sealedBytes(99, 1000)).root, 0); err != nil {
		t.Errorf("of unknown size: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, x := range all {
		readBack(t, b, x, leafSize)
		fetch(t, b, x) // again, with nobody to ask
		for _, c := range append(x.inner, x.leaves...) {
			if err := b.Verify(t.Context(), c); err != nil {
				t.Error(err)
			}
		}
	}
	if st, err := b.Stat(); err != nil || st.Reserved != 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

// What is missing of a pinned root comes too.
func TestFetchMendsAPinnedRoot(t *testing.T) {
	a, b := start(t), start(t)
	connect(t, b, a)
	x := add(t, a, sealedBytes(1, 5*leafSize))
	fetch(t, b, x)
	for _, c := range []cid.Cid{x.leaves[3], x.inner[0]} {
		d, _ := digestOf(c)
		if err := os.Remove(b.files.path(d)); err != nil {
			t.Fatal(err)
		}
	}
	fetch(t, b, x)
	readBack(t, b, x, leafSize)

	rot(t, b, x.inner[0])
	if err := b.Remove(t.Context(), x.root); err != nil {
		t.Fatal(err)
	}
	rot(t, b, x.leaves[2]) // the hashes of what is here but not pinned are checked
	fetch(t, b, x)
	readBack(t, b, x, leafSize)
}

func TestManyFetchesOfOneRoot(t *testing.T) {
	a, b := start(t), start(t)
	connect(t, b, a)
	x := add(t, a, sealedBytes(1, 20*leafSize))
	var wg sync.WaitGroup
	gone, cancel := context.WithCancel(t.Context())
	for i := range 20 {
		wg.Go(func() {
			if i%4 == 0 {
				_ = b.Fetch(gone, x.root, int64(len(x.data)))
				return
			}
			if err := b.Fetch(context.Background(), x.root, int64(len(x.data))); err != nil {
				t.Error(err)
			}
		})
	}
	cancel()
	wg.Wait()
	readBack(t, b, x, leafSize)
	mustPinned(t, b, x.root, true)
}

// What cannot be had leaves nothing behind: no pin, no block, no reservation.
func TestFetchInVain(t *testing.T) {
	a, b := start(t), start(t, impatient)
	x := add(t, a, sealedBytes(1, 6*leafSize))
	before := blocksOf(t, b)
	if err := b.Fetch(t.Context(), x.root, 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("without a peer: %v", err)
	}
	connect(t, b, a)
	lost, _ := digestOf(x.leaves[4])
	if err := os.Remove(a.files.path(lost)); err != nil {
		t.Fatal(err)
	}
	if err := b.Fetch(t.Context(), x.root, int64(len(x.data))); !errors.Is(err, ErrNotFound) {
		t.Errorf("with a leaf that nobody has: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := b.Fetch(ctx, x.root, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("given up: %v", err)
	}
	mustPinned(t, b, x.root, false)
	if got := blocksOf(t, b); got != before {
		t.Errorf("%d blocks, %d before", got, before)
	}
	st, err := b.Stat()
	if err != nil || st.Reserved != 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

// limited is a node that may take room bytes more than a new one takes.
func limited(t testing.TB, room int64) *Node {
	t.Helper()
	n := start(t)
	empty, err := n.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	return reopen(t, n.opts.Dir, func(o *Options) { o.StorageMax = empty.Used + room })
}

// H69: a full node refuses before the first byte, and is never over its limit,
// whatever the size was said to be and however many come at once.
func TestFetchKeepsToTheQuota(t *testing.T) {
	const size, room = 3 * leafSize, 20 * leafSize
	for name, told := range map[string]int64{"told": size, "untold": 0, "lied to": 1} {
		t.Run(name, func(t *testing.T) {
			a, b := start(t), limited(t, room)
			connect(t, b, a)
			var segments []added
			for i := range 12 {
				segments = append(segments, add(t, a, sealedBytes(byte(i), size)))
			}
			var wg sync.WaitGroup
			var mu sync.Mutex
			held := 0
			for _, x := range segments {
				wg.Go(func() {
					err := b.Fetch(context.Background(), x.root, told)
					if err != nil && !errors.Is(err, ErrNoSpace) {
						t.Error(err)
					}
					if used := diskUsage(t, b); used > b.opts.StorageMax {
						t.Errorf("%d bytes on the disk, %d allowed", used, b.opts.StorageMax)
					}
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						held++
					}
				})
			}
			wg.Wait()
			for _, x := range segments { // those that were in each other's way
				if err := b.Fetch(t.Context(), x.root, told); err == nil {
					held++
				}
			}
			pinned := pinsOf(t, b)
			if len(pinned) != 6 {
				t.Errorf("%d of %d held, %d calls without an error; want 6", len(pinned), len(segments), held)
			}
			st, err := b.Stat()
			if err != nil || st.Reserved != 0 || st.Used > st.Max || st.Room() > st.Max-st.Used {
				t.Errorf("%+v, %v", st, err)
			}
			if want := 2 + 6*4; blocksOf(t, b) != want {
				t.Errorf("%d blocks, want %d", blocksOf(t, b), want)
			}
			if err := b.Purge(t.Context(), pinned[0]); err != nil {
				t.Fatal(err)
			}
			fresh := add(t, a, sealedBytes(100, size))
			if err := b.Fetch(t.Context(), fresh.root, told); err != nil {
				t.Errorf("after a purge there is room: %v", err)
			}
		})
	}
}

// A Fetch that is too large is refused without a question to peers.
func TestFetchWithoutRoomAsksNobody(t *testing.T) {
	b := limited(t, 4*leafSize)
	lone := add(t, start(t), sealedBytes(1, 100)).root
	if err := b.Fetch(t.Context(), lone, 5*leafSize); !errors.Is(err, ErrNoSpace) {
		t.Errorf("past StorageMax: %v", err)
	}
	free, err := diskFree(b.opts.Dir)
	if err != nil {
		t.Fatal(err)
	}
	c := start(t)
	if err := c.Fetch(t.Context(), lone, free+1<<30); !errors.Is(err, ErrNoSpace) {
		t.Errorf("past the end of the disk: %v", err)
	}
}

// What the node takes is known at the next start, after a crash too.
func TestUsedIsKnownAfterARestart(t *testing.T) {
	n := start(t)
	add(t, n, sealedBytes(1, 8*leafSize+5))
	before, err := n.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = reopen(t, n.opts.Dir)
	blocks := before.Used - int64(repoFolders)
	if n.space.blocks > blocks || n.space.blocks < 8*leafSize {
		t.Errorf("%d bytes of blocks after a restart, %d in all before", n.space.blocks, blocks)
	}
	exact := n.space.blocks
	if err := n.measureSpace(t.Context()); err != nil || n.space.blocks != exact {
		t.Errorf("counted %d, measured %d, %v", exact, n.space.blocks, err)
	}
	n.space.mu.Lock()
	n.saveSpace(exact+spaceStep, false) // as after a crash
	n.space.mu.Unlock()
	m := &Node{opts: n.opts, kubo: n.kubo, files: n.files}
	m.ctx, m.cancel = context.WithCancel(t.Context())
	defer m.cancel()
	if err := m.openSpace(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.running.Wait()
	if m.space.blocks != exact {
		t.Errorf("%d bytes of blocks after a crash, want %d", m.space.blocks, exact)
	}
}

// No GC takes what a Fetch brought and has not pinned yet.
func TestGCSparesFetches(t *testing.T) {
	a, b := start(t), start(t)
	connect(t, b, a)
	stop, collector := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				collector <- nil
				return
			default:
				if _, _, err := b.GC(context.Background()); err != nil {
					collector <- err
					return
				}
			}
		}
	}()
	var all []added
	for i := range 20 {
		x := add(t, a, sealedBytes(byte(i), (i%5+1)*leafSize/2))
		fetch(t, b, x)
		all = append(all, x)
	}
	close(stop)
	if err := <-collector; err != nil {
		t.Fatal(err)
	}
	for _, x := range all {
		readBack(t, b, x, leafSize)
	}
}

func TestPurge(t *testing.T) {
	n := start(t)
	empty := blocksOf(t, n)
	for _, size := range []int{0, 1, leafSize, 180 * leafSize} {
		x := add(t, n, sealedBytes(1, size))
		if size == leafSize {
			heat(t, n, x)
		}
		if err := n.Purge(t.Context(), x.root); err != nil {
			t.Fatal(err)
		}
		mustPinned(t, n, x.root, false)
		if got := blocksOf(t, n); got != empty {
			t.Errorf("%d bytes: %d blocks, %d before", size, got, empty)
		}
		if _, err := n.ReadBlockAt(t.Context(), x.root, make([]byte, 1), 0); size > 0 && !errors.Is(err, ErrNotFound) {
			t.Errorf("%d bytes: read after Purge: %v", size, err)
		}
		if err := n.Purge(t.Context(), x.root); err != nil {
			t.Errorf("second Purge: %v", err)
		}
	}
	if err := n.Verify(t.Context(), emptyBlock().Cid()); err != nil {
		t.Errorf("the empty block: %v", err)
	}
	used := n.space.blocks
	if err := n.measureSpace(t.Context()); err != nil || n.space.blocks != used {
		t.Errorf("counted %d, measured %d, %v", used, n.space.blocks, err)
	}
}

// What lies below a block that cannot be read goes too.
func TestPurgeOfARottenTree(t *testing.T) {
	n := start(t)
	empty := blocksOf(t, n)
	kept := add(t, n, sealedBytes(2, 3*leafSize))
	x := add(t, n, sealedBytes(1, 180*leafSize))
	for _, c := range x.inner {
		if c != x.root {
			rot(t, n, c)
			break
		}
	}
	if err := n.Purge(t.Context(), x.root); err != nil {
		t.Fatal(err)
	}
	if got := blocksOf(t, n); got != empty+4 {
		t.Errorf("%d blocks, want %d", got, empty+4)
	}
	readBack(t, n, kept, leafSize)
}

// awaitRun waits until n is fetching.
func awaitRun(n *Node) {
	for begun := false; !begun; {
		n.pulls.mu.Lock()
		begun = len(n.pulls.runs) == 1
		n.pulls.mu.Unlock()
	}
}

// A Purge ends the Fetch of its root that is under way, and wins.
func TestPurgeEndsAFetch(t *testing.T) {
	a, b := start(t), start(t, func(o *Options) { o.FetchTimeout = time.Hour })
	connect(t, b, a)
	lone := add(t, start(t), sealedBytes(1, 100)).root
	failed := make(chan error)
	go func() { failed <- b.Fetch(context.Background(), lone, 100) }()
	awaitRun(b)
	if err := b.Purge(t.Context(), lone); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, errPurged) {
		t.Errorf("Fetch: %v", err)
	}
}

func TestLeaves(t *testing.T) {
	n := start(t)
	for _, size := range []int{0, 1, leafSize, leafSize + 1, 200*leafSize + 3} {
		x := add(t, n, sealedBytes(1, size))
		leaves, err := n.Leaves(t.Context(), x.root)
		if err != nil || len(leaves) != len(x.leaves) {
			t.Fatalf("%d bytes: %d leaves, %v; want %d", size, len(leaves), err, len(x.leaves))
		}
		left := int64(size)
		for i, l := range leaves {
			if l.CID != x.leaves[i] || l.Size != min(left, leafSize) {
				t.Errorf("%d bytes: leaf %d is %v", size, i, l)
			}
			left -= l.Size
		}
	}
	lone := add(t, start(t), sealedBytes(9, 100)).root
	if _, err := n.Leaves(t.Context(), lone); !errors.Is(err, ErrNotFound) {
		t.Errorf("leaves of what is not here: %v", err)
	}
	x := add(t, n, sealedBytes(2, 3*leafSize))
	rot(t, n, x.root)
	if _, err := n.Leaves(t.Context(), x.root); !errors.Is(err, ErrRotten) {
		t.Errorf("leaves of a rotten root: %v", err)
	}
}

func TestBlocks(t *testing.T) {
	n := start(t)
	want := map[string]bool{}
	for _, b := range seeds() {
		want[string(b.Cid().Hash())] = true
	}
	x := add(t, n, sealedBytes(1, 5*leafSize))
	for _, c := range append(x.inner, x.leaves...) {
		want[string(c.Hash())] = true
	}
	for c, err := range n.Blocks(t.Context()) {
		if err != nil || c.Prefix().Codec != cid.Raw || c.Version() != 1 || !want[string(c.Hash())] {
			t.Fatalf("%s, %v", c, err)
		}
		delete(want, string(c.Hash()))
	}
	if len(want) > 0 {
		t.Errorf("%d blocks are not listed", len(want))
	}
	for range n.Blocks(t.Context()) {
		break
	}
}

// What came while a GC runs is purged all the same: the GC alone spares it.
func TestPurgeWhileCollecting(t *testing.T) {
	n := start(t)
	before := blocksOf(t, n)
	n.flight.beginGC()
	a := add(t, n, sealedBytes(1, 3*leafSize))
	if err := n.Purge(t.Context(), a.root); err != nil {
		t.Fatal(err)
	}
	if got := blocksOf(t, n); got != before {
		t.Errorf("%d blocks, %d before", got, before)
	}
	n.flight.endGC()
}
