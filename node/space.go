package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	blocks "github.com/ipfs/go-block-format"
	ds "github.com/ipfs/go-datastore"
)

const (
	// diskReserve is left free on the disk, so that removing, and the catalogue
	// beside the node, work on when adding does not.
	diskReserve = 8 << 20
	// fileUnit is what the size of a block's file is rounded up to, and
	// fileName what its name in its folder takes, about.
	fileUnit = 4 << 10
	fileName = 128
	// repoFolders is what the folders and small files of a repo take.
	repoFolders = (1<<10 + 32) * fileUnit
	// metaSlack is what LevelDB may take besides, while it rewrites its tables:
	// so much, and an eighth of what it has.
	metaSlack = 1 << 20
	// metaAge and metaWrites say how soon the metadata is measured again.
	metaAge    = 5 * time.Second
	metaWrites = 64
	// spaceStep is by how much the blocks may grow until a new bound of them is
	// made durable.
	spaceStep = 64 << 20
)

// spaceKey is where the bound of what blocks take is kept: 8 bytes, big
// endian, and one that says whether it is exact.
const spaceKey = "/local/space"

// space counts the bytes that the repo takes, and those that are promised.
//
// What blocks take is known without looking at them all: a bound of it is
// durable before it is passed, and the exact number once the Node was closed
// in good order. After a crash the bound is used until all were looked at.
type space struct {
	mu       sync.Mutex
	blocks   int64 // what block files take
	reserved int64 // what was promised and is not written yet
	bound    int64 // durable; never less than blocks
	written  int64 // of blocks, since the last measuring began
	meta     int64
	metaAt   time.Time
	metaDue  int // writes until meta is measured again
}

// A Stat says how much room there is.
type Stat struct {
	Used     int64 // bytes that the repo takes, and those that are Reserved
	Reserved int64 // bytes that running Fetches were promised
	Max      int64 // Options.StorageMax; 0: no limit
	Free     int64 // bytes free on its disk
}

// Room is how many bytes more the repo may take: what is left of Max and of
// the disk, the smaller of the two.
func (s Stat) Room() int64 {
	room := s.Free - diskReserve - s.Reserved
	if s.Max > 0 {
		room = min(room, s.Max-s.Used)
	}
	return max(0, room)
}

// Stat tells how much room there is.
func (n *Node) Stat() (Stat, error) {
	free, err := diskFree(n.opts.Dir)
	if err != nil {
		return Stat{}, fmt.Errorf("stat node %q: %w", n.opts.Dir, err)
	}
	s := &n.space
	s.mu.Lock()
	defer s.mu.Unlock()
	n.measureMeta(true)
	return Stat{Used: s.used(), Reserved: s.reserved, Max: n.opts.StorageMax, Free: free}, nil
}

// used is called with mu held.
func (s *space) used() int64 {
	return repoFolders + s.blocks + s.reserved + s.meta + s.meta/8 + metaSlack
}

// fileCost is what a block of that size takes on the disk.
func fileCost(size int64) int64 {
	return (size+fileUnit-1)/fileUnit*fileUnit + fileName
}

// measureMeta is called with mu held.
func (n *Node) measureMeta(now bool) {
	s := &n.space
	if !now && s.metaDue > 0 && time.Since(s.metaAt) < metaAge {
		return
	}
	entries, err := os.ReadDir(filepath.Join(n.opts.Dir, metaDir))
	if err != nil {
		return // the last number stands
	}
	s.meta = 0
	for _, e := range entries {
		if info, err := e.Info(); err == nil { // else it went
			s.meta += fileCost(info.Size())
		}
	}
	s.metaAt, s.metaDue = time.Now(), metaWrites
}

// A reservation is room that was promised to one Fetch or to one block. What
// is needed beyond it is asked for as it comes.
type reservation struct {
	node *Node
	left int64 // under space.mu
}

// reserve promises room for bytes that will be written, or returns ErrNoSpace.
func (n *Node) reserve(bytes int64) (*reservation, error) {
	r := &reservation{node: n}
	n.space.mu.Lock()
	defer n.space.mu.Unlock()
	if err := r.grow(bytes); err != nil {
		return nil, err
	}
	return r, nil
}

// grow is called with mu held.
func (r *reservation) grow(bytes int64) error {
	n, s := r.node, &r.node.space
	n.measureMeta(false)
	if n.opts.StorageMax > 0 && s.used()+bytes > n.opts.StorageMax {
		return fmt.Errorf("%w: the node may take %d bytes", ErrNoSpace, n.opts.StorageMax)
	}
	free, err := diskFree(n.opts.Dir)
	if err == nil && free < s.reserved+bytes+diskReserve {
		err = syscall.ENOSPC
	}
	if err != nil {
		return noSpace(err)
	}
	s.reserved += bytes
	r.left += bytes
	return nil
}

