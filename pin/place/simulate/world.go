package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen/pin/place"
)

// settings are what is simulated.
type settings struct {
	hosts    int
	segments int           // that there are
	sample   int           // that are really placed; the others are taken to be like them
	copies   int           // of each segment
	sites    int           // over which hosts are thrown at random
	spread   bool          // copies of a segment go to sites of their own
	sigma    float64       // of the log-normal disk that hosts offer
	churn    float64       // share of hosts that leave each day, and as many join
	days     int           // of churn
	cycle    time.Duration // in which each copy is audited once
	seed     uint64
}

// nobody stands where a copy has no holder.
const nobody = math.MaxUint32

// world is hosts, and who of them holds what: 4 bytes a copy and 4 a segment.
type world struct {
	settings
	random  *rand.Rand
	places  []place.Candidate // by number; those who left offer nothing
	numbers map[peer.ID]uint32
	free    []uint32 // numbers of those who left
	born    int      // hosts so far
	table   *place.Table
	holders []uint32  // copies of segment 0, of segment 1, …
	bars    []float32 // for each segment, what a newcomer must score more than
}

func newWorld(s settings) *world {
	w := &world{
		settings: s,
		random:   rand.New(rand.NewPCG(s.seed, 1)),
		numbers:  map[peer.ID]uint32{},
		holders:  make([]uint32, s.sample*s.copies),
		bars:     make([]float32, s.sample),
	}
	for range s.hosts {
		w.admit()
	}
	w.table = place.NewTable(w.places)
	for i := range s.sample {
		w.keep(i, w.table.Choose(root(i), w.copies, nil, w.spread))
	}
	return w
}

// root is the CID of the i-th segment.
func root(i int) cid.Cid {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("segment"), uint64(i)))
	mh := append([]byte{multihash.SHA2_256, byte(len(sum))}, sum[:]...)
	return cid.NewCidV1(cid.Raw, mh)
}

// size is how many bytes the i-th segment has: of five, four are of 160 KiB and
// one is of 5 MB.
func size(i int) int64 {
	if i%5 == 0 {
		return 5_000_000
	}
	return 160 << 10
}

// admit lets a new host in, with a disk drawn at random, median 200 GB.
func (w *world) admit() place.Candidate {
	c := place.Candidate{
		ID:     peer.ID(fmt.Sprintf("host %d of seed %d", w.born, w.seed)),
		Weight: 200e9 * math.Exp(w.sigma*w.random.NormFloat64()),
		Site:   fmt.Sprint(w.random.IntN(w.sites)),
	}
	w.born++
	if n := len(w.free); n > 0 {
		w.numbers[c.ID], w.free = w.free[n-1], w.free[:n-1]
		w.places[w.numbers[c.ID]] = c
		return c
	}
	w.numbers[c.ID] = uint32(len(w.places))
	w.places = append(w.places, c)
	return c
}

// of is who holds segment i.
func (w *world) of(i int) []uint32 { return w.holders[i*w.copies : (i+1)*w.copies] }

// keep notes who holds segment i from now on, and says how many of them did not
// before.
func (w *world) keep(i int, chosen []place.Candidate) (moved int) {
	before := append(make([]uint32, 0, 8), w.of(i)...)
	now, sites, flat := w.of(i), map[string]bool{}, len(chosen) == w.copies
	for k := range now {
		now[k] = nobody
	}
	for k, c := range chosen {
		now[k] = w.numbers[c.ID]
		if !contains(before, now[k]) {
			moved++
		}
		flat = flat && !(w.spread && sites[c.Site])
		sites[c.Site] = true
	}
	w.bars[i] = 0
	if flat {
		score := place.Score(root(i), chosen[len(chosen)-1])
		w.bars[i] = math.Nextafter32(float32(score), 0)
	}
	return moved
}

func contains(s []uint32, x uint32) bool {
	for _, y := range s {
		if x == y {
			return true
		}
	}
	return false
}

// change is what some hosts' coming or going moved.
type change struct {
	moved int     // copies that were made somewhere
	ideal float64 // copies that had to be: those that were lost, or that are the newcomers' part
	took  time.Duration
}

func (c *change) add(d change) {
	c.moved += d.moved
	c.ideal += d.ideal
	c.took += d.took
}

// leave takes n hosts away, at random, and makes their copies anew.
func (w *world) leave(n int) change {
	begun := time.Now()
	going := make([]bool, len(w.places))
	for range n {
		x := uint32(w.random.IntN(len(w.places)))
		for w.places[x].Weight == 0 {
			x = uint32(w.random.IntN(len(w.places)))
		}
		going[x] = true
		delete(w.numbers, w.places[x].ID)
		w.places[x] = place.Candidate{}
		w.free = append(w.free, x)
	}
	w.table = place.NewTable(w.places)
	var c change
	for i := range w.sample {
		lost := 0
		for _, x := range w.of(i) {
			if x != nobody && going[x] {
				lost++
			}
		}
		if lost > 0 {
			c.ideal += float64(lost)
			c.moved += w.keep(i, w.table.Choose(root(i), w.copies, nil, w.spread))
		}
	}
	c.took = time.Since(begun)
	return c
}

// join lets n hosts in and gives them what is theirs: only they are scored, and
// only where they score enough are they compared with those who hold.
func (w *world) join(n int) change {
	begun := time.Now()
	newcomers, part := make([]place.Candidate, n), 0.0
	for k := range newcomers {
		newcomers[k] = w.admit()
		part += newcomers[k].Weight
	}
	w.table = place.NewTable(w.places)
	c := change{ideal: part / w.offered() * float64(w.sample*w.copies)}
	table := place.NewTable(newcomers)
	for i := range w.sample {
		over := table.Over(root(i), float64(w.bars[i]))
		if len(over) == 0 {
			continue
		}
		for _, x := range w.of(i) {
			if x != nobody {
				over = append(over, w.places[x])
			}
		}
		c.moved += w.keep(i, place.Choose(root(i), over, w.copies, nil, w.spread))
	}
	c.took = time.Since(begun)
	return c
}

// offered is the disk of all hosts.
func (w *world) offered() float64 {
	total := 0.0
	for _, c := range w.places {
		total += c.Weight
	}
	return total
}

// astray counts, of n segments, those that are not held by whom a choice among
// all hosts would name.
func (w *world) astray(n int) int {
	wrong := 0
	for k := range n {
		i := k * (w.sample / n)
		for _, c := range w.table.Choose(root(i), w.copies, nil, w.spread) {
			if !contains(w.of(i), w.numbers[c.ID]) {
				wrong++
				break
			}
		}
	}
	return wrong
}
