package front

import (
	"container/list"
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// leastShare is how many connections one place may always have, be the whole
// as small as it likes.
const leastShare = 16

// Connections bounds the connections that are open, in all and from one place:
// an IPv4 address, or the /64 of an IPv6 one. A connection is waiting while no
// whole request header has come since it was opened, or since its last answer.
//
// A place has no more than a quarter of all, and at least leastShare. For a new
// connection of a place that has them, the one of that place that has waited
// longest is closed; for one when all are taken, the one of all that has. So
// nobody is kept out by connections that ask for nothing, however many there
// are and whosoever they are. It holds one entry for each open connection.
type Connections struct {
	most, share int
	crowd       func(netip.Addr) bool

	mu      sync.Mutex
	open    map[net.Conn]*connection
	places  map[netip.Prefix]*place
	waiting list.List     // of *connection, the one that has waited longest first
	changed chan struct{} // closed when there may be room; nil: nobody wants to hear
}

// connection is one that is open.
type connection struct {
	net.Conn
	from       netip.Prefix
	all, local *list.Element // where it waits; nil: a request of it is under way
}

// place is where connections come from.
type place struct {
	open    int
	waiting list.List // of *connection
}

// NewConnections makes room for most connections. crowd says whether many
// clients connect from an address, as through a reverse proxy: it may have all
// the room there is.
func NewConnections(most int, crowd func(netip.Addr) bool) *Connections {
	return &Connections{
		most: most, share: max(leastShare, most/4), crowd: crowd,
		open: map[net.Conn]*connection{}, places: map[netip.Prefix]*place{},
	}
}

// Follow is the ConnState of an http.Server on a bounded listener. None of its
// connections is ever hijacked.
func (c *Connections) Follow(conn net.Conn, state http.ConnState) {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok { // of TLS
		conn = t.NetConn()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.open[conn]
	switch {
	case x == nil: // closed for another
	case state == http.StateClosed:
		c.leave(x)
	case state == http.StateActive:
		c.busy(x)
	case state == http.StateIdle:
		c.busy(x) // it waits anew
		c.wait(x)
	}
}

// enter takes in a connection, for which another may be closed. retry says that
// there is no room until it is closed; without it, that there is none for conn.
func (c *Connections) enter(conn net.Conn) (in bool, retry <-chan struct{}) {
	from, share := c.origin(conn.RemoteAddr())
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.places[from]
	if p != nil && p.open >= share && !c.displace(&p.waiting) {
		return false, nil
	}
	if len(c.open) >= c.most && !c.displace(&c.waiting) {
		if c.changed == nil {
			c.changed = make(chan struct{})
		}
		return false, c.changed
	}
	if p = c.places[from]; p == nil {
		p = &place{}
		c.places[from] = p
	}
	p.open++
	x := &connection{Conn: conn, from: from}
	c.open[conn] = x
	c.wait(x)
	return true, nil
}

// origin is the place of a remote address, and how many it may have.
func (c *Connections) origin(remote net.Addr) (from netip.Prefix, share int) {
	t, ok := remote.(*net.TCPAddr)
	if !ok { // a unix socket
		return from, c.most
	}
	a := t.AddrPort().Addr().Unmap()
	bits := 32
	if a.Is6() {
		bits = 64
	}
	from, _ = a.Prefix(bits) // an address has so many
	if c.crowd(a) {
		return from, c.most
	}
	return from, c.share
}

// displace closes the first of those that wait, if there is one.
func (c *Connections) displace(waiting *list.List) bool {
	first := waiting.Front()
	if first == nil {
		return false
	}
	x := first.Value.(*connection)
	c.leave(x)
	_ = x.Close() // it is given up in any case
	return true
}

func (c *Connections) leave(x *connection) {
	c.busy(x)
	delete(c.open, x.Conn)
	p := c.places[x.from]
	if p.open--; p.open == 0 {
		delete(c.places, x.from)
	}
	c.tell()
}

// busy notes that a connection does not wait: a request is under way, or none
// will ever come.
func (c *Connections) busy(x *connection) {
	if x.all != nil {
		c.waiting.Remove(x.all)
		c.places[x.from].waiting.Remove(x.local)
		x.all, x.local = nil, nil
	}
}

func (c *Connections) wait(x *connection) {
	x.all, x.local = c.waiting.PushBack(x), c.places[x.from].waiting.PushBack(x)
	c.tell()
}

func (c *Connections) tell() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// Bound is l within the bounds. When all its connections have requests under
// way, it holds one more and takes no other: clients wait in the backlog of the
// system then, and take no file.
func (c *Connections) Bound(l net.Listener) net.Listener {
	return &boundedListener{Listener: l, open: c, closed: make(chan struct{})}
}

type boundedListener struct {
	net.Listener
	open   *Connections
	closed chan struct{}
	once   sync.Once
}

// Accept waits for the next connection there is room for.
func (b *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		in, retry := b.open.enter(c)
		for !in && retry != nil {
			select {
			case <-retry:
			case <-b.closed:
				_ = c.Close() // nobody has heard of it
				return nil, net.ErrClosed
			}
			in, retry = b.open.enter(c)
		}
		if in {
			return c, nil
		}
		_ = c.Close() // its place has others to answer first
	}
}

// Close closes the listener, also while Accept waits for room.
func (b *boundedListener) Close() error {
	b.once.Do(func() { close(b.closed) })
	return b.Listener.Close()
}
