package musen

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/policy"
)

// A Mender replaces blocks that are wrong or missing.
type Mender interface {
	BlockChecker
	// Heal makes the local copy of a block good with the help of peers. It
	// leaves alone one that is.
	Heal(ctx context.Context, c cid.Cid) error
	// Inner are the blocks between the root of a live segment and its leaves.
	Inner(ctx context.Context, segment string) ([]cid.Cid, error)
}

// maxRepairs is how often Repair mends a segment in which it then finds
// something wrong again: others may be replacing the same blocks.
const maxRepairs = 3

// maxHopeless is how many blocks of a segment nobody has before Repair gives
// it up: each may cost the time that peers have to answer.
const maxHopeless = 4

// Repair verifies a segment. If something is wrong with it, it fetches from
// peers the blocks that are damaged or missing, and verifies it once more: what
// is still wrong stands in the report.
func (e *Edge) Repair(ctx context.Context, g policy.Grant, blocks Mender, c cid.Cid) (Report, error) {
	r, err := e.Verify(ctx, g, blocks, c)
	if err != nil || r.Err == nil {
		return r, err
	}
	mended, good := 0, r.Blocks
	for range maxRepairs {
		n, hopeless := e.mend(ctx, blocks, c)
		if err := ctx.Err(); err != nil {
			return r, fmt.Errorf("repair %s: %w", c, err)
		}
		if r, err = e.Verify(ctx, g, blocks, c); err != nil {
			return r, err
		}
		mended += n
		r.Mended = mended
		if r.Err == nil { // whoever was told of the damage may have been quicker
			if r.Mended = max(1, mended); good > 0 {
				r.Mended = max(r.Mended, r.Blocks-good)
			}
			return r, nil
		}
		if hopeless != nil {
			r.Err = errors.Join(r.Err, hopeless)
			return r, nil
		}
	}
	return r, nil
}

// mend heals the blocks of a segment, and tells how many it did and what kept
// it from healing others.
func (e *Edge) mend(ctx context.Context, blocks Mender, c cid.Cid) (mended int, hopeless error) {
	held, _, err := e.lookUp(ctx, c.Hash())
	if err != nil {
		return 0, err
	}
	s := held.segment
	all, err := blocks.Inner(ctx, s.ID)
	if err != nil {
		return 0, err
	}
	all = append(all, s.CID) // after those below it, whose damage shows in it too
	if len(s.Leaves) > 1 {
		all = append(all, s.Leaves...)
	}
	failed := 0
	for _, block := range all {
		if blocks.Verify(ctx, block) == nil {
			continue
		}
		err := blocks.Heal(ctx, block)
		switch {
		case err == nil:
			mended++
			continue
		case ctx.Err() != nil:
			return mended, ctx.Err()
		}
		hopeless = errors.Join(hopeless, err)
		if failed++; failed == maxHopeless {
			break
		}
	}
	held.forget()
	return mended, hopeless
}
