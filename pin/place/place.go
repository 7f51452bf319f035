// Package place chooses which peers hold a segment: weighted rendezvous. Each
// peer has a score for each segment, drawn from both names alone, and the best
// scores win. A peer with twice the weight wins twice as often; whoever knows
// the same peers comes to the same choice; and when a peer comes or goes, only
// the copies that it gains or had are moved:
//
//   - of the chosen of a root, one goes: the others are chosen still, and one
//     more with them;
//   - one goes that was not chosen, or loses weight: the choice stands;
//   - one comes, or gains weight: the new choice is Choose of the chosen and
//     that one. Nobody else needs to be asked.
//
// So an origin works through all peers only for the roots of a peer that went,
// with a Table, which remembers what does not depend on the root. For all other
// roots it asks Over which newcomers score above the lowest of those chosen,
// and where there are any, it chooses among these and the chosen. All of this
// holds with spread as well, but if some of the chosen share a site, or have one
// that stands in taken, the bound for Over is 0: then a newcomer may come in by
// its site alone.
//
// The score is weight / -ln u. With a and b the first two big-endian 64-bit words
// of the SHA-256 of the root's multihash, and c and d those of the peer ID's
// bytes, u is (x>>12 + ½) / 2⁵², where x is both halves of the 128-bit product
// (a⊕c)·(b⊕d) xored, mixed twice by x ← (x ⊕ x>>32) · d6e8feb86659fd93₁₆ and once
// by x ← x ⊕ x>>32. Scores are no secret: whoever may pick its own peer ID can be the first for
// one segment by trying as many as there are peers. Enrolment bounds that.
//
// It does not know peers or segments except by name, whether they can be
// reached, or what is stored where.
package place

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// A Candidate is a peer that may hold segments.
type Candidate struct {
	ID     peer.ID
	Weight float64 // its part, relative to others': bytes offered, or free; unless it is above 0 and finite, the peer gets nothing
	Site   string  // peers of one site may fail together; those without a name count as one site
}

// seed is what a name puts into scores.
type seed [2]uint64

func newSeed(name []byte) seed {
	h := sha256.Sum256(name)
	return seed{binary.BigEndian.Uint64(h[:8]), binary.BigEndian.Uint64(h[8:16])}
}

func rootSeed(root cid.Cid) seed { return newSeed(root.Hash()) }

// chance mixes two seeds into a number that is uniform between 0 and 1, both
// left out.
func chance(a, b seed) float64 {
	hi, lo := bits.Mul64(a[0]^b[0], a[1]^b[1])
	x := hi ^ lo
	x = (x ^ x>>32) * 0xd6e8feb86659fd93
	x = (x ^ x>>32) * 0xd6e8feb86659fd93
	x ^= x >> 32
	return (float64(x>>12) + 0.5) / (1 << 52)
}

// able reports whether a weight can win anything.
func able(weight float64) bool { return weight > 0 && !math.IsInf(weight, 1) }

// Score is how well c suits root: higher is better, and 0 is never chosen. Two
// scores of one root can be compared, those of two roots cannot.
func Score(root cid.Cid, c Candidate) float64 {
	if !able(c.Weight) {
		return 0
	}
	return c.Weight / -math.Log(chance(rootSeed(root), newSeed([]byte(c.ID))))
}

// Rank orders the candidates for root, the best first. Those whose weight wins
// nothing are left out, and of a peer that is named twice what is said first
// counts.
func Rank(root cid.Cid, cs []Candidate) []Candidate {
	t := NewTable(cs)
	r := rootSeed(root)
	all := make([]scored, 0, len(t.rows))
	for i := range t.rows {
		all = append(all, scored{t.rows[i].weight / -math.Log(chance(r, t.rows[i].seed)), int32(i)})
	}
	slices.SortFunc(all, t.order)
	out := make([]Candidate, len(all))
	for i, s := range all {
		out[i] = t.candidates[s.row]
	}
	return out
}

// Choose returns the n best candidates for root, the best first, or all that
// win anything if they are fewer.
//
// With spread, it is the best candidate of the site that is used least, again
// and again: a site is used once for each time it stands in taken, and once for
// each candidate chosen there. Without spread, taken does not matter.
func Choose(root cid.Cid, cs []Candidate, n int, taken []string, spread bool) []Candidate {
	return NewTable(cs).Choose(root, n, taken, spread)
}

// scored is a row of a table and its score for one root.
type scored struct {
	score float64
	row   int32
}

// order puts the better first, and of equals the lesser peer ID.
func (t *Table) order(a, b scored) int {
	if c := cmp.Compare(b.score, a.score); c != 0 {
		return c
	}
	return cmp.Compare(t.candidates[a.row].ID, t.candidates[b.row].ID)
}
