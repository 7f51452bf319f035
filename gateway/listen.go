package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/problem"
	"github.com/musenai/musen/policy"
)

// listen answers GET and HEAD /listen/{cid}. The order is what keeps strangers
// from learning anything: no valid credential is a 401 before the CID is even
// read; a CID that is no CID, unknown or not covered is one and the same 404.
func (s *Server) listen(c *gin.Context) {
	cred, query, err := findCredential(c.Request)
	setListenHeaders(c.Writer.Header(), query.Has(linkQuery))
	if err != nil {
		s.refuse(c, err)
		return
	}
	id, spelled, idErr := parseCID(c.Param("cid"))
	grant, err := s.verify(cred, c.Request.Method, id, spelled)
	if err = errors.Join(err, idErr); err != nil {
		s.refuse(c, err)
		return
	}
	grant = grant.From(s.region(c.Request))
	c.Set(cidKey, spelled)
	if err := s.pace(clientOf(c.Request.Context()), grant); err != nil {
		s.refuse(c, err)
		return
	}
	subject := subjectOf(grant)
	if err := s.streams.take(subject, s.streamsOf(grant)); err != nil {
		s.refuse(c, err)
		return
	}
	defer s.streams.release(subject)
	download := query.Get("download") == "1"
	st, err := s.open(c.Request.Context(), grant, id, download)
	if errors.Is(err, musen.ErrNotFound) {
		s.o.Watch.Denied(bearerOf(grant), string(id.Hash()))
	}
	if err == nil {
		err = take(s.rates.station, "station", st.Segment().Station)
	}
	if err != nil {
		s.refuse(c, err)
		return
	}
	if s.streams.over(subject, st.MaxStreams()) {
		s.refuse(c, problem.TooMany)
		return
	}
	p := &playback{server: s, c: c, grant: grant, stream: st, segment: st.Segment(), download: download}
	defer p.report()
	p.answer()
}

// subjectOf is whom the limit on streams at a time counts: the subject, or the
// credential itself when it names none. The subject of a share's sessions is
// the share: there it is the session.
func subjectOf(g policy.Grant) string {
	if v := g.Session(); v != "" {
		return "session " + v
	}
	if v := g.Subject(); v != "" {
		return "subject " + v
	}
	if v := g.ID(); v != "" {
		return "id " + v
	}
	return ""
}

// streamsOf is how many streams the bearer of g may have at a time.
func (s *Server) streamsOf(g policy.Grant) int {
	if s.limited(g) {
		return s.o.Limits.LimitedStreams
	}
	return s.o.Limits.SubjectStreams
}

// limited reports whether the subject of g is limited.
func (s *Server) limited(g policy.Grant) bool {
	return s.o.Subjects != nil && s.o.Subjects.SubjectState(g.Subject()) == policy.SubjectLimited
}

// open opens a segment to be heard or to be saved. Who may hear it but not save
// it knows that it exists and is told so.
func (s *Server) open(ctx context.Context, g policy.Grant, c cid.Cid, download bool) (Stream, error) {
	if !download {
		return s.o.Opener.Open(ctx, g, policy.Listen, c)
	}
	st, err := s.o.Opener.Open(ctx, g, policy.Download, c)
	if !errors.Is(err, musen.ErrNotFound) {
		return st, err
	}
	if _, listenErr := s.o.Opener.Open(ctx, g, policy.Listen, c); listenErr == nil {
		return nil, problem.WithDetail(problem.Forbidden, "The segment may be listened to but not saved.")
	}
	return nil, err
}

// setListenHeaders sets what every answer of /listen carries, whatever it is.
//
// A link in the query is a permit in itself: whoever has the URL can fetch it
// from anywhere, so letting a page of any origin do so gives nothing away, and
// players on the platform's own pages need it. CORS is opened for those alone,
// with * and never with credentials, so that no origin is reflected and no
// page can use the cookie or the token of somebody else. That depends on how
// the request looks and never on what it is answered.
func setListenHeaders(h http.Header, linkInQuery bool) {
	f := newFields(h, 7)
	f.set("Cache-Control", "private, no-store")
	f.set("X-Content-Type-Options", "nosniff")
	f.set("Referrer-Policy", "no-referrer")
	f.set("Vary", "Authorization, Cookie")
	if !linkInQuery {
		f.set("Cross-Origin-Resource-Policy", "same-origin")
		return
	}
	f.set("Cross-Origin-Resource-Policy", "cross-origin")
	f.set("Access-Control-Allow-Origin", "*")
	f.set("Access-Control-Expose-Headers", "Accept-Ranges, Content-Length, Content-Range, ETag, Retry-After, X-Request-Id")
}

