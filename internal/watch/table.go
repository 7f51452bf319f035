package watch

import (
	"slices"
	"sync"
	"time"
)

// A table is what one rule counts.
type table struct {
	window time.Duration
	most   int

	mu      sync.Mutex
	entries map[string]*entry
	swept   time.Time
}

// An entry is what was counted under one key, in the window that began then.
type entry struct {
	since   time.Time
	told    time.Time
	n       int
	audio   time.Duration
	key     uint64   // that the clients' pseudonyms are made with
	clients []string // pseudonyms that were met
	tried   []uint64 // hashes of segments that were tried
}

// touch finds the entry of a key, and empties it when its window is over.
func (t *table) touch(key string, now time.Time) *entry {
	if now.Sub(t.swept) >= t.window {
		t.sweep(now)
	}
	e := t.entries[key]
	if e == nil {
		if len(t.entries) >= t.most {
			t.forget(now)
		}
		e = &entry{since: now}
		t.entries[key] = e
	}
	if now.Sub(e.since) >= t.window {
		*e = entry{since: now, told: e.told, clients: e.clients[:0], tried: e.tried[:0]}
	}
	return e
}

// sweep forgets what is no longer counted.
func (t *table) sweep(now time.Time) {
	t.swept = now
	for key, e := range t.entries {
		if t.over(e, now) {
			delete(t.entries, key)
		}
	}
}

func (t *table) over(e *entry, now time.Time) bool {
	return now.Sub(e.since) >= t.window && now.Sub(e.told) >= quiet
}

// forget makes room for one more key: it looks at a few, as the map has them,
// and drops the one that has the least to tell.
func (t *table) forget(now time.Time) {
	const few = 8
	var least string
	smallest, looked := 0, 0
	for key, e := range t.entries {
		size := e.n + len(e.clients) + len(e.tried) + int(e.audio/time.Minute)
		if t.over(e, now) {
			size = -1
		}
		if looked == 0 || size < smallest {
			least, smallest = key, size
		}
		if looked++; looked == few {
			break
		}
	}
	delete(t.entries, least)
}

// more counts one more.
func (e *entry) more() int {
	e.n++
	return e.n
}

// meet counts a client, unless it was met, and returns how many were, up to
// most. Clients under another key are strangers: the count begins anew.
func (e *entry) meet(c Client, most int) int {
	if e.key != c.Key {
		e.key, e.clients = c.Key, e.clients[:0]
	}
	if len(e.clients) < most && !slices.Contains(e.clients, c.Name) {
		e.clients = append(e.clients, c.Name)
	}
	return len(e.clients)
}

// try counts a segment, unless it was tried, and returns how many were, up to
// most.
func (e *entry) try(segment uint64, most int) int {
	if len(e.tried) < most && !slices.Contains(e.tried, segment) {
		e.tried = append(e.tried, segment)
	}
	return len(e.tried)
}
