package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/problem"
	"github.com/musenai/musen/policy"
)

// Where a handler leaves what is to be logged or counted.
const (
	cidKey   = "cid"   // the canonical CID
	codeKey  = "code"  // of the problem that it answered with
	limitKey = "limit" // that the request went beyond
)

// observe gives a request its id, answers for handlers that panic, and logs
// one line. It logs no path, query, address, credential or user agent: the
// route's template and the CID say what was asked for.
func (s *Server) observe(c *gin.Context) {
	start := s.o.Now()
	id, err := problem.NewRequestID(s.o.Rand)
	if err != nil {
		s.o.Log.Error("no randomness", "error", err)
	}
	c.Request = c.Request.WithContext(problem.WithRequestID(c.Request.Context(), id))
	h := c.Writer.Header()
	h.Set("X-Request-Id", id)
	if c.Request.TLS != nil || len(s.o.Proxies) > 0 {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	defer s.finish(c, id, start)
	c.Next()
}

// finish logs a request. It is deferred: a panic with http.ErrAbortHandler goes
// on to net/http, which cuts the connection or resets the stream; any other
// becomes a 500, or the same cut when the answer has begun.
func (s *Server) finish(c *gin.Context, id string, start time.Time) {
	v := recover()
	if v != nil && v != http.ErrAbortHandler {
		// The value may hold anything, so only its type is told.
		s.o.Log.Error("handler panicked", "request", id, "panic", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
		if !c.Writer.Written() {
			problem.Write(c.Writer, c.Request, errors.New("panic"))
			v = nil
		}
	}
	s.tally.add(answered{c.FullPath(), c.Writer.Status(), c.GetString(codeKey), c.GetString(limitKey)})
	s.access(c, id, start, v != nil)
	if v != nil {
		panic(http.ErrAbortHandler)
	}
}

func (s *Server) access(c *gin.Context, id string, start time.Time, cut bool) {
	ctx := c.Request.Context()
	if !s.o.Log.Enabled(ctx, slog.LevelInfo) || c.GetString(limitKey) != "" {
		return // a flood is counted, and does not fill the log
	}
	attrs := make([]slog.Attr, 0, 8)
	attrs = append(attrs,
		slog.String("request", id),
		slog.String("method", methodName(c.Request.Method)),
		slog.String("route", c.FullPath()),
		slog.Int("status", c.Writer.Status()),
		slog.Int("bytes", max(0, c.Writer.Size())),
		slog.Duration("duration", s.o.Now().Sub(start)),
	)
	if v := c.GetString(cidKey); v != "" {
		attrs = append(attrs, slog.String("cid", v))
	}
	if cut {
		attrs = append(attrs, slog.Bool("cut", true))
	}
	s.o.Log.LogAttrs(ctx, slog.LevelInfo, "request", attrs...)
}

// methodName keeps what strangers make up out of the log.
func methodName(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions, http.MethodTrace, http.MethodConnect:
		return m
	}
	return "other"
}

// refuseOversize refuses requests that are larger than any honest one, and
// those with a body, which few routes take; see bodyOf.
func (s *Server) refuseOversize(c *gin.Context) {
	r, l := c.Request, s.o.Limits
	fields := 0
	for _, values := range r.Header {
		fields += len(values)
	}
	var err error
	switch {
	case len(r.RequestURI) > l.URLBytes:
		err = problem.URITooLong
	case fields > l.Headers:
		err = problem.HeaderTooLarge
	case r.ContentLength >= 0 && r.ContentLength <= bodyOf(r.Method, c.FullPath()):
		return
	case r.ContentLength > 0 && bodyOf(r.Method, c.FullPath()) > 0:
		err = musen.ErrTooLarge
	case r.ContentLength != 0:
		err = problem.BadRequest
	default:
		return
	}
	// What is left of the request is not waited for.
	c.Header("Connection", "close")
	_ = http.NewResponseController(c.Writer).SetReadDeadline(time.Now().Add(time.Second))
	s.refuse(c, err)
	c.Abort()
}

// bodyOf is the longest body that a route takes.
func bodyOf(method, route string) int64 {
	switch {
	case method != http.MethodPost:
		return 0
	case route == shareRoute:
		return maxForm
	case route == reportsRoute:
		return maxReport
	}
	return 0
}

// refuse answers with the problem that err is, counts it, and logs what went
// wrong when it is the node's fault and not that of a client who went away.
func (s *Server) refuse(c *gin.Context, err error) {
	setRetry(c, err)
	err = s.withAppeal(c, err)
	s.note(c, err, problem.Write(c.Writer, c.Request, err))
	s.answers.Send(c.Writer)
}

// withAppeal tells who is refused because of a takedown where to appeal.
func (s *Server) withAppeal(c *gin.Context, err error) error {
	if s.o.AppealURL == "" || !errors.Is(err, musen.ErrTakenDown) {
		return err
	}
	c.Header("Link", "<"+s.o.AppealURL+`>; rel="help"`)
	return problem.WithHelp(err, "To appeal, see "+s.o.AppealURL)
}

// setRetry tells who went beyond a limit how long to wait, and the log which.
func setRetry(c *gin.Context, err error) {
	if fast, ok := errors.AsType[*tooFast](err); ok {
		c.Header("Retry-After", fast.retryAfter())
		c.Set(limitKey, fast.limit)
	}
}

// note counts and logs that a request was answered with p, which err is.
func (s *Server) note(c *gin.Context, err error, p problem.Problem) {
	c.Set(codeKey, string(p.Code))
	s.countRefusal(clientOf(c.Request.Context()), p.Status)
	if refused, ok := errors.AsType[*policy.CredentialError](err); ok {
		s.o.Log.Debug("credential refused", "request", p.RequestID, "code", refused.Code, "why", refused.Why())
	}
	gone := c.Request.Context().Err() != nil
	if p.Status >= http.StatusInternalServerError && p.Code != problem.Busy && p.Code != problem.Stale && !gone { // whoever cannot ask says so once
		s.o.Log.Error("request failed", "request", p.RequestID, "error", withoutAddresses(err))
	}
}

// withoutAddresses is the text of err, unless it may name who is at the other
// end of a connection.
func withoutAddresses(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return "network: " + op.Op + " failed"
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "network: name not resolved"
	}
	return err.Error()
}

func (s *Server) noMethod(c *gin.Context) {
	if c.Writer.Header().Get("Allow") == "" { // gin knows the methods of a route
		c.Header("Allow", "GET, HEAD")
	}
	s.refuse(c, problem.MethodNotAllowed)
}

func (s *Server) healthz(c *gin.Context) { s.plain(c, "ok\n") }

func (s *Server) readyz(c *gin.Context) {
	var err error
	if s.o.Ready != nil {
		err = s.o.Ready(c.Request.Context())
	}
	if s.draining.Load() {
		err = errors.New("shutting down")
	}
	if err != nil {
		s.o.Log.Warn("not ready", "error", withoutAddresses(err))
		s.refuse(c, problem.WithDetail(problem.Busy, "The node is not ready."))
		return
	}
	s.plain(c, "ready\n")
}

func (s *Server) plain(c *gin.Context, body string) {
	h := c.Writer.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	_, _ = c.Writer.WriteString(body) // a client that is gone needs no answer
	s.answers.Send(c.Writer)
}
