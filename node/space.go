package node

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"

	blocks "github.com/ipfs/go-block-format"
)

// diskReserve is left free on the disk, so that removing, and the catalogue
// beside the node, work on when adding does not.
const diskReserve = 8 << 20

// space knows how many bytes the repo takes: measured at the start and after
// each GC, counted in between.
type space struct{ used atomic.Int64 }

// A Stat says how much room there is.
type Stat struct {
	Used int64 // bytes of the repo
	Max  int64 // Options.StorageMax; 0: no limit
	Free int64 // bytes free on its disk
}

// Stat tells how much room there is.
func (n *Node) Stat() (Stat, error) {
	free, err := diskFree(n.opts.Dir)
	if err != nil {
		return Stat{}, fmt.Errorf("stat node %q: %w", n.opts.Dir, err)
	}
	return Stat{Used: n.space.used.Load(), Max: n.opts.StorageMax, Free: free}, nil
}

func (n *Node) measureSpace(ctx context.Context) error {
	used, err := n.kubo.Repo.GetStorageUsage(ctx)
	if err != nil {
		return fmt.Errorf("measure the repo: %w", err)
	}
	n.space.used.Store(int64(used))
	return nil
}

// put makes a block durable, if there is room for it.
func (n *Node) put(ctx context.Context, b blocks.Block) error {
	size := int64(len(b.RawData()))
	if used := n.space.used.Add(size); n.opts.StorageMax > 0 && used > n.opts.StorageMax {
		n.space.used.Add(-size)
		return fmt.Errorf("store block %s: %w: the node may take %d bytes", b.Cid(), ErrNoSpace, n.opts.StorageMax)
	}
	err := n.checkDisk(size)
	if err == nil {
		err = n.kubo.Blockstore.Put(ctx, b)
	}
	if err != nil {
		n.space.used.Add(-size)
		return fmt.Errorf("store block %s: %w", b.Cid(), noSpace(err))
	}
	return nil
}

func (n *Node) checkDisk(size int64) error {
	free, err := diskFree(n.opts.Dir)
	if err == nil && free < size+diskReserve {
		err = syscall.ENOSPC
	}
	return err
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