// versionOf is the validator of a segment. The tag is the same for every
// grant, and cannot be computed from the CID alone.
func versionOf(s musen.Segment) version {
	b := make([]byte, 0, 128)
	b = append(b, "musen-listen\x00"...)
	b = append(b, s.ID...)
	b = append(b, 0)
	b = append(b, s.CID.Hash()...)
	sum := sha256.Sum256(b)
	return version{etag: `"` + hex.EncodeToString(sum[:20]) + `"`, modified: s.Created.UTC().Truncate(time.Second)}
}

// A playback is one answer with audio.
type playback struct {
	server   *Server
	c        *gin.Context
	grant    policy.Grant
	stream   Stream
	segment  musen.Segment
	download bool
	sent     int64 // bytes of audio
}

// answer evaluates the conditions and the ranges of the request and sends what
// they ask for.
func (p *playback) answer() {
	h, v := p.c.Request.Header, versionOf(p.segment)
	switch v.check(h) {
	case http.StatusPreconditionFailed:
		p.server.refuse(p.c, problem.PreconditionFailed)
		return
	case http.StatusNotModified:
		p.c.Header("ETag", v.etag)
		p.c.Status(http.StatusNotModified)
		return
	}
	var ranges []byteRange
	// RFC 9110 section 14.2: a Range counts for GET alone.
	if p.c.Request.Method == http.MethodGet && len(h["Range"]) == 1 && v.allowsRange(h) {
		var err error
		if ranges, err = parseRange(h["Range"][0], p.segment.Size); err != nil {
			p.c.Header("Content-Range", "bytes */"+strconv.FormatInt(p.segment.Size, 10))
			p.server.refuse(p.c, err)
			return
		}
	}
	p.send(v, ranges)
}

// send sends the whole, a range, or several ranges in a multipart body.
func (p *playback) send(v version, ranges []byteRange) {
	b := p.newBody()
	switch len(ranges) {
	case 0:
		whole := []part{{byteRange: byteRange{0, p.segment.Size}}}
		p.play(b, whole, func() { p.commit(v, http.StatusOK, p.segment.MediaType, p.segment.Size) })
	case 1:
		p.play(b, []part{{byteRange: ranges[0]}}, func() {
			p.c.Header("Content-Range", ranges[0].contentRange(p.segment.Size))
			p.commit(v, http.StatusPartialContent, p.segment.MediaType, ranges[0].n)
		})
	default:
		parts, contentType, length, err := multipartOf(p.segment, ranges, p.server.o.Rand)
		if err != nil {
			p.server.refuse(p.c, err)
			return
		}
		p.play(b, parts, func() { p.commit(v, http.StatusPartialContent, contentType, length) })
	}
}

// commit sets the headers of a successful answer and sends them.
func (p *playback) commit(v version, status int, contentType string, length int64) {
	f := newFields(p.c.Writer.Header(), 6)
	f.set("Content-Type", contentType)
	f.set("Content-Length", strconv.FormatInt(length, 10))
	f.set("Accept-Ranges", "bytes")
	f.set("Etag", v.etag)
	if !v.modified.IsZero() {
		f.set("Last-Modified", v.modified.Format(http.TimeFormat))
	}
	if p.download {
		f.set("Content-Disposition", attachment(p.segment))
	} else {
		f.set("Content-Disposition", "inline")
	}
	p.c.Status(status)
	p.c.Writer.WriteHeaderNow()
}

// fields sets header fields of one value each in one allocation for all.
type fields struct {
	h      http.Header
	values []string
}

// newFields makes room for n fields.
func newFields(h http.Header, n int) *fields { return &fields{h, make([]string, 0, n)} }

// set sets the field of that canonical name.
func (f *fields) set(name, value string) {
	f.values = append(f.values, value)
	n := len(f.values)
	f.h[name] = f.values[n-1 : n : n]
}
