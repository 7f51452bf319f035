package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// An ingest is a way to add segments that is measured.
type ingest struct {
	name  string
	add   adder
	pids  func() []int
	conns []int
	count int
}

const (
	durableKubo = "Kubo, blocks synced"
	scriptName  = "age -e | ipfs add"
)

// add measures adding segments of 160 KiB, on the real disk.
func (b *bench) add(ctx context.Context) error {
	dir := filepath.Join(b.disk, "add")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	m, err := b.initMusen(ctx, dir)
	if m != nil {
		defer m.stop()
	}
	if err != nil {
		return err
	}
	m.flags = []string{"--admin", "127.0.0.1:0"}
	if err := m.start(ctx); err != nil {
		return err
	}
	overTCP, err := m.adderTCP(ctx)
	if err != nil {
		return err
	}
	kubo, err := b.initKubo(ctx, dir, "kubo", false)
	if kubo != nil {
		defer kubo.stop()
	}
	if err != nil {
		return err
	}
	synced, err := b.initKubo(ctx, dir, "kubo-synced", true)
	if synced != nil {
		defer synced.stop()
	}
	if err != nil {
		return err
	}
	script, err := b.newScript(ctx, kubo)
	if err != nil {
		return err
	}
	both, n := []int{1, 8}, b.plan.Adds
	return b.ingestRounds(ctx, []ingest{
		{"musen, unix socket", m.add, m.proc.pids, both, n},
		{"musen, TCP and token", overTCP, m.proc.pids, both, n},
		{kuboName, kubo.add, kubo.proc.pids, both, n},
		{durableKubo, synced.add, synced.proc.pids, both, n},
		{scriptName, script, kubo.proc.pids, []int{1}, b.plan.Scripts},
	})
}

func (b *bench) ingestRounds(ctx context.Context, ways []ingest) error {
	seed := uint64(1) << 40
	for round := range b.plan.Rounds {
		for _, conns := range []int{1, 8} {
			// The same bytes for all, which nobody had before.
			batch := make([][]byte, b.plan.Adds)
			for i := range batch {
				seed++
				batch[i] = audioBytes(seed, smallSize)
			}
			for _, way := range ways {
				if !slices.Contains(way.conns, conns) {
					continue
				}
				r, err := addBatch(ctx, way, batch[:min(way.count, len(batch))], conns)
				if err != nil {
					return fmt.Errorf("%s: %w", way.name, err)
				}
				r.Bench, r.Target, r.Work, r.Round = "add", way.name, addWork(conns), round
				if err := b.write(r); err != nil {
					return err
				}
			}
		}
		log.Printf("add: round %d of %d", round+1, b.plan.Rounds)
	}
	return nil
}

func addWork(conns int) string { return fmt.Sprintf("160 KiB, %d at once", conns) }

// addBatch adds every segment of the batch, so many at once.
func addBatch(ctx context.Context, way ingest, batch [][]byte, conns int) (r record, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	took := make([]float64, len(batch))
	var next atomic.Int64
	var wait sync.WaitGroup
	seen := observe(way.pids())
	for range conns {
		wait.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(batch) {
					return
				}
				began := time.Now()
				if _, err := way.add(ctx, bytes.NewReader(batch[i]), int64(len(batch[i]))); err != nil {
					cancel(err)
				}
				took[i] = time.Since(began).Seconds() * 1e3
			}
		})
	}
	wait.Wait()
	seen.done(&r)
	if err := context.Cause(ctx); err != nil {
		return r, err
	}
	n := float64(len(batch))
	r.Requests, r.Bytes, r.PerS = n, n*float64(len(batch[0])), n/r.Wall
	r.P50, r.P99, r.CPUPerOp = median(took), quantile(took, 0.99), r.CPU/n*1e3
	return r, nil
}

// newScript makes an adder that does what a user without musen would script:
// age for the encryption, ipfs for the add, once for each segment.
func (b *bench) newScript(ctx context.Context, kubo *kuboNode) (adder, error) {
	identity := filepath.Join(b.mem, "age.txt")
	if out, err := exec.CommandContext(ctx, b.path("age-keygen"), "-o", identity).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("age-keygen: %w: %s", err, out)
	}
	out, err := exec.CommandContext(ctx, b.path("age-keygen"), "-y", identity).Output()
	if err != nil {
		return nil, fmt.Errorf("age-keygen -y: %w", err)
	}
	recipient, segment := strings.TrimSpace(string(out)), filepath.Join(b.mem, "segment.wav")
	line := fmt.Sprintf("set -e; %q -e -r %s %q | %q add --cid-version=1 --raw-leaves -Q",
		b.path("age"), recipient, segment, kubo.program)
	return func(ctx context.Context, audio io.Reader, _ int64) (string, error) {
		plain, err := io.ReadAll(audio)
		if err == nil {
			err = os.WriteFile(segment, plain, 0o600)
		}
		if err != nil {
			return "", err
		}
		cmd := exec.CommandContext(ctx, "/bin/sh", "-c", line)
		cmd.Env = append(cleanEnv(), kubo.env()...)
		out, err := cmd.Output()
		return strings.TrimSpace(string(out)), err
	}, nil
}
