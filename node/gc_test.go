package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
)

// gate gives data up to hold, says so, and the rest once opened.
type gate struct {
	data    []byte
	hold    int
	reached chan struct{}
	open    chan struct{}
	off     int
}

func newGate(data []byte, hold int) *gate {
	return &gate{data: data, hold: hold, reached: make(chan struct{}), open: make(chan struct{})}
}

func (g *gate) Read(p []byte) (int, error) {
	end := len(g.data)
	if g.off < g.hold {
		end = g.hold
	} else if g.off == g.hold {
		close(g.reached)
		<-g.open
	}
	if g.off == len(g.data) {
		return 0, io.EOF
	}
	m := copy(p, g.data[g.off:end])
	g.off += m
	return m, nil
}

// H72: no block of an add is lost to garbage collections that run all the
// while, and no collection waits for an upload that stands still.
func TestGCSparesAddsInFlight(t *testing.T) {
	n := start(t)
	stalled := newGate(sealedBytes(250, 5*leafSize+11), 3*leafSize)
	type result struct {
		a   added
		err error
	}
	slow := make(chan result, 1)
	go func() {
		root, leaves, inner, err := n.Add(context.Background(), stalled)
		slow <- result{added{stalled.data, root, leaves, inner}, err}
	}()
	<-stalled.reached

	stop, collector := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				collector <- nil
				return
			default:
				if _, _, err := n.GC(context.Background()); err != nil {
					collector <- err
					return
				}
			}
		}
	}()
	all := addMany(t, n, 8, 125)
	close(stop)
	if err := <-collector; err != nil {
		t.Fatal(err)
	}
	if removed, _, err := n.GC(t.Context()); err != nil || removed != 0 {
		t.Errorf("last GC removed %d, %v", removed, err)
	}
	close(stalled.open)
	r := <-slow
	if r.err != nil {
		t.Fatal(r.err)
	}
	for _, a := range append(all, r.a) {
		readBack(t, n, a, leafSize)
	}
	if pins := pinsOf(t, n); len(pins) != len(all)+1 {
		t.Errorf("%d pins after %d adds", len(pins), len(all)+1)
	}
}

func addMany(t *testing.T, n *Node, callers, each int) (all []added) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 0))
			for range each {
				data := make([]byte, 1000+r.IntN(3000))
				for j := range data {
					data[j] = byte(r.Uint32())
				}
				root, leaves, inner, err := n.Add(context.Background(), bytes.NewReader(data))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				all = append(all, added{data, root, leaves, inner})
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return all
}

// H73: what two roots share stays while one of them is pinned.
func TestGCKeepsSharedBlocks(t *testing.T) {
	n := start(t)
	shared, own1, own2 := sealedBytes(1, leafSize), sealedBytes(2, leafSize), sealedBytes(3, leafSize)
	a := add(t, n, append(bytes.Clone(shared), own1...))
	b := add(t, n, append(bytes.Clone(shared), own2...))
	if err := n.Remove(t.Context(), a.root); err != nil {
		t.Fatal(err)
	}
	removed, freed, err := n.GC(t.Context())
	if err != nil || removed != 2 || freed < leafSize || freed > leafSize+1000 {
		t.Errorf("GC removed %d blocks, %d bytes, %v; want one leaf and one root", removed, freed, err)
	}
	readBack(t, n, b, leafSize)
	if err := n.Verify(t.Context(), a.leaves[1]); !errors.Is(err, ErrNotFound) {
		t.Errorf("the leaf that only the removed root had: %v", err)
	}
	if err := n.Remove(t.Context(), a.root); err != nil {
		t.Errorf("second Remove: %v", err)
	}
}

// H72: pinning what is there already is safe from a GC as well.
func TestPinAgain(t *testing.T) {
	n := start(t)
	a := add(t, n, sealedBytes(1, 3*leafSize))
	if err := n.Remove(t.Context(), a.root); err != nil {
		t.Fatal(err)
	}
	if err := n.Pin(t.Context(), a.root); err != nil {
		t.Fatal(err)
	}
	if removed, _, err := n.GC(t.Context()); err != nil || removed != 0 {
		t.Errorf("GC removed %d, %v", removed, err)
	}
	readBack(t, n, a, leafSize)
}

