package audit

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/ipfs/go-cid"
	"pgregory.net/rapid"
)

// vector is a case of testdata/answers.json.
type vector struct {
	Name  string
	Root  string
	Nonce string
	Sizes []struct {
		Leaves int
		Size   int64
	}
	Parts []struct {
		Leaf           int
		Offset, Length int64
	}
	Answer string
}

func vectors(t *testing.T) []vector {
	b, err := os.ReadFile("testdata/answers.json")
	if err != nil {
		t.Fatal(err)
	}
	var vs []vector
	if err := json.Unmarshal(b, &vs); err != nil {
		t.Fatal(err)
	}
	if len(vs) == 0 {
		t.Fatal("no vectors")
	}
	return vs
}

// challenge is the challenge of v, and a shelf with those leaves that it asks
// for: no others may be touched.
func (v vector) challenge(t *testing.T) (Challenge, *shelf) {
	t.Helper()
	root, err := cid.Decode(v.Root)
	if err != nil {
		t.Fatal(err)
	}
	ch := Challenge{Root: root}
	if _, err := hex.Decode(ch.Nonce[:], []byte(v.Nonce)); err != nil {
		t.Fatal(err)
	}
	asked := map[int]bool{}
	for _, p := range v.Parts {
		asked[p.Leaf] = true
	}
	s := newShelf()
	leaves := []Leaf{}
	for _, run := range v.Sizes {
		for range run.Leaves {
			l := Leaf{root, run.Size}
			if i := len(leaves); asked[i] {
				data := leafBytes(i, run.Size)
				l.CID = cidOf(t, data)
				s.blocks[l.CID] = data
			}
			leaves = append(leaves, l)
		}
	}
	s.roots[root] = leaves
	return ch, s
}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			ch, s := v.challenge(t)
			parts := sample(ch.Nonce, s.roots[ch.Root])
			if len(parts) != len(v.Parts) {
				t.Fatalf("%d parts, want %d", len(parts), len(v.Parts))
			}
			for i, p := range parts {
				if w := v.Parts[i]; p.leaf != w.Leaf || p.off != w.Offset || p.n != w.Length {
					t.Errorf("part %d is %+v, want %+v", i, p, w)
				}
			}
			a, err := Answer(t.Context(), ch, s)
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(a[:]); got != v.Answer {
				t.Errorf("answer %s, want %s", got, v.Answer)
			}
			// The work is bounded, however long the segment.
			if most := int64(leafSize + (maxSampled-1)*windowSize); s.reads.Load() > most {
				t.Errorf("read %d bytes, at most %d", s.reads.Load(), most)
			}
			// The bytes that are checked give the same answer.
			checked, err := answers(t.Context(), &reading{src: s, checked: true}, ch.Root, [][16]byte{ch.Nonce})
			if err != nil || checked[0].mac != a || checked[0].leaves != len(v.Parts) {
				t.Errorf("from checked bytes: %x, %d leaves, %v", checked[0].mac, checked[0].leaves, err)
			}
		})
	}
}

func TestSample(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.Int64Range(0, 20<<10), 0, 200).Draw(t, "sizes")
		leaves := make([]Leaf, len(sizes))
		for i, s := range sizes {
			leaves[i].Size = s
		}
		var nonce [16]byte
		copy(nonce[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "nonce"))
		parts, whole := sample(nonce, leaves), 0
		if len(parts) != min(len(leaves), maxSampled) {
			t.Fatalf("%d parts of %d leaves", len(parts), len(leaves))
		}
		for i, p := range parts {
			size := sizes[p.leaf]
			if i > 0 && p.leaf <= parts[i-1].leaf {
				t.Fatalf("leaf %d after leaf %d", p.leaf, parts[i-1].leaf)
			}
			if p.whole != (p.off == 0 && p.n == size) {
				t.Fatalf("part %+v of a leaf of %d bytes", p, size)
			}
			if p.whole {
				whole++
			} else if p.n != windowSize || p.off < 0 || p.off+p.n > size {
				t.Fatalf("part %+v of a leaf of %d bytes", p, size)
			}
		}
		if n := len(leaves); n > 0 && (whole == 0 || parts[len(parts)-1].leaf != n-1) {
			t.Fatalf("%d leaves are whole, the last is %d of %d", whole, parts[len(parts)-1].leaf, n)
		}
	})
}

// Each leaf is asked for about as often as the others, and each offset is.
func TestSampleIsEven(t *testing.T) {
	const n, nonces = 200, 4000
	leaves := make([]Leaf, n)
	for i := range leaves {
		leaves[i].Size = 64 << 10
	}
	times, early, wholes := make([]float64, n), 0.0, 0.0
	for i := range nonces {
		for _, p := range sample([16]byte{byte(i), byte(i >> 8)}, leaves) {
			times[p.leaf]++
			if p.whole {
				wholes++
			} else if p.off < 30<<10 {
				early++
			}
		}
	}
	want := nonces * 63.0 / (n - 1)
	for i, got := range times[:n-1] {
		if got < want*0.85 || got > want*1.15 {
			t.Errorf("leaf %d was asked for %v times, want about %.0f", i, got, want)
		}
	}
	if times[n-1] != nonces || wholes != nonces {
		t.Errorf("the last leaf %v times, whole leaves %v, want %d", times[n-1], wholes, nonces)
	}
	if share := early / (nonces * 63); share < 0.49 || share > 0.51 {
		t.Errorf("%.3f of the windows begin in the first half", share)
	}
}

func TestAnswerRefusesWhatCannotBe(t *testing.T) {
	root := cidOf(t, []byte("root"))
	for name, l := range map[string]Leaf{
		"negative":  {root, -1},
		"huge":      {root, maxLeaf + 1},
		"no name":   {cid.Undef, 1},
		"too short": {cidOf(t, []byte("x")), 2},
	} {
		s := newShelf()
		s.roots[root] = []Leaf{l}
		s.blocks[cidOf(t, []byte("x"))] = []byte("x")
		if a, err := Answer(t.Context(), Challenge{Root: root}, s); err == nil {
			t.Errorf("%s: answer %x", name, a)
		}
	}
}

func TestSmallestSegments(t *testing.T) {
	s := newShelf()
	for _, size := range []int64{0, 1} {
		root := s.add(t, "", size)
		a, err := Answer(t.Context(), Challenge{Root: root}, s)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Answer(t.Context(), Challenge{Root: root, Nonce: [16]byte{1}}, s)
		if err != nil || a == b {
			t.Errorf("%d bytes: %x and %x with another nonce, %v", size, a, b, err)
		}
	}
}
