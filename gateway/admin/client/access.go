package client

import (
	"context"
	"net/http"

	"github.com/musenai/musen/gateway/admin/wire/access"
)

// PolicyState tells which policies are in force.
func (c *Client) PolicyState(ctx context.Context) (s access.PolicyState, err error) {
	err = c.call(ctx, http.MethodGet, "/policy/state", nil, &s)
	return s, err
}

// ReloadPolicy loads the policies that lie in the node's home again.
func (c *Client) ReloadPolicy(ctx context.Context) (s access.PolicyState, err error) {
	err = c.call(ctx, http.MethodPost, "/policy/reload", nil, &s)
	return s, err
}
