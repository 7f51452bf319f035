package gateway

import (
	"sync"

	"github.com/musenai/musen/gateway/problem"
)

// slots counts the answers under way, in all and for each subject. Its memory
// is bounded by the answers under way.
type slots struct {
	max int

	mu       sync.Mutex
	taken    int
	subjects map[string]int
}

func newSlots(max int) *slots {
	return &slots{max: max, subjects: make(map[string]int)}
}

// take counts one more answer for subject, of which there may be most, or
// refuses. An empty subject has no limit of its own. Every take that succeeds needs one release.
func (s *slots) take(subject string, most int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if subject != "" && s.subjects[subject] >= most {
		return problem.TooMany
	}
	if s.taken >= s.max {
		return problem.Busy
	}
	s.taken++
	if subject != "" {
		s.subjects[subject]++
	}
	return nil
}

// over reports whether subject has more answers under way than limit; 0 is
// none.
func (s *slots) over(subject string, limit int) bool {
	if subject == "" || limit == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.subjects[subject] > limit
}

func (s *slots) release(subject string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	if subject == "" {
		return
	}
	if s.subjects[subject]--; s.subjects[subject] == 0 {
		delete(s.subjects, subject)
	}
}
