package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	swarmConns  = 8 // adds at once
	swarmCopies = 3 // of each segment, that of the first member included
	swarmPoll   = 250 * time.Millisecond
	segmentKiB  = 64 // of the swarm that loses a member
)

// What holds the copies.
const (
	modeStorage   = "storage"         // musen: the operator's own nodes, which share a pinset
	modeCommunity = "community"       // musen: replicas, which are told what to hold
	modeCluster   = "cluster"         // IPFS Cluster, each peer beside its Kubo, that batches pins
	modeStock     = "cluster-default" // the same without batches, which is the default
)

// The stations of a swarm.
const (
	warmStation  = "warm"
	swarmStation = "swarm"
	warmKiB      = 16
)

// A swarmPlan says what is measured of swarms.
type swarmPlan struct {
	Totals []int // segments in the swarm after each step
	KiB    []int // sizes of segments, a fresh swarm for each
	Modes  []string
	Idle   time.Duration
	Lose   int           // segments in the swarm that loses a member; 0: none loses one
	Wait   time.Duration // for its copies
	Limit  time.Duration // of everything
}

// swarmMain is the command bench swarm.
func swarmMain(args []string) error {
	f := flag.NewFlagSet("bench swarm", flag.ExitOnError)
	quick := f.Bool("quick", false, "200 segments of each kind, and 5 s of idling")
	totals := f.String("n", "1000,10000", "how many segments there are after each step; 30000 takes a while; empty: only the loss of a member")
	sizes := f.String("kib", "64,160", "sizes of the segments, in KiB")
	modes := f.String("mode", "storage,community,cluster", "what holds the copies: these, or cluster-default")
	idle := f.Duration("idle", time.Minute, "how long idle CPU is watched")
	lose := f.Int("lose", 1000, "segments of the swarm that loses a member, in all modes but community (0: none does)")
	wait := f.Duration("wait", 5*time.Minute, "how long the copies of that member are waited for")
	limit := f.Duration("limit", 3*time.Hour, "of everything")
	if err := f.Parse(args); err != nil {
		return err
	}
	p := swarmPlan{Modes: words(*modes), Idle: *idle, Lose: *lose, Wait: *wait, Limit: *limit}
	for _, mode := range p.Modes {
		if !slices.Contains([]string{modeStorage, modeCommunity, modeCluster, modeStock}, mode) {
			return fmt.Errorf("there is no mode %q", mode)
		}
	}
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
	if len(p.Totals) > 0 {
		printSwarmHead(os.Stdout)
		for _, kib := range p.KiB {
			for _, mode := range p.Modes { // in turns: all meet the machine in the same mood
				if err := b.growSwarm(ctx, p, mode, kib); err != nil {
					return fmt.Errorf("%s, %d KiB: %w", mode, kib, err)
				}
			}
		}
	}
	for _, mode := range p.Modes {
		if p.Lose == 0 || mode == modeCommunity {
			continue
		}
		if err := b.loseMember(ctx, p, mode); err != nil {
			return fmt.Errorf("%s, lose a member: %w", mode, err)
		}
	}
	return b.results.Close()
}

