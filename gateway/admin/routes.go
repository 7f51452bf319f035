package admin

import (
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen/policy"
)

const prefix = "/api/v1"

const (
	get    = http.MethodGet
	post   = http.MethodPost
	put    = http.MethodPut
	patch  = http.MethodPatch
	remove = http.MethodDelete
)

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

// A risk says whether a route needs a second person over TCP, as call.confirm
// has it.
//
// Dangerous is what cannot be undone, what changes who may do what, and what
// would let one person alone keep all others from running the node. To end the
// access of listeners is harmless, however many they are: it has to be quick.
type risk int

const (
	_         risk = iota // undeclared: only of routes that change nothing
	harmless              // never
	dangerous             // always
	perhaps               // it depends on what the request says
)

// An act is what a route does besides answering.
type act struct {
	event string // it is recorded as in the audit log; notRecorded: not at all
	risk  risk
	// settles says that the answer comes when what was changed is in force on
	// every gateway, as Server.settle has it: that is so of what takes a right
	// away, and of what other gateways hold in memory.
	settles bool
}

// Values of act.settles.
const (
	here       = false
	everywhere = true
)

// A route is one row of the table of the API.
type route struct {
	method, path string
	scope        scope
	need         []policy.Action // any one of them
	query        []string        // parameters that it knows
	act          act
	handle       func(*Server, *gin.Context, call) error
}

// name is the method and the pattern of a route.
func (r route) name() string { return r.method + " " + r.path }

// changes reports whether a route may change something.
func (r route) changes() bool { return r.method != get && r.method != http.MethodHead }

// routes is the table. Nothing else is served.
func routes() []route {
	return slices.Concat(nodeRoutes(), stationRoutes(), contentRoutes(), accessRoutes(), auditRoutes())
}

// anyOf lists the actions of which a route needs one.
func anyOf(actions ...policy.Action) []policy.Action { return actions }

// nodeRoutes are about the node, its peers and the copies that they hold.
func nodeRoutes() []route {
	readStatus, managePeers := anyOf(policy.ReadStatus), anyOf(policy.ManagePeers)
	const (
		peers    = "/peers"
		peer     = peers + "/:peer"
		services = "/services"
	)
	reads, limit := act{}, []string{"limit"}
	return []route{
		{get, "/openapi.yaml", onNothing, nil, nil, reads, (*Server).getOpenAPI},
		{get, "/status", onNode, readStatus, nil, reads, (*Server).getStatus},
		{post, "/gc", onNode, anyOf(policy.ManageNode), nil, act{"gc.run", harmless, here}, (*Server).collect},
		{get, "/fleet", onNode, readStatus, nil, reads, (*Server).getFleet},

		{get, peers, onNode, readStatus, nil, reads, (*Server).listPeers},
		{post, peers, onNode, managePeers, nil, act{"peer.admitted", harmless, here}, (*Server).admitPeer},
		{get, peers + "/invites", onNode, readStatus, nil, reads, (*Server).listInvites},
		{post, peers + "/invites", onNode, managePeers, nil, act{"invite.made", harmless, here}, (*Server).invite},
		{remove, peers + "/invites/:invite", onNode, managePeers, nil, act{"invite.withdrawn", harmless, here}, (*Server).withdrawInvite},
		{remove, peer, onNode, managePeers, nil, act{"peer.removed", dangerous, here}, (*Server).removePeer},
		{post, peer + "/drain", onNode, managePeers, nil, act{"peer.drained", harmless, here}, (*Server).drainPeer},
		{post, peer + "/reinstate", onNode, managePeers, nil, act{"peer.reinstated", harmless, here}, (*Server).reinstatePeer},

		{get, "/segments/:cid" + "/copies", onRemains, readStatus, []string{"wait", "wait_timeout"}, reads, (*Server).getCopies},
		{get, "/stations/:station" + "/replication", onStation, readStatus, limit, reads, (*Server).getStationReplication},
		{get, "/replication", onNode, readStatus, limit, reads, (*Server).getReplication},

		{post, "/pins/recover", onEach, managePeers, nil, act{"pins.recovered", harmless, here}, (*Server).recoverPins},
		{post, "/pins/rebalance", onNode, managePeers, nil, act{"pins.rebalanced", harmless, here}, (*Server).rebalancePins},
		{get, services, onNode, readStatus, nil, reads, (*Server).listServices},
		{post, services, onNode, managePeers, nil, act{"service.added", dangerous, here}, (*Server).addService}, // it is sent what a file of the node says
		{remove, services + "/:service", onNode, managePeers, nil, act{"service.removed", dangerous, here}, (*Server).removeService},
	}
}

