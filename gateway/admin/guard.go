package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/problem"
	"github.com/musenai/musen/policy"
)

// errForbidden refuses a caller who may know that the thing is there.
var errForbidden error = problem.Forbidden

// errInternal refuses a request whose handler broke.
var errInternal = errors.New("handler panicked")

// observe gives each request an id, logs one line about it without anything
// that its sender chose or is known by, and turns a panic into an answer.
func (s *Server) observe(c *gin.Context) {
	start := s.Now()
	id, err := problem.NewRequestID(s.Rand)
	if err != nil {
		s.refuse(c, err)
		return
	}
	ctx := problem.WithRequestID(c.Request.Context(), id)
	c.Request = c.Request.WithContext(ctx)
	defer func() {
		s.Log.LogAttrs(ctx, slog.LevelInfo, "admin request",
			slog.String("method", knownMethod(c.Request.Method)), slog.String("route", c.FullPath()),
			slog.Int("status", c.Writer.Status()), slog.Int("bytes", max(c.Writer.Size(), 0)),
			slog.Duration("took", s.Now().Sub(start)), slog.String("by", c.GetString("by")),
			slog.String("request_id", id))
	}()
	defer func() {
		if p := recover(); p != nil {
			s.recovered(c, p)
		}
	}()
	c.Next()
}

// recovered answers a request whose handler panicked. When part of an answer
// is out already, the connection is cut: it must not look whole.
func (s *Server) recovered(c *gin.Context, p any) {
	if p != http.ErrAbortHandler {
		why, _ := p.(runtime.Error) // no other panic's words: they may hold anything
		s.Log.ErrorContext(c.Request.Context(), "admin handler panicked", "route", c.FullPath(), "err", why, "stack", string(debug.Stack()))
	}
	if c.Writer.Written() || p == http.ErrAbortHandler {
		panic(http.ErrAbortHandler)
	}
	s.refuse(c, errInternal)
}

// knownMethod keeps what a stranger made up out of the log.
func knownMethod(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}

// guard lets nobody pass who has no valid credential, comes from a web page of
// another site, or uses a route in a way that the table does not declare.
func (s *Server) guard(c *gin.Context) {
	s.setWriteDeadline(c)
	if c.Request.ContentLength != 0 {
		s.setReadDeadline(c, bodyTimeout)
	}
	in := call{server: s, notes: &notes{}}
	err := s.checkSite(c.Request)
	if err == nil {
		in.grant, err = s.authenticate(c.Request)
	}
	if err == nil {
		c.Set("by", in.grant.Kind())
		err = s.admit(c, &in)
	}
	if err != nil {
		s.recordRefusal(c, in, err)
		s.refuse(c, err)
		return
	}
	c.Set("call", in)
	c.Next()
}

// admit checks a request of an authenticated caller against its row of the
// table. A path that is not there passes: noRoute answers it.
func (s *Server) admit(c *gin.Context, in *call) error {
	if c.FullPath() == "" {
		return nil
	}
	var ok bool
	if in.route, ok = s.routes[c.Request.Method+" "+c.FullPath()]; !ok {
		return errForbidden
	}
	if err := checkQuery(c.Request.URL.RawQuery, in.route.query); err != nil {
		return err
	}
	for _, p := range c.Params {
		if p.Key != "cid" && !isLine(p.Value) { // nothing is called so, and no catalogue is asked for it
			return musen.ErrNotFound
		}
	}
	return in.find(c.Request.Context(), c)
}

// handle runs the handler of the route that the guard has let in, and has it
// recorded if it is to be.
func (s *Server) handle(c *gin.Context) {
	in, ok := c.MustGet("call").(call)
	if !ok {
		panic("unreachable: only the guard sets a call")
	}
	var err error
	if event := in.route.act.event; event == notRecorded {
		if err = in.route.handle(s, c, in); err != nil {
			s.recordRefusal(c, in, err)
		}
	} else {
		err = s.act(c, in, event)
	}
	if err != nil {
		s.refuse(c, err)
	}
}

func (s *Server) noRoute(c *gin.Context) { s.refuse(c, musen.ErrNotFound) }

func (s *Server) noMethod(c *gin.Context) { s.refuse(c, problem.MethodNotAllowed) }

// isLocal reports whether a request came over a listener served as Local.
func isLocal(ctx context.Context) bool {
	trust, ok := ctx.Value(trustKey{}).(Trust)
	return ok && trust == Local
}

// checkSite refuses what a web page of another site makes a browser send, and
// on TCP a Host that is not this machine: a name that was rebound to it.
func (s *Server) checkSite(r *http.Request) error {
	if !isLocal(r.Context()) && !s.knownHost(r.Host) {
		return errHost
	}
	if s.sites.Check(r) != nil {
		return errCrossOrigin
	}
	return nil
}

func (s *Server) knownHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsLoopback()
	}
	isHost := func(name string) bool { return strings.EqualFold(name, host) }
	return isHost("localhost") || slices.ContainsFunc(s.Hosts, isHost)
}

// authenticate finds out who sends a request.
func (s *Server) authenticate(r *http.Request) (policy.Grant, error) {
	if isLocal(r.Context()) {
		return policy.LocalOperator(), nil
	}
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return policy.Grant{}, problem.CredentialMissing
	}
	scheme, raw, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") || raw == "" {
		return policy.Grant{}, problem.Malformed
	}
	return s.Verifier.Token(raw)
}

// checkQuery refuses parameters that a route does not know, or that come
// twice: the caller meant something that would not happen.
func checkQuery(raw string, known []string) error {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return errQuery
	}
	for name, values := range q {
		if !slices.Contains(known, name) {
			return errUnknownParameter.with("The parameter %.80q is not known here.", name)
		}
		if len(values) > 1 {
			return badParameter(name, "is given more than once")
		}
	}
	return nil
}
