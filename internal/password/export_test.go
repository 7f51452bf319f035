package password

import "testing"

// Occupy takes n of the hashes that may run, until leave.
func (h *Hasher) Occupy(t testing.TB, n int) (leave func()) {
	t.Helper()
	for range n {
		h.queue <- struct{}{}
		h.slots <- struct{}{}
	}
	return func() {
		for range n {
			<-h.slots
			<-h.queue
		}
	}
}

// Fill takes every place to wait that is left, until empty.
func (h *Hasher) Fill(t testing.TB) (empty func()) {
	t.Helper()
	n := cap(h.queue) - len(h.queue)
	for range n {
		h.queue <- struct{}{}
	}
	return func() {
		for range n {
			<-h.queue
		}
	}
}
