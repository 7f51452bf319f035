package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/problem"
	"github.com/musenai/musen/policy"
)

// maxPage is how many segments one page of a list has at most, and by default.
const maxPage = 100

// A programme is one page of what a station plays.
type programme struct {
	Station     string   `json:"station"` // id
	Name        string   `json:"name"`
	Description string   `json:"description"`
	ValidFor    int64    `json:"valid_for"` // seconds from now that the links open
	Segments    []listed `json:"segments"`
	Next        string   `json:"next,omitempty"` // cursor of the next page; absent on the last
}

// A listed segment comes with links that were minted for this one list, as far
// as the credential itself names what they open.
type listed struct {
	CID        string `json:"cid"`
	Title      string `json:"title"`
	Artist     string `json:"artist"`
	MediaType  string `json:"media_type"`
	DurationMS int64  `json:"duration_ms"` // 0: the headers of the audio do not tell
	URL        string `json:"url"`
	Download   string `json:"download,omitempty"` // the same, to save it; absent: it may not be
}

// showStation answers GET and HEAD /stations/{station}, the page that plays it.
func (s *Server) showStation(c *gin.Context) {
	_, station, err := s.tuneIn(c)
	if err != nil {
		s.refusePage(c, err)
		return
	}
	s.page(c, http.StatusOK, "station.html", station)
}

// listStation answers GET and HEAD /stations/{station}/segments: a page of what
// the station plays, with fresh links.
func (s *Server) listStation(c *gin.Context) {
	setPrivate(c.Writer.Header())
	grant, station, err := s.tuneIn(c)
	if err != nil {
		s.refuse(c, err)
		return
	}
	cursor, limit, err := readPage(c.Request.URL.RawQuery)
	if err != nil {
		s.refuse(c, err)
		return
	}
	page, err := s.programme(c, grant, station, cursor, limit)
	if err != nil {
		s.refuse(c, err)
		return
	}
	s.answerJSON(c, http.StatusOK, page)
}

// answerJSON answers with v.
func (s *Server) answerJSON(c *gin.Context, status int, v any) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // it is no page: links stay as they are
	if err := encoder.Encode(v); err != nil {
		s.refuse(c, err)
		return
	}
	h := c.Writer.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	c.Status(status)
	_, _ = c.Writer.Write(body.Bytes()) // a client that is gone needs no answer; net/http sends HEAD none
	s.answers.Send(c.Writer)
}

// tuneIn finds the station in the path for whoever may listen to it: the bearer
// of a token or of a session. As with segments, no valid credential is a 401
// before anything is looked up, and a station that is unknown is the same 404,
// after the same work, as one that is not covered.
func (s *Server) tuneIn(c *gin.Context) (policy.Grant, musen.Station, error) {
	cred, _, err := findCredential(c.Request)
	if err != nil {
		return policy.Grant{}, musen.Station{}, err
	}
	grant, err := s.holder(cred, c.Request.Method)
	if err == nil {
		err = s.pace(clientOf(c.Request.Context()), grant)
	}
	if err != nil {
		return policy.Grant{}, musen.Station{}, err
	}
	grant = grant.From(s.region(c.Request))
	id := c.Param("station")
	station, err := s.pages.Library.Station(c.Request.Context(), id)
	if err == nil && station.ID != id { // found by its name, which is no address
		station, err = musen.Station{}, musen.ErrNotFound
	}
	d := s.pages.Policy.Decide(grant, policy.Listen, resourceOf(station))
	if err == nil && !d.Allowed() {
		err = musen.ErrNotFound
	}
	if errors.Is(err, musen.ErrNotFound) {
		err = musen.ErrNotFound // word for word
	}
	if err == nil {
		err = take(s.rates.station, "station", station.ID)
	}
	return grant, station, err
}

