package place

import (
	"math"
	"slices"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// A Table is candidates made ready for choosing many times. It does not change,
// so any number of goroutines may use it at once.
type Table struct {
	candidates []Candidate
	rows       []row
	sites      map[string]int32
	population []int32 // how many rows each site has
}

// row is what scoring needs of a candidate, close together in memory.
type row struct {
	seed   seed
	weight float64
	site   int32
}

// NewTable makes a Table. It keeps nothing of cs. Of a peer that is named twice,
// what is said first counts.
func NewTable(cs []Candidate) *Table {
	t := &Table{
		candidates: make([]Candidate, 0, len(cs)),
		rows:       make([]row, 0, len(cs)),
		sites:      map[string]int32{},
	}
	known := make(map[peer.ID]struct{}, len(cs))
	for _, c := range cs {
		if _, ok := known[c.ID]; ok || !able(c.Weight) {
			continue
		}
		known[c.ID] = struct{}{}
		site, ok := t.sites[c.Site]
		if !ok {
			site = int32(len(t.population))
			t.sites[c.Site] = site
			t.population = append(t.population, 0)
		}
		t.population[site]++
		t.candidates = append(t.candidates, c)
		t.rows = append(t.rows, row{newSeed([]byte(c.ID)), c.Weight, site})
	}
	return t
}

// Len is how many candidates can be chosen.
func (t *Table) Len() int { return len(t.rows) }

// Choose is the function Choose over the candidates of t.
func (t *Table) Choose(root cid.Cid, n int, taken []string, spread bool) []Candidate {
	return t.ChooseOf(root, n, taken, spread, nil)
}

// ChooseOf is the function Choose over those candidates of t that may be chosen.
// It asks about few more than it chooses, unless most may not.
func (t *Table) ChooseOf(root cid.Cid, n int, taken []string, spread bool, may func(Candidate) bool) []Candidate {
	n = min(n, len(t.rows))
	if n <= 0 {
		return nil
	}
	c := choice{table: t, root: rootSeed(root), spread: spread, may: may, used: map[int32]use{}}
	if spread {
		for _, name := range taken {
			if s, ok := t.sites[name]; ok {
				c.use(s, 0)
			}
		}
	}
	for len(c.chosen) < n && c.round(n-len(c.chosen)) {
	}
	out := make([]Candidate, len(c.chosen))
	for i, s := range c.chosen {
		out[i] = t.candidates[s.row]
	}
	return out
}

// Over gives the candidates of t whose Score for root is above a bound, in no
// order. With a Table of newcomers, and the lowest score of those chosen for
// root as the bound, the answer is nearly always none, and costs nanoseconds for
// each newcomer.
func (t *Table) Over(root cid.Cid, bound float64) []Candidate {
	r := rootSeed(root)
	var out []Candidate
	for i := range t.rows {
		row := &t.rows[i]
		u := chance(r, row.seed)
		if (1-u)*bound*(1-rounding) <= row.weight && row.weight/-math.Log(u) > bound {
			out = append(out, t.candidates[i])
		}
	}
	return out
}

// rounding is what scores that are reckoned without a logarithm may be off.
const rounding = 1e-12

// choice is one choosing in the making.
type choice struct {
	table  *Table
	root   seed
	spread bool
	may    func(Candidate) bool // nil: all
	used   map[int32]use        // sites that were taken or chosen from
	level  int32                // how often the sites of this round have been used
	floor  int32                // sites that were used less often have nobody left
	chosen []scored
}

// use is how often a site is used and how many of its rows are chosen.
type use struct{ times, chosen int32 }

func (c *choice) use(site int32, chosen int32) {
	u := c.used[site]
	c.used[site] = use{u.times + 1, u.chosen + chosen}
}

// round chooses at most n candidates: with spread the best of each site that has
// been used least and may have any left. It reports whether there may be more.
func (c *choice) round(n int) bool {
	c.level = c.least()
	best := c.scan(n)
	if len(best) == 0 {
		c.floor = c.level + 1
		return c.spread && c.level < math.MaxInt32
	}
	slices.SortFunc(best, c.table.order)
	for _, s := range best {
		c.use(c.table.rows[s.row].site, 1)
	}
	c.chosen = append(c.chosen, best...)
	return c.spread
}

// least is how often the least used site that has candidates left is used.
func (c *choice) least() int32 {
	if c.floor == 0 && len(c.used) < len(c.table.population) {
		return 0
	}
	least := int32(math.MaxInt32)
	for s, u := range c.used {
		if u.times >= c.floor && u.chosen < c.table.population[s] {
			least = min(least, u.times)
		}
	}
	return least
}

// eligible reports whether s may be chosen in this round.
func (c *choice) eligible(s scored) bool {
	if !c.spread {
		return true
	}
	u, ok := c.used[c.table.rows[s.row].site]
	if u.times != c.level {
		return false
	}
	return !ok || u.chosen == 0 || !slices.ContainsFunc(c.chosen, func(o scored) bool { return o.row == s.row })
}

// scan finds the n best rows that this round may choose, in no order.
func (c *choice) scan(n int) []scored {
	best := shortlist{choice: c, rows: make([]scored, 0, n)}
	for i := range c.table.rows {
		r := &c.table.rows[i]
		u := chance(c.root, r.seed)
		if (1-u)*best.bar > r.weight { // -ln u ≥ 1-u: it loses, no need of a logarithm
			continue
		}
		best.add(scored{r.weight / -math.Log(u), int32(i)})
	}
	return best.rows
}

// shortlist is the best rows of a round so far, cap(rows) at most, and with
// spread one of each site.
type shortlist struct {
	*choice
	rows  []scored
	worst int     // which of them is the last; of a full list only
	bar   float64 // no score below it gets on the list
}

func (l *shortlist) add(s scored) {
	full := len(l.rows) == cap(l.rows)
	if full && l.table.order(s, l.rows[l.worst]) > 0 || !l.eligible(s) {
		return
	}
	rival := l.rival(s)
	switch {
	case rival >= 0 && l.table.order(s, l.rows[rival]) > 0:
		return
	case l.may != nil && !l.may(l.table.candidates[s.row]):
		return
	case rival >= 0:
		l.rows[rival] = s
	case full:
		l.rows[l.worst] = s
	default:
		l.rows = append(l.rows, s)
	}
	if len(l.rows) < cap(l.rows) {
		return
	}
	l.worst = 0
	for i := range l.rows {
		if l.table.order(l.rows[i], l.rows[l.worst]) > 0 {
			l.worst = i
		}
	}
	l.bar = l.rows[l.worst].score * (1 - rounding)
}

// rival is the row on the list whose place s would take, or -1.
func (l *shortlist) rival(s scored) int {
	if !l.spread {
		return -1
	}
	site := l.table.rows[s.row].site
	return slices.IndexFunc(l.rows, func(o scored) bool { return l.table.rows[o.row].site == site })
}
