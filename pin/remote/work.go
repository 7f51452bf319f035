package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
)

// perService is how many requests are made to one service at once.
const perService = 4

// service is one Service and its copies. All of it is under the lock.
type service struct {
	Service
	pins    map[cid.Cid]*pin
	due     agenda
	busy    int
	resting time.Time // nothing is asked of it before then
	tries   int       // requests that failed in a row
	problem string
	at      time.Time
}

// pin is one copy at one service.
type pin struct {
	root   cid.Cid
	label  string
	id     string // of the request at the service; empty: not known
	state  State
	since  time.Time
	next   time.Time
	reason string
	begun  time.Time // when the present request was first seen
	moved  bool      // from queued to pinning, since then
	tries  int       // at which the service failed since it last had it
	errs   int       // requests that went wrong in a row
	polls  int       // in a row that found it under way, no further than before
	asked  bool      // the service may know of it
	busy   bool
	index  int // place in the agenda; -1: not there
}

// status is how a service does.
func (n *service) status() Status {
	st := Status{Service: n.Service, Copies: map[State]int{}, Error: n.problem, At: n.at, Reason: n.problem}
	for _, p := range n.pins {
		st.Copies[p.state]++
		if p.reason != "" && (st.Next.IsZero() || p.next.Before(st.Next)) {
			st.Next = p.next
			if n.problem == "" {
				st.Reason = p.reason
			}
		}
	}
	if st.Next.IsZero() && st.Reason != "" {
		st.Next = n.due.next()
	}
	if !st.Next.IsZero() && st.Next.Before(n.resting) {
		st.Next = n.resting
	}
	return st
}

// want has a service hold a segment. The lock is held, as in the rest of the
// file unless said otherwise.
func (s *Services) want(n *service, root cid.Cid, label string) {
	p := n.pins[root]
	if p == nil {
		p = &pin{root: root, label: label, index: -1}
		n.pins[root] = p
	} else if p.state != Removing {
		return
	}
	s.become(p, Waiting, "")
	s.visits.shut(n.Name, root)
	p.tries, p.errs = 0, 0
	if !p.busy {
		n.due.set(p, s.o.Now())
	}
}

// unwant has a service delete a segment.
func (s *Services) unwant(n *service, root cid.Cid) {
	p := n.pins[root]
	if p.state == Removing {
		return
	}
	s.become(p, Removing, "")
	s.visits.shut(n.Name, root)
	p.tries, p.errs = 0, 0
	if !p.busy {
		n.due.set(p, s.o.Now())
	}
}

func (s *Services) become(p *pin, st State, reason string) {
	if p.state != st {
		p.state, p.since = st, s.o.Now()
	}
	p.reason = reason
}

// Run makes requests until ctx ends, and returns when all have ended.
func (s *Services) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer s.client.CloseIdleConnections()
	defer s.farewell()
	defer running.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next := s.launch(ctx, &running)
		s.usher(ctx)
		if late := s.o.Now().Add(sweep); s.visits.some() && (next.IsZero() || next.After(late)) {
			next = late
		}
		if !next.IsZero() {
			timer.Reset(max(next.Sub(s.o.Now()), time.Millisecond))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-s.free:
		case <-timer.C:
		}
	}
}

// launch begins what is due and returns when more will be; zero: nothing will.
// It takes the lock.
func (s *Services) launch(ctx context.Context, running *sync.WaitGroup) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.o.Now()
	var next time.Time
	for _, n := range s.services {
		for n.busy < perService && !now.Before(n.resting) && n.due.ready(now) {
			p := n.due.pop()
			p.busy = true
			n.busy++
			running.Go(func() { s.tend(ctx, n, p) })
		}
		when := n.due.next()
		if n.busy >= perService || when.IsZero() {
			continue
		}
		if when.Before(n.resting) {
			when = n.resting
		}
		if next.IsZero() || when.Before(next) {
			next = when
		}
	}
	return next
}

// tend does for one copy what is next. It takes the lock.
func (s *Services) tend(ctx context.Context, n *service, p *pin) {
	s.mu.Lock()
	before, v, now := *p, n.Service, s.o.Now()
	s.mu.Unlock()
	var a answer
	var err error
	gone := false
	if before.state == Removing {
		gone, err = s.withdraw(ctx, v, before)
	} else {
		a, err = s.pursue(ctx, v, before)
	}
	nodes, read := s.meet(ctx, v, a)
	s.mu.Lock()
	n.busy--
	p.busy = false
	if ctx.Err() == nil {
		s.outcome(n, err, now)
		s.conclude(ctx, n, p, before, a, gone, err)
		s.attend(n, p, err)
		s.greet(n, p, a.delegates, nodes, read)
	}
	changed := p.state != before.state || gone
	s.mu.Unlock()
	select {
	case s.free <- struct{}{}:
	default:
	}
	if changed && s.o.Changed != nil {
		s.o.Changed(p.root)
	}
}

