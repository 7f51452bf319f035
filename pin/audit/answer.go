package audit

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math/bits"
	"slices"

	"github.com/ipfs/go-cid"
)

const (
	maxSampled = 64      // leaves that one answer is about
	windowSize = 4 << 10 // bytes of each of them, save one
	maxLeaf    = 4 << 20 // bytes; peers exchange no larger blocks
)

// Answer is what a peer that holds the segment of ch says. It reads at most 64
// leaves, one of them whole, and fails if a leaf cannot be read or the one that
// it reads whole is not what its CID says.
func Answer(ctx context.Context, ch Challenge, src Source) ([32]byte, error) {
	a, err := answers(ctx, &reading{src: src}, ch.Root, [][16]byte{ch.Nonce})
	if err != nil {
		return [32]byte{}, err
	}
	return a[0].mac, nil
}

// answer is an answer and how many leaves went into it.
type answer struct {
	mac    [32]byte
	leaves int
}

// answers gives the answers to several nonces about one root, reading each leaf
// once.
func answers(ctx context.Context, r *reading, root cid.Cid, nonces [][16]byte) ([]answer, error) {
	leaves, err := r.src.Leaves(ctx, root)
	if err != nil {
		return nil, fmt.Errorf("audit %s: %w", root, err)
	}
	for i, l := range leaves {
		if l.Size < 0 || l.Size > maxLeaf || !l.CID.Defined() {
			return nil, fmt.Errorf("audit %s: leaf %d of %d bytes", root, i, l.Size)
		}
	}
	sums := make([]*sum, len(nonces))
	for i, nonce := range nonces {
		sums[i] = newSum(root, nonce, leaves)
	}
	for {
		next := len(leaves)
		for _, s := range sums {
			if len(s.parts) > 0 {
				next = min(next, s.parts[0].leaf)
			}
		}
		if next == len(leaves) {
			break
		}
		for _, s := range sums {
			if len(s.parts) == 0 || s.parts[0].leaf != next {
				continue
			}
			b, err := r.part(ctx, leaves[next], s.parts[0])
			if err != nil {
				return nil, fmt.Errorf("audit %s: leaf %d: %w", root, next, err)
			}
			s.add(leaves[next], b)
		}
	}
	out := make([]answer, len(sums))
	for i, s := range sums {
		s.mac.Sum(out[i].mac[:0])
		out[i].leaves = s.sampled
	}
	return out, nil
}

// part is some bytes of a leaf: all, if whole.
type part struct {
	leaf   int
	off, n int64
	whole  bool
}

// sum is one answer in the making.
type sum struct {
	mac     hash.Hash
	parts   []part // still to come, in the order of leaves
	sampled int
}

func newSum(root cid.Cid, nonce [16]byte, leaves []Leaf) *sum {
	s := &sum{mac: hmac.New(sha256.New, nonce[:]), parts: sample(nonce, leaves)}
	s.sampled = len(s.parts)
	s.mac.Write([]byte("musen audit answer 1\x00"))
	s.mac.Write(root.Hash())
	s.numbers(uint64(len(leaves)))
	return s
}

func (s *sum) numbers(ns ...uint64) {
	b := make([]byte, 0, 32)
	for _, n := range ns {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	s.mac.Write(b)
}

// add takes the bytes of the next part.
func (s *sum) add(l Leaf, b []byte) {
	p := s.parts[0]
	s.parts = s.parts[1:]
	s.numbers(uint64(p.leaf), uint64(l.Size), uint64(p.off), uint64(p.n))
	s.mac.Write(b)
}

// sample says which parts of the leaves a nonce asks for.
func sample(nonce [16]byte, leaves []Leaf) []part {
	if len(leaves) == 0 {
		return nil
	}
	d := draws{nonce: nonce}
	parts := make([]part, 0, maxSampled)
	for _, i := range d.distinct(len(leaves)) {
		parts = append(parts, part{leaf: i})
	}
	whole := d.below(len(parts))
	for i := range parts {
		p := &parts[i]
		size := leaves[p.leaf].Size
		p.whole = i == whole || size <= windowSize
		p.n = size
		if !p.whole {
			p.off, p.n = int64(d.below(int(size-windowSize+1))), windowSize
		}
	}
	return parts
}

// draws are the numbers that follow from a nonce.
type draws struct {
	nonce [16]byte
	block uint64
	words []uint64
}

// below draws a number from 0 to n-1.
func (d *draws) below(n int) int {
	if len(d.words) == 0 {
		mac := hmac.New(sha256.New, d.nonce[:])
		mac.Write(binary.BigEndian.AppendUint64([]byte("musen audit draws 1\x00"), d.block))
		d.block++
		b := mac.Sum(nil)
		for i := 0; i < len(b); i += 8 {
			d.words = append(d.words, binary.BigEndian.Uint64(b[i:]))
		}
	}
	hi, _ := bits.Mul64(d.words[0], uint64(n))
	d.words = d.words[1:]
	return int(hi)
}

// distinct draws the leaves, of n, that an answer is about, in order.
func (d *draws) distinct(n int) []int {
	out := make([]int, 0, maxSampled)
	if n <= maxSampled {
		for i := range n {
			out = append(out, i)
		}
		return out
	}
	drawn := map[int]bool{}
	for j := n - maxSampled; j < n-1; j++ {
		i := d.below(j + 1)
		if drawn[i] {
			i = j
		}
		drawn[i] = true
		out = append(out, i)
	}
	slices.Sort(out)
	return append(out, n-1)
}

// reading reads parts of leaves. With checked it reads every leaf whole and
// believes only what its CID says; else it does so for whole parts alone.
type reading struct {
	src     Source
	checked bool
	last    cid.Cid // the leaf that was read whole last, and its bytes
	bytes   []byte
}

func (r *reading) part(ctx context.Context, l Leaf, p part) ([]byte, error) {
	if !r.checked && !p.whole {
		return r.read(ctx, l.CID, p.off, p.n)
	}
	if r.last.Equals(l.CID) && int64(len(r.bytes)) == l.Size {
		return r.bytes[p.off : p.off+p.n], nil
	}
	b, err := r.read(ctx, l.CID, 0, l.Size)
	if err != nil {
		return nil, err
	}
	c, err := l.CID.Prefix().Sum(b)
	if err != nil {
		return nil, err
	}
	if !c.Equals(l.CID) {
		return nil, fmt.Errorf("block %s is rotten", l.CID)
	}
	r.last, r.bytes = l.CID, b
	return b[p.off : p.off+p.n], nil
}

func (r *reading) read(ctx context.Context, c cid.Cid, off, n int64) ([]byte, error) {
	b := make([]byte, n)
	if n == 0 {
		return b, nil
	}
	got, err := r.src.ReadBlockAt(ctx, c, b, off)
	if int64(got) == n {
		return b, nil
	}
	if err == nil {
		err = fmt.Errorf("%d bytes of %d", got, n)
	}
	return nil, fmt.Errorf("read block %s: %w", c, err)
}
