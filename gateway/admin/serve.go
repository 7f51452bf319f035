package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
)

// Trust says who stands behind the connections of a listener.
type Trust int

const (
	// Bearer trusts nobody: each request needs a token.
	Bearer Trust = iota
	// Local trusts whoever may open the listener's unix socket as the operator.
	Local
)

const (
	headerTimeout = 10 * time.Second // to send the header of a request
	bodyTimeout   = 30 * time.Second // to send a whole JSON body
	writeTimeout  = 30 * time.Second // to take an answer, or one line of it
	idleTimeout   = 2 * time.Minute
	maxHeader     = 16 << 10 // bytes
)

// trustKey is the key of a connection's Trust in its context.
type trustKey struct{}

// A Server serves the admin API. It is safe for concurrent use.
type Server struct {
	Options
	routes  map[string]route // by method and pattern
	refused *refusals
	engine  *gin.Engine
	handler http.Handler
	sites   *http.CrossOriginProtection

	started time.Time
	busy    sync.Map // idempotency keys of uploads that are under way

	stopping context.Context // ends when Shutdown begins
	stop     context.CancelFunc

	mu      sync.Mutex
	closed  bool
	servers []*http.Server
}

// New makes a server. It listens nowhere until Serve.
func New(o Options) (*Server, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	o.Limits = o.Limits.withDefaults()
	s := &Server{Options: o, routes: map[string]route{}, sites: http.NewCrossOriginProtection(), started: o.Now(), refused: newRefusals(o.Now)}
	s.stopping, s.stop = context.WithCancel(context.Background())
	gin.SetMode(gin.ReleaseMode) // debug mode prints to standard output
	s.engine = gin.New()
	s.handler = s.engine
	s.engine.HandleMethodNotAllowed = true
	s.engine.UseEscapedPath = true // one spelling of a path, and %2F is no separator
	s.engine.RedirectTrailingSlash = false
	s.engine.RedirectFixedPath = false
	s.engine.Use(s.observe, s.guard)
	s.engine.NoRoute(s.noRoute)
	s.engine.NoMethod(s.noMethod)
	for _, r := range routes() {
		s.routes[r.method+" "+prefix+r.path] = r
		s.engine.Handle(r.method, prefix+r.path, s.handle)
	}
	return s, nil
}

// Serve answers requests that come over l until Shutdown, and closes l. A
// listener served as Local must be a unix socket; any other must be on a
// loopback address.
func (s *Server) Serve(l net.Listener, trust Trust) error {
	if err := checkListener(l, trust); err != nil {
		return errors.Join(err, l.Close())
	}
	srv := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(discardAddresses{s.Log.Handler()}, slog.LevelDebug),
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, trustKey{}, trust)
		},
	}
	if !s.register(srv) {
		return l.Close()
	}
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the admin API: %w", err)
	}
	return nil
}

// register makes srv known to Shutdown, unless that has begun.
func (s *Server) register(srv *http.Server) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.servers = append(s.servers, srv)
	}
	return !s.closed
}

func checkListener(l net.Listener, trust Trust) error {
	switch addr := l.Addr().(type) {
	case *net.UnixAddr:
		return nil
	case *net.TCPAddr:
		if trust == Bearer && addr.IP.IsLoopback() {
			return nil
		}
	}
	return errors.New("serve the admin API: listen on a loopback address, or as the local operator on a unix socket")
}

// Shutdown takes no more connections and waits for the requests under way,
// which no longer wait for copies. When ctx ends first they are cut, and its
// error returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	s.mu.Lock()
	s.closed = true
	servers := s.servers
	s.mu.Unlock()
	var errs []error
	for _, srv := range servers {
		err := srv.Shutdown(ctx)
		if err != nil {
			err = errors.Join(err, srv.Close())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ListenUnix makes a unix socket at path that only the owner of this process
// can open: at no moment anybody else. A socket that a dead process left there
// is replaced. Closing the listener removes the socket.
func ListenUnix(path string) (net.Listener, error) {
	private, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, fmt.Errorf("make socket %q: %w", path, err)
	}
	defer os.RemoveAll(private)
	fresh := filepath.Join(private, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make socket %q: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chmod(fresh, 0o600); err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make socket %q: %w", path, err), l.Close())
	}
	return &unixListener{UnixListener: l, path: path}, nil
}

// unixListener removes its socket when it is closed.
type unixListener struct {
	*net.UnixListener
	path string
	once sync.Once
}

// Close stops listening and removes the socket.
func (l *unixListener) Close() (err error) {
	l.once.Do(func() { err = errors.Join(os.Remove(l.path), l.UnixListener.Close()) })
	return err
}

// discardAddresses passes on no more of net/http's own complaints than that
// there was one: their text holds addresses of peers.
type discardAddresses struct{ slog.Handler }

// Handle logs that a connection failed.
func (d discardAddresses) Handle(ctx context.Context, r slog.Record) error {
	return d.Handler.Handle(ctx, slog.NewRecord(r.Time, r.Level, "admin connection failed", 0))
}
