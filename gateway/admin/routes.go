package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

const prefix = "/api/v1"

// A scope says what a route acts on, and so what its caller needs leave for.
type scope int

const (
	_         scope = iota // undeclared: refused
	onNode                 // the node as a whole
	onStation              // the station in the path
	onSegment              // the station of the segment in the path
	onRemains              // the same, also of a segment that was removed
	onEach                 // stations that the handler finds, and asks about with call.mayUse
	onNothing              // what any valid credential may see
)

// A route is one row of the table of the API.
type route struct {
	method, path string
	scope        scope
	need         []policy.Action // any one of them
	query        []string        // parameters that it knows
	handle       func(*Server, *gin.Context, call) error
}

// routes is the table. Nothing else is served.
func routes() []route {
	need := func(a policy.Action) []policy.Action { return []policy.Action{a} }
	add, audit, moderate := need(policy.Add), need(policy.Audit), need(policy.Moderate)
	readStations, readStatus := need(policy.ReadStations), need(policy.ReadStatus)
	manageStations, manageSegments, manageShares := need(policy.ManageStations), need(policy.ManageSegments), need(policy.ManageShares)
	seeShares, endShares := []policy.Action{policy.ReadAccess, policy.ManageShares}, []policy.Action{policy.ManageShares, policy.Revoke}
	seeTakedowns := []policy.Action{policy.Moderate, policy.Audit}
	managePeers, manageNode := need(policy.ManagePeers), need(policy.ManageNode)
	const (
		station   = "/stations/:station"
		segments  = station + "/segments"
		segment   = "/segments/:cid"
		shares    = "/shares"
		share     = shares + "/:share"
		peers     = "/peers"
		peer      = peers + "/:peer"
		services  = "/services"
		takedowns = "/takedowns"
		get       = http.MethodGet
		post      = http.MethodPost
	)
	wait := []string{"wait", "wait_timeout"}
	limit := []string{"limit"}
	table := []route{
		{get, "/openapi.yaml", onNothing, nil, nil, (*Server).getOpenAPI},
		{get, "/status", onNode, readStatus, nil, (*Server).getStatus},
		{post, "/gc", onNode, manageNode, nil, (*Server).collect},
		{get, "/fleet", onNode, readStatus, nil, (*Server).getFleet},

		{get, "/stations", onEach, readStations, nil, (*Server).listStations},
		{post, "/stations", onNode, manageStations, nil, (*Server).createStation},
		{get, station, onStation, readStations, nil, (*Server).getStation},
		{http.MethodPatch, station, onStation, manageStations, nil, (*Server).changeStation},
		{http.MethodDelete, station, onStation, manageStations, []string{"force"}, (*Server).removeStation},

		{get, shares, onEach, seeShares, nil, (*Server).listAllShares},
		{http.MethodDelete, share, onEach, endShares, nil, (*Server).revokeShare},
		{http.MethodPut, share + "/password", onEach, manageShares, nil, (*Server).setSharePassword},
		{get, station + shares, onStation, seeShares, nil, (*Server).listShares},
		{post, station + shares, onStation, manageShares, nil, (*Server).createShare},
		{post, station + shares + "/regenerate", onStation, endShares, nil, (*Server).regenerateShare},

		{get, segments, onStation, readStations, []string{"cursor", "limit"}, (*Server).listSegments},
		{post, segments, onStation, add, uploadParameters(), (*Server).upload},
		{get, segment, onSegment, readStations, nil, (*Server).getSegment},
		{http.MethodDelete, segment, onSegment, manageSegments, nil, (*Server).removeSegment},
		{post, segment + "/links", onSegment, manageShares, nil, (*Server).makeLink},
		{post, "/verify", onEach, audit, nil, (*Server).verify},

		{get, peers, onNode, readStatus, nil, (*Server).listPeers},
		{post, peers, onNode, managePeers, nil, (*Server).admitPeer},
		{get, peers + "/invites", onNode, readStatus, nil, (*Server).listInvites},
		{post, peers + "/invites", onNode, managePeers, nil, (*Server).invite},
		{http.MethodDelete, peers + "/invites/:invite", onNode, managePeers, nil, (*Server).withdrawInvite},
		{http.MethodDelete, peer, onNode, managePeers, nil, (*Server).removePeer},
		{post, peer + "/drain", onNode, managePeers, nil, (*Server).drainPeer},
		{post, peer + "/reinstate", onNode, managePeers, nil, (*Server).reinstatePeer},

		{get, segment + "/copies", onRemains, readStatus, wait, (*Server).getCopies},
		{get, station + "/replication", onStation, readStatus, limit, (*Server).getStationReplication},
		{get, "/replication", onNode, readStatus, limit, (*Server).getReplication},
		{get, takedowns, onEach, seeTakedowns, []string{"cursor", "limit"}, (*Server).listTakedowns},
		{post, takedowns, onEach, moderate, nil, (*Server).takeDown},
		{get, takedowns + "/:cid", onEach, seeTakedowns, nil, (*Server).getTakedown},
		{post, takedowns + "/:cid/lift", onEach, moderate, nil, (*Server).liftTakedown},

		{post, "/pins/recover", onEach, managePeers, nil, (*Server).recoverPins},
		{post, "/pins/rebalance", onNode, managePeers, nil, (*Server).rebalancePins},
		{get, services, onNode, readStatus, nil, (*Server).listServices},
		{post, services, onNode, managePeers, nil, (*Server).addService},
		{http.MethodDelete, services + "/:service", onNode, managePeers, nil, (*Server).removeService},
	}
	return slices.Concat(table, accessRoutes(), auditRoutes(), reportRoutes())
}

