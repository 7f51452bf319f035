package front

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strconv"
	"testing"
)

// A hall is a server with bounds, whose handler answers at once, or when the
// client says so.
type hall struct {
	t       *testing.T
	open    *Connections
	addr    string
	began   chan struct{} // one element for each answer to /long
	release chan struct{}
}

// serve runs a server that gives nobody time to spare but the test's own.
func serve(t *testing.T, most int, crowd func(netip.Addr) bool) *hall {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	check(t, err)
	h := &hall{t: t, open: NewConnections(most, crowd), addr: l.Addr().String(), began: make(chan struct{}, 100), release: make(chan struct{})}
	s := &http.Server{ConnState: h.open.Follow, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			h.began <- struct{}{}
			<-h.release
		}
	})}
	served := make(chan error, 1)
	go func() { served <- s.Serve(h.open.Bound(l)) }()
	t.Cleanup(func() {
		check(t, s.Close())
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return h
}

// dial connects from an address of this machine and sends some text.
func (h *hall) dial(from, text string) net.Conn {
	h.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp4", h.addr)
	check(h.t, err)
	h.t.Cleanup(func() { c.Close() })
	_, err = io.WriteString(c, text)
	check(h.t, err)
	return c
}

const (
	half  = "GET / HTTP/1.1\r\nHost: x\r\n"
	whole = half + "\r\n"
	long  = "GET /long HTTP/1.1\r\nHost: x\r\n\r\n"
)

// answered reports whether c gets an answer, rather than being closed.
func answered(c net.Conn) bool {
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err == nil {
		_, err = io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	return err == nil && res.StatusCode == 200
}

// ended waits until the server has closed c.
func ended(t *testing.T, c net.Conn) {
	t.Helper()
	if n, _ := io.Copy(io.Discard, c); n > 0 {
		t.Errorf("%d bytes came", n)
	}
}

func nobody(netip.Addr) bool  { return false }
func anybody(netip.Addr) bool { return true }

// H40: one address that holds all it can with halves of headers keeps nobody
// out, whether it has a share or is one that many share.
func TestHalvesOfHeadersKeepNobodyOut(t *testing.T) {
	for name, crowd := range map[string]func(netip.Addr) bool{"one client": nobody, "a crowd": anybody} {
		t.Run(name, func(t *testing.T) {
			h := serve(t, 100, crowd)
			for range 150 {
				h.dial("127.0.0.1", half)
			}
			for _, from := range []string{"127.0.0.2", "127.0.0.1"} {
				if !answered(h.dial(from, whole)) {
					t.Errorf("%s is kept out", from)
				}
			}
		})
	}
}

// An address has its share, however it holds it, and the others have the rest.
func TestShareOfAnAddress(t *testing.T) {
	h := serve(t, 100, nobody)
	for range 25 {
		h.dial("127.0.0.1", long)
		<-h.began
	}
	ended(t, h.dial("127.0.0.1", "")) // nothing of its own makes room
	for range 25 {
		h.dial("127.0.0.2", long)
		<-h.began
	}
	if !answered(h.dial("127.0.0.3", whole)) {
		t.Error("a third address is kept out")
	}
	close(h.release)
}

// Of those that wait, the one that has waited longest makes room, and a
// connection that is kept alive waits from its last answer on.
func TestWhoMakesRoom(t *testing.T) {
	h := serve(t, 2, nobody)
	kept, first := h.dial("127.0.0.1", whole), net.Conn(nil)
	if !answered(kept) {
		t.Fatal("no answer")
	}
	first = h.dial("127.0.0.2", half)
	_, err := io.WriteString(kept, whole)
	check(t, err)
	if !answered(kept) {
		t.Fatal("no second answer")
	}
	h.await(func() bool { // the answer may be here before it is seen to be over
		x, ok := h.open.waiting.Back().Value.(*connection)
		return ok && len(h.open.open) == 2 && x.RemoteAddr().String() == kept.LocalAddr().String()
	})
	busy := h.dial("127.0.0.3", long)
	<-h.began
	ended(t, first)
	h.dial("127.0.0.4", long)
	<-h.began
	ended(t, kept)
	close(h.release)
	if !answered(busy) {
		t.Error("an answer under way is cut")
	}
}

// await waits until something is so, and asks after each change.
func (h *hall) await(so func() bool) {
	for {
		h.open.mu.Lock()
		if so() {
			h.open.mu.Unlock()
			return
		}
		if h.open.changed == nil {
			h.open.changed = make(chan struct{})
		}
		changed := h.open.changed
		h.open.mu.Unlock()
		<-changed
	}
}

// door returns once a connection waits for room.
func (c *Connections) door() {
	for {
		c.mu.Lock()
		waits := c.changed != nil
		c.mu.Unlock()
		if waits {
			return
		}
		runtime.Gosched()
	}
}

// When all have requests under way, the next one waits for the first that ends.
func TestAllAtWork(t *testing.T) {
	h := serve(t, 2, nobody)
	for range 2 {
		h.dial("127.0.0.1", long)
		<-h.began
	}
	next := h.dial("127.0.0.2", whole)
	h.open.door()
	close(h.release)
	if !answered(next) {
		t.Error("who waited is not served")
	}
}

// What is remembered ends with the connections.
func TestNothingStays(t *testing.T) {
	h := serve(t, 20, nobody)
	var clients []net.Conn
	for i := range 60 {
		clients = append(clients, h.dial("127.0.0."+strconv.Itoa(1+i%9), half))
	}
	if !answered(h.dial("127.0.0.1", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) {
		t.Error("no answer")
	}
	h.open.mu.Lock()
	if n := len(h.open.open); n > 20 {
		t.Errorf("%d are open", n)
	}
	h.open.mu.Unlock()
	for _, c := range clients {
		check(t, c.Close())
	}
	h.await(func() bool { return len(h.open.open) == 0 && len(h.open.places) == 0 && h.open.waiting.Len() == 0 })
}

func TestOrigins(t *testing.T) {
	c := NewConnections(400, netip.Addr.IsLoopback)
	for addr, want := range map[string]struct {
		from  string
		share int
	}{
		"192.0.2.7":          {"192.0.2.7/32", 100},
		"::ffff:192.0.2.7":   {"192.0.2.7/32", 100},
		"2001:db8:1:2:3::4":  {"2001:db8:1:2::/64", 100},
		"2001:db8:1:2:ff::4": {"2001:db8:1:2::/64", 100},
		"fe80::1%eth0":       {"fe80::/64", 100},
		"127.0.0.1":          {"127.0.0.1/32", 400},
		"::1":                {"::/64", 400},
	} {
		from, share := c.origin(net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 1)))
		if from.String() != want.from || share != want.share {
			t.Errorf("%s is of %s and has %d", addr, from, share)
		}
	}
	if from, share := c.origin(&net.UnixAddr{Name: "x"}); from.IsValid() || share != 400 {
		t.Errorf("a unix socket is of %s and has %d", from, share)
	}
	if got := NewConnections(8, nobody).share; got != leastShare {
		t.Errorf("of few connections one address has %d", got)
	}
}

// A listener that is closed while a connection waits at the door lets go of it.
func TestCloseWhileAcceptWaitsForRoom(t *testing.T) {
	inner, err := net.Listen("tcp4", "127.0.0.1:0")
	check(t, err)
	c := NewConnections(0, nobody)
	l := c.Bound(inner)
	refused := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		refused <- err
	}()
	h := &hall{t: t, open: c, addr: inner.Addr().String()}
	waits := h.dial("127.0.0.1", "")
	c.door()
	check(t, l.Close())
	if err := <-refused; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	ended(t, waits)
	_ = l.Close() // once more does no harm
}
