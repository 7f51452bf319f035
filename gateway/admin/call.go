package admin

import (
	"context"
	"errors"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

// A call is one request that the guard has let in.
type call struct {
	server  *Server
	route   route
	grant   policy.Grant
	station musen.Station // of the path, or of its segment
	segment musen.Segment // of the path
	waiting waiting       // of an upload
	notes   *notes        // for the audit log
}

// mayUse reports whether the caller has leave for what the route needs on a
// station, or on the whole node for the zero station.
func (c call) mayUse(station musen.Station) bool {
	return slices.ContainsFunc(c.route.need, func(a policy.Action) bool { return c.may(a, station) })
}

// may reports whether the caller has leave for an action on a station, or on
// the whole node for the zero station.
func (c call) may(a policy.Action, station musen.Station) bool {
	return c.server.Engine.Decide(c.grant, a, resource(station)).Allowed()
}

// resource is what policy must know of a station. The zero station stands for
// the node.
func resource(s musen.Station) policy.Resource {
	return policy.Resource{Station: s.ID, Name: s.Name, Downloads: s.Downloads, Epoch: s.Epoch}
}

// require returns an error unless mayUse. A caller whose grant does not even
// cover the station learns nothing of it.
func (c call) require(station musen.Station) error {
	switch {
	case c.mayUse(station):
		return nil
	case station.ID == "" || c.grant.Covers(station.ID) || c.may(policy.ReadStations, station):
		return errForbidden
	}
	return musen.ErrNotFound
}

// find looks up what the path names and checks that the caller has leave for
// it.
func (c *call) find(ctx context.Context, g *gin.Context) (err error) {
	switch c.route.scope {
	case onNothing, onEach:
		return nil
	case onNode:
		return c.require(musen.Station{})
	case onStation:
		if c.station, err = c.findStation(ctx, g.Param("station")); err != nil {
			return err
		}
		return c.require(c.station)
	case onSegment:
		return c.findSegment(ctx, g.Param("cid"))
	case onRemains:
		return c.findRemains(ctx, g.Param("cid"))
	}
	return errForbidden
}

// findStation finds a station that the caller names, of which the caller may
// still have to learn nothing.
func (c call) findStation(ctx context.Context, nameOrID string) (musen.Station, error) {
	station, err := c.server.Stations.Station(ctx, nameOrID)
	return station, c.absent(err, "There is no station %.80q here.", nameOrID)
}

// absent tells the operator what it is that is not there. Nobody else learns
// whether it is absent or not covered.
func (c call) absent(err error, format string, name string) error {
	if errors.Is(err, musen.ErrNotFound) && c.grant.Kind() == policy.LocalOperator().Kind() {
		return errAbsent.with(format, name)
	}
	return err
}

// findSegment finds a segment that the caller names, unless it was removed.
func (c *call) findSegment(ctx context.Context, spelling string) error {
	if err := c.findRemains(ctx, spelling); err != nil {
		return err
	}
	if c.segment.State == musen.Removed {
		return musen.ErrGone
	}
	return nil
}

// findRemains finds a segment that the caller names, or the tombstone that is
// left of it.
func (c *call) findRemains(ctx context.Context, spelling string) error {
	id, err := parseCID(spelling)
	if err != nil {
		return err
	}
	if c.segment, err = c.server.Segments.Segment(ctx, id.Hash()); err != nil {
		return c.absent(err, "There is no segment %.128q here.", spelling)
	}
	if c.station, err = c.server.Stations.Station(ctx, c.segment.Station); err != nil {
		return err
	}
	return c.require(c.station)
}
