package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	swarmConns  = 8 // adds at once
	swarmCopies = 3 // of each segment, the origin's own one included
	swarmPoll   = 250 * time.Millisecond
	segmentKiB  = 64 // of the fleet that loses a peer
)

// A swarmPlan says what is measured of origins with peers.
type swarmPlan struct {
	Totals []int // segments in the swarm after each step
	KiB    []int // sizes of segments, a fresh swarm for each
	Modes  []string
	Idle   time.Duration
	Lose   int // segments in the swarm that loses a peer; 0: none loses one
	Limit  time.Duration
}

// A swarmRow is one measurement of a swarm. CPU is of all its processes; lists
// are by process, the origin first.
type swarmRow struct {
	Bench string    `json:"bench"` // swarm
	Mode  string    `json:"mode"`
	At    time.Time `json:"at"`
	KiB   int       `json:"kib"`
	Total int       `json:"total"` // segments there are
	Added int       `json:"added"` // of those, in this step

	Stored     float64   `json:"stored_s"`     // until all adds were answered
	Replicated float64   `json:"replicated_s"` // until every copy is said to be held
	Durable    float64   `json:"durable_s"`    // until every copy is proved
	CPU        []float64 `json:"cpu_s"`        // until then
	RSS        []float64 `json:"rss_mib"`      // at the end
	Idle       []float64 `json:"idle_percent"` // of one core, afterwards
	Client     float64   `json:"client_cpu_s"` // of the harness
	Other      float64   `json:"other_cpu_s"`  // of all other processes of the machine: noise

	Lost     int     `json:"lost,omitempty"`    // copies that a peer took with it
	FirstNew float64 `json:"first_s,omitempty"` // until the first of them was replaced, and proved
	AllNew   float64 `json:"all_s,omitempty"`   // until all were
}

// swarmMain is the command bench swarm.
func swarmMain(args []string) error {
	f := flag.NewFlagSet("bench swarm", flag.ExitOnError)
	quick := f.Bool("quick", false, "200 segments of each kind, and 5 s of idling")
	totals := f.String("n", "1000,10000", "how many segments there are after each step; 30000 takes a while")
	sizes := f.String("kib", "64,160", "sizes of the segments, in KiB")
	modes := f.String("mode", "storage,community", "what holds the copies")
	idle := f.Duration("idle", time.Minute, "how long idle CPU is watched")
	lose := f.Int("lose", 1000, "segments of the swarm that loses a storage node (0: none does)")
	limit := f.Duration("limit", 3*time.Hour, "of everything")
	if err := f.Parse(args); err != nil {
		return err
	}
	p := swarmPlan{Modes: words(*modes), Idle: *idle, Lose: *lose, Limit: *limit}
	var err error
	if p.Totals, err = counts(*totals); err != nil {
		return err
	}
	if p.KiB, err = counts(*sizes); err != nil {
		return err
	}
	if *quick {
		p.Totals, p.Idle, p.Lose = []int{200}, 5*time.Second, min(p.Lose, 200)
	}
	return measureSwarms(p)
}

func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}

func counts(list string) (all []int, err error) {
	for _, word := range words(list) {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is no count", word)
		}
		all = append(all, n)
	}
	return all, nil
}

func measureSwarms(p swarmPlan) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, p.Limit)
	defer cancel()
	b, err := newBench(plan{})
	if err != nil {
		return err
	}
	defer b.close()
	printSwarmHead(os.Stdout)
	for _, mode := range p.Modes {
		for _, kib := range p.KiB {
			if err := b.growSwarm(ctx, p, mode, kib); err != nil {
				return fmt.Errorf("%s, %d KiB: %w", mode, kib, err)
			}
		}
	}
	if p.Lose > 0 {
		if err := b.losePeer(ctx, p.Lose); err != nil {
			return fmt.Errorf("lose a peer: %w", err)
		}
	}
	return b.results.Close()
}

