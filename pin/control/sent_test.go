package control

import (
	"context"
	"errors"
	"testing"
	"time"
)

// Sent returns when the origin has recorded what was told before, whatever is
// told after.
func TestSent(t *testing.T) {
	o := newOutbox()
	c := &Client{outbox: o}
	old, young := outKey{told, "old"}, outKey{told, "young"}
	c.outbox.add(old)
	ended, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := c.Sent(ended); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nothing is recorded yet: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Sent(t.Context()) }()
	c.mu.Lock()
	version := c.outbox.version
	c.mu.Unlock()
	if version != 1 || !c.outbox.waits(1) {
		t.Errorf("version %d", version)
	}
	c.mu.Lock()
	c.outbox.remove(old)
	c.mu.Unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
	c.mu.Lock()
	c.outbox.add(young)
	waits := c.outbox.waits(version)
	c.mu.Unlock()
	if waits {
		t.Error("it waits for what came after")
	}
}