// growSwarm measures a swarm step by step.
func (b *bench) growSwarm(ctx context.Context, p swarmPlan, mode string, kib int) error {
	s, err := b.startSwarm(ctx, mode, swarmCopies)
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

// A fleet is a kind of swarm, as one talks to it.
type fleet interface {
	// add adds a segment to a station, over the first member.
	add(ctx context.Context, station string, audio io.Reader, size int64) error
	// copies says what there is of a station's segments.
	copies(ctx context.Context, station string) (copyCount, error)
	// holdings says how many segments members hold, by their names: have proved
	// to hold, if that is known.
	holdings(ctx context.Context) (map[string]int, error)
}

// A copyCount counts the copies of segments that are said to be held, and those
// that are proved; and the segments of which all are.
type copyCount struct{ Copies, Proved, Durable int }

// A member of a swarm holds copies.
type member struct {
	name  string
	procs []*process
}

// A swarm is a fleet of processes, each with a home of its own.
type swarm struct {
	fleet
	mode     string
	dir      string // of the homes
	station  string
	members  []member // the first is the one that is added to
	segments int      // that were added
}

// startSwarm starts n members that keep swarmCopies copies of each segment.
// What it returns must be stopped, also after an error.
func (b *bench) startSwarm(ctx context.Context, mode string, n int) (s *swarm, err error) {
	s = &swarm{mode: mode, station: swarmStation}
	if s.dir, err = os.MkdirTemp(b.disk, "swarm-"); err != nil {
		return s, err
	}
	begin := b.startMusens
	if !s.proves() {
		begin = b.startCluster
	}
	if err := begin(ctx, s, n); err != nil {
		return s, err
	}
	return s, s.warm(ctx)
}

// warm adds a few segments to a station of their own and waits for their
// copies: members that have just met still get to know each other.
func (s *swarm) warm(ctx context.Context) error {
	w := *s
	w.station = warmStation
	_, err := w.addUp(ctx, 2*swarmConns, warmKiB)
	return err
}

func (s *swarm) proves() bool { return s.mode != modeCluster && s.mode != modeStock }

// addUp adds segments until there are so many, and waits until every copy of
// every one of them is proved, or held if nothing proves it.
func (s *swarm) addUp(ctx context.Context, total, kib int) (r swarmRow, err error) {
	r.Mode, r.KiB, r.Total, r.Added = s.mode, kib, total, total-s.segments
	cpu, machine, own := s.cpu(), machineSeconds(), ownSeconds()
	began := time.Now()
	if err := s.fill(ctx, total, int64(kib)<<10); err != nil {
		return r, err
	}
	r.Stored = time.Since(began).Seconds()
	log.Printf("%s: %d segments of %d KiB are stored in %q", s.mode, total, kib, s.station)
	want := swarmCopies * total
	err = watchOver(ctx, func() (bool, error) {
		c, err := s.copies(ctx, s.station)
		took := time.Since(began).Seconds()
		if r.Most == 0 && c.Copies >= want*99/100 {
			r.Most = took
		}
		if r.Replicated == 0 && c.Copies >= want {
			r.Replicated = took
		}
		if s.proves() && c.Proved >= want && c.Durable == total {
			r.Durable = took
		}
		return r.Durable > 0 || !s.proves() && r.Replicated > 0, err
	})
	if err != nil {
		return r, err
	}
	r.CPU, r.Client = minus(s.cpu(), cpu), ownSeconds()-own
	r.Other = machineSeconds() - machine - sum(r.CPU) - r.Client
	r.RSS = s.rss()
	return r, nil
}

// watchOver looks until it sees the end. Between looks it rests four times as
// long as one takes: looking costs who is looked at.
func watchOver(ctx context.Context, look func() (end bool, err error)) error {
	for {
		began := time.Now()
		if end, err := look(); end || err != nil {
			return err
		}
		if err := pause(ctx, max(swarmPoll, 4*time.Since(began))); err != nil {
			return err
		}
	}
}

// fill adds segments over several connections until there are so many.
func (s *swarm) fill(ctx context.Context, total int, size int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
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
				if err := s.add(ctx, s.station, bytes.NewReader(audioBytes(uint64(i), size)), size); err != nil {
					cancel(err)
				}
			}
		})
	}
	wait.Wait()
	s.segments = total
	return context.Cause(ctx)
}

// idle is the CPU that each member uses while nothing happens, in percent of
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

// cpu is what each member used so far, in seconds.
func (s *swarm) cpu() []float64 { return s.each(cpuSeconds) }

// rss is the memory that each member has, in MiB.
func (s *swarm) rss() []float64 {
	return s.each(func(pids []int) float64 { return mib(pids, "VmRSS:") })
}

func (s *swarm) each(of func(pids []int) float64) (all []float64) {
	for _, m := range s.members {
		var pids []int
		for _, p := range m.procs {
			pids = append(pids, p.pids()...)
		}
		all = append(all, of(pids))
	}
	return all
}

// stop ends all processes, and removes what they wrote.
func (s *swarm) stop() {
	var wait sync.WaitGroup
	for _, m := range s.members {
		for _, p := range m.procs {
			wait.Go(p.stop)
		}
	}
	wait.Wait()
	if s.dir == "" {
		return
	}
	if err := os.RemoveAll(s.dir); err != nil {
		log.Print(err)
	}
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
