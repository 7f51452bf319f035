package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/musenai/musen/gateway/admin/wire"
)

// An Upload is audio and what is known of it. Only Audio must be set.
type Upload struct {
	Audio     io.Reader // read once, never closed, never held whole
	Size      int64     // bytes of audio if known, else 0
	MediaType string    // empty: application/octet-stream

	Title       string
	Artist      string
	Filename    string
	AIGenerated bool
	Again       bool // add even if the station has the same audio
	PublishAt   time.Time
	ExpiresAt   time.Time

	// Wait is the level that the segment shall reach before the answer comes:
	// stored, replicated or durable; empty: none. The answer comes after
	// WaitTimeout in any case; 0: the node's default.
	Wait        string
	WaitTimeout time.Duration

	// IdempotencyKey makes a repetition of the whole upload harmless: the node
	// answers it as it did the first time.
	IdempotencyKey string
}

// Add streams audio into a station. The segment is durable on return. Nothing
// is read of the audio before the node has said that it wants it.
func (c *Client) Add(ctx context.Context, station string, u Upload) (a wire.Added, err error) {
	path := stationPath(station) + "/segments?" + u.query().Encode()
	req, err := c.request(ctx, http.MethodPost, path, nil)
	if err != nil {
		return a, err
	}
	req.Body = io.NopCloser(u.Audio)
	req.ContentLength = -1
	if u.Size > 0 {
		req.ContentLength = u.Size
	}
	req.Header.Set("Expect", "100-continue")
	req.Header.Set("Content-Type", "application/octet-stream")
	if u.MediaType != "" {
		req.Header.Set("Content-Type", u.MediaType)
	}
	if u.IdempotencyKey != "" {
		req.Header.Set("Idempotency-Key", u.IdempotencyKey)
	}
	err = c.do(req, &a)
	return a, err
}

func (u Upload) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"title": u.Title, "artist": u.Artist, "filename": u.Filename} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, on := range map[string]bool{"ai_generated": u.AIGenerated, "again": u.Again} {
		if on {
			q.Set(name, "true")
		}
	}
	for name, at := range map[string]time.Time{"publish_at": u.PublishAt, "expires_at": u.ExpiresAt} {
		if !at.IsZero() {
			q.Set(name, at.UTC().Format(time.RFC3339))
		}
	}
	setWait(q, u.Wait, u.WaitTimeout)
	return q
}
