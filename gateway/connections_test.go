package gateway

import (
	"context"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// A peak is a listener that knows how many connections were open at most.
type peak struct {
	net.Listener
	accepted chan struct{}

	mu        sync.Mutex
	now, most int
}

func (p *peak) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	p.add(1)
	p.accepted <- struct{}{}
	return &counted{Conn: c, peak: p}, nil
}

func (p *peak) add(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now += n
	p.most = max(p.most, p.now)
}

type counted struct {
	net.Conn
	peak *peak
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { c.peak.add(-1) })
	return c.Conn.Close()
}

// serveCounted starts a Server with those limits on a listener that counts.
func serveCounted(t *testing.T, l Limits) (s *Server, p *peak, served chan error) {
	t.Helper()
	o := newRealm(t).options()
	o.Limits, o.Log = l, discard()
	s, err := New(o)
	check(t, err)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	p = &peak{Listener: inner, accepted: make(chan struct{}, 100)}
	served = make(chan error, 1)
	go func() { served <- s.Serve(p) }()
	return s, p, served
}

// H40: no more connections are taken than may be, but for the one at the door,
// and who asks for something is served at once, however many ask for nothing.
func TestConnectionsAreLimited(t *testing.T) {
	s, p, served := serveCounted(t, Limits{Connections: 3, HeaderTimeout: time.Hour})
	for range 12 {
		c, err := net.Dial("tcp", p.Addr().String())
		check(t, err)
		defer c.Close()
		_, err = io.WriteString(c, "GET /healthz HTTP/1.1\r\n")
		check(t, err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + p.Addr().String() + "/healthz")
	check(t, err)
	defer res.Body.Close()
	if res.StatusCode != 200 {
		t.Errorf("status %d", res.StatusCode)
	}
	check(t, s.Shutdown(context.Background()))
	check(t, <-served)
	if p.most > 3+1 {
		t.Errorf("%d connections were open at a time", p.most)
	}
}

func TestShutdownWhileConnectionsAreLimited(t *testing.T) {
	s, p, served := serveCounted(t, Limits{Connections: 1})
	c, err := net.Dial("tcp", p.Addr().String())
	check(t, err)
	defer c.Close()
	<-p.accepted
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.Shutdown(ctx) // says that it cut the one that is open
	check(t, <-served)
}

func TestConnectionsLeaveFiles(t *testing.T) {
	for _, c := range []struct {
		wanted int
		files  uint64
		want   int
	}{{2048, 256, 85}, {2048, 1 << 20, 2048}, {2048, math.MaxUint64, 2048}, {2048, 0, 2048}, {10, 2, 1}} {
		if got := boundConnections(c.wanted, c.files); got != c.want {
			t.Errorf("%d wanted with %d files: %d, want %d", c.wanted, c.files, got, c.want)
		}
	}
}
