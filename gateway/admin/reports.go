package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire"
)

// Reports keeps what people report, until somebody decides and for a while
// after.
type Reports interface {
	// ContentReports returns a page without what was said, and the cursor of the
	// next, which is empty on the last. A cursor that it did not make is
	// musen.ErrInvalid.
	ContentReports(ctx context.Context, q musen.ReportQuery) (page []musen.ContentReport, next string, err error)
	// ContentReport returns musen.ErrNotFound when there is none.
	ContentReport(ctx context.Context, id string) (musen.ContentReport, error)
	// TakeReport and CloseReport return musen.ErrDecided when it is too late.
	TakeReport(ctx context.Context, id, actor string) error
	CloseReport(ctx context.Context, id string, state musen.ReportState, actor, reason string) error
	ReportQueue(ctx context.Context, before time.Time) (musen.ReportQueue, error)
}

// maxReports is how many reports one page of a list has at most, and by default.
const maxReports = 500

// errClosed refuses what comes after somebody has decided.
var errClosed = refusal{409, "report_closed", "The report was closed before.", "See `musen report show`."}

// listReports answers with the reports of the stations that the caller may
// moderate, and to those who may everywhere, also with those of what is not
// here.
func (s *Server) listReports(c *gin.Context, in call) error {
	ctx := c.Request.Context()
	p := parameters{values: c.Request.URL.Query()}
	q := musen.ReportQuery{Limit: p.number("limit", 1, maxReports), Cursor: p.values.Get("cursor"), Open: p.flag("open")}
	if p.err != nil {
		return p.err
	}
	if err := in.whose(ctx, &q, p.values.Get("station")); err != nil {
		return err
	}
	found, next, err := s.Reports.ContentReports(ctx, q)
	if errors.Is(err, musen.ErrInvalid) {
		return badParameter("cursor", "is not the cursor of a page before")
	}
	if err != nil {
		return err
	}
	page := wire.ContentReports{Reports: []wire.ContentReport{}, Next: next}
	for _, r := range found {
		page.Reports = append(page.Reports, s.shapeReport(ctx, r))
	}
	return s.answer(c, http.StatusOK, page)
}

// whose says in q of which stations the caller may see the reports; with a name
// or an id, of that one.
func (c call) whose(ctx context.Context, q *musen.ReportQuery, nameOrID string) error {
	if nameOrID != "" {
		station, err := c.findStation(ctx, nameOrID)
		if err == nil {
			err = c.require(station)
		}
		q.Stations = []string{station.ID}
		return err
	}
	if q.Everywhere = c.mayUse(musen.Station{}); q.Everywhere {
		return nil
	}
	all, err := c.server.Stations.Stations(ctx)
	for _, station := range all {
		if c.mayUse(station) {
			q.Stations = append(q.Stations, station.ID)
		}
	}
	return err
}

// shapeReport shapes a report, with what its station is called now.
func (s *Server) shapeReport(ctx context.Context, r musen.ContentReport) wire.ContentReport {
	shape := wire.FromContentReport(r, s.stationName(ctx, r.Station))
	shape.Overdue = !r.State.Closed() && s.Now().Sub(r.Created) > s.Limits.ReviewWithin
	return shape
}

// findReport finds the report in the path for a caller who may see it.
func (s *Server) findReport(c *gin.Context, in call) (musen.ContentReport, error) {
	ctx, id := c.Request.Context(), c.Param("report")
	r, err := s.Reports.ContentReport(ctx, id)
	if err != nil {
		return r, in.absent(err, "There is no report %.80q here.", id)
	}
	station, err := s.Stations.Station(ctx, r.Station)
	switch {
	case err == nil:
		return r, in.require(station)
	case !errors.Is(err, musen.ErrNotFound):
		return r, err
	case !in.mayUse(musen.Station{}): // what was reported is not here, or not any more
		return r, musen.ErrNotFound
	}
	return r, nil
}

func (s *Server) getReport(c *gin.Context, in call) error {
	r, err := s.findReport(c, in)
	if err != nil {
		return err
	}
	return s.answerReport(c, r)
}

// answerReport answers with a report, and what is known of its segment.
func (s *Server) answerReport(c *gin.Context, r musen.ContentReport) error {
	ctx := c.Request.Context()
	shape := s.shapeReport(ctx, r)
	if r.CID.Defined() {
		segment, err := s.Segments.Segment(ctx, r.CID.Hash())
		if err != nil && !errors.Is(err, musen.ErrNotFound) {
			return err
		}
		if err == nil {
			shape.SetSegment(segment)
		}
	}
	return s.answer(c, http.StatusOK, shape)
}

// takeReport notes that the caller looks at a report.
func (s *Server) takeReport(c *gin.Context, in call) error {
	r, err := s.findReport(c, in)
	if err == nil {
		err = noBody(c.Request)
	}
	if err == nil {
		in.about("report %s %s", r.ID, s.placeOfReport(c.Request.Context(), r))
		err = s.Reports.TakeReport(c.Request.Context(), r.ID, in.grant.Subject())
	}
	return s.moved(c, in, r.ID, err)
}

// placeOfReport is where a report belongs, in words.
func (s *Server) placeOfReport(ctx context.Context, r musen.ContentReport) string {
	if r.Station == "" {
		return "of what is not here"
	}
	return s.place(ctx, r.Station)
}

// closeReport records what was decided about a report. It does nothing to what
// was reported.
func (s *Server) closeReport(c *gin.Context, in call) error {
	r, err := s.findReport(c, in)
	if err != nil {
		return err
	}
	var req wire.ReportDecision
	if err := s.readJSON(c, &req); err != nil {
		return err
	}
	state, ok := map[string]musen.ReportState{"action": musen.ReportActedOn, "none": musen.ReportDismissed}[req.Outcome]
	if !ok {
		return errField.with("The outcome %.40q is neither action nor none.", req.Outcome)
	}
	if req.Reason == "" || !isText(req.Reason) {
		return errField.with("The reason is not one line of text of 1 to %d bytes, without characters that change its direction.", maxText)
	}
	in.about("report %s %s, as %s: %s", r.ID, s.placeOfReport(c.Request.Context(), r), req.Outcome, req.Reason)
	err = s.Reports.CloseReport(c.Request.Context(), r.ID, state, in.grant.Subject(), req.Reason)
	return s.moved(c, in, r.ID, err)
}

// moved answers with a report that was taken up or closed, unless err says that
// it was not.
func (s *Server) moved(c *gin.Context, in call, id string, err error) error {
	if errors.Is(err, musen.ErrDecided) {
		return errClosed
	}
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	r, err := s.Reports.ContentReport(ctx, id)
	if err != nil {
		return err
	}
	s.Log.LogAttrs(ctx, slog.LevelInfo, "report moved", slog.String("report", r.ID), slog.String("state", r.State.String()), slog.String("by", in.grant.Kind()))
	return s.answerReport(c, r)
}

// reportWarnings are about reports that nobody decides about.
func (s *Server) reportWarnings(ctx context.Context) (list []string, err error) {
	within := s.Limits.ReviewWithin
	q, err := s.Reports.ReportQueue(ctx, s.Now().Add(-within))
	if q.Overdue > 0 {
		list = append(list, fmt.Sprintf("%d of %d open reports wait for longer than %v: see `musen report list --open`", q.Overdue, q.Open, within))
	}
	if q.Full > 0 {
		list = append(list, "there is no more room for new reports of a station, or of what is not here: close some, see `musen report list --open`")
	}
	return list, err
}
