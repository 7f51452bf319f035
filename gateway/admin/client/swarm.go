package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/gateway/admin/wire/swarm"
)

// Peers lists who belongs to the swarm.
func (c *Client) Peers(ctx context.Context) ([]swarm.Peer, error) {
	var list swarm.Peers
	err := c.call(ctx, http.MethodGet, "/peers", nil, &list)
	return list.Peers, err
}

// Admit lets an IPFS node in as a guest.
func (c *Client) Admit(ctx context.Context, a swarm.Admission) (p swarm.Peer, err error) {
	err = c.call(ctx, http.MethodPost, "/peers", a, &p)
	return p, err
}

// RemovePeer ends the membership of a peer, which is named by its ID or by what
// the operator calls it.
func (c *Client) RemovePeer(ctx context.Context, peer string) error {
	return c.call(ctx, http.MethodDelete, peerPath(peer), nil, nil)
}

// DrainPeer has the copies of a peer moved elsewhere. It does not wait.
func (c *Client) DrainPeer(ctx context.Context, peer string) (p swarm.Peer, err error) {
	err = c.call(ctx, http.MethodPost, peerPath(peer)+"/drain", nil, &p)
	return p, err
}

// Reinstate gives a peer the standing of a new one.
func (c *Client) Reinstate(ctx context.Context, peer, reason string) (p swarm.Peer, err error) {
	err = c.call(ctx, http.MethodPost, peerPath(peer)+"/reinstate", swarm.Reinstatement{Reason: reason}, &p)
	return p, err
}

func peerPath(peer string) string { return "/peers/" + url.PathEscape(peer) }

// Invite makes an invite, which is a secret.
func (c *Client) Invite(ctx context.Context, r swarm.InviteRequest) (i swarm.Invite, err error) {
	err = c.call(ctx, http.MethodPost, "/peers/invites", r, &i)
	return i, err
}

// Invites lists the invites that nobody has used, without their secrets.
func (c *Client) Invites(ctx context.Context) ([]swarm.OpenInvite, error) {
	var list swarm.OpenInvites
	err := c.call(ctx, http.MethodGet, "/peers/invites", nil, &list)
	return list.Invites, err
}

// Withdraw ends an invite that nobody has used.
func (c *Client) Withdraw(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/peers/invites/"+url.PathEscape(id), nil, nil)
}

// Copies tells who holds a segment. With a level it answers once that is
// reached, or after timeout.
func (c *Client) Copies(ctx context.Context, id cid.Cid, level string, timeout time.Duration) (h swarm.Health, err error) {
	q := url.Values{}
	setWait(q, level, timeout)
	err = c.call(ctx, http.MethodGet, segmentPath(id)+"/copies?"+q.Encode(), nil, &h)
	return h, err
}

// setWait adds what a caller waits for, and for how long, to a query.
func setWait(q url.Values, level string, timeout time.Duration) {
	if level == "" {
		return
	}
	q.Set("wait", level)
	if timeout > 0 {
		q.Set("wait_timeout", strconv.FormatInt(int64((timeout+time.Second-1)/time.Second), 10))
	}
}

// Replication tells how the copies of a station's segments are, or of all if
// none is named.
func (c *Client) Replication(ctx context.Context, station string) (r swarm.Replication, err error) {
	path := "/replication"
	if station != "" {
		path = stationPath(station) + path
	}
	err = c.call(ctx, http.MethodGet, path, nil, &r)
	return r, err
}

// Recover has tried again at once what has failed, of all segments if none is
// named.
func (c *Client) Recover(ctx context.Context, ids ...cid.Cid) (r swarm.Recovered, err error) {
	var which swarm.Selection
	for _, id := range ids {
		which.CIDs = append(which.CIDs, id.String())
	}
	err = c.call(ctx, http.MethodPost, "/pins/recover", which, &r)
	return r, err
}

// Rebalance has copies moved to where they would be put today.
func (c *Client) Rebalance(ctx context.Context) (r swarm.Rebalanced, err error) {
	err = c.call(ctx, http.MethodPost, "/pins/rebalance", nil, &r)
	return r, err
}

// Services lists the pinning services.
func (c *Client) Services(ctx context.Context) ([]swarm.Service, error) {
	var list swarm.Services
	err := c.call(ctx, http.MethodGet, "/services", nil, &list)
	return list.Services, err
}

// AddService adds a pinning service, whose token the node reads from a file.
func (c *Client) AddService(ctx context.Context, n swarm.NewService) (s swarm.Service, err error) {
	err = c.call(ctx, http.MethodPost, "/services", n, &s)
	return s, err
}

// RemoveService leaves a pinning service.
func (c *Client) RemoveService(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, "/services/"+url.PathEscape(name), nil, nil)
}
