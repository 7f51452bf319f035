package client

import (
	"context"
	"net/http"
	"net/url"

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

// Roles lists who holds which role where.
func (c *Client) Roles(ctx context.Context) ([]access.Role, error) {
	var list access.Roles
	err := c.call(ctx, http.MethodGet, "/roles", nil, &list)
	return list.Roles, err
}

// GrantRole gives a role to one identity.
func (c *Client) GrantRole(ctx context.Context, r access.Role) (given access.Role, err error) {
	err = c.call(ctx, http.MethodPut, "/roles", r, &given)
	return given, err
}

// RevokeRole takes a role away, at once.
func (c *Client) RevokeRole(ctx context.Context, r access.Role) error {
	return c.call(ctx, http.MethodPost, "/roles/revoke", r, nil)
}

// Approvals lists the requests that need a second person, the last first.
func (c *Client) Approvals(ctx context.Context) ([]access.Approval, error) {
	var list access.Approvals
	err := c.call(ctx, http.MethodGet, "/approvals", nil, &list)
	return list.Approvals, err
}

// Approve lets somebody else's request pass, once.
func (c *Client) Approve(ctx context.Context, id string) (a access.Approval, err error) {
	err = c.call(ctx, http.MethodPost, "/approvals/"+url.PathEscape(id)+"/approve", nil, &a)
	return a, err
}

// Deny refuses somebody else's request.
func (c *Client) Deny(ctx context.Context, id string) (a access.Approval, err error) {
	err = c.call(ctx, http.MethodPost, "/approvals/"+url.PathEscape(id)+"/deny", nil, &a)
	return a, err
}

// AccessReport tells who holds what.
func (c *Client) AccessReport(ctx context.Context) (r access.Report, err error) {
	err = c.call(ctx, http.MethodGet, "/access", nil, &r)
	return r, err
}

// SignOff signs a report that still holds.
func (c *Client) SignOff(ctx context.Context, s access.SignOff) (v access.Review, err error) {
	err = c.call(ctx, http.MethodPost, "/access/reviews", s, &v)
	return v, err
}
