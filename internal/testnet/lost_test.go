package testnet_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

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
	h := durable(t, o, s.CID)
	for _, c := range h.Copies {
		if p := peers[c.Name]; p != nil && c.State == keep.Proved {
			p.Stop(t)
			break
		}
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(o.BlockFile(s.CID))), "*", "*.data"))
	if err != nil || len(files) < 20 {
		t.Fatalf("%d blocks, %v", len(files), err)
	}
	for _, file := range slices.Clone(files) {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if !heard(t, o, s, audio) {
			t.Error("a listener hears something else")
		}
	}
}