// holder verifies a credential that may be good for more than one path.
func (s *Server) holder(cr credential, method string) (policy.Grant, error) {
	switch {
	case cr.isToken:
		return s.o.Verifier.Token(cr.raw)
	case cr.isSession:
		return s.o.Verifier.Session(cr.raw)
	}
	_, err := s.o.Verifier.Link(cr.raw, method, "/stations/")
	if err == nil {
		err = musen.ErrNotFound // a link opens a segment and no list
	}
	return policy.Grant{}, err
}

func resourceOf(s musen.Station) policy.Resource {
	return policy.Resource{Station: s.ID, Name: s.Name, Downloads: s.Downloads, Epoch: s.Epoch}
}

// readPage reads the query of a list.
func readPage(raw string) (cursor string, limit int, err error) {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return "", 0, problem.BadRequest
	}
	limit = maxPage
	for name, values := range query {
		switch {
		case len(values) != 1:
			return "", 0, problem.BadRequest
		case name == "cursor":
			cursor = values[0]
		case name == "limit":
			limit, err = strconv.Atoi(values[0])
			if err != nil || limit < 1 || limit > maxPage {
				return "", 0, problem.WithDetail(problem.BadRequest, "The limit is not a number from 1 to "+strconv.Itoa(maxPage)+".")
			}
		default:
			return "", 0, problem.BadRequest
		}
	}
	return cursor, limit, nil
}

// programme makes a page of what the station plays now: what is not published
// yet, or has expired, is not on it.
func (s *Server) programme(c *gin.Context, g policy.Grant, station musen.Station, cursor string, limit int) (programme, error) {
	segments, next, err := s.pages.Library.Segments(c.Request.Context(), station.ID, cursor, limit)
	if errors.Is(err, musen.ErrInvalid) {
		return programme{}, problem.WithDetail(problem.BadRequest, "The cursor is not that of a page before.")
	}
	if err != nil {
		return programme{}, err
	}
	ttl := s.pages.LinkTTL
	if left := g.Expires().Sub(s.o.Now()); left < ttl {
		ttl = left
	}
	p := programme{
		Station: station.ID, Name: station.Name, Description: station.Description,
		ValidFor: int64(ttl / time.Second), Segments: []listed{}, Next: next,
	}
	for _, segment := range segments {
		l, ok, err := s.list(g, station, segment)
		if err != nil {
			return programme{}, err
		}
		if ok {
			p.Segments = append(p.Segments, l)
		}
	}
	return p, nil
}

// list tells where the bearer of g opens a segment, if it may be listened to now.
// What the credential itself names gets a link. What a role or a policy adds to
// that gets none, which would outlive it: the same credential opens it there.
func (s *Server) list(g policy.Grant, station musen.Station, segment musen.Segment) (l listed, ok bool, err error) {
	r := resourceOf(station)
	r.Segment, r.PublishAt, r.ExpiresAt = segment.ID, segment.PublishAt, segment.ExpiresAt
	if segment.State != musen.Live || s.denied(segment.CID) || !s.pages.Policy.Decide(g, policy.Listen, r).Allowed() {
		return listed{}, false, nil
	}
	download := s.pages.Policy.Decide(g, policy.Download, r).Allowed()
	id := segment.CID.String()
	l = listed{
		CID: id, Title: segment.Title, Artist: segment.Artist, MediaType: segment.MediaType,
		DurationMS: segment.Duration.Milliseconds(), URL: s.pages.Base + "/listen/" + id,
	}
	if download {
		l.Download = l.URL + "?download=1"
	}
	if !g.Has(policy.Listen) || !g.Covers(station.ID) {
		return l, true, nil
	}
	saves := download && g.Has(policy.Download)
	raw, _, err := s.pages.Minter.LinkFor(g, policy.LinkRequest{
		Station: station.ID, Epoch: station.Epoch, Path: "/listen/" + id, TTL: s.pages.LinkTTL, Download: saves,
	})
	if err != nil {
		return listed{}, false, fmt.Errorf("list segment %s: %w", id, err)
	}
	if l.URL += "?" + linkQuery + "=" + raw; saves {
		l.Download = l.URL + "&download=1"
	}
	return l, true, nil
}
