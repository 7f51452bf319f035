package gateway

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen/gateway/problem"
	"github.com/musenai/musen/internal/front"
)

// dropKey is the key, in the context of a request, of what makes a cut of its
// connection drop what the system still holds for the client. Nothing else of
// the connection is there: it knows the address.
type dropKey struct{}

func requestID(c *gin.Context) string { return problem.RequestID(c.Request.Context()) }

// newHTTP makes the server. There is no limit on the time of a whole request:
// a long answer is bounded chunk by chunk instead.
func (s *Server) newHTTP() *http.Server {
	l := s.o.Limits
	srv := &http.Server{
		Handler:                      s.anonymous(s.engine),
		ReadHeaderTimeout:            l.HeaderTimeout,
		IdleTimeout:                  l.IdleTimeout,
		WriteTimeout:                 l.WriteTimeout, // until the first chunk moves it
		MaxHeaderBytes:               l.HeaderBytes,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     log.New(serverLog{s.o.Log}, "", 0),
		HTTP2:                        front.HTTP2(l.WriteTimeout),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, dropKey{}, dropper(c))
		},
		ConnState: s.conns.Follow,
	}
	if s.cert != nil {
		srv.TLSConfig = s.cert.Config()
	}
	return srv
}

// dropper makes a function that has the next cut of c drop what was not sent.
func dropper(c net.Conn) func() {
	return func() {
		if t, ok := c.(interface{ NetConn() net.Conn }); ok {
			c = t.NetConn()
		}
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
	}
}

// Serve answers on l until Shutdown, with TLS if there is a certificate, and
// closes l. It returns nil after Shutdown. Without TLS, connections from off
// loopback are closed unless they come from one of the Proxies. When there are
// as many connections as Limits allow, one that asks for nothing makes room.
func (s *Server) Serve(l net.Listener) error {
	bounded := s.conns.Bound(guardedListener{l, s.cert == nil, s.o.Proxies})
	var err error
	if s.cert != nil {
		err = s.http.ServeTLS(bounded, "", "")
	} else {
		err = s.http.Serve(bounded)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the public listener: %w", err)
}

// Shutdown stops listening and waits until the answers under way are sent.
// Those that are not when ctx ends are cut, and its error is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
		return fmt.Errorf("drain the public listener: %w", err)
	}
	return nil
}

// ReloadCertificate reads the certificate files again, as it also happens by
// itself soon after they change. If they cannot be used, the certificate that
// was there stays, and so do connections.
func (s *Server) ReloadCertificate() error {
	if s.cert == nil {
		return nil
	}
	return s.cert.Reload()
}

// CheckListener refuses an address of the public listener that is reachable
// from other machines when there is neither TLS nor a declared reverse proxy
// that ends it.
func CheckListener(addr string, tls bool, proxies []netip.Prefix) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("public listener %q: %w", addr, err)
	}
	if tls || len(proxies) > 0 || isLoopback(host) {
		return nil
	}
	return fmt.Errorf("public listener %q: refused: plain HTTP can be read on the way; "+
		"give a certificate and its key, declare the reverse proxy in front, or listen on 127.0.0.1", addr)
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// maxUnsent is how many bytes the system may hold for a client beyond those it
// has room for.
const maxUnsent = 128 << 10

// guardedListener closes connections that may not come in plain.
type guardedListener struct {
	net.Listener
	plain   bool
	proxies []netip.Prefix
}

// Accept waits for the next connection that may be served: with TLS any, in
// plain one from loopback or a proxy.
func (g guardedListener) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if g.plain && !g.admits(c.RemoteAddr()) {
			_ = c.Close()
			continue
		}
		if t, ok := c.(*net.TCPConn); ok {
			limitUnsent(t)
		}
		return c, nil
	}
}

func (g guardedListener) admits(remote net.Addr) bool {
	t, ok := remote.(*net.TCPAddr)
	if !ok {
		return true // a unix socket
	}
	return isProxy(t.AddrPort().Addr().Unmap(), g.proxies)
}

// crowd reports whether many clients may connect from an address.
func (s *Server) crowd(a netip.Addr) bool { return isProxy(a, s.o.Proxies) }

// isProxy reports whether a reverse proxy may be at an address: on this
// machine, or where one is declared.
func isProxy(a netip.Addr, proxies []netip.Prefix) bool {
	return a.IsLoopback() || isDeclared(a, proxies)
}

// serverLog passes on what net/http says about the listener itself. Everything
// else that it logs is about one client and names its address.
type serverLog struct{ log *slog.Logger }

// Write implements io.Writer.
func (l serverLog) Write(p []byte) (int, error) {
	if strings.HasPrefix(string(p), "http: Accept error") {
		l.log.Warn("the public listener cannot accept connections now")
	}
	return len(p), nil
}
