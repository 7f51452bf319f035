package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/policy"
)

// maxPage is how many segments one page of a listing has.
const maxPage = 500

func (s *Server) listSegments(c *gin.Context, in call) error {
	p := parameters{values: c.Request.URL.Query()}
	limit, cursor := p.number("limit", 1, maxPage), p.values.Get("cursor")
	if p.err != nil {
		return p.err
	}
	found, next, err := s.Segments.Segments(c.Request.Context(), in.station.ID, cursor, limit)
	if errors.Is(err, musen.ErrInvalid) {
		return badParameter("cursor", "is not the cursor of a page before")
	}
	if err != nil {
		return err
	}
	page := wire.Segments{Segments: []wire.Segment{}, Next: next}
	for _, segment := range found {
		page.Segments = append(page.Segments, wire.FromSegment(segment, in.station))
	}
	return s.answer(c, http.StatusOK, page)
}

func (s *Server) getSegment(c *gin.Context, in call) error {
	return s.answer(c, http.StatusOK, wire.FromSegment(in.segment, in.station))
}

func (s *Server) removeSegment(c *gin.Context, in call) error {
	if err := noBody(c.Request); err != nil {
		return err
	}
	ctx := c.Request.Context()
	if err := in.confirm(c, fmt.Sprintf("remove segment %v %s", in.segment.CID, s.place(ctx, in.station.ID))); err != nil {
		return err
	}
	if err := s.Origin.Remove(ctx, in.segment.CID); err != nil {
		return err
	}
	_ = s.settle(c)
	return s.done(c)
}

// makeLink answers with a link to one segment. A subject lets the link be
// revoked with everything else of that subject.
func (s *Server) makeLink(c *gin.Context, in call) error {
	var req wire.LinkRequest
	if err := s.readJSON(c, &req); err != nil {
		return err
	}
	ttl, err := lifetime(req.TTL, s.Limits.LinkTTL, s.Limits.MaxLinkTTL)
	switch {
	case err != nil:
		return err
	case !isName(req.Subject):
		return errField.with("The subject is not one line of text of at most %d bytes, without characters that change its direction.", maxName)
	case in.segment.State != musen.Live, in.segment.Takedown != "", s.Denied != nil && s.Denied.Denied(in.segment.CID.Hash()):
		return musen.ErrTakenDown
	case req.Download && !in.station.Downloads:
		return errNoDownloads
	}
	in.about("segment %v for %q", in.segment.CID, req.Subject)
	path := "/listen/" + in.segment.CID.String()
	needs := []need{{in.station.ID, func(c call) error { return c.require(in.station) }}}
	by, until, err := in.granters(c.Request.Context(), needs)
	if err != nil {
		return err
	}
	for _, end := range []time.Time{until, in.grant.Expires()} {
		if left := end.Sub(s.Now()).Truncate(time.Second); !end.IsZero() && left < ttl {
			ttl = left
		}
	}
	raw, expires, err := s.Issuer.Link(policy.LinkRequest{
		Station: in.station.ID, Epoch: in.station.Epoch, Path: path,
		Methods: []string{http.MethodGet, http.MethodHead}, Subject: req.Subject, TTL: ttl, Download: req.Download, By: by,
	})
	if err != nil {
		return notIssued(err)
	}
	url := s.PublicURL + path + "?CAT=" + raw
	if req.Download {
		url += "&download=1"
	}
	return s.answer(c, http.StatusCreated, wire.Link{URL: url, Expires: expires.UTC()})
}

// lifetime is what a caller's ttl in seconds means, 0 being usual.
func lifetime(seconds int64, usual, longest time.Duration) (time.Duration, error) {
	if seconds == 0 {
		return usual, nil
	}
	if seconds < 0 || seconds > int64(longest/time.Second) {
		return 0, badTTL(longest)
	}
	return time.Duration(seconds) * time.Second, nil
}