// withdraw deletes every request about a segment. It takes no lock, like
// pursue.
func (s *Services) withdraw(ctx context.Context, v Service, p pin) (done bool, err error) {
	if !p.asked {
		return true, nil
	}
	l, err := s.line(v)
	if err != nil {
		return false, err
	}
	all, err := l.find(ctx, p.root)
	if err != nil {
		return false, err
	}
	if p.id != "" {
		all = append(all, answer{id: p.id})
	}
	for _, a := range all {
		if err := l.remove(ctx, a.id); err != nil {
			return false, err
		}
	}
	return len(all) < fewRemote, nil
}

// pursue asks for a pin, or how far it is.
func (s *Services) pursue(ctx context.Context, v Service, p pin) (answer, error) {
	l, err := s.line(v)
	if err != nil {
		return answer{}, err
	}
	if p.id != "" && p.state != Failed {
		a, err := l.look(ctx, p.id, p.root)
		if !errors.Is(err, errNone) {
			return a, err
		}
	}
	if p.asked { // perhaps under way, though the answer got lost
		all, err := l.find(ctx, p.root)
		if err != nil {
			return answer{}, err
		}
		for _, a := range all {
			if a.state != Failed {
				return a, nil
			}
			if err := l.remove(ctx, a.id); err != nil {
				return answer{}, err
			}
		}
	} else if err := s.noteAsked(ctx, v, p.root); err != nil {
		return answer{}, err
	}
	var origins []string
	if s.o.Origins != nil {
		origins = s.o.Origins()
	}
	return l.ask(ctx, p.root, p.label, origins)
}

// outcome notes how a request to a service went. A service that fails again and
// again is left alone for a while, so that not every segment is tried in vain.
func (s *Services) outcome(n *service, err error, now time.Time) {
	n.at = now
	if err == nil {
		n.tries, n.problem = 0, ""
		return
	}
	if n.problem != err.Error() {
		s.log.Warn("a pinning service failed", "service", n.Name, "err", err)
	}
	n.problem = err.Error()
	n.tries++
	rest := time.Duration(0)
	var f *failure
	if errors.As(err, &f) {
		rest = f.wait
	}
	if n.tries >= perService {
		rest = max(rest, backoff(s.timing.Retry, n.tries-perService, time.Hour))
	}
	if until := s.o.Now().Add(rest); rest > 0 && until.After(n.resting) {
		n.resting = until
	}
}

func backoff(first time.Duration, tries int, most time.Duration) time.Duration {
	for range min(tries, 20) {
		if first *= 2; first >= most {
			return most
		}
	}
	return min(first, most)
}

// conclude draws the consequences of a request.
func (s *Services) conclude(ctx context.Context, n *service, p *pin, before pin, a answer, gone bool, err error) {
	if gone && p.state == Removing {
		delete(n.pins, p.root)
		if err := s.erase(ctx, n, p.root); err != nil {
			s.log.Error("a copy at a pinning service could not be forgotten", "service", n.Name, "err", err)
		}
		return
	}
	if before.state != Removing && (err == nil || before.id != "" || before.asked || p.asked) {
		p.asked = true
	}
	now := s.o.Now()
	if err == nil {
		p.errs = 0
	}
	if a.id != "" {
		p.id = a.id
		if a.fresh || p.begun.IsZero() {
			p.begun, p.moved = now, false
		}
	}
	switch {
	case p.state == Removing && before.state != Removing: // removed meanwhile
		n.due.set(p, now)
	case gone: // wanted again meanwhile
		p.id, p.asked = "", false
		n.due.set(p, now)
	case err != nil:
		p.errs++
		if p.state != Removing && p.state != Pinned {
			s.become(p, Failed, err.Error())
		}
		p.reason = err.Error()
		n.due.set(p, now.Add(backoff(s.timing.Retry, p.errs-1, time.Hour)))
	case before.state == Removing: // not all of it yet
		n.due.set(p, now.Add(s.timing.Retry))
	default:
		s.follow(n, p, a, now)
	}
	if err := s.putPin(ctx, n, p); err != nil {
		s.log.Error("a copy at a pinning service could not be noted", "service", n.Name, "err", err)
	}
}

// follow takes note of what the service says.
func (s *Services) follow(n *service, p *pin, a answer, now time.Time) {
	before := p.state
	s.become(p, a.state, a.reason)
	switch {
	case a.state == Pinned:
		p.tries = 0
		n.due.set(p, now.Add(s.timing.Check))
		return
	case a.state == Failed:
		p.tries++
		n.due.set(p, now.Add(backoff(s.timing.Retry, p.tries-1, time.Hour)))
		return
	case before != Queued && before != Pinning:
		p.polls = 0
	case before == Queued && a.state == Pinning && !p.moved: // and not again: it could go to and fro for ever
		p.polls, p.moved = 0, true
	}
	if late := p.begun.Add(s.timing.Visit); s.o.Visitors != nil && !now.Before(late) {
		p.reason = fmt.Sprintf("not done in %s; its nodes are let in no more", s.timing.Visit)
	}
	n.due.set(p, now.Add(backoff(s.timing.Poll, p.polls, 10*time.Minute)))
	p.polls++
}
