package gateway

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/problem"
	"github.com/musenai/musen/internal/password"
	"github.com/musenai/musen/policy"
)

// shareRoute is the route of a share, which takes a form.
const shareRoute = "/s/:share"

// sessionCookie is the name of the cookie that holds the session of a share. The
// prefix has browsers take it from this host alone, over TLS alone.
const sessionCookie = "__Host-musen"

// maxForm is the longest form that a share takes, in bytes.
const maxForm = 2 << 10

// sharePage is what the page of a share shows.
type sharePage struct {
	Password bool   // asks for one
	Wrong    string // what was wrong with the last
}

// showShare answers GET and HEAD /s/{share}. A share without a password, which
// may be used any number of times, opens at once; any other asks first, so that
// a program that looks at links in messages uses none up. One that nobody has
// asks for a password, as if it had one.
func (s *Server) showShare(c *gin.Context) {
	secret, ok := s.visit(c)
	if !ok {
		return
	}
	share, known := s.pages.Shares.ShareBySecret(secret)
	if s.inSession(c, share) && known { // asked in any case: its time tells nothing
		s.toStation(c, share.Station)
		return
	}
	station, ended := s.ended(c, share, known)
	switch {
	case ended:
		return
	case !known || share.Password != "" || share.MaxUses > 0:
		s.page(c, http.StatusOK, "share.html", sharePage{Password: !known || share.Password != ""})
	case c.Request.Method == http.MethodHead:
		s.toStation(c, share.Station)
	default:
		s.openShare(c, share, station)
	}
}

// enterShare answers POST /s/{share}, a form that may hold a password. Whether
// there is such a share does not show: the same page comes after the same work.
func (s *Server) enterShare(c *gin.Context) {
	if s.pages.sites.Check(c.Request) != nil {
		s.refusePage(c, problem.WithHelp(problem.WithDetail(problem.Forbidden, "The form was sent from another site."), "Open the link itself, and listen from there."))
		return
	}
	secret, ok := s.visit(c)
	if !ok {
		return
	}
	form, err := s.readForm(c)
	if err != nil {
		s.refusePage(c, err)
		return
	}
	share, known := s.pages.Shares.ShareBySecret(secret)
	station, ended := s.ended(c, share, known)
	if ended {
		return
	}
	if !known || share.Password != "" {
		if !s.guess(c, secret, form, share) {
			return
		}
	}
	s.openShare(c, share, station)
}

// visit reads the secret in the path of a share, and answers those who come too
// often, or with what is no secret.
func (s *Server) visit(c *gin.Context) (secret string, ok bool) {
	secret = c.Param("share")
	if !musen.IsShareSecret(secret) {
		s.refusePage(c, musen.ErrNotFound)
		return "", false
	}
	if who := clientOf(c.Request.Context()); !who.crowd {
		if err := take(s.pages.visits, "visits", who.name); err != nil {
			s.refusePage(c, err)
			return "", false
		}
	}
	return secret, true
}

// guess reports whether a password is that of a share, and answers who gave
// another. Each guess counts towards the limits until it was found right,
// so that many at once are no more than many in turn, and many listeners may
// come at once.
func (s *Server) guess(c *gin.Context, secret, password string, share musen.Share) bool {
	giveBack, err := s.takeGuess(clientOf(c.Request.Context()), secret)
	if err != nil {
		s.refusePage(c, err)
		return false
	}
	right, err := s.pages.Passwords.Matches(c.Request.Context(), password, share.Password)
	if right || err != nil {
		giveBack()
	}
	switch {
	case err != nil:
		s.refusePage(c, hashError(err))
	case !right:
		s.o.Watch.Guessed(share.ID)
		s.note(c, nil, problem.Of(problem.WrongPassword))
		s.page(c, http.StatusForbidden, "share.html", sharePage{Password: true, Wrong: "That is not the password."})
	}
	return right && err == nil
}

// takeGuess counts a guess of a client at the password of a share, until it is
// given back.
func (s *Server) takeGuess(who client, secret string) (giveBack func(), err error) {
	p := s.pages
	if err := take(p.wrongShares, "guesses", secret); err != nil {
		return nil, err
	}
	if who.crowd {
		return func() { p.wrongShares.Give(secret) }, nil
	}
	if err := take(p.wrong, "guesses", who.name); err != nil {
		p.wrongShares.Give(secret)
		return nil, err
	}
	return func() {
		p.wrongShares.Give(secret)
		p.wrong.Give(who.name)
	}, nil
}

