package place

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
	"pgregory.net/rapid"
)

// rootOf is a CID like those of segments, the i-th.
func rootOf(i int) cid.Cid {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
	mh, err := multihash.Encode(sum[:], multihash.SHA2_256)
	if err != nil {
		panic(err) // a constant code and a right length
	}
	return cid.NewCidV1(cid.Raw, mh)
}

// peerOf is the i-th peer.
func peerOf(i int) peer.ID { return peer.ID(fmt.Sprintf("peer %d", i)) }

// some draws candidates with different weights on a few sites.
func some(t *rapid.T, least, most int) []Candidate {
	n := rapid.IntRange(least, most).Draw(t, "candidates")
	sites := rapid.IntRange(1, n).Draw(t, "sites")
	first := rapid.IntRange(0, 1<<20).Draw(t, "first")
	cs := make([]Candidate, n)
	for i := range cs {
		cs[i] = Candidate{
			ID:     peerOf(first + i),
			Weight: rapid.SampledFrom([]float64{1, 1, 2, 10, 1e12}).Draw(t, "weight"),
			Site:   fmt.Sprint("site ", rapid.IntRange(0, sites-1).Draw(t, "site")),
		}
	}
	return cs
}

func someTaken(t *rapid.T) []string {
	return rapid.SliceOfN(rapid.SampledFrom([]string{"site 0", "site 1", "site 2", "elsewhere"}), 0, 4).Draw(t, "taken")
}

// greedy is Choose in the words of its documentation.
func greedy(root cid.Cid, cs []Candidate, n int, taken []string, spread bool) []Candidate {
	used := map[string]int{}
	for _, s := range taken {
		used[s]++
	}
	left := Rank(root, cs)
	var out []Candidate
	for len(out) < n && len(left) > 0 {
		best := 0
		for i := range left {
			if spread && used[left[i].Site] < used[left[best].Site] {
				best = i
			}
		}
		used[left[best].Site]++
		out = append(out, left[best])
		left = slices.Delete(left, best, best+1)
	}
	return out
}

func TestChooseIsWhatItSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cs, root := some(t, 1, 40), rootOf(rapid.Int().Draw(t, "root"))
		n, taken, spread := rapid.IntRange(0, 12).Draw(t, "n"), someTaken(t), rapid.Bool().Draw(t, "spread")
		got, want := Choose(root, cs, n, taken, spread), greedy(root, cs, n, taken, spread)
		if !slices.Equal(got, want) {
			t.Fatalf("chose %v, want %v", got, want)
		}
	})
}

func TestChooseIsTheSameEverywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cs, root := some(t, 1, 40), rootOf(rapid.Int().Draw(t, "root"))
		other := rapid.Permutation(cs).Draw(t, "order")
		other = append(other, cs[0]) // named twice
		n, taken, spread := rapid.IntRange(1, 12).Draw(t, "n"), someTaken(t), rapid.Bool().Draw(t, "spread")
		if a, b := Choose(root, cs, n, taken, spread), Choose(root, other, n, taken, spread); !slices.Equal(a, b) {
			t.Fatalf("one peer chose %v, another %v", a, b)
		}
		if a, b := Rank(root, cs), Rank(root, other); !slices.Equal(a, b) {
			t.Fatalf("one peer ranks %v, another %v", a, b)
		}
	})
}

// The scores are part of the protocol between peers: they must not change.
func TestScoresStay(t *testing.T) {
	root := rootOf(1)
	for i, want := range []string{"0.368214998", "1.656443018", "3.856547840"} {
		got := fmt.Sprintf("%.9f", Score(root, Candidate{ID: peerOf(i), Weight: float64(i + 1)}))
		if got != want {
			t.Errorf("score of %s is %s, want %s", peerOf(i), got, want)
		}
	}
}

func TestOneBlockManySpellings(t *testing.T) {
	root, c := rootOf(1), Candidate{ID: peerOf(1), Weight: 1}
	if other := cid.NewCidV1(cid.DagProtobuf, root.Hash()); Score(root, c) != Score(other, c) {
		t.Error("two CIDs of one multihash have different scores")
	}
}

func TestNothingForNothing(t *testing.T) {
	root := rootOf(7)
	cs := []Candidate{
		{ID: peerOf(1), Weight: 0}, {ID: peerOf(2), Weight: -1}, {ID: peerOf(3), Weight: math.NaN()},
		{ID: peerOf(4), Weight: math.Inf(1)}, {ID: peerOf(5), Weight: 1e-300}, {ID: peerOf(6), Weight: 1e300},
	}
	for _, spread := range []bool{false, true} {
		if got := Choose(root, cs, 6, nil, spread); len(got) != 2 || got[0] != cs[5] || got[1] != cs[4] {
			t.Errorf("chose %v", got)
		}
		if got := Choose(root, cs, -1, nil, spread); len(got) != 0 {
			t.Errorf("chose %v where none was asked for", got)
		}
		if got := Choose(root, nil, 3, []string{""}, spread); len(got) != 0 {
			t.Errorf("chose %v of none", got)
		}
	}
	for _, c := range cs[:4] {
		if Score(root, c) != 0 {
			t.Errorf("weight %v has a score", c.Weight)
		}
	}
}

