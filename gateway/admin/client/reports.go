package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"

	"github.com/musenai/musen/gateway/admin/wire"
)

// Reports goes through the reports of a station, or of all if station is empty,
// the oldest first, and with open only those that nobody has decided about. It
// ends with the first error.
func (c *Client) Reports(ctx context.Context, station string, open bool) iter.Seq2[wire.ContentReport, error] {
	q := url.Values{}
	if station != "" {
		q.Set("station", station)
	}
	if open {
		q.Set("open", "true")
	}
	return func(yield func(wire.ContentReport, error) bool) {
		for {
			var page wire.ContentReports
			if err := c.call(ctx, http.MethodGet, "/reports?"+q.Encode(), nil, &page); err != nil {
				yield(wire.ContentReport{}, err)
				return
			}
			for _, r := range page.Reports {
				if !yield(r, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			q.Set("cursor", page.Next)
		}
	}
}

// Report is one report, with what was said.
func (c *Client) Report(ctx context.Context, id string) (r wire.ContentReport, err error) {
	err = c.call(ctx, http.MethodGet, reportPath(id), nil, &r)
	return r, err
}

// TakeReport notes that the caller looks at a report.
func (c *Client) TakeReport(ctx context.Context, id string) (r wire.ContentReport, err error) {
	err = c.call(ctx, http.MethodPost, reportPath(id)+"/take", nil, &r)
	return r, err
}

// CloseReport records what was decided about a report.
func (c *Client) CloseReport(ctx context.Context, id string, d wire.ReportDecision) (r wire.ContentReport, err error) {
	err = c.call(ctx, http.MethodPost, reportPath(id)+"/close", d, &r)
	return r, err
}

func reportPath(id string) string { return "/reports/" + url.PathEscape(id) }
