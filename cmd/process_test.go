package cmd_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopLimit is how long a node may take to stop: the promise is ten seconds.
const stopLimit = 20 * time.Second

// A process is a `musen serve` of its own.
type process struct {
	cmd   *exec.Cmd
	ready struct {
		Public, Admin, Metrics string
		Peer                   []string
	}
	log  logBuffer
	done chan error
}

// logBuffer keeps what a process wrote.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{} // nil: nobody waits; closed at the next line
}

func (b *logBuffer) add(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text.WriteString(line + "\n")
	if b.more != nil {
		close(b.more)
		b.more = nil
	}
}

// await reports whether the log has text in it, which may come within a minute.
func (b *logBuffer) await(text string) bool {
	for late := time.After(time.Minute); ; {
		b.mu.Lock()
		found := strings.Contains(b.text.String(), text)
		if b.more == nil {
			b.more = make(chan struct{})
		}
		more := b.more
		b.mu.Unlock()
		if found {
			return true
		}
		select {
		case <-more:
		case <-late:
			return false
		}
	}
}

// String is all that was written until now.
func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// serve starts a node as a process and returns when it is ready. wrap is put in
// front of the command line, for a tracer.
func serve(home string, env []string, wrap []string, args ...string) (*process, error) {
	readyFile := filepath.Join(home, fmt.Sprintf("ready-%d.json", time.Now().UnixNano()))
	line := append(append(append([]string{}, wrap...), "musen", "serve", "--home", home, "--public", "127.0.0.1:0", "--ready-file", readyFile), args...)
	p := &process{cmd: exec.Command(line[0], line[1:]...), done: make(chan error, 1)}
	p.cmd.Env = env
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	go p.follow(stderr, ready)
	select {
	case <-ready:
	case err := <-p.done:
		return nil, fmt.Errorf("serve ended: %w\n%s", err, &p.log)
	}
	b, err := os.ReadFile(readyFile)
	if err == nil {
		err = json.Unmarshal(b, &p.ready)
	}
	return p, err
}

// follow reads the log until the process ends; ready closes when it is ready.
func (p *process) follow(stderr io.Reader, ready chan struct{}) {
	lines := bufio.NewScanner(stderr)
	for told := false; lines.Scan(); {
		p.log.add(lines.Text())
		if !told && strings.Contains(lines.Text(), "msg=ready") {
			told = true
			close(ready)
		}
	}
	p.done <- p.cmd.Wait()
}

// stop asks the process to stop and returns how it ended: nil for exit code 0.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-p.done:
		return err
	case <-time.After(stopLimit):
		p.cmd.Process.Kill()
		return errors.New("the node did not stop in time")
	}
}

// kill ends the process as a power cut ends a program: without a word.
func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	<-p.done
	return nil
}
