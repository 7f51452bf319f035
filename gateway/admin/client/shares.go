package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/musenai/musen/gateway/admin/wire"
)

// CreateShare makes a link that opens a station to whoever has it. The node
// does not keep the link.
func (c *Client) CreateShare(ctx context.Context, station string, n wire.NewShare) (s wire.MadeShare, err error) {
	err = c.call(ctx, http.MethodPost, stationPath(station)+"/shares", n, &s)
	return s, err
}

// Shares lists the shares of a station, or of all if it is empty, without their
// links.
func (c *Client) Shares(ctx context.Context, station string) ([]wire.Share, error) {
	path := "/shares"
	if station != "" {
		path = stationPath(station) + path
	}
	var list wire.Shares
	err := c.call(ctx, http.MethodGet, path, nil, &list)
	return list.Shares, err
}

// RevokeShare ends a share with its sessions and their links.
func (c *Client) RevokeShare(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, sharePath(id), nil, nil)
}

// SetSharePassword gives a share another password, which ends the sessions
// before it.
func (c *Client) SetSharePassword(ctx context.Context, id, password string) (s wire.Share, err error) {
	err = c.call(ctx, http.MethodPut, sharePath(id)+"/password", wire.SharePassword{Password: password}, &s)
	return s, err
}

// RegenerateShare ends every share, session and link of a station, and makes a
// new share.
func (c *Client) RegenerateShare(ctx context.Context, station string) (r wire.Regenerated, err error) {
	err = c.call(ctx, http.MethodPost, stationPath(station)+"/shares/regenerate", nil, &r)
	return r, err
}

func sharePath(id string) string { return "/shares/" + url.PathEscape(id) }
