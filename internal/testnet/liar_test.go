package testnet_test

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/testnet"
	"github.com/musenai/musen/pin/audit"
	"github.com/musenai/musen/pin/control"
	"github.com/musenai/musen/pin/keep"
	"github.com/musenai/musen/policy"
)

// liars are replicas that say they hold what they do not.
func liars() map[string]testnet.Behaviour {
	claim := func(context.Context, *testnet.Carrier, control.Order) (control.Outcome, string) {
		return control.Done, ""
	}
	return map[string]testnet.Behaviour{
		"claims": {Carry: claim},
		"deletes": {Carry: func(ctx context.Context, c *testnet.Carrier, o control.Order) (control.Outcome, string) {
			if outcome, why := c.Carry(ctx, o); outcome != control.Done {
				return outcome, why
			}
			if err := c.Forget(ctx, o.Root); err != nil {
				return control.Failed, err.Error()
			}
			return control.Done, ""
		}},
		"truncates": {Source: func(c *testnet.Carrier) audit.Source { return truncated{testnet.Held{C: c}} }},
		"proxies":   {Carry: claim, Source: func(c *testnet.Carrier) audit.Source { return proxy{testnet.Held{C: c}} }},
		"invents":   {Source: func(c *testnet.Carrier) audit.Source { return invented{testnet.Held{C: c}} }},
	}
}

// truncated has lost the end of each segment.
type truncated struct{ testnet.Held }

func (s truncated) Leaves(ctx context.Context, root cid.Cid) ([]audit.Leaf, error) {
	leaves, err := s.Held.Leaves(ctx, root)
	if err == nil {
		leaves[len(leaves)-1].Size--
	}
	return leaves, err
}

// proxy has nothing, and gets it from the origin when it is asked to prove.
type proxy struct{ testnet.Held }

func (s proxy) Leaves(ctx context.Context, root cid.Cid) ([]audit.Leaf, error) {
	if err := s.C.Fetch(ctx, root); err != nil {
		return nil, err
	}
	return s.Held.Leaves(ctx, root)
}

// invented has other bytes.
type invented struct{ testnet.Held }

func (s invented) ReadBlockAt(ctx context.Context, c cid.Cid, p []byte, off int64) (int, error) {
	n, err := s.Held.ReadBlockAt(ctx, c, p, off)
	clear(p[:n])
	return n, err
}

// H59, H61, H62: a liar among replicas is found by the first audit, does not
// count from then on, and is replaced; a listener hears every byte.
func TestLiarsAreFound(t *testing.T) {
	t.Parallel()
	for what, b := range liars() {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			o := testnet.NewOrigin(t)
			station := o.Station(t, "jazz", musen.Replication{Min: 1, Max: 1, Community: 2})
			liar := testnet.NewCarrier(t, o, "liar", b)
			testnet.NewCarrier(t, o, "one", testnet.Behaviour{})
			testnet.NewCarrier(t, o, "two", testnet.Behaviour{})
			for range 6 { // each pair of holders comes up
				audio := wave(600 << 10)
				s, _, err := o.Adds.Add(t.Context(), musen.AddRequest{Station: station.ID, Title: "song", Again: true}, bytes.NewReader(audio))
				if err != nil {
					t.Fatal(err)
				}
				proved(t, o, s.CID, "one")
				proved(t, o, s.CID, "two")
				h := durable(t, o, s.CID)
				for _, c := range h.Copies {
					if c.Peer == liar.Host.ID() && (c.Counts && c.State == keep.Proved || c.Outcome == audit.Proved) {
						t.Errorf("the liar's copy counts: %+v", c)
					}
				}
				if !heard(t, o, s, audio) {
					t.Error("a listener hears something else")
				}
			}
		})
	}
}

// durable waits until a segment is durable.
func durable(t *testing.T, o *testnet.Origin, root cid.Cid) keep.Health {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	h, err := o.Swarm.Keeper().Wait(ctx, root, keep.Durable)
	if err != nil {
		t.Fatalf("%v: %+v", err, h)
	}
	return h
}

// heard reports whether a listener hears exactly the audio.
func heard(t *testing.T, o *testnet.Origin, s musen.Segment, audio []byte) bool {
	t.Helper()
	stream, err := o.Edge(t).Open(t.Context(), o.Grant(t, []policy.Action{policy.Listen}), policy.Listen, s.CID)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := stream.WriteRange(t.Context(), &got, 0, stream.Size()); err != nil {
		t.Fatal(err)
	}
	return slices.Equal(got.Bytes(), audio)
}

// wave is a WAV file with so many bytes of sound.
func wave(size int) []byte {
	head := []byte("RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00data\x00\x00\x00\x00")
	put := func(at, n int) {
		for i := range 4 {
			head[at+i] = byte(n >> (8 * i))
		}
	}
	put(4, 36+size)
	put(40, size)
	sound := make([]byte, size)
	for i := range sound {
		sound[i] = byte(i * i >> 7)
	}
	return append(head, sound...)
}
