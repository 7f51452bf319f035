package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/pin/contract"
)

// maxAnswer is longer than any answer of a Server.
const maxAnswer = 8 << 20

// A Client calls the node that listens on a socket.
type Client struct {
	path string
	http *http.Client
}

// NewClient makes a Client of the socket at path. It connects with its first
// call; each call returns ErrNotRunning when nobody answers there.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return &Client{path: path, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: callLimit}}
}

// call sends in, if it is not nil, and reads out.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("ask the node: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://host"+prefix+path, body)
	if err != nil {
		return fmt.Errorf("ask the node: %w", err)
	}
	resp, err := c.http.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nobody answers on %s", ErrNotRunning, c.path)
	case err != nil:
		return fmt.Errorf("ask the node: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the node's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		refused := &Error{}
		if err := json.Unmarshal(b, refused); err != nil || refused.Detail == "" {
			return fmt.Errorf("ask the node: it answers %s", resp.Status)
		}
		refused.Status = resp.StatusCode
		return refused
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("read the node's answer: %w", err)
	}
	return nil
}

// Status tells how the host is.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	err = c.call(ctx, http.MethodGet, "/status", nil, &s)
	return s, err
}

// Why tells why the host has a segment, or has not.
func (c *Client) Why(ctx context.Context, id cid.Cid) (w Why, err error) {
	err = c.call(ctx, http.MethodGet, "/segments/"+id.String(), nil, &w)
	return w, err
}

// Orders lists the newest orders, at most limit of them.
func (c *Client) Orders(ctx context.Context, limit int) ([]Order, error) {
	var list orders
	err := c.call(ctx, http.MethodGet, "/orders?limit="+strconv.Itoa(limit), nil, &list)
	return list.Orders, err
}

// SetContract puts another contract in force.
func (c *Client) SetContract(ctx context.Context, terms contract.Contract) error {
	return c.call(ctx, http.MethodPut, "/contract", terms, &contract.Contract{})
}

// Pause closes the host until then; the zero time resumes.
func (c *Client) Pause(ctx context.Context, until time.Time) error {
	return c.call(ctx, http.MethodPut, "/pause", pause{until}, &pause{})
}

// Leave asks the origin to give all that the host holds to others, or no
// longer.
func (c *Client) Leave(ctx context.Context, leaving bool) error {
	return c.call(ctx, http.MethodPut, "/leaving", leave{leaving}, &leave{})
}

// Appeal tells the origin what the host has to say against its standing; ""
// takes it back.
func (c *Client) Appeal(ctx context.Context, text string) error {
	return c.call(ctx, http.MethodPut, "/appeal", appeal{text}, &appeal{})
}
