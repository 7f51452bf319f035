package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ipfs/go-datastore"

	"github.com/musenai/musen/internal/host/scrub"
)

// stateKey is where a host's memory is kept in its store.
const stateKey = "/host/state"

// memory is what a host remembers over restarts besides its segments.
type memory struct {
	Paused  time.Time    `json:"paused,omitzero"`
	Leaving bool         `json:"leaving,omitempty"`
	Appeal  string       `json:"appeal,omitempty"`
	Served  int64        `json:"served"`
	Scrub   scrub.Result `json:"scrub"`
}

// state keeps a memory in a store.
type state struct {
	store datastore.Batching

	mu     sync.Mutex
	memory memory
	base   int64 // served before the start
}

func openState(ctx context.Context, store datastore.Batching) (*state, error) {
	s := &state{store: store}
	b, err := store.Get(ctx, datastore.NewKey(stateKey))
	if err == nil {
		err = json.Unmarshal(b, &s.memory)
	}
	if err != nil && !errors.Is(err, datastore.ErrNotFound) {
		return nil, fmt.Errorf("read the state of the host: %w", err)
	}
	s.base = s.memory.Served
	return s, nil
}

func (s *state) get() memory {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.memory
}

// total is how much was served in all, if it is now since the start.
func (s *state) total(now int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.base + now
}

// change makes a change durable, or none.
func (s *state) change(ctx context.Context, do func(*memory)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := s.memory
	do(&fresh)
	b, err := json.Marshal(fresh)
	if err == nil {
		err = s.store.Put(ctx, datastore.NewKey(stateKey), b)
	}
	if err == nil {
		err = s.store.Sync(ctx, datastore.NewKey(stateKey))
	}
	if err != nil {
		return fmt.Errorf("write the state of the host: %w", err)
	}
	s.memory = fresh
	return nil
}

// served notes how much was served since the start.
func (s *state) served(ctx context.Context, now int64) error {
	if s.get().Served == s.total(now) {
		return nil
	}
	return s.change(ctx, func(m *memory) { m.Served = s.base + now })
}
