package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire/swarm"
)

// The levels that a caller may wait for.
const (
	stored     = "stored"
	replicated = "replicated"
	durable    = "durable"
)

const (
	maxUnhealthy = 500              // segments in one listing
	usualWait    = time.Minute      // for a level
	maxWait      = 3600             // seconds
	restOfWait   = 10 * time.Second // to say how a segment is once the wait is over
)

// waiting is what a request says of how long it waits for what level.
type waiting struct {
	level string // empty: it does not wait
	limit time.Duration
}

func (p *parameters) waiting() (w waiting) {
	if p.values.Has("wait") {
		switch w.level = p.values.Get("wait"); w.level {
		case stored, replicated, durable:
		default:
			p.fail("wait", "is none of stored, replicated and durable")
		}
	}
	if w.limit = usualWait; p.values.Has("wait_timeout") {
		w.limit = time.Duration(p.number("wait_timeout", 1, maxWait)) * time.Second
	}
	return w
}

// await waits until a segment has reached a level, or for as long as w says, or
// until the server stops, and tells how the segment is by then.
func (s *Server) await(ctx context.Context, copies Copies, root cid.Cid, w waiting) (swarm.Health, error) {
	limited, cancel := context.WithTimeout(ctx, w.limit)
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)()
	h, err := copies.Wait(limited, root, w.level)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		rest, cancel := context.WithTimeout(ctx, restOfWait)
		defer cancel()
		return copies.Health(rest, root)
	}
	return h, err
}

// getCopies answers with who holds a segment, or still has to purge it.
func (s *Server) getCopies(c *gin.Context, in call) error {
	p := parameters{values: c.Request.URL.Query()}
	w := p.waiting()
	if p.err != nil {
		return p.err
	}
	copies, err := partOf(s.Copies)
	if err != nil {
		return err
	}
	ctx, root := c.Request.Context(), in.segment.CID
	var h swarm.Health
	if w.level == "" || in.segment.State != musen.Live {
		h, err = copies.Health(ctx, root)
	} else {
		h, err = s.await(ctx, copies, root, w)
	}
	switch {
	case errors.Is(err, musen.ErrNotFound) && in.segment.State == musen.Removed:
		return musen.ErrGone
	case errors.Is(err, musen.ErrNotFound) && in.segment.State == musen.TakenDown:
		return musen.ErrTakenDown
	case err != nil:
		return said(err, "Nobody looks after the copies of %.128q.", root.String())
	}
	return s.answer(c, http.StatusOK, described(h, in.segment, in.station))
}

// described fills in what the catalogue knows of a segment.
func described(h swarm.Health, segment musen.Segment, station musen.Station) swarm.Health {
	h.CID, h.Station, h.StationName, h.Title = segment.CID.String(), segment.Station, station.Name, segment.Title
	h.Copies = append([]swarm.Copy{}, h.Copies...)
	return h
}

// getReplication answers with how the copies of all segments are.
func (s *Server) getReplication(c *gin.Context, _ call) error { return s.replication(c, "") }

// getStationReplication answers with how the copies of a station's segments are.
func (s *Server) getStationReplication(c *gin.Context, in call) error {
	return s.replication(c, in.station.Label)
}

func (s *Server) replication(c *gin.Context, label string) error {
	p := parameters{values: c.Request.URL.Query()}
	limit := p.number("limit", 1, maxUnhealthy)
	if p.err != nil {
		return p.err
	}
	copies, err := partOf(s.Copies)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	summary, err := copies.Summary(ctx, label)
	if err != nil {
		return err
	}
	ill, err := copies.Unhealthy(ctx, label, limit)
	if err != nil {
		return err
	}
	r := swarm.Replication{Summary: summary, List: []swarm.Health{}}
	for _, h := range ill[:min(len(ill), limit)] {
		r.List = append(r.List, s.describe(ctx, h))
	}
	return s.answer(c, http.StatusOK, r)
}

// describe is described for a segment that has yet to be looked up. One that
// was removed meanwhile, or never was here, is told of by its CID alone.
func (s *Server) describe(ctx context.Context, h swarm.Health) swarm.Health {
	id, err := cid.Decode(h.CID)
	if err == nil {
		var segment musen.Segment
		if segment, err = s.Segments.Segment(ctx, id.Hash()); err == nil {
			station, _ := s.Stations.Station(ctx, segment.Station) // the zero station has no name to tell
			return described(h, segment, station)
		}
	}
	h.Copies = append([]swarm.Copy{}, h.Copies...)
	return h
}

// recoverPins has failed copies tried again: of the segments that the caller
// names, or of all, which takes leave for the node.
func (s *Server) recoverPins(c *gin.Context, in call) error {
	var which swarm.Selection
	if err := s.readJSON(c, &which); err != nil {
		return err
	}
	ctx := c.Request.Context()
	if len(which.CIDs) == 0 {
		if err := in.require(musen.Station{}); err != nil {
			return err
		}
	}
	named, err := s.named(ctx, in, which.CIDs)
	if err != nil {
		return err
	}
	copies, err := partOf(s.Copies)
	if err != nil {
		return err
	}
	var roots []cid.Cid
	for _, segment := range named {
		roots = append(roots, segment.CID)
	}
	n, err := copies.Recover(ctx, roots...)
	if err != nil {
		return said(err, "Nobody looks after the copies of one of these segments%s.", "")
	}
	return s.answer(c, http.StatusOK, swarm.Recovered{Segments: n})
}

func (s *Server) rebalancePins(c *gin.Context, _ call) error {
	copies, err := partOf(s.Copies)
	if err == nil {
		err = noBody(c.Request)
	}
	if err != nil {
		return err
	}
	moved, err := copies.Rebalance(c.Request.Context())
	if err != nil {
		return err
	}
	return s.answer(c, http.StatusOK, swarm.Rebalanced{Moved: moved})
}