func TestWeightsAreRespected(t *testing.T) {
	cs := make([]Candidate, 12)
	total := 0.0
	for i := range cs {
		cs[i] = Candidate{ID: peerOf(i), Weight: float64(int(1) << (i % 4)), Site: fmt.Sprint(i)}
		total += cs[i].Weight
	}
	const roots = 100_000
	table, first := NewTable(cs), map[peer.ID]int{}
	for i := range roots {
		first[table.Choose(rootOf(i), 1, nil, false)[0].ID]++
	}
	for _, c := range cs {
		p := c.Weight / total
		want, sigma := roots*p, math.Sqrt(roots*p*(1-p))
		if got := float64(first[c.ID]); math.Abs(got-want) > 4.5*sigma {
			t.Errorf("%s of weight %v got %v segments, want %.0f ± %.0f", c.ID, c.Weight, got, want, sigma)
		}
	}
}

// Scores of one peer for different roots, and of different peers for one root,
// must be independent: pairs of peers come up together as often as chance says.
func TestPairsAreIndependent(t *testing.T) {
	const peers, roots = 16, 60_000
	cs := make([]Candidate, peers)
	for i := range cs {
		cs[i] = Candidate{ID: peerOf(i), Weight: 1}
	}
	table, pairs := NewTable(cs), map[[2]peer.ID]float64{}
	for i := range roots {
		c := table.Choose(rootOf(i), 2, nil, false)
		pairs[[2]peer.ID{c[0].ID, c[1].ID}]++
	}
	want, chi2, cells := float64(roots)/(peers*(peers-1)), 0.0, float64(peers*(peers-1))
	for i := range peers {
		for j := range peers {
			if i != j {
				d := pairs[[2]peer.ID{peerOf(i), peerOf(j)}] - want
				chi2 += d * d / want
			}
		}
	}
	if limit := cells + 5*math.Sqrt(2*cells); chi2 > limit {
		t.Errorf("chi² is %.0f over %v pairs, at most %.0f", chi2, cells, limit)
	}
}

func TestOneComes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, root := some(t, 2, 40), rootOf(rapid.Int().Draw(t, "root"))
		n, taken, spread := rapid.IntRange(1, 12).Draw(t, "n"), someTaken(t), rapid.Bool().Draw(t, "spread")
		newcomer := all[0]
		before := Choose(root, all[1:], n, taken, spread)
		after := Choose(root, all, n, taken, spread)
		// Only the newcomer comes in, and at most one goes.
		if gone := missing(before, after); len(gone) > 1 || len(gone) == 1 && !slices.Contains(after, newcomer) {
			t.Fatalf("%v went when %v came", gone, newcomer)
		}
		// Those chosen and the newcomer are enough to know.
		if short := Choose(root, append([]Candidate{newcomer}, before...), n, taken, spread); !slices.Equal(short, after) {
			t.Fatalf("of the chosen and the newcomer %v, of all %v", short, after)
		}
		// Without spread the scores say it by themselves.
		if !spread && len(before) == n {
			wins := Score(root, newcomer) > Score(root, before[n-1])
			if wins != slices.Contains(after, newcomer) {
				t.Fatalf("the newcomer's score wins: %v; it is chosen: %v", wins, !wins)
			}
		}
	})
}

func TestOneGoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, root := some(t, 2, 40), rootOf(rapid.Int().Draw(t, "root"))
		n, taken, spread := rapid.IntRange(1, 12).Draw(t, "n"), someTaken(t), rapid.Bool().Draw(t, "spread")
		before := Choose(root, all, n, taken, spread)
		after := Choose(root, all[1:], n, taken, spread)
		if !slices.Contains(before, all[0]) {
			if !slices.Equal(before, after) {
				t.Fatalf("%v went, which held nothing, and %v became %v", all[0], before, after)
			}
			return
		}
		if gone := missing(before, after); !slices.Equal(gone, all[:1]) {
			t.Fatalf("%v gave up a copy when %v went", gone, all[0])
		}
	})
}

func TestWeightChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, root := some(t, 2, 40), rootOf(rapid.Int().Draw(t, "root"))
		n, taken, spread := rapid.IntRange(1, 12).Draw(t, "n"), someTaken(t), rapid.Bool().Draw(t, "spread")
		before := Choose(root, all, n, taken, spread)
		other := slices.Clone(all)
		other[0].Weight *= rapid.SampledFrom([]float64{0, 0.3, 4}).Draw(t, "factor")
		after := Choose(root, other, n, taken, spread)
		changed := missing(before, after)
		for _, c := range changed {
			up := other[0].Weight > all[0].Weight
			if !up && c != all[0] || up && c != all[0] && !slices.Contains(after, other[0]) {
				t.Fatalf("%v gave up a copy when %v became %v", c, all[0], other[0])
			}
		}
		if len(changed) > 1 {
			t.Fatalf("%v moved", changed)
		}
	})
}

