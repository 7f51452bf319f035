package node

import (
	"context"
	"encoding/binary"
	"sync/atomic"

	"github.com/maypok86/otter/v2"
)

const (
	// hotReads is how many times its size must be read of a leaf, while all
	// leaves together are read that many times the size of the cache, before
	// the leaf is cached: it then has more than its share of the reads. A set
	// of leaves that does not fit, and is read evenly, is not cached in turns.
	hotReads = 8
	// tallySlots bounds how many leaves are watched at a time.
	tallySlots = 8 << 10
	// entryOverhead is what an entry costs beside its bytes, about.
	entryOverhead = 256
)

// hotBlocks caches, in bounded memory, blocks that are read again and again.
// A leaf that is read once, in whatever pieces, costs it no copy.
type hotBlocks struct {
	cache  *otter.Cache[digest, []byte] // nil: off
	tally  []atomic.Uint64              // what was read of which leaf in this window
	read   atomic.Int64                 // bytes of all leaves in this window
	window int64                        // bytes after which the next one begins
}

func newHotBlocks(bytes int64) (*hotBlocks, error) {
	if bytes < 0 {
		return &hotBlocks{}, nil
	}
	cache, err := otter.New(&otter.Options[digest, []byte]{
		MaximumWeight: uint64(bytes),
		Weigher:       func(_ digest, b []byte) uint32 { return uint32(len(b) + entryOverhead) },
	})
	return &hotBlocks{cache: cache, tally: make([]atomic.Uint64, tallySlots), window: hotReads * bytes}, err
}

// get returns a cached block, or one that this read of want bytes makes hot,
// which is then read from files, once however many ask.
func (h *hotBlocks) get(d digest, want int, files blockFiles) ([]byte, bool) {
	if h.cache == nil {
		return nil, false
	}
	if h.read.Add(int64(want)) >= h.window {
		h.newWindow()
	}
	if b, ok := h.cache.GetIfPresent(d); ok {
		return b, true
	}
	if !h.heats(d, want) {
		return nil, false
	}
	b, err := h.cache.Get(context.Background(), d, otter.LoaderFunc[digest, []byte](
		func(context.Context, digest) ([]byte, error) { return files.read(d) }))
	return b, err == nil
}

// newWindow forgets what was read.
func (h *hotBlocks) newWindow() {
	h.read.Store(0)
	for i := range h.tally {
		h.tally[i].Store(0)
	}
}

// heats counts a read and reports whether the block is hot now. Of two blocks
// that share a slot the one that is read more stays.
func (h *hotBlocks) heats(d digest, want int) bool {
	const countBits = 32
	slot := &h.tally[binary.LittleEndian.Uint32(d[:])%tallySlots]
	tag := uint64(binary.LittleEndian.Uint32(d[4:])) << countBits
	old := slot.Load()
	count := uint64(want)
	if old>>countBits == tag>>countBits {
		count += old & (1<<countBits - 1)
	} else if rival := old & (1<<countBits - 1); rival > count {
		slot.CompareAndSwap(old, old-count) // the rival cools
		return false
	}
	if count >= hotReads*leafSize {
		slot.CompareAndSwap(old, 0)
		return true
	}
	slot.CompareAndSwap(old, tag|count) // a lost race loses one count of many
	return false
}

// put caches a block that there is no file of.
func (h *hotBlocks) put(d digest, b []byte) {
	if h.cache != nil {
		h.cache.Set(d, b)
	}
}

// forget drops a block whose bytes on disk changed or went. A load that is
// under way is not kept.
func (h *hotBlocks) forget(d digest) {
	if h.cache != nil {
		h.cache.Invalidate(d)
	}
}
