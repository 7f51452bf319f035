package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/musenai/musen/gateway/admin/wire/access"
	"github.com/musenai/musen/gateway/admin/wire/auditlog"
)

// AuditQuery says which records of the audit log are wanted. Zero values ask
// for all.
type AuditQuery struct {
	Since time.Time
	Event string // or what it begins with, before a dot
	Actor string
	Limit int // the last ones
}

// Audit lists records of the audit log, in order. That it was asked is recorded.
func (c *Client) Audit(ctx context.Context, q AuditQuery) (list auditlog.Records, err error) {
	v := url.Values{}
	for name, text := range map[string]string{"event": q.Event, "actor": q.Actor} {
		if text != "" {
			v.Set(name, text)
		}
	}
	if !q.Since.IsZero() {
		v.Set("since", q.Since.UTC().Format(time.RFC3339))
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	err = c.call(ctx, http.MethodGet, "/audit?"+v.Encode(), nil, &list)
	return list, err
}

// AuditCheckpoint is a signed state of the audit log.
func (c *Client) AuditCheckpoint(ctx context.Context) (p auditlog.Checkpoint, err error) {
	err = c.call(ctx, http.MethodGet, "/audit/checkpoint", nil, &p)
	return p, err
}

// AuditDigest tells what happened since the audit log was last signed off.
func (c *Client) AuditDigest(ctx context.Context) (d auditlog.Digest, err error) {
	err = c.call(ctx, http.MethodGet, "/audit/review", nil, &d)
	return d, err
}

// SignAudit signs that a digest was read.
func (c *Client) SignAudit(ctx context.Context, s auditlog.SignOff) (v access.Review, err error) {
	err = c.call(ctx, http.MethodPost, "/audit/reviews", s, &v)
	return v, err
}
