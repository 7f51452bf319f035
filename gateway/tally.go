package gateway

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

// A Count is how many requests were answered in one way since the start. None
// of it is about a person: routes, codes and limits are those of the program.
type Count struct {
	Route  string // the template that the path matched; "": none
	Status int
	Code   string // of the problem that was answered; "": none
	Limit  string // that the request went beyond; "": none
	N      uint64
}

// answered is one way to answer.
type answered struct {
	route  string
	status int
	code   string
	limit  string
}

// tally counts answers. There are few ways to answer, whatever is asked.
type tally struct {
	mu     sync.RWMutex
	counts map[answered]*atomic.Uint64
}

func (t *tally) add(a answered) {
	t.mu.RLock()
	n := t.counts[a]
	t.mu.RUnlock()
	if n == nil {
		n = t.counter(a)
	}
	n.Add(1)
}

func (t *tally) counter(a answered) *atomic.Uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[answered]*atomic.Uint64{}
	}
	if t.counts[a] == nil {
		t.counts[a] = new(atomic.Uint64)
	}
	return t.counts[a]
}

// Counts are how requests were answered since the start.
func (s *Server) Counts() []Count {
	s.tally.mu.RLock()
	defer s.tally.mu.RUnlock()
	list := make([]Count, 0, len(s.tally.counts))
	for a, n := range s.tally.counts {
		list = append(list, Count{a.route, a.status, a.code, a.limit, n.Load()})
	}
	slices.SortFunc(list, func(a, b Count) int {
		return cmp.Or(cmp.Compare(a.Route, b.Route), cmp.Compare(a.Status, b.Status), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Limit, b.Limit))
	})
	return list
}
