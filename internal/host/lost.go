package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/ipfs/go-cid"
	"golang.org/x/sync/errgroup"

	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/member"
)

const (
	// bareFile is in the node's folder from when its blocks are found gone until
	// what was held is given up: a crash in between changes nothing.
	bareFile = "bare"
	// blocksDir is where the node keeps its blocks.
	blocksDir = "blocks"
	// tells is how many segments are given up at once: they share the cost.
	tells = 64
)

// lookForBlocks finds out whether the blocks are gone, folder and all.
func (h *Host) lookForBlocks() error {
	mark := filepath.Join(h.o.Node.Dir, bareFile)
	if _, err := os.Stat(mark); err == nil {
		h.bare = true
		return nil
	}
	entries, err := os.ReadDir(filepath.Join(h.o.Node.Dir, blocksDir))
	if err == nil && len(entries) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	h.bare = true
	return os.WriteFile(mark, []byte(h.o.Now().UTC().String()+"\n"), 0o600)
}

// forsake gives up all that was held, since its blocks are gone: the origin
// hears first that it is lost, and may order it anew. It is durable on return.
func (h *Host) forsake(ctx context.Context) error {
	var roots []cid.Cid
	for root, err := range h.node.Pins(ctx) {
		if err != nil {
			return err
		}
		roots = append(roots, root)
	}
	h.gone = h.shelf.All()
	for _, r := range h.gone {
		roots = append(roots, r.Root)
	}
	h.o.Log.Warn("the blocks of this host are missing: the origin is told that they are lost, and they are fetched again", "segments", len(h.gone))
	const reason = "its blocks are missing on the disk"
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(tells)
	for _, root := range roots {
		all.Go(func() error {
			if !h.denied.Has(root) {
				if err := h.line.Tell(ctx, control.Receipt{Root: root, Outcome: control.Lost, Reason: reason}); err != nil {
					return err
				}
			}
			return errors.Join(h.node.Remove(ctx, root), h.shelf.Delete(ctx, root))
		})
	}
	if err := all.Wait(); err != nil {
		return fmt.Errorf("give up what is lost: %w", err)
	}
	return os.Remove(filepath.Join(h.o.Node.Dir, bareFile))
}

// proveLater answers audits from when the origin knows what is lost: until then
// it may ask for that, and hold against the host what the host says by itself.
func (h *Host) proveLater(ctx context.Context) {
	if h.line.Sent(ctx) != nil {
		return
	}
	p := h.prove()
	close(h.proving)
	<-ctx.Done()
	if err := p.Close(); err != nil {
		h.o.Log.Warn("end the audits", "err", err)
	}
}

// proves returns once audits are answered. What is held may be audited at once,
// so nothing new is held before.
func (h *Host) proves(ctx context.Context) error {
	select {
	case <-h.proving:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// regain fetches again what was given up at the start, where nobody orders it:
// the pinset still gives it to a storage peer. What fails is left to the pinset.
func (h *Host) regain(ctx context.Context) {
	if h.member.Role != member.Storage || len(h.gone) == 0 {
		return
	}
	select {
	case <-h.line.Ready():
	case <-ctx.Done():
		return
	}
	var all errgroup.Group
	all.SetLimit(holds)
	for _, r := range h.gone {
		all.Go(func() error {
			if ctx.Err() != nil {
				return nil
			}
			err := pinset{h}.Fetch(ctx, r.Root, r.Size)
			if ctx.Err() == nil {
				h.tell(r.Root, err)
			}
			return nil
		})
	}
	_ = all.Wait() // none fails
}

// losses are segments that are held by the records, and were told to be lost; or
// blocks that are bad.
type losses struct {
	mu    sync.Mutex
	roots map[string]struct{} // multihashes
}

func (l *losses) add(root cid.Cid) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.roots == nil {
		l.roots = map[string]struct{}{}
	}
	l.roots[string(root.Hash())] = struct{}{}
}

func (l *losses) remove(root cid.Cid) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.roots, string(root.Hash()))
}

func (l *losses) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.roots)
}

func (l *losses) has(root cid.Cid) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.roots[string(root.Hash())]
	return ok
}

func (l *losses) len() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(len(l.roots))
}

// held is how many segments are here, as far as is known.
func (h *Host) held() int64 { return max(0, int64(h.shelf.Len())-h.lost.len()) }

// hands carry out orders, and know what is no longer lost by them.
type hands struct{ h *Host }

// Carry implements control.Handler.
func (x hands) Carry(ctx context.Context, o control.Order) (control.Outcome, string) {
	if o.Verb == control.Hold {
		if err := x.h.proves(ctx); err != nil {
			return control.Failed, err.Error()
		}
	}
	outcome, reason := x.h.desk.Carry(ctx, o)
	if outcome == control.Done {
		x.h.lost.remove(o.Root)
	}
	return outcome, reason
}
