package testpg

import (
	"net"
	"path/filepath"
	"sync"
	"testing"
)

// A Proxy is a socket in front of a server that a test can cut off.
type Proxy struct {
	dir    string
	to     string
	listen net.Listener

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
	held  *sync.Cond // while it is frozen nothing passes
	cold  bool
}

// Front puts a proxy in front of a server. It ends with the test.
func (s *Server) Front(t testing.TB) *Proxy {
	t.Helper()
	p := &Proxy{dir: t.TempDir(), to: s.SocketFile(), conns: map[net.Conn]bool{}}
	p.held = sync.NewCond(&p.mu)
	var err error
	if p.listen, err = net.Listen("unix", filepath.Join(p.dir, filepath.Base(p.to))); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.accept()
	}()
	t.Cleanup(func() {
		p.listen.Close()
		p.Cut()
		p.Thaw()
		<-done
	})
	return p
}

// Socket is the folder of the proxy's unix socket.
func (p *Proxy) Socket() string { return p.dir }

func (p *Proxy) accept() {
	var pipes sync.WaitGroup
	defer pipes.Wait()
	for {
		client, err := p.listen.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", p.to)
		p.mu.Lock()
		if err != nil || p.cut {
			client.Close()
			if err == nil {
				server.Close()
			}
			p.mu.Unlock()
			continue
		}
		p.conns[client], p.conns[server] = true, true
		p.mu.Unlock()
		pipes.Go(func() { p.pipe(client, server) })
		pipes.Go(func() { p.pipe(server, client) })
	}
}

// pipe passes on what comes, unless the proxy is frozen.
func (p *Proxy) pipe(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		for p.cold {
			p.held.Wait()
		}
		p.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// Cut ends all connections, and refuses new ones until Mend.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for c := range p.conns {
		c.Close()
		delete(p.conns, c)
	}
}

// Mend ends a Cut.
func (p *Proxy) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
}

// Freeze keeps everything from passing, as a network does that drops packets:
// connections stay open and can be made.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cold = true
}

// Thaw ends a Freeze.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cold = false
	p.held.Broadcast()
}
