package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/gateway/admin/wire"
)

// TakeDown takes down what a CID belongs to. It is in force on every gateway
// that is heard of when it returns, as Reach says.
func (c *Client) TakeDown(ctx context.Context, n wire.NewTakedown) (t wire.Takedown, err error) {
	err = c.call(ctx, http.MethodPost, "/takedowns", n, &t)
	return t, err
}

// Takedown is the takedown of that CID, in force or lifted.
func (c *Client) Takedown(ctx context.Context, id cid.Cid) (t wire.Takedown, err error) {
	err = c.call(ctx, http.MethodGet, "/takedowns/"+id.String(), nil, &t)
	return t, err
}

// LiftTakedown puts back what was taken down.
func (c *Client) LiftTakedown(ctx context.Context, id cid.Cid, l wire.Lift) (t wire.Takedown, err error) {
	err = c.call(ctx, http.MethodPost, "/takedowns/"+id.String()+"/lift", l, &t)
	return t, err
}

// Takedowns lists all takedowns, the newest first. It ends at an error.
func (c *Client) Takedowns(ctx context.Context) iter.Seq2[wire.Takedown, error] {
	return func(yield func(wire.Takedown, error) bool) {
		for cursor, more := "", true; more; more = cursor != "" {
			var page wire.Takedowns
			if err := c.call(ctx, http.MethodGet, "/takedowns?cursor="+url.QueryEscape(cursor), nil, &page); err != nil {
				yield(wire.Takedown{}, err)
				return
			}
			for _, t := range page.Takedowns {
				if !yield(t, nil) {
					return
				}
			}
			cursor = page.Next
		}
	}
}
