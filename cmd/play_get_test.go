package cmd_test

import (
	"bytes"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// A badLine is a proxy between a listener and a gateway that cuts connections,
// and keeps what listeners ask for.
type badLine struct {
	url    string // of the gateway as seen through it
	target string
	cut    func(connection int) int64 // bytes until it cuts; -1: never
	over   <-chan struct{}            // the test is

	connections, carried atomic.Int64 // carried: bytes of answers
	mu                   sync.Mutex
	asked                bytes.Buffer
	open                 sync.WaitGroup
}

// newBadLine starts a proxy for a gateway.
func newBadLine(t *testing.T, gateway string, cut func(connection int) int64) *badLine {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &badLine{url: "http://" + l.Addr().String(), target: strings.TrimPrefix(gateway, "http://"), cut: cut, over: t.Context().Done()}
	p.open.Go(func() { p.accept(l) })
	t.Cleanup(func() { l.Close(); p.open.Wait() })
	return p
}

func (p *badLine) accept(l net.Listener) {
	for n := 0; ; n++ {
		listener, err := l.Accept()
		if err != nil {
			return
		}
		p.connections.Add(1)
		p.open.Go(func() { p.carry(listener, p.cut(n)) })
	}
}

// carry carries one connection, up to limit bytes of the answer.
func (p *badLine) carry(listener net.Conn, limit int64) {
	defer listener.Close()
	gateway, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer gateway.Close()
	go func() {
		<-p.over
		listener.Close()
		gateway.Close()
	}()
	p.open.Go(func() {
		defer gateway.Close() // the listener has gone
		io.Copy(gateway, io.TeeReader(listener, p))
	})
	if limit < 0 {
		limit = math.MaxInt64
	}
	io.CopyN(counted{listener, &p.carried}, gateway, limit)
}

// counted counts what is written.
type counted struct {
	io.Writer
	n *atomic.Int64
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.n.Add(int64(n))
	return n, err
}

// Write keeps what a listener asks.
func (p *badLine) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked.Write(b)
}

// starts are the first bytes that Range headers asked for, in order.
func (p *badLine) starts() (all []int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range regexp.MustCompile(`(?mi)^Range: bytes=(\d+)-`).FindAllStringSubmatch(p.asked.String(), -1) {
		n, _ := strconv.ParseInt(m[1], 10, 64)
		all = append(all, n)
	}
	return all
}

// through is a URL of the gateway as seen through the proxy.
func (p *badLine) through(url string) string {
	return strings.Replace(url, "http://"+p.target, p.url, 1)
}

// musen get brings a segment home whole over a line that breaks again and
// again: in the head of an answer, at once, in the middle, near the end.
func TestGetOverABadLine(t *testing.T) {
	t.Parallel()
	r := startRadio(t)
	song := r.add(longSong(t))
	cuts := []int64{70_000, 0, 100, 5 << 20, 13 << 20, 1 << 20}
	line := newBadLine(t, r.node.ready.Public, func(n int) int64 {
		if n < len(cuts) {
			return cuts[n]
		}
		return -1
	})
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte(r.token("ann")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, dir, "musen", "get", song.CID, "--gateway", line.url, "--token-file", token, "-o", "song.wav")
	same(t, filepath.Join(dir, "song.wav"), song.source)
	if left := entries(t, dir); len(left) != 2 {
		t.Errorf("left: %q", left)
	}
	asked, n := line.starts(), line.connections.Load()
	if n != int64(len(cuts))+1 || !slices.IsSorted(asked) || asked[0] == 0 || asked[len(asked)-1] < 18<<20 {
		t.Errorf("%d connections asked for audio from the bytes %d", n, asked)
	}
}

// musen get that is killed goes on where it was when it is run again, and a
// file under its name is always whole.
func TestGetResumesAfterAKill(t *testing.T) {
	t.Parallel()
	r := startRadio(t)
	song := r.add(longSong(t))
	link, dir := r.link(song, "ann"), t.TempDir()
	killed := make(chan struct{})
	line := newBadLine(t, r.node.ready.Public, nil)
	line.cut = func(n int) int64 {
		if n == 0 {
			return 6 << 20
		}
		<-killed // its own next try comes too late
		return -1
	}
	get := exec.Command("musen", "get", line.through(link), "-o", "song.wav")
	get.Dir = dir
	part := filepath.Join(dir, "song.wav."+song.CID+".part")
	awaitIn(t, dir, func() {
		if err := get.Start(); err != nil {
			t.Fatal(err)
		}
	}, func() bool {
		st, err := os.Stat(part)
		return err == nil && st.Size() > 4<<20
	})
	get.Process.Kill()
	get.Wait()
	st, err := os.Stat(part)
	if err != nil {
		t.Fatal(err)
	}
	if left := entries(t, dir); len(left) != 2 { // the part, and what it is of
		t.Errorf("after the kill: %q", left)
	}
	close(killed)

	again := newBadLine(t, r.node.ready.Public, func(int) int64 { return -1 })
	run(t, dir, "musen", "get", again.through(link), "-o", "song.wav")
	same(t, filepath.Join(dir, "song.wav"), song.source)
	if asked := again.starts(); len(asked) != 1 || asked[0] != st.Size() {
		t.Errorf("%d bytes were there, it asked for audio from the bytes %d", st.Size(), asked)
	}
	if left := entries(t, dir); len(left) != 1 {
		t.Errorf("left: %q", left)
	}
}
