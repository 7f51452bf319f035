package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/gateway/admin/wire"
)

// Status tells what node answers.
func (c *Client) Status(ctx context.Context) (s wire.Status, err error) {
	err = c.call(ctx, http.MethodGet, "/status", nil, &s)
	return s, err
}

// Gateways are those that share the catalogue of the node.
func (c *Client) Gateways(ctx context.Context) ([]wire.Gateway, error) {
	var list wire.Fleet
	err := c.call(ctx, http.MethodGet, "/fleet", nil, &list)
	return list.Gateways, err
}

// Stations lists the stations.
func (c *Client) Stations(ctx context.Context) ([]wire.Station, error) {
	var list wire.Stations
	err := c.call(ctx, http.MethodGet, "/stations", nil, &list)
	return list.Stations, err
}

// CreateStation makes a station. Its key is durable on return.
func (c *Client) CreateStation(ctx context.Context, n wire.NewStation) (s wire.Station, err error) {
	err = c.call(ctx, http.MethodPost, "/stations", n, &s)
	return s, err
}

// Station finds a station by name or id.
func (c *Client) Station(ctx context.Context, nameOrID string) (s wire.Station, err error) {
	err = c.call(ctx, http.MethodGet, stationPath(nameOrID), nil, &s)
	return s, err
}

// ChangeStation changes what is not nil, and returns the station as it is now.
func (c *Client) ChangeStation(ctx context.Context, nameOrID string, change wire.StationChange) (s wire.Station, err error) {
	err = c.call(ctx, http.MethodPatch, stationPath(nameOrID), change, &s)
	return s, err
}

// RemoveStation destroys a station and its keys. One that has live segments is
// refused, unless force: then they are removed first.
func (c *Client) RemoveStation(ctx context.Context, nameOrID string, force bool) error {
	path := stationPath(nameOrID)
	if force {
		path += "?force=true"
	}
	return c.call(ctx, http.MethodDelete, path, nil, nil)
}

func stationPath(nameOrID string) string { return "/stations/" + url.PathEscape(nameOrID) }

// SegmentPage lists up to limit live segments of a station (0: as many as the
// node gives in one page) that come after cursor, which is the Next of the page
// before, or empty.
func (c *Client) SegmentPage(ctx context.Context, station, cursor string, limit int) (p wire.Segments, err error) {
	q := url.Values{}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	err = c.call(ctx, http.MethodGet, stationPath(station)+"/segments?"+q.Encode(), nil, &p)
	return p, err
}

// Segments goes through all live segments of a station, page by page. It ends
// with the first error.
func (c *Client) Segments(ctx context.Context, station string) iter.Seq2[wire.Segment, error] {
	return func(yield func(wire.Segment, error) bool) {
		for cursor := ""; ; {
			page, err := c.SegmentPage(ctx, station, cursor, 0)
			if err != nil {
				yield(wire.Segment{}, err)
				return
			}
			for _, s := range page.Segments {
				if !yield(s, nil) {
					return
				}
			}
			if cursor = page.Next; cursor == "" {
				return
			}
		}
	}
}

// Segment finds a segment.
func (c *Client) Segment(ctx context.Context, id cid.Cid) (s wire.Segment, err error) {
	err = c.call(ctx, http.MethodGet, segmentPath(id), nil, &s)
	return s, err
}

// RemoveSegment unpins a segment, forgets it and destroys its key. Copies that
// others hold stay, and cannot be opened any more.
func (c *Client) RemoveSegment(ctx context.Context, id cid.Cid) error {
	return c.call(ctx, http.MethodDelete, segmentPath(id), nil, nil)
}

func segmentPath(id cid.Cid) string { return "/segments/" + id.String() }

// Link makes a URL that opens one segment until it expires.
func (c *Client) Link(ctx context.Context, id cid.Cid, req wire.LinkRequest) (l wire.Link, err error) {
	err = c.call(ctx, http.MethodPost, segmentPath(id)+"/links", req, &l)
	return l, err
}