// stationRoutes are about stations, their shares and their segments.
func stationRoutes() []route {
	readStations, manageStations := anyOf(policy.ReadStations), anyOf(policy.ManageStations)
	manageSegments, manageShares := anyOf(policy.ManageSegments), anyOf(policy.ManageShares)
	seeShares, endShares := anyOf(policy.ReadAccess, policy.ManageShares), anyOf(policy.ManageShares, policy.Revoke)
	const (
		station  = "/stations/:station"
		segments = station + "/segments"
		segment  = "/segments/:cid"
		shares   = "/shares"
		share    = shares + "/:share"
	)
	reads := act{}
	return []route{
		{get, "/stations", onEach, readStations, nil, reads, (*Server).listStations},
		{post, "/stations", onNode, manageStations, nil, act{"station.created", harmless, here}, (*Server).createStation},
		{get, station, onStation, readStations, nil, reads, (*Server).getStation},
		{patch, station, onStation, manageStations, nil, act{"station.changed", harmless, everywhere}, (*Server).changeStation},
		{remove, station, onStation, manageStations, []string{"force"}, act{"station.removed", dangerous, everywhere}, (*Server).removeStation},

		{get, shares, onEach, seeShares, nil, reads, (*Server).listAllShares},
		{remove, share, onEach, endShares, nil, act{"share.revoked", harmless, everywhere}, (*Server).revokeShare},
		{put, share + "/password", onEach, manageShares, nil, act{"share.password", harmless, everywhere}, (*Server).setSharePassword},
		{get, station + shares, onStation, seeShares, nil, reads, (*Server).listShares},
		{post, station + shares, onStation, manageShares, nil, act{"share.created", harmless, everywhere}, (*Server).createShare},
		{post, station + shares + "/regenerate", onStation, endShares, nil, act{"share.regenerated", harmless, everywhere}, (*Server).regenerateShare},

		{get, segments, onStation, readStations, []string{"cursor", "limit"}, reads, (*Server).listSegments},
		{post, segments, onStation, anyOf(policy.Add), uploadParameters(), act{"segment.added", harmless, here}, (*Server).upload},
		{get, segment, onSegment, readStations, nil, reads, (*Server).getSegment},
		{remove, segment, onSegment, manageSegments, nil, act{"segment.removed", dangerous, everywhere}, (*Server).removeSegment},
		{post, segment + "/links", onSegment, manageShares, nil, act{"link.made", harmless, here}, (*Server).makeLink},
		{post, "/verify", onEach, anyOf(policy.Audit), nil, act{"segment.verified", harmless, here}, (*Server).verify},
	}
}

const takedownsPath = "/takedowns"

// contentRoutes are about what is taken down, and what people report.
func contentRoutes() []route {
	see, moderate := anyOf(policy.Moderate, policy.Audit), anyOf(policy.Moderate)
	const (
		takedowns = takedownsPath
		reports   = "/reports"
		report    = reports + "/:report"
	)
	reads := act{}
	return []route{
		{get, takedowns, onEach, see, []string{"cursor", "limit"}, reads, (*Server).listTakedowns},
		{post, takedowns, onEach, moderate, nil, act{"takedown.made", perhaps, everywhere}, (*Server).takeDown}, // it may destroy a key
		{get, takedowns + "/:cid", onEach, see, nil, reads, (*Server).getTakedown},
		{post, takedowns + "/:cid/lift", onEach, moderate, nil, act{"takedown.lifted", dangerous, everywhere}, (*Server).liftTakedown},

		{get, reports, onEach, see, []string{"station", "open", "cursor", "limit"}, reads, (*Server).listReports},
		{get, report, onEach, see, nil, reads, (*Server).getReport},
		{post, report + "/take", onEach, moderate, nil, act{"report.taken", harmless, here}, (*Server).takeReport},
		{post, report + "/close", onEach, moderate, nil, act{"report.closed", harmless, here}, (*Server).closeReport},
	}
}

