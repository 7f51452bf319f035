package pin

import (
	"strings"
	"testing"

	capi "github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
)

// What is taken as a metric is small and of a known name, and reads the same
// after it is written again.
func FuzzMetric(f *testing.F) {
	own := rogue(f)
	for _, m := range []capi.Metric{
		{Name: metricPing, Peer: own, Valid: true, Value: `{"ipfs_id":""}`},
		{Name: metricFree, Peer: own, Valid: true, Weight: 1 << 40, Expire: 1 << 62},
		{Name: metricSite, Peer: own, Valid: true, Value: "north", Partitionable: true},
	} {
		b, err := encodeMetric(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMetric(b)
		if err != nil {
			return
		}
		if len(m.Value) > maxValue || m.Weight < 0 || !m.Valid {
			t.Fatalf("taken: %+v", m)
		}
		again, err := encodeMetric(m)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := decodeMetric(again); err != nil || n != m {
			t.Fatalf("%+v became %+v, %v", m, n, err)
		}
	})
}

// Heads are checked without a panic, and what passes is within bounds.
func FuzzHeads(f *testing.F) {
	f.Add(encodeHeads(f, cid.NewCidV1(cid.DagProtobuf, rootN(f, "head", 0).Hash()).Bytes()))
	f.Add(encodeHeads(f, rootN(f, "head", 0).Bytes(), nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if checkHeads(b) == nil && len(b) < 36 {
			t.Fatalf("%d bytes hold a head", len(b))
		}
	})
}

// Names and keys that another peer wrote never panic, and give no label that
// could not have been written here.
func FuzzName(f *testing.F) {
	f.Add(writeName("k3j4", 160<<10))
	f.Add("/-1")
	f.Add("Blue Train/99999999999999999999")
	f.Fuzz(func(t *testing.T, s string) {
		label, size := readName(s)
		if size < 0 || (Placement{Label: label, Size: size, Min: 1, Max: 1}).check() != nil {
			t.Fatalf("%q gave %q, %d", s, label, size)
		}
		if again, n := readName(writeName(label, size)); again != label || n != size {
			t.Fatalf("%q, %d became %q, %d", label, size, again, n)
		}
		_, _ = rootOf(datastore.NewKey(strings.ToValidUTF8(s, "")))
	})
}
