package trustless

import (
	"net"
	"net/http"
	"sync"
)

// connections holds one element for each connection that is open.
type connections chan struct{}

// release makes room when net/http says that a connection is closed. None is
// ever hijacked.
func (c connections) release(_ net.Conn, state http.ConnState) {
	if state == http.StateClosed {
		<-c
	}
}

// boundedListener accepts nothing while there are as many connections as may
// be; clients wait in the backlog of the system then, and take no file.
type boundedListener struct {
	net.Listener
	open   connections
	closed chan struct{}
	once   *sync.Once
}

func newBoundedListener(l net.Listener, open connections) boundedListener {
	return boundedListener{l, open, make(chan struct{}), new(sync.Once)}
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