// badTTL refuses a ttl, and says in words how long the longest is.
func badTTL(longest time.Duration) error {
	return errField.with("The ttl is out of range: give one from 1 second to %s (%d seconds).", inWords(longest), int64(longest/time.Second))
}

// inWords is a duration in the largest unit that it is a whole number of.
func inWords(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		word string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}} {
		switch {
		case d == u.unit:
			return "1 " + u.word
		case d%u.unit == 0:
			return strconv.Itoa(int(d/u.unit)) + " " + u.word + "s"
		}
	}
	return strconv.Itoa(int(d/time.Second)) + " seconds"
}

// verify reads segments back and answers with one line of JSON for each, as
// soon as it is done. When it cannot go on the answer is cut.
func (s *Server) verify(c *gin.Context, in call) error {
	var req wire.VerifyRequest
	if err := s.readJSON(c, &req); err != nil {
		return err
	}
	ctx := c.Request.Context()
	named, err := s.named(ctx, in, req.CIDs)
	if err != nil {
		return err
	}
	work := s.audited(ctx, in)
	if len(req.CIDs) > 0 {
		work = each(named)
	}
	setHeader(c.Writer.Header(), "application/x-ndjson")
	c.Writer.WriteHeader(http.StatusOK)
	c.Writer.WriteHeaderNow()
	for segment, err := range work {
		if err == nil {
			err = s.verifyOne(c, in, segment, req.Repair)
		}
		if err != nil {
			s.Log.WarnContext(ctx, "verify stopped", "err", err)
			panic(http.ErrAbortHandler)
		}
	}
	return nil
}

// verifyOne writes the line of one segment.
func (s *Server) verifyOne(c *gin.Context, in call, segment musen.Segment, repair bool) error {
	look := s.Checker.Verify
	if repair {
		look = s.Checker.Repair
	}
	r, err := look(c.Request.Context(), in.grant, segment.CID)
	if err != nil {
		return err
	}
	line := wire.Verified{
		CID: segment.CID.String(), Station: segment.Station, OK: r.Err == nil,
		Blocks: r.Blocks, Mended: r.Mended, Chunks: r.Chunks, Bytes: r.Bytes,
	}
	if r.Err != nil {
		line.Error = r.Err.Error()
	}
	s.setWriteDeadline(c)
	if err := json.NewEncoder(c.Writer).Encode(line); err != nil {
		return err
	}
	return http.NewResponseController(c.Writer).Flush()
}

// named finds the segments that a caller names; all must be there for them.
func (s *Server) named(ctx context.Context, in call, spellings []string) ([]musen.Segment, error) {
	var found []musen.Segment
	for _, spelling := range spellings {
		if err := in.findSegment(ctx, spelling); err != nil {
			return nil, err
		}
		found = append(found, in.segment)
	}
	return found, nil
}

func each(segments []musen.Segment) iter.Seq2[musen.Segment, error] {
	return func(yield func(musen.Segment, error) bool) {
		for _, segment := range segments {
			if !yield(segment, nil) {
				return
			}
		}
	}
}

// audited goes through the live segments of all stations that the caller may
// audit, page by page.
func (s *Server) audited(ctx context.Context, in call) iter.Seq2[musen.Segment, error] {
	return func(yield func(musen.Segment, error) bool) {
		stations, err := s.Stations.Stations(ctx)
		if err != nil {
			yield(musen.Segment{}, err)
			return
		}
		for _, station := range stations {
			if in.mayUse(station) && !s.live(ctx, station, yield) {
				return
			}
		}
	}
}

// live yields the live segments of a station, and reports whether to go on.
func (s *Server) live(ctx context.Context, station musen.Station, yield func(musen.Segment, error) bool) bool {
	for cursor := ""; ; {
		page, next, err := s.Segments.Segments(ctx, station.ID, cursor, maxPage)
		if err != nil {
			yield(musen.Segment{}, err)
			return false
		}
		for _, segment := range page {
			if !yield(segment, nil) {
				return false
			}
		}
		if cursor = next; next == "" {
			return true
		}
	}
}
