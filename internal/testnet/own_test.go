package testnet_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/catalog"
	"github.com/musenai/musen/internal/swarm"
	"github.com/musenai/musen/internal/testnet"
	"github.com/musenai/musen/node"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/keep"
	"github.com/musenai/musen/pin/member"
	"github.com/musenai/musen/policy"
)

// mender is an origin as what can be mended.
type mender struct {
	*node.Node
	rows *catalog.Catalog
}

// Inner implements musen.Mender.
func (m mender) Inner(ctx context.Context, segment string) ([]cid.Cid, error) {
	return m.rows.Inner(ctx, segment)
}

// rots are what happens to a file of the origin's own.
func rots() map[string]func(file string) error {
	return map[string]func(string) error{
		"gone": os.Remove,
		"cut":  func(file string) error { return os.Truncate(file, 1000) },
		"rotten": func(file string) error {
			b, err := os.ReadFile(file)
			if err == nil {
				b[len(b)/2] ^= 1
				err = os.WriteFile(file, b, 0o600)
			}
			return err
		},
	}
}

// readers are who comes by a block and finds out.
func readers() map[string]func(t *testing.T, o *testnet.Origin, s musen.Segment, audio []byte) {
	all := []policy.Action{policy.Listen, policy.Audit}
	return map[string]func(t *testing.T, o *testnet.Origin, s musen.Segment, audio []byte){
		"listener": func(t *testing.T, o *testnet.Origin, s musen.Segment, audio []byte) {
			if !heard(t, o, s, audio) {
				t.Error("a listener hears something else")
			}
		},
		"verify": func(t *testing.T, o *testnet.Origin, s musen.Segment, _ []byte) {
			r, err := o.Edge(t).Verify(t.Context(), o.Grant(t, all), o.Node, s.CID)
			if err != nil || r.Err == nil {
				t.Errorf("verify: %+v, %v", r, err)
			}
		},
		"repair": func(t *testing.T, o *testnet.Origin, s musen.Segment, _ []byte) {
			r, err := o.Edge(t).Repair(t.Context(), o.Grant(t, all), mender{o.Node, o.Rows}, s.CID)
			if err != nil || r.Err != nil {
				t.Errorf("repair: %+v, %v", r, err)
			}
		},
	}
}

// Whoever comes by a block of the origin's own that is gone or rotten, the copy
// does not count as proved from then on, and is mended and proved again at once,
// long before an audit would have found it.
func TestOwnDamageIsSeenAndMended(t *testing.T) {
	t.Parallel()
	o := testnet.NewOrigin(t, func(s *swarm.Options) { s.Copies.Cycle = 1000 * time.Hour })
	station := o.Station(t, "jazz", musen.Replication{Min: 3, Max: 3})
	testnet.Join(t, o, member.Storage, "a", contract.Contract{})
	testnet.Join(t, o, member.Storage, "b", contract.Contract{})
	audio := wave(900 << 10)
	for damage, do := range rots() {
		for who, read := range readers() {
			t.Run(damage+"/"+who, func(t *testing.T) {
				s, _, err := o.Adds.Add(t.Context(), musen.AddRequest{Station: station.ID, Title: "song", Again: true}, bytes.NewReader(audio))
				if err != nil {
					t.Fatal(err)
				}
				durable(t, o, s.CID)
				before := own(t, o, s.CID)
				leaves := []int{1, 2}
				if who == "listener" { // others come by the first leaf before they look
					leaves = append(leaves, 0)
				}
				for _, leaf := range leaves {
					if err := do(o.BlockFile(s.Leaves[leaf])); err != nil {
						t.Fatal(err)
					}
				}
				read(t, o, s, audio)
				durable(t, o, s.CID)
				after := own(t, o, s.CID)
				if after.State != keep.Proved || !after.Since.After(before.Since) || after.Reason != "" {
					t.Errorf("the own copy, %+v, is now %+v", before, after)
				}
				for _, leaf := range s.Leaves {
					if err := o.Node.Verify(t.Context(), leaf); err != nil {
						t.Error(err)
					}
				}
				if !heard(t, o, s, audio) {
					t.Error("a listener hears something else")
				}
			})
		}
	}
}

// own is the origin's own copy.
func own(t *testing.T, o *testnet.Origin, root cid.Cid) keep.Copy {
	t.Helper()
	h, _ := o.Swarm.Keeper().Health(root)
	if len(h.Copies) == 0 || h.Copies[0].Role != member.Origin {
		t.Fatalf("no own copy: %+v", h)
	}
	return h.Copies[0]
}

// Damage that nobody can mend is told, with a next try, for as long as it
// lasts; the copy is mended when a peer that has it is back.
func TestOwnDamageWithoutAPeer(t *testing.T) {
	t.Parallel()
	o := testnet.NewOrigin(t, func(s *swarm.Options) { s.Copies.Cycle = 1000 * time.Hour })
	station := o.Station(t, "jazz", musen.Replication{Min: 2, Max: 2})
	a := testnet.Join(t, o, member.Storage, "a", contract.Contract{})
	audio := wave(900 << 10)
	s, _, err := o.Adds.Add(t.Context(), musen.AddRequest{Station: station.ID, Title: "song"}, bytes.NewReader(audio))
	if err != nil {
		t.Fatal(err)
	}
	durable(t, o, s.CID)
	a.Stop(t)
	if err := os.Remove(o.BlockFile(s.Leaves[2])); err != nil {
		t.Fatal(err)
	}
	stream, err := o.Edge(t).Open(t.Context(), o.Grant(t, []policy.Action{policy.Listen}), policy.Listen, s.CID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.WriteRange(t.Context(), io.Discard, 0, stream.Size()); err == nil {
		t.Fatal("heard what is nowhere")
	}
	h, _ := o.Swarm.Keeper().Health(s.CID)
	if c := own(t, o, s.CID); c.State != keep.Failed || c.Counts || c.Reason == "" || h.Reason == "" || h.Next.IsZero() {
		t.Errorf("%+v, %q, next %v", c, h.Reason, h.Next)
	}
	a.Start(t)
	durable(t, o, s.CID)
	if !heard(t, o, s, audio) {
		t.Error("a listener hears something else")
	}
}

// Blocks that were gone and that the operator puts back are the origin's own
// copy again as soon as the segment is verified, however long it would be until
// the next try to mend it.
func TestOwnCopyThatWasPutBack(t *testing.T) {
	t.Parallel()
	o := testnet.NewOrigin(t, func(s *swarm.Options) { s.Copies.Cycle, s.Copies.Retry = 1000*time.Hour, 1000*time.Hour })
	station := o.Station(t, "jazz", musen.NoReplication())
	s, _, err := o.Adds.Add(t.Context(), musen.AddRequest{Station: station.ID, Title: "song"}, bytes.NewReader(wave(900<<10)))
	if err != nil {
		t.Fatal(err)
	}
	durable(t, o, s.CID)
	verify := readers()["verify"]
	file := o.BlockFile(s.Leaves[2])
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	verify(t, o, s, nil)
	if c := own(t, o, s.CID); c.State != keep.Failed {
		t.Errorf("%+v", c)
	}
	if err := os.Rename(file+".away", file); err != nil {
		t.Fatal(err)
	}
	r, err := o.Edge(t).Verify(t.Context(), o.Grant(t, []policy.Action{policy.Audit}), o.Node, s.CID)
	if err != nil || r.Err != nil {
		t.Errorf("verify: %+v, %v", r, err)
	}
	durable(t, o, s.CID)
}
