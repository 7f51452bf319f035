package musen_test

import (
	"context"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/testnet"
	"github.com/musenai/musen/policy"
)

// counted counts what an Edge asks.
type counted struct {
	musen.Directory
	musen.Decider
	lookedUp, decided int
}

func (c *counted) Segment(ctx context.Context, mh multihash.Multihash) (musen.Segment, error) {
	c.lookedUp++
	return c.Directory.Segment(ctx, mh)
}

func (c *counted) Decide(g policy.Grant, a policy.Action, r policy.Resource) policy.Decision {
	c.decided++
	return c.Decider.Decide(g, a, r)
}

// H31: who may not listen cannot tell from the work that a refusal takes
// whether there is such a segment.
func TestRefusalsCostTheSame(t *testing.T) {
	h := testnet.New(t)
	station(t, h.Origin(), "jazz")
	blues := station(t, h.Origin(), "blues")
	there, absent := add(t, h.Origin(), "jazz", wav(1, 1000)).CID, testCID(t)
	opts := h.EdgeOptions()
	asked := &counted{Directory: opts.Directory, Decider: opts.Policy}
	opts.Directory, opts.Policy = asked, asked
	e, err := musen.NewEdge(opts)
	must(t, err)
	g := h.Grant(t, []policy.Action{policy.Listen}, blues.ID)
	for _, c := range []cid.Cid{there, absent, there, absent, there} {
		for _, a := range []policy.Action{policy.Listen, policy.Download} {
			asked.lookedUp, asked.decided = 0, 0
			_, err := e.Open(t.Context(), g, a, c)
			if err != musen.ErrNotFound {
				t.Errorf("%v", err)
			}
			if asked.lookedUp != 1 || asked.decided != 1 {
				t.Errorf("%s: %d look-ups, %d decisions", c, asked.lookedUp, asked.decided)
			}
		}
	}
	wantAudio(t, e, there, wav(1, 1000))
}
