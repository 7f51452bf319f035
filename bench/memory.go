package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	uploadWork = "uploads of 20 MB at once"
	listenWork = "slow listeners of 100 MB"
	settle     = 2 * time.Second // before idle memory is read
	listenRate = 64 << 10        // bytes a second that a slow listener takes
)

// memory measures how much more memory than an idle node parallel uploads and
// slow listeners take.
func (b *bench) memory(ctx context.Context) error {
	for round := range b.plan.Rounds {
		dir := filepath.Join(b.disk, fmt.Sprintf("memory-%d", round))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := b.memoryRound(ctx, dir, round); err != nil {
			return err
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		log.Printf("memory: round %d of %d", round+1, b.plan.Rounds)
	}
	return nil
}

func (b *bench) memoryRound(ctx context.Context, dir string, round int) error {
	m, err := b.initMusen(ctx, dir)
	if m != nil {
		defer m.stop()
	}
	if err != nil {
		return err
	}
	seed := uint64(2)<<40 + uint64(round)*1000
	upload := func() error { return b.manyUploads(ctx, m, seed) }
	if err := b.aboveIdle(ctx, m, record{Work: uploadWork, Round: round}, upload); err != nil {
		return err
	}
	long, err := m.add(ctx, audio(seed+999, longSize), longSize)
	if err != nil {
		return err
	}
	listen := func() error { return b.slowListeners(ctx, m, listenPath(long)) }
	return b.aboveIdle(ctx, m, record{Work: listenWork, Round: round}, listen)
}

// aboveIdle starts the node afresh, reads its memory, and watches it during do.
func (b *bench) aboveIdle(ctx context.Context, m *musenNode, r record, do func() error) error {
	if err := m.start(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(settle):
	}
	r.Bench, r.Target, r.Idle = "memory", "musen", mib(m.proc.pids(), "VmRSS:")
	seen := observe(m.proc.pids())
	err := do()
	seen.done(&r)
	if err != nil {
		return fmt.Errorf("%s: %w", r.Work, err)
	}
	return b.write(r)
}

func (b *bench) manyUploads(ctx context.Context, m *musenNode, seed uint64) error {
	failed := make(chan error, b.plan.Uploads)
	for i := range b.plan.Uploads {
		go func() {
			_, err := m.add(ctx, audio(seed+uint64(i), uploadSize), uploadSize)
			failed <- err
		}()
	}
	var errs []error
	for range b.plan.Uploads {
		errs = append(errs, <-failed)
	}
	return errors.Join(errs...)
}

// slowListeners has many clients play one segment for a while, each at
// listenRate. It is an error if one of them gets less than half of that.
func (b *bench) slowListeners(ctx context.Context, m *musenNode, path string) error {
	ctx, cancel := context.WithTimeout(ctx, b.plan.ListenFor)
	defer cancel()
	failed := make(chan error, b.plan.Listeners)
	var total atomic.Int64
	for range b.plan.Listeners {
		go func() {
			n, err := listenSlowly(ctx, strings.TrimPrefix(m.ready.Public, "http://"), path, m.token)
			total.Add(n)
			failed <- err
		}()
	}
	var errs []error
	for range b.plan.Listeners {
		errs = append(errs, <-failed)
	}
	want := int64(b.plan.ListenFor.Seconds()) * listenRate * int64(b.plan.Listeners)
	if got := total.Load(); got < want/2 {
		errs = append(errs, fmt.Errorf("the listeners got %d bytes, not %d", got, want))
	}
	return errors.Join(errs...)
}

// listenSlowly plays until ctx ends and returns how many bytes came. The
// socket takes no more than it must, so that it is the server that waits.
func listenSlowly(ctx context.Context, address, path, token string) (n int64, err error) {
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		ctl := c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, listenRate)
		})
		return errors.Join(ctl, err)
	}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", path, address, token); err != nil {
		return 0, err
	}
	from := bufio.NewReaderSize(conn, 4<<10)
	resp, err := http.ReadResponse(from, nil)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	clock := time.NewTicker(time.Second)
	defer clock.Stop()
	for {
		got, err := io.CopyN(io.Discard, resp.Body, listenRate)
		if n += got; err != nil {
			return n, err
		}
		select {
		case <-ctx.Done():
			return n, nil
		case <-clock.C:
		}
	}
}