// A GC that cannot see all that is pinned takes nothing.
func TestGCTakesNothingWhenItCannotSee(t *testing.T) {
	n := start(t)
	kept := add(t, n, sealedBytes(1, 3*leafSize))
	gone := add(t, n, sealedBytes(2, 1000))
	if err := n.Remove(t.Context(), gone.root); err != nil {
		t.Fatal(err)
	}
	rot(t, n, kept.root)
	if removed, _, err := n.GC(t.Context()); err == nil || removed != 0 {
		t.Errorf("GC removed %d, %v", removed, err)
	}
	readBack(t, n, kept, leafSize)
	readBack(t, n, gone, leafSize)
	if _, _, err := n.GC(canceled()); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled GC: %v", err)
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestFailedAddLeavesOnlyGarbage(t *testing.T) {
	n := start(t)
	broken := errors.New("upload broke")
	data := sealedBytes(1, 3*leafSize)
	_, _, _, err := n.Add(t.Context(), io.MultiReader(bytes.NewReader(data), errReader{broken}))
	if !errors.Is(err, broken) {
		t.Errorf("Add: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	g := newGate(sealedBytes(2, 4*leafSize), 2*leafSize)
	canceled := make(chan error)
	go func() {
		_, _, _, err := n.Add(ctx, g)
		canceled <- err
	}()
	<-g.reached
	cancel()
	close(g.open)
	if err := <-canceled; !errors.Is(err, context.Canceled) {
		t.Errorf("canceled Add: %v", err)
	}

	if pins := pinsOf(t, n); len(pins) != 0 {
		t.Errorf("pins %v", pins)
	}
	if removed, _, err := n.GC(t.Context()); err != nil || removed < 5 {
		t.Errorf("GC removed %d, %v", removed, err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// A block that GC took is not served from memory.
func TestGCForgetsHotBlocks(t *testing.T) {
	n := start(t)
	a := add(t, n, sealedBytes(1, leafSize))
	heat(t, n, a)
	if err := n.Remove(t.Context(), a.root); err != nil {
		t.Fatal(err)
	}
	readBack(t, n, a, leafSize)
	if _, _, err := n.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := n.ReadBlockAt(t.Context(), a.root, make([]byte, 1), 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("read after GC: %v", err)
	}
}

// heat reads a until it is served from memory.
func heat(t *testing.T, n *Node, a added) {
	t.Helper()
	d, _ := digestOf(a.root)
	for range 2 * hotReads { // a new window may begin on the way
		p := make([]byte, leafSize)
		if _, err := n.ReadBlockAt(t.Context(), a.root, p, 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if _, ok := n.hot.cache.GetIfPresent(d); ok {
			return
		}
	}
	t.Fatal("a leaf that is read again and again is not cached")
}

// Whole reads once, in whatever pieces, and random ranges cost no cache.
func TestReadOnceIsNotCached(t *testing.T) {
	n := start(t)
	a := add(t, n, sealedBytes(1, 8*leafSize))
	readBack(t, n, a, 64<<10)
	readBack(t, n, a, 10_000)
	if m := n.hot.cache.EstimatedSize(); m != 0 {
		t.Errorf("%d leaves are cached", m)
	}
}

func TestCacheIsBounded(t *testing.T) {
	n := start(t, func(o *Options) { o.CacheBytes = 4 * leafSize })
	for seed := range byte(8) {
		a := add(t, n, sealedBytes(seed, leafSize))
		for range 2 * hotReads {
			readBack(t, n, a, leafSize)
		}
	}
	n.hot.cache.CleanUp()
	if w := n.hot.cache.WeightedSize(); w == 0 || w > 4*leafSize {
		t.Errorf("the cache of %d bytes holds %d", 4*leafSize, w)
	}
}

// Leaves that are read evenly, and do not fit, do not take turns in the cache:
// each turn would cost more than it saves.
func TestEvenReadsAreNotCached(t *testing.T) {
	n := start(t, func(o *Options) { o.CacheBytes = 2 * leafSize })
	a := add(t, n, sealedBytes(1, 16*leafSize))
	for range 3 * hotReads {
		readBack(t, n, a, leafSize)
	}
	if m := n.hot.cache.EstimatedSize(); m != 0 {
		t.Errorf("%d leaves are cached", m)
	}
}

func TestStorageMax(t *testing.T) {
	n := start(t)
	empty, err := n.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = reopen(t, n.opts.Dir, func(o *Options) { o.StorageMax = empty.Used + 3<<20 })
	a := add(t, n, sealedBytes(1, 1<<20))
	_, _, _, err = n.Add(t.Context(), bytes.NewReader(sealedBytes(2, 4<<20)))
	if !errors.Is(err, ErrNoSpace) {
		t.Fatalf("add past StorageMax: %v", err)
	}
	readBack(t, n, a, leafSize)
	if st, err := n.Stat(); err != nil || st.Used > st.Max || st.Free <= 0 {
		t.Errorf("stat %+v, %v", st, err)
	}
	if _, _, err := n.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	add(t, n, sealedBytes(3, 1<<20))
}
