package musen

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/policy"
)

// A Report is what Verify found of one segment.
type Report struct {
	CID    cid.Cid
	Blocks int   // leaves read back, hash checked
	Mended int   // blocks that were replaced by those of peers while Repair ran
	Chunks int64 // opened
	Bytes  int64 // of audio
	Err    error // nil: all is well
}

// BlockChecker checks the hash of a block that is held here, and of the blocks
// between it and its leaves. Its errors name the block.
type BlockChecker interface {
	Verify(ctx context.Context, c cid.Cid) error
}

// Verify reads every block of a segment back, checks its hash and opens every
// chunk. What is wrong with the segment stands in the report; the error is for
// what kept Verify from looking.
func (e *Edge) Verify(ctx context.Context, g policy.Grant, blocks BlockChecker, c cid.Cid) (Report, error) {
	r := Report{CID: c}
	stream, err := e.Open(ctx, g, policy.Audit, c)
	switch {
	case errors.Is(err, ErrUnavailable):
		r.Err = err
		return r, nil
	case err != nil:
		return r, fmt.Errorf("verify %s: %w", c, err)
	}
	s := stream.Segment()
	r.CID = s.CID
	for _, leaf := range s.Leaves {
		if err := blocks.Verify(ctx, leaf); err != nil {
			r.Err = errors.Join(r.Err, err)
			continue
		}
		r.Blocks++
	}
	if len(s.Leaves) > 1 { // else the root is the leaf
		if err := blocks.Verify(ctx, s.CID); err != nil {
			r.Err = errors.Join(r.Err, fmt.Errorf("root: %w", err))
		}
	}
	if r.Err != nil {
		if ctx.Err() == nil {
			e.damaged(s.CID, r.Err)
		}
		return r, ctx.Err()
	}
	count := &counter{}
	r.Bytes, r.Err = stream.WriteRange(ctx, count, 0, stream.Size())
	r.Chunks = count.writes
	if r.Err == nil && e.Sound != nil {
		e.Sound(s.CID)
	}
	return r, ctx.Err()
}

// counter counts the chunks that a stream writes to it.
type counter struct{ writes int64 }

var _ io.Writer = (*counter)(nil)

func (c *counter) Write(p []byte) (int, error) {
	c.writes++
	return len(p), nil
}
