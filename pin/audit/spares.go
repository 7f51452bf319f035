package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
)

// spareSize is a nonce, its answer, and how many leaves that is about.
const spareSize = 16 + 32 + 1

// MaxSpares is how many spare answers are kept of one root at most.
const MaxSpares = 1000

// spare is a challenge of which the answer is known beforehand.
type spare struct {
	nonce [16]byte
	answer
}

func (s spare) append(b []byte) []byte {
	b = append(append(b, s.nonce[:]...), s.mac[:]...)
	return append(b, byte(s.leaves))
}

// spares are secret answers on the disk, one record for each root that has any.
type spares struct {
	mu    sync.Mutex
	store datastore.Batching
}

func spareKey(root cid.Cid) datastore.Key {
	return datastore.NewKey("/audit/spare").ChildString(root.Hash().HexString())
}

func (s *spares) get(ctx context.Context, root cid.Cid) ([]byte, error) {
	b, err := s.store.Get(ctx, spareKey(root))
	if errors.Is(err, datastore.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read spare answers of %s: %w", root, err)
	}
	if len(b)%spareSize != 0 {
		return nil, fmt.Errorf("read spare answers of %s: %d bytes, which no number of them has", root, len(b))
	}
	return slices.Clone(b), nil
}

// count is how many spares there are of root.
func (s *spares) count(ctx context.Context, root cid.Cid) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.get(ctx, root)
	return len(b) / spareSize, err
}

// take removes one spare for each root, as often as it is named; on return they
// are gone for good, so that no nonce is ever sent twice. What it says of a root
// without any is nil.
func (s *spares) take(ctx context.Context, roots []cid.Cid) ([]*spare, error) {
	if len(roots) == 0 {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out, left := make([]*spare, len(roots)), map[string][]byte{}
	batch, err := s.store.Batch(ctx)
	if err != nil {
		return nil, fmt.Errorf("take spare answers: %w", err)
	}
	for i, root := range roots {
		name := string(root.Hash())
		b, ok := left[name]
		if !ok {
			if b, err = s.get(ctx, root); err != nil {
				return nil, err
			}
		}
		if len(b) == 0 {
			continue
		}
		last := b[len(b)-spareSize:]
		left[name] = b[:len(b)-spareSize]
		sp := &spare{}
		copy(sp.nonce[:], last)
		copy(sp.mac[:], last[16:])
		sp.leaves = int(last[48])
		out[i] = sp
		if err := s.put(ctx, batch, root, left[name]); err != nil {
			return nil, err
		}
	}
	if err := batch.Commit(ctx); err != nil {
		return nil, fmt.Errorf("take spare answers: %w", err)
	}
	if err := s.store.Sync(ctx, datastore.NewKey("/audit/spare")); err != nil {
		return nil, fmt.Errorf("take spare answers: %w", err)
	}
	return out, nil
}

func (s *spares) put(ctx context.Context, w datastore.Write, root cid.Cid, b []byte) error {
	var err error
	if len(b) == 0 {
		err = w.Delete(ctx, spareKey(root))
	} else {
		err = w.Put(ctx, spareKey(root), b)
	}
	if err != nil {
		return fmt.Errorf("write spare answers of %s: %w", root, err)
	}
	return nil
}

// add keeps more spares of root, up to most in all.
func (s *spares) add(ctx context.Context, root cid.Cid, more []spare, most int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.get(ctx, root)
	if err != nil {
		return err
	}
	for _, m := range more {
		if len(b)/spareSize >= most {
			break
		}
		b = m.append(b)
	}
	return s.put(ctx, s.store, root, b)
}

// forget deletes the spares of root.
func (s *spares) forget(ctx context.Context, root cid.Cid) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put(ctx, s.store, root, nil)
}

// newNonces draws n nonces.
func newNonces(r io.Reader, n int) ([][16]byte, error) {
	out := make([][16]byte, n)
	for i := range out {
		if _, err := io.ReadFull(r, out[i][:]); err != nil {
			return nil, fmt.Errorf("draw a nonce: %w", err)
		}
	}
	return out, nil
}
