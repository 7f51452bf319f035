package keep

import "container/heap"

// agenda orders segments by when to look at them. The zero agenda is empty.
type agenda struct{ h byTime }

// byTime is a heap whose segments know their places.
type byTime []*segment

func (b byTime) Len() int           { return len(b) }
func (b byTime) Less(i, j int) bool { return b[i].at < b[j].at }
func (b byTime) Swap(i, j int) {
	b[i], b[j] = b[j], b[i]
	b[i].index, b[j].index = int32(i), int32(j)
}

// Push is for package heap.
func (b *byTime) Push(x any) {
	s := x.(*segment)
	s.index = int32(len(*b))
	*b = append(*b, s)
}

// Pop is for package heap.
func (b *byTime) Pop() any {
	old := *b
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*b = old[:len(old)-1]
	s.index = -1
	return s
}

// set puts a segment on the agenda for a time, or takes it off if that is 0.
func (a *agenda) set(s *segment, when int64) {
	listed := s.index >= 0
	if when == s.at && listed == (when != 0) {
		return
	}
	s.at = when
	switch {
	case when == 0 && listed:
		heap.Remove(&a.h, int(s.index))
	case when == 0:
	case listed:
		heap.Fix(&a.h, int(s.index))
	default:
		heap.Push(&a.h, s)
	}
}

// due takes the next segment off the agenda whose time has come, if there is
// one.
func (a *agenda) due(now int64) *segment {
	if len(a.h) == 0 || a.h[0].at > now {
		return nil
	}
	s := heap.Pop(&a.h).(*segment)
	s.at = 0
	return s
}

// next is when the first of them is due; 0: never.
func (a *agenda) next() int64 {
	if len(a.h) == 0 {
		return 0
	}
	return a.h[0].at
}
