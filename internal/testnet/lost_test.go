package testnet_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/testnet"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/keep"
	"github.com/musenai/musen/pin/member"
)

// P14, P82: an origin whose disk loses every block of a segment plays it from
// the copies of its peers, also when one of these went away for good, and has
// its own copy again after.
func TestLostDisk(t *testing.T) {
	t.Parallel()
	o := testnet.NewOrigin(t)
	station := o.Station(t, "jazz", musen.Replication{Min: 3, Max: 3})
	peers := map[string]*testnet.Host{}
	for _, name := range []string{"a", "b", "c"} {
		peers[name] = testnet.Join(t, o, member.Storage, name, contract.Contract{})
	}
	audio := wave(5 << 20)
	s, _, err := o.Adds.Add(t.Context(), musen.AddRequest{Station: station.ID, Title: "song"}, bytes.NewReader(audio))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // first one holder goes for good, then the other: what was copied meanwhile is what is left
		gone := ""
		for _, c := range durable(t, o, s.CID).Copies {
			if p := peers[c.Name]; p != nil && c.State == keep.Proved {
				p.Stop(t)
				gone = c.Name
				delete(peers, gone)
				break
			}
		}
		loseDisk(t, o)
		for range 2 {
			if !heard(t, o, s, audio) {
				t.Error("a listener hears something else")
			}
		}
		if len(peers) > 1 {
			awaitCopies(t, o, s.CID, gone)
		}
	}
}

// loseDisk removes all blocks of an origin.
func loseDisk(t *testing.T, o *testnet.Origin) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(o.Dir, "node", "blocks", "*", "*.data"))
	if err != nil || len(files) < 20 {
		t.Fatalf("%d blocks, %v", len(files), err)
	}
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
}

// awaitCopies returns when two peers but the one that is gone have proved their
// copies.
func awaitCopies(t *testing.T, o *testnet.Origin, root cid.Cid, gone string) {
	t.Helper()
	becomes(t, o, root, "two copies but that of "+gone, func(h keep.Health) bool {
		n := 0
		for _, c := range h.Copies {
			if c.Role == member.Storage && c.State == keep.Proved && c.Name != gone {
				n++
			}
		}
		return n == 2
	})
}