// growSwarm measures a swarm step by step.
func (b *bench) growSwarm(ctx context.Context, p swarmPlan, mode string, kib int) error {
	s, err := b.startSwarm(ctx, mode, 2)
	defer s.stop()
	if err != nil {
		return err
	}
	for _, total := range p.Totals {
		r, err := s.addUp(ctx, total, kib)
		if err != nil {
			return fmt.Errorf("up to %d: %w", total, err)
		}
		if r.Idle, err = s.idle(ctx, p.Idle); err != nil {
			return err
		}
		r.Mode = mode
		if err := b.report(r); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) report(r swarmRow) error {
	r.Bench, r.At = "swarm", time.Now().UTC()
	r.print(os.Stdout)
	return json.NewEncoder(b.results).Encode(r)
}

// addUp adds segments until there are so many, and waits until every copy of
// every one of them is proved.
func (s *swarm) addUp(ctx context.Context, total, kib int) (r swarmRow, err error) {
	r.KiB, r.Total, r.Added = kib, total, total-s.segments
	cpu, machine, own := s.cpu(), machineSeconds(), ownSeconds()
	began := time.Now()
	added := make(chan error, 1)
	go func() { added <- s.add(ctx, total, int64(kib)<<10) }()
	want := swarmCopies * total
	for tick := time.Tick(swarmPoll); r.Durable == 0; {
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case err := <-added:
			if err != nil {
				return r, err
			}
			added = nil
			r.Stored = time.Since(began).Seconds()
			log.Printf("%s: %d segments of %d KiB are stored", s.station, total, kib)
		case <-tick:
			if added != nil {
				continue // nothing can be complete, and looking costs the origin time
			}
			c, err := s.copies(ctx)
			if err != nil {
				return r, err
			}
			took := time.Since(began).Seconds()
			if r.Replicated == 0 && c.Copies >= want {
				r.Replicated = took
			}
			if c.Proved >= want && c.Durable == total {
				r.Durable = took
			}
		}
	}
	r.CPU, r.Client = minus(s.cpu(), cpu), ownSeconds()-own
	r.Other = machineSeconds() - machine - sum(r.CPU) - r.Client
	r.RSS = s.rss()
	return r, nil
}

// add adds segments over several connections until there are so many.
func (s *swarm) add(ctx context.Context, total int, size int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	up := uploader{s.origin.local, "http://musen", s.station, ""}
	var next atomic.Int64
	next.Store(int64(s.segments))
	var wait sync.WaitGroup
	for range swarmConns {
		wait.Go(func() {
			for ctx.Err() == nil {
				i := next.Add(1)
				if i > int64(total) {
					return
				}
				if _, err := up.add(ctx, bytes.NewReader(audioBytes(uint64(i), size)), size); err != nil {
					cancel(err)
				}
			}
		})
	}
	wait.Wait()
	s.segments = total
	return context.Cause(ctx)
}

// idle is the CPU that each process uses while nothing happens, in percent of
// one core.
func (s *swarm) idle(ctx context.Context, d time.Duration) ([]float64, error) {
	if err := pause(ctx, d/6); err != nil { // what is still written
		return nil, err
	}
	before, began := s.cpu(), time.Now()
	if err := pause(ctx, d); err != nil {
		return nil, err
	}
	used := minus(s.cpu(), before)
	for i := range used {
		used[i] *= 100 / time.Since(began).Seconds()
	}
	return used, nil
}

// losePeer kills one of three storage nodes and waits until the others and the
// origin have what it had.
func (b *bench) losePeer(ctx context.Context, n int) error {
	s, err := b.startSwarm(ctx, modeStorage, 3)
	defer s.stop()
	if err != nil {
		return err
	}
	r, err := s.addUp(ctx, n, segmentKiB)
	if err != nil {
		return err
	}
	before, err := s.proved(ctx)
	if err != nil {
		return err
	}
	r.Mode, r.Lost = "one of 3 storage nodes dies", before[s.peers[0].name]
	others := total(before) - r.Lost
	if err := s.peers[0].proc.kill(); err != nil {
		return err
	}
	s.peers = s.peers[1:]
	cpu, began := s.cpu(), time.Now()
	for r.AllNew == 0 {
		if err := pause(ctx, swarmPoll); err != nil {
			return err
		}
		now, err := s.proved(ctx)
		if err != nil {
			return err
		}
		restored := now[s.peers[0].name] + now[s.peers[1].name] - others
		if r.FirstNew == 0 && restored > 0 {
			r.FirstNew = time.Since(began).Seconds()
		}
		if restored >= r.Lost {
			r.AllNew = time.Since(began).Seconds()
		}
	}
	r.CPU, r.RSS = minus(s.cpu(), cpu), s.rss()
	return b.report(r)
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// ownSeconds is the CPU that the harness used so far.
func ownSeconds() float64 { return cpuSeconds([]int{os.Getpid()}) }

func minus(a, b []float64) []float64 {
	for i := range a {
		a[i] -= b[i]
	}
	return a
}

func machine() string { return fmt.Sprintf("%d cores", runtime.NumCPU()) }
