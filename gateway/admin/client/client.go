// Package client is a typed client of the admin API of a running node. It is
// the only way in which the command line reaches the node.
//
// It knows HTTP and the shapes of package wire, and nothing of how the node
// does what it asks for. It keeps no state, follows no redirect and asks no
// proxy; it sends a token to nothing but the node it was made for.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/musenai/musen/gateway/admin/wire"
)

// ErrNotRunning says that nothing answers at the socket or the address: the
// node is not running, or not there.
var ErrNotRunning = errors.New("the node is not running")

// ErrWentAway says that the node ended the connection before its answer was
// whole: it may have done what it was asked, or not.
var ErrWentAway = errors.New("the node went away before it had answered")

// An Error is the node's refusal of a request.
type Error struct {
	Status    int    `json:"status"`
	Code      string `json:"code"` // stable
	Title     string `json:"title"`
	Detail    string `json:"detail"`
	Help      string `json:"help"` // what to do about it
	RequestID string `json:"request_id"`
}

// Error tells what the node refused and why.
func (e *Error) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("%s (%s)", e.Title, e.Code)
	}
	return fmt.Sprintf("%s (%s)", strings.TrimSuffix(e.Detail, "."), e.Code)
}

// A Client calls the admin API of one node. It is safe for concurrent use.
type Client struct {
	base  string // of all routes, without a slash at its end
	token string // empty on the socket, which speaks for itself
	why   string // recorded with what is changed
	http  *http.Client
}

const (
	dialTimeout     = 5 * time.Second
	continueTimeout = 10 * time.Second // wait that long for leave to upload
	maxAnswer       = 64 << 20         // bytes of one JSON answer
	maxProblem      = 64 << 10
)

// New makes a client of the node whose admin socket is at path. Nothing is
// dialled before the first call.
func New(path string) *Client {
	c := newClient("http://node/api/v1", "")
	c.transport().DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		d := net.Dialer{Timeout: dialTimeout}
		return d.DialContext(ctx, "unix", path)
	}
	return c
}

// NewTCP makes a client of the node at base, such as http://127.0.0.1:7071,
// which takes the bearer token. A token goes over plain HTTP to a loopback
// address only: any other base must be https.
func NewTCP(base, token string) (*Client, error) {
	u, err := url.Parse(base)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		return nil, fmt.Errorf("admin address %q: not an http or https URL", base)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return nil, fmt.Errorf("admin address %q: give scheme, host and port only", u.Redacted())
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, fmt.Errorf("admin address %q: a token may not cross a network without TLS; use https", base)
	}
	return newClient(u.Scheme+"://"+u.Host+"/api/v1", token), nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func newClient(base, token string) *Client {
	return &Client{base: base, token: token, http: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout:    dialTimeout,
			ExpectContinueTimeout:  continueTimeout,
			MaxResponseHeaderBytes: 64 << 10,
			IdleConnTimeout:        time.Minute,
			DisableCompression:     true,
		},
	}}
}

func (c *Client) transport() *http.Transport { return c.http.Transport.(*http.Transport) }

// Because makes the client say why, a purpose or a ticket, with all that it asks
// for from now on.
func (c *Client) Because(why string) { c.why = why }

// Close closes the connections that no call is using.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call sends in, if not nil, as JSON, and decodes the answer into out, if not
// nil. path is already escaped.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	req, err := c.request(ctx, method, path, in)
	if err != nil {
		return err
	}
	return c.do(req, out)
}

// request makes a request with in, if not nil, as its JSON body.
func (c *Client) request(ctx context.Context, method, path string, in any) (*http.Request, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

type reachKey struct{}

// A Reach hears of one call how far what it changed has come.
type Reach struct{ told *wire.Reach }

// AskReach returns a ctx for one call, and what hears how far that has come.
func AskReach(ctx context.Context) (context.Context, *Reach) {
	r := &Reach{}
	return context.WithValue(ctx, reachKey{}, r), r
}

// Told is what the node told, once the call has returned; nil: the node is alone,
// or does not know.
func (r *Reach) Told() *wire.Reach { return r.told }

// do sends req and decodes the answer into out, if not nil.
func (c *Client) do(req *http.Request, out any) error {
	resp, err := c.send(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if reach, ok := req.Context().Value(reachKey{}).(*Reach); ok {
		reach.told = wire.ParseReach(resp.Header.Get(wire.ReachHeader))
	}
	if out == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxProblem))
	} else {
		err = json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out)
	}
	if err != nil {
		return fmt.Errorf("read the node's answer to %s %s: %w", req.Method, req.URL.Path, wentAway(err))
	}
	return nil
}

// send sends req and returns an answer that says it was done; the caller
// closes its body. A refusal is returned as *Error.
func (c *Client) send(req *http.Request) (*http.Response, error) {
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.why != "" {
		req.Header.Set("Musen-Reason", c.why)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, notRunning(err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, refusal(resp)
}

// notRunning adds ErrNotRunning to an error of dialling, and leaves out the
// URL: the socket's is made up.
func notRunning(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = fmt.Errorf("%s %s: %w", strings.ToUpper(ue.Op), pathOf(ue.URL), ue.Err)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" &&
		(errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)) {
		return fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	return wentAway(err)
}

// wentAway adds ErrWentAway to an error of a connection that ended.
func wentAway(err error) error {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return fmt.Errorf("%w: %w", ErrWentAway, err)
		}
	}
	return err
}

func pathOf(raw string) string {
	if u, err := url.Parse(raw); err == nil {
		return u.Path
	}
	return "the node"
}

// refusal reads the problem that a refusing answer describes.
func refusal(resp *http.Response) error {
	e := &Error{Status: resp.StatusCode, Title: http.StatusText(resp.StatusCode), Code: fmt.Sprintf("http_%d", resp.StatusCode)}
	if ct, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); ct != "application/problem+json" {
		return e
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxProblem)).Decode(e); err != nil {
		return fmt.Errorf("read why the node refused with %d: %w", resp.StatusCode, err)
	}
	return e
}
