package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startWait = time.Minute
	stopWait  = 15 * time.Second
	tick      = 100 // of the clock in /proc/PID/stat, per second
)

// A process is a server that the harness started. Only these are ever stopped.
type process struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed once it ended
}

// start runs a program until stop, or until ctx ends.
func start(ctx context.Context, dir, name string, env []string, argv ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = exec.CommandContext(ctx, argv[0], argv[1:]...)
	p.cmd.Env = append(cleanEnv(), env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = stopWait
	// A Ctrl-C reaches the harness, which then stops the servers; they end with
	// it in any case.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // a server that ended early shows in ready
		close(p.done)
	}()
	return p, nil
}

// cleanEnv is the environment without what would change how servers run.
func cleanEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "MUSEN_") || strings.HasPrefix(kv, "IPFS_") || strings.HasPrefix(kv, "CLUSTER_") ||
			strings.HasPrefix(kv, "GOGC=") || strings.HasPrefix(kv, "GOMEMLIMIT=")
	})
}

// ready waits until answers returns true.
func (p *process) ready(ctx context.Context, answers func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for !answers() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not start: %w; %s", p.name, ctx.Err(), p.tail())
		case <-p.done:
			return fmt.Errorf("%s ended: %s", p.name, p.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// tail is the end of what the process said.
func (p *process) tail() string {
	b, _ := os.ReadFile(p.log)
	return strings.TrimSpace(string(b[max(0, len(b)-600):]))
}

// stop ends the process and waits for it. nil has ended already.
func (p *process) stop() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return
	case <-time.After(stopWait):
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

// pids are the process and its children.
func (p *process) pids() []int {
	pid := p.cmd.Process.Pid
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	pids := []int{pid}
	for _, f := range strings.Fields(string(b)) {
		if child, err := strconv.Atoi(f); err == nil {
			pids = append(pids, child)
		}
	}
	return pids
}

// cpuSeconds is what the processes used so far, user and system.
func cpuSeconds(pids []int) (s float64) {
	for _, pid := range pids {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(f) > 12 {
			user, _ := strconv.ParseFloat(f[11], 64)
			system, _ := strconv.ParseFloat(f[12], 64)
			s += (user + system) / tick
		}
	}
	return s
}

// machineSeconds is what all processes of the machine used so far.
func machineSeconds() (s float64) {
	b, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(b), "\n")
	for i, f := range strings.Fields(line) {
		switch i {
		case 1, 2, 3, 6, 7, 8: // user, nice, system, irq, softirq, steal
			v, _ := strconv.ParseFloat(f, 64)
			s += v / tick
		}
	}
	return s
}

// mib reads a field like VmRSS: of the processes, and returns the sum in MiB.
func mib(pids []int, field string) (sum float64) {
	for _, pid := range pids {
		sum += procField(fmt.Sprintf("/proc/%d/status", pid), field)
	}
	return sum / 1024
}

func memAvailable() int64 { return int64(procField("/proc/meminfo", "MemAvailable:")) << 10 }

func procField(file, field string) float64 {
	b, _ := os.ReadFile(file)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == field {
			v, _ := strconv.ParseFloat(f[1], 64)
			return v
		}
	}
	return 0
}

// A watch measures processes while something is done to them.
type watch struct {
	pids    []int
	cpu     float64
	machine float64
	started time.Time
	end     chan struct{}
	wait    sync.WaitGroup
	rss     []float64
}

// observe begins to watch; the peak of memory counts from here.
func observe(pids []int) *watch {
	for _, pid := range pids {
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
	}
	w := &watch{pids: pids, end: make(chan struct{})}
	w.wait.Go(func() {
		for {
			w.rss = append(w.rss, mib(pids, "VmRSS:"))
			select {
			case <-w.end:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	w.started, w.cpu, w.machine = time.Now(), cpuSeconds(pids), machineSeconds()
	return w
}

// done ends the watch and fills in what it saw.
func (w *watch) done(r *record) {
	r.Wall = time.Since(w.started).Seconds()
	r.CPU = cpuSeconds(w.pids) - w.cpu
	r.Other = machineSeconds() - w.machine - r.CPU
	close(w.end)
	w.wait.Wait()
	r.RSS, r.Peak = median(w.rss), mib(w.pids, "VmHWM:")
}
