package node

import (
	"context"
	"sync"
)

// sharing runs work once for all that ask for it under one name at a time. The
// work goes on until the last of them has left.
type sharing struct {
	enter func(context.Context) (_ context.Context, leave func(), err error)
	mu    sync.Mutex
	runs  map[string]*run
}

// run is one piece of work under way.
type run struct {
	cancel  context.CancelCauseFunc
	waiting int // 0: it is being given up
	ended   chan struct{}
	err     error // once ended
}

// do returns the error of work: its own run of it, or one that was under way.
// ctx ends the wait for it, and the work too if nobody else waits; do then
// returns once the work has ended.
func (s *sharing) do(ctx context.Context, name string, work func(context.Context) error) error {
	r, err := s.join(ctx, name, work)
	if err != nil {
		return err
	}
	select {
	case <-r.ended:
		return r.err
	case <-ctx.Done():
		s.leave(r, context.Cause(ctx))
		return ctx.Err()
	}
}

// join waits for a run. One that is being given up must end first.
func (s *sharing) join(ctx context.Context, name string, work func(context.Context) error) (*run, error) {
	for {
		s.mu.Lock()
		r, ok := s.runs[name]
		if !ok {
			var err error
			if r, err = s.begin(name, work); err != nil {
				s.mu.Unlock()
				return nil, err
			}
		}
		if !ok || r.waiting > 0 {
			r.waiting++
			s.mu.Unlock()
			return r, nil
		}
		s.mu.Unlock()
		select {
		case <-r.ended:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// begin is called with mu held.
func (s *sharing) begin(name string, work func(context.Context) error) (*run, error) {
	ctx, leave, err := s.enter(context.Background())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	r := &run{cancel: cancel, ended: make(chan struct{})}
	s.runs[name] = r
	go func() {
		defer leave()
		defer cancel(nil)
		r.err = work(ctx)
		if r.err != nil && ctx.Err() != nil {
			r.err = context.Cause(ctx) // the rest follows from it
		}
		s.mu.Lock()
		delete(s.runs, name)
		s.mu.Unlock()
		close(r.ended)
	}()
	return r, nil
}

// leave gives up waiting. The last to leave ends the work.
func (s *sharing) leave(r *run, why error) {
	s.mu.Lock()
	r.waiting--
	last := r.waiting == 0
	s.mu.Unlock()
	if last {
		r.cancel(why)
		<-r.ended
	}
}

// stop ends the work of that name, if it is under way, and waits for its end.
func (s *sharing) stop(name string, why error) {
	s.mu.Lock()
	r, ok := s.runs[name]
	s.mu.Unlock()
	if ok {
		r.cancel(why)
		<-r.ended
	}
}
