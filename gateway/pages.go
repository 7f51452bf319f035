package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/problem"
	"github.com/musenai/musen/internal/limit"
	"github.com/musenai/musen/policy"
	"github.com/musenai/musen/web"
)

// Shares finds and uses shares.
type Shares interface {
	// ShareBySecret answers from memory, in the same time whether or not there is
	// one. A share that has ended is found too.
	ShareBySecret(secret string) (s musen.Share, known bool)
	// UseShare counts one more session durably, or returns musen.ErrGone when the
	// share has ended.
	UseShare(ctx context.Context, id string) error
}

// A Library tells what stations there are and what they play.
type Library interface {
	// Station must not touch a disk. It returns musen.ErrNotFound when there is
	// none.
	Station(ctx context.Context, nameOrID string) (musen.Station, error)
	// Segments returns up to limit live segments of a station, oldest first, that
	// come after a cursor, and the cursor of the next page, which is empty on the
	// last. A cursor that it did not make is musen.ErrInvalid.
	Segments(ctx context.Context, station, cursor string, limit int) (page []musen.Segment, next string, err error)
}

// A Minter makes sessions and links; *policy.Issuer is one.
type Minter interface {
	Session(r policy.SessionRequest) (raw string, expires time.Time, err error)
	LinkFor(g policy.Grant, r policy.LinkRequest) (raw string, expires time.Time, err error)
}

var _ Minter = (*policy.Issuer)(nil)

// Passwords compares a password with a hash of one. An empty hash matches
// nothing, and takes as long.
type Passwords interface {
	Matches(ctx context.Context, password, hash string) (bool, error)
}

// Pages are the parts of the routes for people: shares, the pages and lists of
// stations, and reports. All of the first group must be set.
type Pages struct {
	Shares    Shares
	Library   Library
	Policy    musen.Decider
	Minter    Minter
	Passwords Passwords
	LinkTTL   time.Duration // of the links that a load of a list mints
	Base      string        // path under which a proxy serves the listener, such as /radio; usually none

	Reports     Reports       // nil: none are taken
	KeepReports time.Duration // how long what became of one is told
	Guidelines  string        // URL of what people may play; empty: nothing is shown
}

func (p *Pages) check() error {
	if p.Shares == nil || p.Library == nil || p.Policy == nil || p.Minter == nil || p.Passwords == nil || p.LinkTTL < time.Second {
		return errors.New("make the public listener: a part of its pages is missing")
	}
	return nil
}

// pages are the Pages with what they need to be served.
type pages struct {
	*Pages
	templates *template.Template
	sites     *http.CrossOriginProtection

	visits      *limit.Buckets // of a client to shares, whatever comes of them
	wrong       *limit.Buckets // passwords of a client
	wrongShares *limit.Buckets // passwords for a share
	reports     reportLimits
}

// newPages makes what is served for people.
func newPages(p *Pages, now func() time.Time) (*pages, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	templates, err := web.Pages()
	if err != nil {
		return nil, err
	}
	const keys = 1 << 14 // of clients and shares at a time, in a megabyte
	return &pages{
		Pages: p, templates: templates, sites: http.NewCrossOriginProtection(), reports: newReportLimits(now),
		visits:      limit.New(limit.Options{Every: time.Second, Burst: 60, Keys: keys, Now: now}),
		wrong:       limit.New(limit.Options{Every: 30 * time.Second, Burst: 10, Keys: keys, Now: now}),
		wrongShares: limit.New(limit.Options{Every: 2 * time.Second, Burst: 100, Keys: keys, Now: now}),
	}, nil
}

// routePages adds the routes of the pages.
func (s *Server) routePages(e *gin.Engine) {
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		e.Handle(method, shareRoute, s.showShare)
		e.Handle(method, "/stations/:station", s.showStation)
		e.Handle(method, "/stations/:station/segments", s.listStation)
		e.Handle(method, "/web/:file", s.serveFile)
		if s.pages.Reports != nil {
			e.Handle(method, reportsRoute, s.showReportForm)
			e.Handle(method, reportsRoute+"/:receipt", s.showReceipt)
		}
	}
	e.POST(shareRoute, s.enterShare)
	if s.pages.Reports != nil {
		e.POST(reportsRoute, s.takeReport)
	}
}

// pagePolicy lets a page load only what the gateway itself serves, and nobody
// frame it.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; media-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// setPageHeaders sets what every answer for people carries: no page is kept, and
// none tells another site where somebody came from, for that is a secret.
func setPageHeaders(h http.Header) {
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	setPrivate(h)
}

// setPrivate sets what every answer for one listener carries.
func setPrivate(h http.Header) {
	h.Set("Cache-Control", "private, no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Vary", "Authorization, Cookie")
}

// filled is what a template is filled in with.
type filled struct {
	Base       string
	Guidelines string
	Reports    bool // are taken
	Of         any
}

// page answers with a template.
func (s *Server) page(c *gin.Context, status int, name string, data any) {
	var b bytes.Buffer
	if err := s.pages.templates.ExecuteTemplate(&b, name, filled{s.pages.Base, s.pages.Guidelines, s.pages.Reports != nil, data}); err != nil {
		s.refuse(c, fmt.Errorf("fill in %s: %w", name, err))
		return
	}
	setPageHeaders(c.Writer.Header())
	c.Header("Content-Type", "text/html; charset=utf-8")
	c.Header("Content-Length", strconv.Itoa(b.Len()))
	c.Status(status)
	_, _ = c.Writer.Write(b.Bytes()) // a client that is gone needs no answer; net/http sends HEAD none
	s.answers.Send(c.Writer)
}

// refusePage answers a person with the problem that err is.
func (s *Server) refusePage(c *gin.Context, err error) {
	err = s.withAppeal(c, err)
	p := problem.Of(err)
	p.RequestID = requestID(c)
	setRetry(c, err)
	s.note(c, err, p)
	switch p.Status {
	case http.StatusUnauthorized:
		c.Header("WWW-Authenticate", `Bearer realm="musen"`)
		p.Title, p.Detail, p.Help = "Access denied", endedWords(p), "Open the link that you were given again, or ask for a new one."
	case http.StatusForbidden:
		p.Title = "Access denied"
	}
	s.page(c, p.Status, "refused.html", p)
}

// endedWords are for people who had a session, and not a program with a token.
func endedWords(p problem.Problem) string {
	switch p.Code {
	case "credential_revoked":
		return "Your access to this station was ended."
	case "credential_expired":
		return "Your time here is over."
	}
	return "This page needs a link that opens the station."
}

// serveFile answers with a script or a style, which are no secret.
func (s *Server) serveFile(c *gin.Context) {
	content, mediaType, ok := web.File(c.Param("file"))
	if !ok {
		s.refuse(c, musen.ErrNotFound)
		return
	}
	sum := sha256.Sum256(content)
	h := c.Writer.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Etag", `"`+hex.EncodeToString(sum[:16])+`"`)
	h.Set("Cache-Control", "no-cache") // kept, and asked for again
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	http.ServeContent(c.Writer, c.Request, "", time.Time{}, bytes.NewReader(content))
	s.answers.Send(c.Writer)
}
