package catalog

import (
	"crypto/sha256"
	"math"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
)

// What strangers send as a cursor is one that a page came with, or refused.
func FuzzCursor(f *testing.F) {
	id := "aaaaaaaaaaaaaaaaaaaaaaaaaa"
	for _, p := range []position{{0, id}, {math.MaxInt64, id}, {-1, id}} {
		f.Add(p.cursor())
	}
	f.Add("")
	f.Add("AQ==")
	f.Add("AQAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parseCursor(s)
		if err == nil && s != "" && p.cursor() != s {
			t.Fatalf("cursor %q has another spelling %q", s, p.cursor())
		}
		if err == nil && s != "" && !musen.IsID(p.id) {
			t.Fatalf("cursor %q stands on %q", s, p.id)
		}
	})
}

// Whatever a row holds, what it decodes to can be read from end to end.
func FuzzRow(f *testing.F) {
	digest := sha256.Sum256(nil)
	mh := append([]byte{0x12, 0x20}, digest[:]...)
	f.Add(live, mh, int64(cid.Raw), digest[:], int64(5), int64(72), int64(1))
	f.Add(removed, mh, int64(cid.DagProtobuf), []byte{}, int64(0), int64(0), int64(0))
	f.Add(7, []byte{}, int64(-1), []byte{1}, int64(-1), int64(math.MaxInt64), int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, state int, mh []byte, codec int64, leaves []byte, size, sealed, generation int64) {
		r := segmentRow{
			State: state, Multihash: mh, Codec: codec, Leaves: leaves,
			Size: size, SealedSize: sealed, KeyGeneration: generation,
		}
		s, err := r.decode()
		if err != nil {
			return
		}
		if !s.CID.Defined() || string(s.CID.Hash()) != string(mh) || s.CID.Version() != 1 {
			t.Fatalf("the CID is %v", s.CID)
		}
		if s.State == musen.Removed {
			return
		}
		if end := (s.SealedSize - 1) / musen.LeafSize; end >= int64(len(s.Leaves)) || s.SealedSize < 1 {
			t.Fatalf("%d leaves for %d bytes", len(s.Leaves), s.SealedSize)
		}
		packed, err := packLeaves(s.Leaves)
		if err != nil || string(packed) != string(leaves) {
			t.Fatalf("leaves %x became %x, %v", leaves, packed, err)
		}
	})
}
