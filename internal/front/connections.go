package front

import (
	"net"
	"net/http"
	"sync"
)

// Connections holds one element for each connection that is open; its capacity
// is how many there may be.
type Connections chan struct{}

// Release is the ConnState of an http.Server on a bounded listener: it makes
// room when a connection is closed. None is ever hijacked.
func (c Connections) Release(_ net.Conn, state http.ConnState) {
	if state == http.StateClosed {
		<-c
	}
}

// Bound is l, which accepts nothing while there are as many connections as may
// be; clients wait in the backlog of the system then, and take no file.
func (c Connections) Bound(l net.Listener) net.Listener {
	return boundedListener{l, c, make(chan struct{}), new(sync.Once)}
}

type boundedListener struct {
	net.Listener
	open   Connections
	closed chan struct{}
	once   *sync.Once
}

// Accept waits until there is room and then for the next connection.
func (b boundedListener) Accept() (net.Conn, error) {
	select {
	case b.open <- struct{}{}:
	case <-b.closed:
		return nil, net.ErrClosed
	}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.open
	}
	return c, err
}

// Close closes the listener, also while Accept waits for room.
func (b boundedListener) Close() error {
	b.once.Do(func() { close(b.closed) })
	return b.Listener.Close()
}