// accessRoutes are about who may do what.
func accessRoutes() []route {
	readAccess, manageRoles := anyOf(policy.ReadAccess), anyOf(policy.ManageRoles)
	issueTokens, revoke := anyOf(policy.IssueTokens), anyOf(policy.Revoke)
	reads, seen := act{}, act{event: "access.read"}
	return []route{
		{get, "/tokens", onNode, readAccess, nil, seen, (*Server).listTokens},
		{post, "/tokens", onEach, issueTokens, nil, act{"token.issued", perhaps, here}, (*Server).issueToken},
		{post, "/tokens/revoke", onNode, revoke, nil, act{"credential.revoked", perhaps, everywhere}, (*Server).revoke},
		{get, "/keys", onNode, readAccess, nil, reads, (*Server).listKeys},
		{post, "/keys/rotate", onNode, anyOf(policy.ManageNode), nil, act{"key.rotated", dangerous, here}, (*Server).rotateKey},
		{get, "/alerts", onNode, readAccess, nil, reads, (*Server).listAlerts},
		{get, "/denylists", onNode, readAccess, nil, reads, (*Server).listDenylists},
		{get, "/denied/:cid", onNode, readAccess, nil, reads, (*Server).getDenial},
		{get, "/subjects", onNode, readAccess, []string{"subject"}, seen, (*Server).listSubjects},
		{put, "/subjects", onNode, revoke, nil, act{"subject.set", perhaps, everywhere}, (*Server).setSubject},
		{get, "/roles", onNode, readAccess, nil, seen, (*Server).listRoles},
		{put, "/roles", onNode, manageRoles, nil, act{"role.granted", dangerous, everywhere}, (*Server).grantRole},
		{post, "/roles/revoke", onNode, manageRoles, nil, act{"role.revoked", perhaps, everywhere}, (*Server).revokeRole},
		{get, "/access", onNode, readAccess, nil, seen, (*Server).getAccess},
		{post, "/access/reviews", onNode, anyOf(policy.ReviewAccess), nil, act{"access.reviewed", harmless, here}, (*Server).signOff},
		{get, "/approvals", onEach, manageRoles, nil, reads, (*Server).listApprovals},
		{post, "/approvals/:approval/approve", onEach, manageRoles, nil, act{"approval.given", harmless, here}, (*Server).approve}, // it is the second person
		{post, "/approvals/:approval/deny", onEach, manageRoles, nil, act{"approval.denied", harmless, here}, (*Server).deny},
		{get, "/policy", onNode, readAccess, nil, reads, (*Server).getPolicy},
		{get, "/policy/state", onNode, readAccess, nil, reads, (*Server).getPolicyState},
		{post, "/policy/reload", onNode, anyOf(policy.ManagePolicy), nil, act{"policy.reload", dangerous, here}, (*Server).reloadPolicy},
		{post, "/policy/explain", onEach, readAccess, nil, act{notRecorded, harmless, here}, (*Server).explain},
	}
}

// auditRoutes are about the audit log.
func auditRoutes() []route {
	read := anyOf(policy.Audit)
	reads, seen := act{}, act{event: "audit.read"}
	return []route{
		{get, "/audit", onNode, read, []string{"since", "event", "actor", "limit"}, seen, (*Server).listAudit},
		{get, "/audit/checkpoint", onNode, read, nil, reads, (*Server).getCheckpoint},
		{get, "/audit/review", onNode, read, nil, seen, (*Server).getDigest},
		{post, "/audit/reviews", onNode, anyOf(policy.ReviewAccess), nil, act{"audit.reviewed", harmless, here}, (*Server).signAudit},
	}
}