// Newcomers are compared with the lowest score, and those over it with the
// chosen: nobody else is needed.
func TestOver(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, root := some(t, 2, 40), rootOf(rapid.Int().Draw(t, "root"))
		k := rapid.IntRange(0, len(all)).Draw(t, "newcomers")
		n, spread := rapid.IntRange(1, 6).Draw(t, "n"), rapid.Bool().Draw(t, "spread")
		before := Choose(root, all[k:], n, nil, spread)
		bound, sites := math.Inf(1), map[string]bool{}
		for _, c := range before {
			bound = min(bound, Score(root, c))
			sites[c.Site] = true
		}
		if len(before) < n || spread && len(sites) < len(before) {
			bound = 0
		}
		over := NewTable(all[:k]).Over(root, bound)
		for _, c := range all[:k] {
			if slices.Contains(over, c) != (Score(root, c) > bound) {
				t.Fatalf("score %v of %v over %v: %v", Score(root, c), c, bound, over)
			}
		}
		if got, want := Choose(root, append(over, before...), n, nil, spread), Choose(root, all, n, nil, spread); !slices.Equal(got, want) {
			t.Fatalf("of the chosen and those over %v, of all %v", got, want)
		}
	})
}

// missing are the candidates of a that are not in b.
func missing(a, b []Candidate) []Candidate {
	var out []Candidate
	for _, c := range a {
		if !slices.Contains(b, c) {
			out = append(out, c)
		}
	}
	return out
}

func TestSpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cs, root := some(t, 1, 40), rootOf(rapid.Int().Draw(t, "root"))
		n, taken := rapid.IntRange(1, 12).Draw(t, "n"), someTaken(t)
		free, uses := map[string]bool{}, map[string]int{}
		for _, c := range cs {
			if !slices.Contains(taken, c.Site) {
				free[c.Site] = true
			}
		}
		fresh := 0
		for _, c := range Choose(root, cs, n, taken, true) {
			if uses[c.Site]++; uses[c.Site] == 1 && free[c.Site] {
				fresh++
			}
		}
		if want := min(n, len(free)); fresh != want {
			t.Fatalf("%d sites of their own, want %d", fresh, want)
		}
	})
}

// With sites of equal weight, spread does not disturb what weights say.
func TestSpreadIsFair(t *testing.T) {
	cs := make([]Candidate, 30)
	for i := range cs {
		cs[i] = Candidate{ID: peerOf(i), Weight: 1, Site: fmt.Sprint(i % 10)}
	}
	const roots, copies = 30_000, 3
	table, held := NewTable(cs), map[peer.ID]int{}
	for i := range roots {
		for _, c := range table.Choose(rootOf(i), copies, nil, true) {
			held[c.ID]++
		}
	}
	want := float64(roots*copies) / float64(len(cs))
	for _, c := range cs {
		if got := float64(held[c.ID]); math.Abs(got-want) > 5*math.Sqrt(want) {
			t.Errorf("%s holds %v, want about %v", c.ID, got, want)
		}
	}
}

func BenchmarkChoose(b *testing.B) {
	for _, n := range []int{3, 100, 10_000} {
		r := rand.New(rand.NewPCG(1, 2))
		cs := make([]Candidate, n)
		for i := range cs {
			cs[i] = Candidate{ID: peerOf(i), Weight: math.Exp(r.NormFloat64()), Site: fmt.Sprint(i % max(1, n/3))}
		}
		table := NewTable(cs)
		for _, spread := range []bool{false, true} {
			b.Run(fmt.Sprintf("candidates=%d/spread=%v/table", n, spread), func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					table.Choose(rootOf(i), 3, nil, spread)
				}
			})
		}
		b.Run(fmt.Sprintf("candidates=%d/over", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				table.Over(rootOf(i), 1e9)
			}
		})
		b.Run(fmt.Sprintf("candidates=%d/anew", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				Choose(rootOf(i), cs, 3, nil, true)
			}
		})
	}
}

// To choose of some is to choose as if the others were not there.
func TestChooseOfSome(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := some(t, 1, 30)
		odds := rapid.IntRange(0, 4).Draw(t, "odds")
		out := map[peer.ID]bool{}
		var left []Candidate
		for _, c := range all {
			if out[c.ID] = rapid.IntRange(0, 3).Draw(t, "may") < odds; !out[c.ID] {
				left = append(left, c)
			}
		}
		root, n, taken, spread := rootOf(rapid.Int().Draw(t, "root")), rapid.IntRange(0, 12).Draw(t, "n"), someTaken(t), rapid.Bool().Draw(t, "spread")
		got := NewTable(all).ChooseOf(root, n, taken, spread, func(c Candidate) bool { return !out[c.ID] })
		if want := Choose(root, left, n, taken, spread); !slices.Equal(got, want) {
			t.Fatalf("chose %v of some, %v if they are all", got, want)
		}
	})
}