// reportRoutes are about what people report.
func reportRoutes() []route {
	const reports, report = "/reports", "/reports/:report"
	see, decide := []policy.Action{policy.Moderate, policy.Audit}, []policy.Action{policy.Moderate}
	return []route{
		{http.MethodGet, reports, onEach, see, []string{"station", "open", "cursor", "limit"}, (*Server).listReports},
		{http.MethodGet, report, onEach, see, nil, (*Server).getReport},
		{http.MethodPost, report + "/take", onEach, decide, nil, (*Server).takeReport},
		{http.MethodPost, report + "/close", onEach, decide, nil, (*Server).closeReport},
	}
}

// accessRoutes are about who may do what.
func accessRoutes() []route {
	need := func(a policy.Action) []policy.Action { return []policy.Action{a} }
	readAccess, manageRoles, managePolicy := need(policy.ReadAccess), need(policy.ManageRoles), need(policy.ManagePolicy)
	issueTokens, revoke, manageNode := need(policy.IssueTokens), need(policy.Revoke), need(policy.ManageNode)
	const get, post = http.MethodGet, http.MethodPost
	return []route{
		{get, "/tokens", onNode, readAccess, nil, (*Server).listTokens},
		{post, "/tokens", onEach, issueTokens, nil, (*Server).issueToken},
		{post, "/tokens/revoke", onNode, revoke, nil, (*Server).revoke},
		{get, "/keys", onNode, readAccess, nil, (*Server).listKeys},
		{post, "/keys/rotate", onNode, manageNode, nil, (*Server).rotateKey},
		{get, "/alerts", onNode, readAccess, nil, (*Server).listAlerts},
		{get, "/denylists", onNode, readAccess, nil, (*Server).listDenylists},
		{get, "/denied/:cid", onNode, readAccess, nil, (*Server).getDenial},
		{get, "/subjects", onNode, readAccess, []string{"subject"}, (*Server).listSubjects},
		{http.MethodPut, "/subjects", onNode, revoke, nil, (*Server).setSubject},
		{get, "/roles", onNode, readAccess, nil, (*Server).listRoles},
		{http.MethodPut, "/roles", onNode, manageRoles, nil, (*Server).grantRole},
		{post, "/roles/revoke", onNode, manageRoles, nil, (*Server).revokeRole},
		{get, "/access", onNode, readAccess, nil, (*Server).getAccess},
		{post, "/access/reviews", onNode, need(policy.ReviewAccess), nil, (*Server).signOff},
		{get, "/approvals", onEach, manageRoles, nil, (*Server).listApprovals},
		{post, "/approvals/:approval/approve", onEach, manageRoles, nil, (*Server).approve},
		{post, "/approvals/:approval/deny", onEach, manageRoles, nil, (*Server).deny},
		{get, "/policy", onNode, readAccess, nil, (*Server).getPolicy},
		{get, "/policy/state", onNode, readAccess, nil, (*Server).getPolicyState},
		{post, "/policy/reload", onNode, managePolicy, nil, (*Server).reloadPolicy},
		{post, "/policy/explain", onEach, readAccess, nil, (*Server).explain},
	}
}

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
