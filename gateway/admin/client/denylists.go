package client

import (
	"context"
	"net/http"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/internal/denylist"
)

// Denylists tells how the denylists are that the node follows.
func (c *Client) Denylists(ctx context.Context) ([]denylist.State, error) {
	var list wire.Denylists
	err := c.call(ctx, http.MethodGet, "/denylists", nil, &list)
	return list.Denylists, err
}

// Denial tells whether the node denies a block, and why.
func (c *Client) Denial(ctx context.Context, id cid.Cid) (v wire.Denial, err error) {
	err = c.call(ctx, http.MethodGet, "/denied/"+id.String(), nil, &v)
	return v, err
}
