package testnet_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/testnet"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/keep"
	"github.com/musenai/musen/pin/member"
)

// A peer that is drained, or leaves, gets nothing new when it is the last one
// there, neither from the origin nor from the pinset that helps itself. What it
// had it keeps, since nobody else has it.
func TestPartingPeerGetsNothingNew(t *testing.T) {
	for how, part := range map[string]func(t *testing.T, o *testnet.Origin, h *testnet.Host){
		"drain": func(t *testing.T, o *testnet.Origin, h *testnet.Host) {
			if _, err := o.Swarm.Drain(t.Context(), h.Name); err != nil {
				t.Fatal(err)
			}
			until(t, "the host hears that it is drained", func() bool {
				st, err := h.Status(t.Context())
				return err == nil && st.Draining && !st.Leaving
			})
		},
		"leave": func(t *testing.T, _ *testnet.Origin, h *testnet.Host) {
			if err := h.Leave(t.Context(), true); err != nil {
				t.Fatal(err)
			}
		},
	} {
		for role, terms := range map[member.Role]contract.Contract{member.Storage: {}, member.Replica: {Disk: 1 << 30}} {
			t.Run(how+"/"+string(role), func(t *testing.T) {
				t.Parallel()
				o := testnet.NewOrigin(t)
				station := o.Station(t, "jazz", musen.Replication{Min: 2, Max: 2, Community: 1})
				parts := testnet.Join(t, o, role, "parts", terms)
				add := func() cid.Cid {
					t.Helper()
					s, _, err := o.Adds.Add(t.Context(), musen.AddRequest{Station: station.ID, Title: "song", Again: true}, bytes.NewReader(wave(300<<10)))
					if err != nil {
						t.Fatal(err)
					}
					return s.CID
				}
				first := add()
				proved(t, o, first, "parts")
				part(t, o, parts)
				parting(t, o, first)

				stays := testnet.Join(t, o, role, "stays", terms)
				second := add() // held by who stays
				proved(t, o, second, "stays")
				moved(t, o, first)
				kept := add()
				proved(t, o, kept, "stays")
				stays.Stop(t)
				third := add()
				silent(t, o, third)
				for _, root := range []cid.Cid{first, second, third, kept} {
					if why, err := parts.Why(t.Context(), root); err != nil || why.Held {
						t.Errorf("it was given %s: %+v, %v", root, why, err)
					}
				}
				stays.Start(t)
				proved(t, o, third, "stays")
			})
		}
	}
}

// becomes returns when what the origin says of a segment is so.
func becomes(t *testing.T, o *testnet.Origin, root cid.Cid, what string, so func(keep.Health) bool) {
	t.Helper()
	var h keep.Health
	defer func() {
		if t.Failed() {
			t.Logf("at the end: %+v", h)
		}
	}()
	until(t, what, func() bool {
		h, _ = o.Swarm.Keeper().Health(root)
		return so(h)
	})
}

// proved returns when a peer has proved its copy of a segment.
func proved(t *testing.T, o *testnet.Origin, root cid.Cid, name string) {
	t.Helper()
	becomes(t, o, root, "proved by "+name, func(h keep.Health) bool {
		return slices.ContainsFunc(h.Copies, func(c keep.Copy) bool { return c.Name == name && c.State == keep.Proved && c.Counts })
	})
}

// parting returns when the origin knows that a peer parts.
func parting(t *testing.T, o *testnet.Origin, root cid.Cid) {
	t.Helper()
	becomes(t, o, root, "parts", func(h keep.Health) bool {
		return len(h.Copies) == 2 && h.Copies[1].Reason == "leaves when others hold its share"
	})
}

// moved returns when a segment is with who stays alone.
func moved(t *testing.T, o *testnet.Origin, root cid.Cid) {
	t.Helper()
	becomes(t, o, root, "moved", func(h keep.Health) bool {
		return len(h.Copies) == 2 && h.Copies[1].Name == "stays" && h.Copies[1].State == keep.Proved
	})
}

// silent returns when a new segment has waited for eight surveys, in vain, with
// a reason.
func silent(t *testing.T, o *testnet.Origin, root cid.Cid) {
	t.Helper()
	becomes(t, o, root, "alone", func(h keep.Health) bool {
		return h.Level == keep.Stored && strings.Contains(h.Reason, "being drained, or leave")
	})
	for range 8 {
		last := o.Swarm.Keeper().Summary("").Surveyed
		until(t, "surveyed", func() bool { return o.Swarm.Keeper().Summary("").Surveyed.After(last) })
	}
}
