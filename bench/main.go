// Command bench measures musen beside Kubo's gateway, nginx with secure_link
// and the script age | ipfs add, doing the same work in one interleaved run on
// this machine's loopback; as bench swarm, copies on peers beside IPFS Cluster;
// and, as bench gate, refusals. run.sh, swarm.sh and gate.sh build what they
// need; README.md says what is measured and how.
//
// It talks to the servers as any client does and imports nothing of musen.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// A plan says how much is measured.
type plan struct {
	Rounds     int
	Seconds    int // of one run of wrk
	Big, Small int // segments that are served, of 5 MiB and of 160 KiB
	Adds       int // segments added in one batch
	Scripts    int // segments added by the script in one batch
	Uploads    int // of 20 MB, at once
	Listeners  int // slow ones, of one segment of 100 MB
	ListenFor  time.Duration
	Limit      time.Duration // of everything
}

func fullPlan() plan {
	return plan{
		Rounds: 5, Seconds: 2, Big: 100, Small: 500, Adds: 100, Scripts: 20,
		Uploads: 50, Listeners: 200, ListenFor: 20 * time.Second, Limit: 90 * time.Minute,
	}
}

func quickPlan() plan {
	return plan{
		Rounds: 1, Seconds: 2, Big: 20, Small: 100, Adds: 30, Scripts: 5,
		Uploads: 50, Listeners: 200, ListenFor: 8 * time.Second, Limit: 10 * time.Minute,
	}
}

func main() {
	log.SetFlags(log.Ltime)
	if len(os.Args) > 1 {
		for name, command := range map[string]func([]string) error{"swarm": swarmMain, "gate": gateMain, "floor": floorMain} {
			if os.Args[1] != name {
				continue
			}
			if err := command(os.Args[2:]); err != nil {
				log.Fatal(err)
			}
			return
		}
	}
	quick := flag.Bool("quick", false, "try everything once, in small")
	rounds := flag.Int("rounds", 0, "rounds (default: 5, quick: 1)")
	only := flag.String("only", "", "comma-separated phases: serve, tls, crowd, add, memory (default: all)")
	report := flag.String("report", "", "print the tables of a results file, and measure nothing")
	flag.Parse()
	p := fullPlan()
	if *quick {
		p = quickPlan()
	}
	if *rounds > 0 {
		p.Rounds = *rounds
	}
	if err := run(p, *only, *report); err != nil {
		log.Fatal(err)
	}
}

func run(p plan, only, report string) error {
	if report != "" {
		return printReport(os.Stdout, report)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, p.Limit)
	defer cancel()
	b, err := newBench(p)
	if err != nil {
		return err
	}
	defer b.close()
	for _, phase := range b.phases(only) {
		log.Printf("phase %s", phase.name)
		if err := phase.run(ctx); err != nil {
			return fmt.Errorf("phase %s: %w", phase.name, err)
		}
	}
	if err := b.results.Close(); err != nil {
		return err
	}
	return printReport(os.Stdout, b.results.Name())
}

// A bench is one run of the harness.
type bench struct {
	plan    plan
	bin     string // programs
	disk    string // a folder on the real disk, for what must be durable
	mem     string // a folder in memory if there is room, for what is served
	results *os.File
}

func newBench(p plan) (*bench, error) {
	here, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	b := &bench{plan: p, bin: filepath.Join(here, "bin")}
	for _, dir := range []string{"run", "out"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	if b.disk, err = os.MkdirTemp(filepath.Join(here, "run"), "bench-"); err != nil {
		return nil, err
	}
	parent := b.disk
	if hasRoom("/dev/shm", b.served()) {
		parent = "/dev/shm"
	} else {
		log.Print("no room in /dev/shm: what is served lies on the disk")
	}
	if b.mem, err = os.MkdirTemp(parent, "musen-bench-"); err != nil {
		return nil, err
	}
	name := time.Now().UTC().Format("20060102-150405.jsonl")
	b.results, err = os.Create(filepath.Join(here, "out", name))
	return b, err
}

// served is about how many bytes the served content takes: once plain, once
// sealed, once in Kubo, and some room.
func (b *bench) served() int64 {
	return 4*(int64(b.plan.Big)*bigSize+int64(b.plan.Small)*smallSize) + 512<<20
}

// hasRoom reports whether dir is in memory and has n bytes left, there and in
// the machine's memory.
func hasRoom(dir string, n int64) bool {
	const tmpfs = 0x01021994
	var fs syscall.Statfs_t
	if syscall.Statfs(dir, &fs) != nil || fs.Type != tmpfs {
		return false
	}
	return int64(fs.Bavail)*fs.Bsize > n && memAvailable() > 2*n
}

func (b *bench) close() {
	b.results.Close()
	for _, dir := range []string{b.mem, b.disk} {
		if err := os.RemoveAll(dir); err != nil {
			log.Print(err)
		}
	}
}

func (b *bench) path(program string) string { return filepath.Join(b.bin, program) }
