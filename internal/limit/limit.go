// Package limit bounds how often something may happen, for each of any number
// of keys, in memory of a fixed size.
//
// It does not know what a key stands for, nor what is limited. Keys are not
// kept: a bucket is found by a hash under a seed that is drawn anew for each
// Buckets, so nobody outside can tell which keys meet in memory, and nothing
// that is kept tells a key.
package limit

import (
	"hash/maphash"
	"math/bits"
	"sync"
	"time"
)

const (
	shards = 64
	ways   = 8 // slots in which one key may be

	// spare is how many slots there are for each of Options.Keys, so that keys
	// seldom meet in a set that is full.
	spare = 2

	defaultKeys = 1 << 17

	century = int64(100 * 365 * 24 * time.Hour)
)

// Options say what Buckets hold.
type Options struct {
	// Every is the time in which a bucket gets one token back; with 0 or less
	// nothing is ever refused.
	Every time.Duration
	// Burst is how many tokens a bucket has when it is full: at least 1, and no
	// more than it gets back in a century.
	Burst int
	// Keys is how many buckets can be short of tokens at a time before some are
	// merged; 0: 131,072. Each costs 32 to 64 bytes, from the beginning on. A
	// bucket that is full takes none, so this bounds the keys that are seen in
	// the time in which a bucket fills, and not those that are ever seen.
	Keys int
	Now  func() time.Time // clock
}

// Buckets are token buckets, one for each key. They are safe for concurrent
// use.
//
// A key gets at most Burst tokens, and one more for each Every that passed. When
// more keys are short of tokens than there is room for, a new key takes over
// the bucket that lacks the fewest tokens among eight, as it is. So a flood of
// keys is not given more than all the buckets hold, however many keys it has;
// and it frees a key that is refused from its bucket only when everything
// beside it is refused as well.
type Buckets struct {
	every, depth int64 // nanoseconds: for one token, and that a bucket may lack when one is taken
	now          func() time.Time
	start        time.Time
	seed         maphash.Seed
	shift        uint // of a hash, leaves the number of the set in a shard
	shards       [shards]shard
}

// A shard is a part of the slots under one lock.
type shard struct {
	mu   sync.Mutex
	sets []set
	_    [32]byte // a cache line for each lock
}

// A set is the slots in which a key may be.
type set [ways]slot

// A slot is a bucket. It is full once that time has come, and then free.
type slot struct {
	hash uint64 // of the key
	full int64  // nanoseconds since the start
}

// New makes Buckets, all of them full.
func New(o Options) *Buckets {
	if o.Keys <= 0 {
		o.Keys = defaultKeys
	}
	every := max(0, int64(o.Every))
	burst := max(1, int64(o.Burst))
	if every > 0 {
		burst = min(burst, max(1, century/every))
	}
	width := bits.Len(uint((o.Keys*spare - 1) / (shards * ways))) // of the number of sets in a shard
	b := &Buckets{
		every: every, depth: every * (burst - 1),
		now: o.Now, start: o.Now(), seed: maphash.MakeSeed(), shift: 64 - uint(width),
	}
	for i := range b.shards {
		b.shards[i].sets = make([]set, 1<<width)
	}
	return b
}

// Take takes a token for key and returns 0, or takes none and returns how long
// it is until there is one.
func (b *Buckets) Take(key string) (wait time.Duration) { return b.look(key, b.every) }

// Wait is what Take would return; it takes nothing.
func (b *Buckets) Wait(key string) time.Duration { return b.look(key, 0) }

// Give gives back a token that was taken for key. Nothing comes of it when the
// bucket was merged with another's since.
func (b *Buckets) Give(key string) {
	hash := maphash.String(b.seed, key)
	s := &b.shards[hash%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.sets[hash>>b.shift].find(hash); x.hash == hash {
		x.full -= b.every
	}
}

// look finds the bucket of key and adds to what it lacks, if it has a token.
func (b *Buckets) look(key string, add int64) time.Duration {
	hash := maphash.String(b.seed, key)
	s := &b.shards[hash%shards]
	now := max(0, int64(b.now().Sub(b.start)))
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.sets[hash>>b.shift].find(hash)
	full := max(x.full, now)
	if lack := full - now; lack > b.depth {
		return time.Duration(lack - b.depth)
	}
	if add > 0 {
		x.hash, x.full = hash, full+add
	}
	return 0
}

// find is the bucket of a key or, when it has none, the one that lacks least.
func (s *set) find(hash uint64) *slot {
	least := &s[0]
	for i := range s {
		if s[i].hash == hash {
			return &s[i]
		}
		if s[i].full < least.full {
			least = &s[i]
		}
	}
	return least
}
