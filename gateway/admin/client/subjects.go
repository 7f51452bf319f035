package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/musenai/musen/gateway/admin/wire"
)

// Subjects lists the subjects that a state was set for, the last first.
func (c *Client) Subjects(ctx context.Context) ([]wire.Subject, error) {
	var list wire.Subjects
	err := c.call(ctx, http.MethodGet, "/subjects", nil, &list)
	return list.Subjects, err
}

// Subject is the state of one subject.
func (c *Client) Subject(ctx context.Context, name string) (s wire.Subject, err error) {
	var list wire.Subjects
	err = c.call(ctx, http.MethodGet, "/subjects?subject="+url.QueryEscape(name), nil, &list)
	for _, s = range list.Subjects {
		break
	}
	return s, err
}

// SetSubject sets the state of a subject.
func (c *Client) SetSubject(ctx context.Context, change wire.SubjectChange) (s wire.Subject, err error) {
	err = c.call(ctx, http.MethodPut, "/subjects", change, &s)
	return s, err
}

// Alerts lists what looked like abuse, the last first.
func (c *Client) Alerts(ctx context.Context) ([]wire.Alert, error) {
	var list wire.Alerts
	err := c.call(ctx, http.MethodGet, "/alerts", nil, &list)
	return list.Alerts, err
}
