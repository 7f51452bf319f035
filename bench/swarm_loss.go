package main

import (
	"context"
	"log"
	"maps"
	"time"
)

// loseMember kills one of four members, the one with the most copies but not
// the one that is added to, and waits until the others have what it had.
func (b *bench) loseMember(ctx context.Context, p swarmPlan, mode string) error {
	s, err := b.startSwarm(ctx, mode, swarmCopies+1)
	defer s.stop()
	if err != nil {
		return err
	}
	r, err := s.addUp(ctx, p.Lose, segmentKiB)
	if err != nil {
		return err
	}
	before, err := s.holdings(ctx)
	if err != nil {
		return err
	}
	victim := 1
	for i, m := range s.members[1:] {
		if before[m.name] > before[s.members[victim].name] {
			victim = 1 + i
		}
	}
	name := s.members[victim].name
	r.Lost = before[name]
	log.Printf("%s: copies by member: %v; %s is killed", mode, before, name)
	others := total(before) - r.Lost
	if err := s.kill(victim); err != nil {
		return err
	}
	cpu, began := s.cpu(), time.Now()
	err = watchOver(ctx, func() (bool, error) {
		now, err := s.holdings(ctx)
		r.Waited = time.Since(began).Seconds()
		delete(now, name)
		r.Back = total(now) - others
		if r.FirstNew == 0 && r.Back > 0 {
			r.FirstNew = r.Waited
		}
		if r.Back >= r.Lost {
			r.AllNew = r.Waited
		}
		return r.AllNew > 0 || r.Waited > p.Wait.Seconds(), err
	})
	if err != nil {
		return err
	}
	r.CPU, r.RSS = minus(s.cpu(), cpu), s.rss()
	return b.report(r)
}

// kill ends a member without a word. It is no member any more.
func (s *swarm) kill(i int) error {
	for _, p := range s.members[i].procs {
		if err := p.kill(); err != nil {
			return err
		}
	}
	s.members = append(s.members[:i:i], s.members[i+1:]...)
	return nil
}

// kill ends the process without a word, and waits for its end.
func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	<-p.done
	return err
}

func total(by map[string]int) (n int) {
	for v := range maps.Values(by) {
		n += v
	}
	return n
}
