package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/internal/cidpath"
	"github.com/musenai/musen/pin/contract"
)

const (
	prefix     = "/v1"
	maxBody    = 64 << 10
	maxAppeal  = 1000 // bytes
	maxOrders  = 1000
	callLimit  = 30 * time.Second
	headLimit  = 10 * time.Second
	closeLimit = 2 * time.Minute
)

// A Reporter tells how the host is.
type Reporter interface {
	Status(ctx context.Context) (Status, error)
	Why(ctx context.Context, c cid.Cid) (Why, error)
	Orders(limit int) []Order // the newest first
}

// Terms are what the host may change. A change is durable on return and takes
// effect at once.
type Terms interface {
	SetContract(ctx context.Context, c contract.Contract) error
	Pause(ctx context.Context, until time.Time) error
}

// Wishes are what the host asks of its origin.
type Wishes interface {
	Leave(ctx context.Context, leaving bool) error
	Appeal(ctx context.Context, text string) error
}

// A Node is the running node of a host.
type Node interface {
	Reporter
	Terms
	Wishes
}

// A Server answers the commands.
type Server struct {
	node Node
	log  *slog.Logger
	http *http.Server
}

// NewServer makes a Server; it listens nowhere until Serve.
func NewServer(n Node, log *slog.Logger) *Server {
	s := &Server{node: n, log: log}
	s.http = &http.Server{
		Handler: s.routes(), ReadHeaderTimeout: headLimit, ReadTimeout: callLimit, WriteTimeout: callLimit,
		IdleTimeout: closeLimit, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s
}

// Serve answers on l, which must be a unix socket that only the owner can open,
// until Shutdown, and closes it. It returns nil after Shutdown.
func (s *Server) Serve(l net.Listener) error {
	if l.Addr().Network() != "unix" {
		l.Close()
		return errors.New("serve the commands: listen on a unix socket")
	}
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the commands: %w", err)
	}
	return nil
}

// Shutdown takes no more requests and waits for those under way until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}

func (s *Server) routes() http.Handler {
	m := http.NewServeMux()
	handle := func(pattern string, do func(r *http.Request) (any, error)) {
		m.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			v, err := do(r)
			s.answer(w, v, err)
		})
	}
	handle("GET "+prefix+"/status", func(r *http.Request) (any, error) { return s.node.Status(r.Context()) })
	handle("GET "+prefix+"/orders", s.orders)
	handle("GET "+prefix+"/segments/{cid}", s.why)
	handle("PUT "+prefix+"/contract", s.setContract)
	handle("PUT "+prefix+"/pause", s.pause)
	handle("PUT "+prefix+"/leaving", s.leave)
	handle("PUT "+prefix+"/appeal", s.appeal)
	handle("/", func(*http.Request) (any, error) {
		return nil, Refuse(http.StatusNotFound, "not_found", "there is no such call")
	})
	return m
}

// answer writes v, or the error in its place.
func (s *Server) answer(w http.ResponseWriter, v any, err error) {
	status := http.StatusOK
	if err != nil {
		refused, ok := errors.AsType[*Error](err)
		if !ok {
			s.log.Error("a command failed", "err", err)
			refused = &Error{Status: http.StatusInternalServerError, Code: "failed", Detail: err.Error()} // to the owner alone
		}
		v, status = refused, refused.Status
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a command that is gone needs no answer
}

// decode reads the whole body of a request as one JSON value.
func decode(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("more than one value")
		}
	}
	if err != nil {
		return Refuse(http.StatusBadRequest, "bad_request", "%s", err)
	}
	return nil
}

func (s *Server) orders(r *http.Request) (any, error) {
	limit := maxOrders
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, Refuse(http.StatusBadRequest, "bad_request", "limit %.20q is no number from 1 on", text)
		}
		limit = min(n, limit)
	}
	list := s.node.Orders(limit)
	if list == nil {
		list = []Order{}
	}
	return orders{list}, nil
}

func (s *Server) why(r *http.Request) (any, error) {
	c, ok := cidpath.Parse(r.PathValue("cid"))
	if !ok {
		return nil, Refuse(http.StatusBadRequest, "bad_cid", "%.128q is not the CID of a segment", r.PathValue("cid"))
	}
	return s.node.Why(r.Context(), c)
}

func (s *Server) setContract(r *http.Request) (any, error) {
	var c contract.Contract
	if err := decode(r, &c); err != nil {
		return nil, err
	}
	return c, s.node.SetContract(r.Context(), c)
}

func (s *Server) pause(r *http.Request) (any, error) {
	var p pause
	if err := decode(r, &p); err != nil {
		return nil, err
	}
	return p, s.node.Pause(r.Context(), p.Until)
}

func (s *Server) leave(r *http.Request) (any, error) {
	var l leave
	if err := decode(r, &l); err != nil {
		return nil, err
	}
	return l, s.node.Leave(r.Context(), l.Leaving)
}

func (s *Server) appeal(r *http.Request) (any, error) {
	var a appeal
	if err := decode(r, &a); err != nil {
		return nil, err
	}
	if len(a.Text) > maxAppeal {
		return nil, Refuse(http.StatusBadRequest, "too_long", "an appeal has at most %d bytes", maxAppeal)
	}
	return a, s.node.Appeal(r.Context(), a.Text)
}
