package denylist

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/mr-tron/base58"
	"github.com/multiformats/go-multihash"
)

// keySize is how much of a hash is kept: enough that no other block has it.
const keySize = 16

// A key stands for a hash.
type key [keySize]byte

// keyOf is the key of a multihash: the beginning of a SHA-256, its own or that
// of any other hash.
func keyOf(mh multihash.Multihash) key {
	if len(mh) == 2+sha256.Size && mh[0] == multihash.SHA2_256 && mh[1] == sha256.Size {
		return key(mh[2 : 2+keySize])
	}
	sum := sha256.Sum256(mh)
	return key(sum[:keySize])
}

// An entry is one rule.
type entry struct {
	key key
	at  uint32 // the line, shifted by one, and 1 if it allows; or held
}

// held makes an entry that denies count as the last of all.
const held = 1 << 31

func (e entry) line() int    { return int(e.at &^ held >> 1) }
func (e entry) allows() bool { return e.at&1 == 1 }

// A table holds the rules of a list, by key. The rules for the block itself and
// those for a hash of its name are together: what they are hashes of is not the
// same.
type table struct {
	entries []entry
	sums    []uint64 // functions that names are hashed with
	old     bool     // names of old are hashed too
	passed  int      // rules that are about nothing that is here
	// starts says where the keys begin whose first bits are a number: there are
	// some eight of each.
	starts []uint32
	shift  int
}

func (t *table) add(k key, line int, allow bool) {
	at := uint32(min(line, held>>1-1)) << 1
	if allow {
		at |= 1
	}
	t.entries = append(t.entries, entry{k, at})
}

// finish makes a table ready to be asked: of the rules for one key the last one
// stays.
func (t *table) finish() {
	order(t.entries, 0)
	t.entries = slices.CompactFunc(t.entries, func(a, b entry) bool { return a.key == b.key })
	t.index()
}

// order sorts entries whose keys have the same first bytes, as many as depth,
// the last rule for a key first. It sorts where they are, by one byte after the
// other: keys are spread evenly.
func order(entries []entry, depth int) {
	const few = 64
	if len(entries) <= few || depth == keySize {
		slices.SortFunc(entries, func(a, b entry) int {
			if c := a.compare(b); c != 0 {
				return c
			}
			return cmp.Compare(b.at, a.at)
		})
		return
	}
	var ends, next [256]int
	for _, e := range entries {
		ends[e.key[depth]]++
	}
	sum := 0
	for b := range ends {
		next[b] = sum
		sum += ends[b]
		ends[b] = sum
	}
	for b := range ends {
		for next[b] < ends[b] {
			at := next[b]
			to := entries[at].key[depth]
			entries[at], entries[next[to]] = entries[next[to]], entries[at]
			next[to]++
		}
	}
	start := 0
	for _, end := range ends {
		order(entries[start:end], depth+1)
		start = end
	}
}

// compare orders entries by their keys.
func (e entry) compare(other entry) int {
	if c := cmp.Compare(e.key.head(), other.key.head()); c != 0 {
		return c
	}
	return bytes.Compare(e.key[8:], other.key[8:])
}

func (k key) head() uint64 { return binary.BigEndian.Uint64(k[:8]) }

// index finds where the first bits of the keys change.
func (t *table) index() {
	width := max(1, bits.Len(uint(len(t.entries)))-3)
	t.shift, t.starts = 64-width, make([]uint32, 1<<width+1)
	next := 0
	for i, e := range t.entries {
		for n := int(e.key.head() >> t.shift); next <= n; next++ {
			t.starts[next] = uint32(i)
		}
	}
	for ; next < len(t.starts); next++ {
		t.starts[next] = uint32(len(t.entries))
	}
}

func (t *table) get(k key) (entry, bool) {
	n := k.head() >> t.shift
	near := t.entries[t.starts[n]:t.starts[n+1]]
	i, ok := slices.BinarySearchFunc(near, entry{key: k}, entry.compare)
	if !ok {
		return entry{}, false
	}
	return near[i], true
}

// find returns the last rule about a block.
func (t *table) find(mh multihash.Multihash) (last entry, found bool) {
	if len(t.entries) == 0 {
		return last, false
	}
	try := func(k key) {
		if e, ok := t.get(k); ok && e.at >= last.at {
			last, found = e, true
		}
	}
	try(keyOf(mh))
	if len(t.sums) > 0 {
		name := []byte(base58.FastBase58Encoding(mh))
		for _, code := range t.sums {
			if code == multihash.SHA2_256 { // nearly always
				sum := sha256.Sum256(name)
				try(key(sum[:keySize]))
			} else if sum, err := multihash.Sum(name, code, -1); err == nil {
				try(keyOf(sum))
			}
		}
	}
	if t.old {
		for _, name := range oldNames(mh) {
			sum := sha256.Sum256([]byte(name))
			try(key(sum[:keySize]))
		}
	}
	return last, found
}

// with returns t and what is denied by a reading of the list that had faults:
// nothing that t denies is allowed by it, and nothing that the reading denies by
// what t allowed: the block itself, or a hash of its name.
func (t *table) with(fresh *table) *table {
	all := &table{
		entries: make([]entry, 0, len(t.entries)+len(fresh.entries)),
		sums:    slices.Clone(t.sums), old: t.old || fresh.old, passed: fresh.passed,
	}
	for _, code := range fresh.sums {
		if !slices.Contains(all.sums, code) {
			all.sums = append(all.sums, code)
		}
	}
	was := t.entries
	for _, e := range fresh.entries {
		if e.allows() {
			continue
		}
		n, _ := slices.BinarySearchFunc(was, e, entry.compare)
		all.entries = append(all.entries, was[:n]...)
		if was = was[n:]; len(was) > 0 && was[0].key == e.key {
			was = was[1:]
		}
		e.at |= held
		all.entries = append(all.entries, e)
	}
	all.entries = append(all.entries, was...)
	all.index()
	return all
}