// hashError is the problem of a password that could not be checked.
func hashError(err error) error {
	if errors.Is(err, password.ErrBusy) {
		return problem.Busy
	}
	return err
}

// inSession reports whether the visitor has a session of the share already.
func (s *Server) inSession(c *gin.Context, share musen.Share) bool {
	raw, err := sessionOf(c.Request)
	if err != nil || raw == "" {
		return false
	}
	g, err := s.o.Verifier.Session(raw)
	return err == nil && g.Subject() == policy.ShareSubject(share.ID) && g.Covers(share.Station)
}

// ended finds the station of a share that is known, and tells whoever has its
// secret when it has ended.
func (s *Server) ended(c *gin.Context, share musen.Share, known bool) (station musen.Station, ended bool) {
	station, err := s.pages.Library.Station(c.Request.Context(), share.Station)
	if !known {
		return musen.Station{}, false
	}
	end := musen.EndRevoked // with its station
	if err == nil {
		end = share.End(station.Epoch, s.o.Now())
	}
	if end != "" {
		s.refusePage(c, problem.WithDetail(problem.ShareEnded, endWords(end)))
		return station, true
	}
	return station, false
}

func endWords(end musen.End) string {
	switch end {
	case musen.EndExpired:
		return "This link has expired."
	case musen.EndSpent:
		return "This link was used as often as it may be."
	}
	return "This link was ended."
}

// openShare begins a session of a share and sends the visitor to the station.
func (s *Server) openShare(c *gin.Context, share musen.Share, station musen.Station) {
	if err := s.o.Verifier.Fresh(c.Request.Context(), policy.ShareSubject(share.ID)); err != nil {
		s.refusePage(c, err)
		return
	}
	ttl := share.SessionTTL
	if !share.Expires.IsZero() {
		ttl = min(ttl, share.Expires.Sub(s.o.Now()))
	}
	raw, expires, err := s.pages.Minter.Session(policy.SessionRequest{
		Share: share.ID, Generation: share.Generation, Station: station.ID, Epoch: station.Epoch,
		TTL: max(ttl, time.Second), Download: share.Downloads,
	})
	if err == nil {
		err = s.pages.Shares.UseShare(c.Request.Context(), share.ID)
	}
	switch {
	case errors.Is(err, musen.ErrGone): // since it was looked up
		s.refusePage(c, problem.WithDetail(problem.ShareEnded, endWords("")))
		return
	case err != nil:
		s.refusePage(c, err)
		return
	}
	http.SetCookie(c.Writer, &http.Cookie{
		Name: sessionCookie, Value: raw, Path: "/", MaxAge: max(1, int(expires.Sub(s.o.Now()).Seconds())),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	s.toStation(c, station.ID)
}

// toStation sends a visitor to the page of a station. Where to does not hold the
// secret.
func (s *Server) toStation(c *gin.Context, id string) {
	setPageHeaders(c.Writer.Header())
	c.Header("Location", s.pages.Base+"/stations/"+id)
	c.Header("Content-Length", "0")
	c.Status(http.StatusSeeOther)
	c.Writer.WriteHeaderNow()
	s.answers.Send(c.Writer)
}

// sessionOf is the session that a browser sends with everything, or "". More
// than one, or one in quotes, is problem.Malformed.
func sessionOf(r *http.Request) (raw string, err error) {
	found := r.CookiesNamed(sessionCookie)
	switch {
	case len(found) == 0:
		return "", nil
	case len(found) > 1 || found[0].Value == "" || found[0].Quoted:
		return "", problem.Malformed
	}
	return found[0].Value, nil
}

// readForm reads the form of a share: the password in it, or "".
func (s *Server) readForm(c *gin.Context) (password string, err error) {
	mediaType, body, err := s.readBody(c, maxForm)
	if err != nil {
		return "", err
	}
	if mediaType != formType {
		return "", problem.UnsupportedMedia
	}
	return parseForm(string(body))
}

// parseForm reads a form that has a password, or nothing.
func parseForm(body string) (password string, err error) {
	form, err := url.ParseQuery(body)
	if err != nil {
		return "", problem.BadRequest
	}
	for name, values := range form {
		if name != "password" || len(values) != 1 {
			return "", problem.BadRequest
		}
	}
	return form.Get("password"), nil
}
