package front

import (
	"errors"
	"net"
	"net/http"
	"testing"
)

func listen(t *testing.T, most int) (Connections, net.Listener) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	open := make(Connections, most)
	bounded := open.Bound(l)
	t.Cleanup(func() { _ = bounded.Close() })
	return open, bounded
}

// No more connections are taken than may be, and the next one is when one is
// closed.
func TestConnectionsAreBounded(t *testing.T) {
	open, l := listen(t, 2)
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	for range 3 {
		c, err := net.Dial("tcp", l.Addr().String())
		check(t, err)
		defer c.Close()
	}
	first, second := <-accepted, <-accepted
	defer second.Close()
	select {
	case <-accepted:
		t.Fatal("a third connection was taken")
	default:
	}
	check(t, first.Close())
	open.Release(first, http.StateIdle) // means nothing
	if len(open) != 2 {
		t.Errorf("%d are open", len(open))
	}
	open.Release(first, http.StateClosed)
	third := <-accepted
	check(t, third.Close())
	check(t, l.Close())
	if _, more := <-accepted; more {
		t.Error("a connection after the end")
	}
}

func TestCloseWhileAcceptWaitsForRoom(t *testing.T) {
	_, l := listen(t, 0)
	ended := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		ended <- err
	}()
	check(t, l.Close())
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	_ = l.Close() // once more does no harm
}