// IssueToken makes a bearer token. The node does not keep it.
func (c *Client) IssueToken(ctx context.Context, req wire.TokenRequest) (t wire.IssuedToken, err error) {
	err = c.call(ctx, http.MethodPost, "/tokens", req, &t)
	return t, err
}

// Tokens lists the tokens that were issued, without the tokens themselves.
func (c *Client) Tokens(ctx context.Context) ([]wire.Token, error) {
	var list wire.Tokens
	err := c.call(ctx, http.MethodGet, "/tokens", nil, &list)
	return list.Tokens, err
}

// Revoke ends one token, all of a subject, or all that a key signed, at once. A jti that was never
// issued here is revoked all the same, and not Known.
func (c *Client) Revoke(ctx context.Context, r wire.Revocation) (done wire.Revoked, err error) {
	err = c.call(ctx, http.MethodPost, "/tokens/revoke", r, &done)
	return done, err
}

// Keys lists the keys that credentials are signed with.
func (c *Client) Keys(ctx context.Context) (k wire.Keys, err error) {
	err = c.call(ctx, http.MethodGet, "/keys", nil, &k)
	return k, err
}

// RotateKey makes a new key of a kind, and tells its id.
func (c *Client) RotateKey(ctx context.Context, kind string) (r wire.Rotated, err error) {
	err = c.call(ctx, http.MethodPost, "/keys/rotate", wire.Rotation{Kind: kind}, &r)
	return r, err
}

// Verify reads segments back, all of them if none is named: checks the hash of
// every block and opens every chunk. The results come as they are ready; an
// error is the last thing that comes, and without one all were looked at.
func (c *Client) Verify(ctx context.Context, ids ...cid.Cid) iter.Seq2[wire.Verified, error] {
	return c.verify(ctx, false, ids)
}

// Repair does what Verify does, after blocks that are wrong or missing were
// replaced by those of peers.
func (c *Client) Repair(ctx context.Context, ids ...cid.Cid) iter.Seq2[wire.Verified, error] {
	return c.verify(ctx, true, ids)
}

func (c *Client) verify(ctx context.Context, repair bool, ids []cid.Cid) iter.Seq2[wire.Verified, error] {
	return func(yield func(wire.Verified, error) bool) {
		in := wire.VerifyRequest{Repair: repair}
		for _, id := range ids {
			in.CIDs = append(in.CIDs, id.String())
		}
		req, err := c.request(ctx, http.MethodPost, "/verify", in)
		if err != nil {
			yield(wire.Verified{}, err)
			return
		}
		resp, err := c.send(req)
		if err != nil {
			yield(wire.Verified{}, err)
			return
		}
		defer resp.Body.Close()
		lines(resp.Body, yield)
	}
}

// lines yields the JSON values of r until it ends, or an error.
func lines(r io.Reader, yield func(wire.Verified, error) bool) {
	dec := json.NewDecoder(r)
	for {
		var v wire.Verified
		err := dec.Decode(&v)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			yield(wire.Verified{}, fmt.Errorf("read the results of verify: %w", wentAway(err)))
			return
		}
		if !yield(v, nil) {
			return
		}
	}
}

// GC removes blocks that no pin holds. An add in flight loses none.
func (c *Client) GC(ctx context.Context) (r wire.Collected, err error) {
	err = c.call(ctx, http.MethodPost, "/gc", nil, &r)
	return r, err
}

// Explain asks policy whether a request would be allowed, and why.
func (c *Client) Explain(ctx context.Context, q wire.Question) (e wire.Explanation, err error) {
	err = c.call(ctx, http.MethodPost, "/policy/explain", q, &e)
	return e, err
}

// Policies are the Cedar policies in force.
func (c *Client) Policies(ctx context.Context) (string, error) { return c.text(ctx, "/policy") }

// OpenAPI is the description of the API that this client calls.
func (c *Client) OpenAPI(ctx context.Context) (string, error) { return c.text(ctx, "/openapi.yaml") }

func (c *Client) text(ctx context.Context, path string) (string, error) {
	req, err := c.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return "", err
	}
	resp, err := c.send(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return "", fmt.Errorf("read the node's answer to GET %s: %w", path, err)
	}
	return string(b), nil
}