// claim takes what a block costs out of the reservation, which grows if it has
// to. settle must follow.
func (r *reservation) claim(cost int64) error {
	s := &r.node.space
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.left < cost {
		if err := r.grow(cost - r.left); err != nil {
			return err
		}
	}
	r.left -= cost
	return nil
}

// settle counts a block that was claimed, and written in the place of one that
// cost old, or that was not written.
func (r *reservation) settle(cost, old int64, written bool) {
	s := &r.node.space
	s.mu.Lock()
	defer s.mu.Unlock()
	if !written {
		r.left += cost
		return
	}
	s.reserved -= cost
	s.blocks += cost - old
	s.written += cost
	s.metaDue--
	if s.blocks > s.bound {
		r.node.saveSpace(s.blocks+spaceStep, false)
	}
}

// release gives back what was not written.
func (r *reservation) release() {
	r.node.space.mu.Lock()
	defer r.node.space.mu.Unlock()
	r.node.space.reserved -= r.left
	r.left = 0
}

// removed counts a block of that size that was deleted.
func (s *space) removed(size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks = max(0, s.blocks-fileCost(size))
}

// saveSpace makes a bound durable. It is called with mu held, or before the
// Node is used.
func (n *Node) saveSpace(bound int64, exact bool) {
	value := binary.BigEndian.AppendUint64(nil, uint64(bound))
	if exact {
		value = append(value, 1)
	} else {
		value = append(value, 0)
	}
	ctx := context.Background()
	err := n.Store().Put(ctx, ds.NewKey(spaceKey), value)
	if err == nil {
		err = n.Store().Sync(ctx, ds.NewKey(spaceKey))
	}
	if err != nil {
		n.opts.Logger.Warn("note what the blocks take", "err", err) // the next block tries again
		return
	}
	n.space.bound = bound
}

// openSpace finds out what the blocks take.
func (n *Node) openSpace(ctx context.Context) error {
	s := &n.space
	value, err := n.Store().Get(ctx, ds.NewKey(spaceKey))
	if err != nil && !errors.Is(err, ds.ErrNotFound) {
		return fmt.Errorf("read what the blocks take: %w", err)
	}
	exact := false
	if len(value) == 9 {
		s.blocks = int64(binary.BigEndian.Uint64(value))
		exact = value[8] == 1
	} else if err := n.measureSpace(ctx); err != nil {
		return err
	} else {
		exact = true
	}
	n.measureMeta(true)
	n.saveSpace(s.blocks+spaceStep, false)
	if !exact {
		n.running.Go(func() {
			if err := n.measureSpace(n.ctx); err != nil && n.ctx.Err() == nil {
				n.opts.Logger.Warn("measure the blocks", "err", err)
			}
		})
	}
	return nil
}

// closeSpace notes what the blocks take for the next start.
func (n *Node) closeSpace() {
	n.space.mu.Lock()
	defer n.space.mu.Unlock()
	n.saveSpace(n.space.blocks, true)
}

// measureSpace looks at all blocks. What is written meanwhile may count twice,
// what is removed meanwhile may still count: the result is never too low.
func (n *Node) measureSpace(ctx context.Context) error {
	s := &n.space
	s.mu.Lock()
	s.written = 0
	s.mu.Unlock()
	var sum int64
	for b, err := range n.files.all() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("measure the repo: %w", err)
		}
		if size, ok := n.files.size(b); ok {
			sum += fileCost(size)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks = sum + s.written
	return nil
}

// put makes a block durable, if there is room for it.
func (n *Node) put(ctx context.Context, b blocks.Block) error {
	r, err := n.reserve(fileCost(int64(len(b.RawData()))))
	if err != nil {
		return fmt.Errorf("store block %s: %w", b.Cid(), err)
	}
	defer r.release()
	return n.putReserved(ctx, b, r)
}

// putReserved makes a block durable in room that was reserved.
func (n *Node) putReserved(ctx context.Context, b blocks.Block, r *reservation) error {
	cost, old := fileCost(int64(len(b.RawData()))), int64(0)
	if d, ok := digestOf(b.Cid()); ok {
		if size, there := n.files.size(d); there {
			old = fileCost(size)
		}
	}
	err := r.claim(cost)
	if err == nil {
		err = noSpace(n.kubo.Blockstore.Put(ctx, b))
		if errors.Is(err, fs.ErrNotExist) {
			err = ErrNoFolder
		}
		r.settle(cost, old, err == nil)
	}
	if err != nil {
		return fmt.Errorf("store block %s: %w", b.Cid(), err)
	}
	return nil
}

// noSpace makes an error of a full disk one that wraps ErrNoSpace.
func noSpace(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

func diskFree(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
