package gateway

import (
	"net"
	"net/http"
	"sync"
	"syscall"
)

// connectionsPerStream is how many connections there may be for each answer:
// players and pages keep some open that ask for nothing.
const connectionsPerStream = 4

// openFiles is how many files the process may have open; 0: not known.
func openFiles() uint64 {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0
	}
	return uint64(r.Cur) // its type differs between systems
}

// boundConnections lowers a number of connections to a third of the files that
// the process may have open. Peers take up to half of them, and the rest is
// for the admin socket, the database and blocks.
func boundConnections(n int, files uint64) int {
	if third := files / 3; files > 0 && third < uint64(n) {
		return max(1, int(third))
	}
	return n
}

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
