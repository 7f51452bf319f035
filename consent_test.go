package musen_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/testnet"
	"github.com/musenai/musen/policy"
)

// consenting answers as a test has it, and keeps what it was asked.
type consenting struct {
	mu    sync.Mutex
	says  error
	asked []musen.Question
}

func (c *consenting) Ask(_ context.Context, q musen.Question) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, q)
	return c.says
}

// P33: where somebody else must consent, no key is released before they have,
// nobody is asked about what policy refuses, and what they withdraw ends.
func TestConsent(t *testing.T) {
	h := testnet.New(t)
	jazz := station(t, h.Origin(), "jazz")
	song := add(t, h.Origin(), "jazz", wav(1, 1000))
	opts := h.EdgeOptions()
	keys, platform := &releases{KeyReleaser: opts.Keys}, &consenting{says: musen.ErrNotFound}
	opts.Keys, opts.Consent = keys, platform
	e, err := musen.NewEdge(opts)
	must(t, err)
	g := listen(t, h, jazz.ID)
	refused(t, e, g, policy.Listen, song.CID, musen.ErrNotFound)
	platform.says = musen.ErrConsent
	refused(t, e, g, policy.Listen, song.CID, musen.ErrConsent)
	if keys.n.Load() != 0 || len(platform.asked) != 2 {
		t.Fatalf("%d keys released, asked %d times", keys.n.Load(), len(platform.asked))
	}
	if q := platform.asked[0]; q.Action != policy.Listen || q.Station.ID != jazz.ID || !q.CID.Equals(song.CID) || q.Grant.ID() != g.ID() {
		t.Errorf("asked %+v", q)
	}
	blues := station(t, h.Origin(), "blues")
	refused(t, e, listen(t, h, blues.ID), policy.Listen, song.CID, musen.ErrNotFound)
	refused(t, e, g, policy.Listen, testCID(t), musen.ErrNotFound)
	if len(platform.asked) != 2 {
		t.Error("asked about what policy refuses")
	}
	platform.says = nil
	stream := allowed(t, e, g, policy.Listen, song.CID)
	var heard bytes.Buffer
	if _, err := stream.WriteRange(t.Context(), &heard, 0, stream.Size()); err != nil || !bytes.Equal(heard.Bytes(), wav(1, 1000)) {
		t.Errorf("heard %d bytes, %v", heard.Len(), err)
	}
	must(t, stream.Recheck(t.Context()))
	for _, platform.says = range []error{musen.ErrNotFound, musen.ErrConsent} {
		if err := stream.Recheck(t.Context()); !errors.Is(err, platform.says) {
			t.Errorf("in the middle: %v, want %v", err, platform.says)
		}
		refused(t, e, g, policy.Listen, song.CID, platform.says) // though its key is in memory
	}
	asked := len(platform.asked)
	allowed(t, e, policy.LocalOperator(), policy.Listen, song.CID)
	if len(platform.asked) != asked {
		t.Error("asked about the operator")
	}
}
