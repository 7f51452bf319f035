package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxAttempts is how often in a row a download is tried without a byte of
// progress before it is given up.
const maxAttempts = 5

// idleLimit is how long a gateway may send nothing.
const idleLimit = time.Minute

// errIdle says that a gateway sent nothing for too long.
var errIdle = errors.New("the gateway sends nothing")

// A download fetches one segment from a gateway, in as many requests as the
// network makes of it.
type download struct {
	client *http.Client
	url    string
	token  string                           // bearer token, empty for a link
	idle   time.Duration                    // without a byte, after which an attempt has failed
	wait   func(context.Context, int) error // between attempts
	report func(done, total int64)

	have  int64  // bytes that are there
	total int64  // bytes of the audio; -1: not known
	etag  string // of the audio that they are of; empty: not known
}

// A sink takes the audio of a download.
type sink interface {
	io.Writer
	// restart forgets what came before the audio with that ETag.
	restart(etag string) error
}

// errPermanent marks what another attempt cannot mend.
type errPermanent struct{ error }

func (e errPermanent) Unwrap() error { return e.error }

// to writes the audio from byte have on to w. A gateway never ends a response
// short without an error, and the length is checked here all the same.
func (d *download) to(ctx context.Context, w sink) error {
	d.total = -1
	furthest := d.have
	for failed := 0; ; {
		err := d.attempt(ctx, w)
		var permanent errPermanent
		if err == nil || errors.As(err, &permanent) {
			return err
		}
		if failed++; d.have > furthest {
			failed, furthest = 1, d.have
		}
		if failed >= maxAttempts {
			return fmt.Errorf("%w (gave up after %d attempts without progress at byte %d)", err, failed, d.have)
		}
		if err := d.wait(ctx, failed); err != nil {
			return err
		}
	}
}

// attempt makes one request for what is missing.
func (d *download) attempt(parent context.Context, w sink) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	silence := time.AfterFunc(d.idle, func() { cancel(errIdle) })
	defer silence.Stop()
	err := d.request(ctx, w, func() { silence.Reset(d.idle) })
	if err != nil && parent.Err() == nil && errors.Is(context.Cause(ctx), errIdle) {
		return fmt.Errorf("%w for %s", errIdle, d.idle)
	}
	return err
}

// request asks for what is missing and takes it; heard is called as bytes come.
func (d *download) request(ctx context.Context, w sink, heard func()) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url, nil)
	if err != nil {
		return errPermanent{d.unanswered(err)}
	}
	if d.token != "" {
		req.Header.Set("Authorization", "Bearer "+d.token)
	}
	if d.have > 0 && d.etag != "" {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.have))
		req.Header.Set("If-Range", d.etag)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return d.unanswered(err)
	}
	defer resp.Body.Close()
	heard()
	if done, err := d.span(resp, w, req.Header.Get("Range") != ""); err != nil || done {
		return err
	}
	return d.take(&heardReader{resp.Body, heard}, w)
}

// unanswered is the error of a request that got no answer. It names the gateway
// and no more of the address: a link's query is a credential.
func (d *download) unanswered(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return &failure{
		exit: exitFailed, code: "gateway_unreachable", what: "ask the gateway " + origin(d.url) + ": " + err.Error(), cause: err,
		next: "check the address, and that a node serves there; --gateway names another",
	}
}

// origin is the part of a URL that says who is asked.
func origin(link string) string {
	u, err := url.Parse(link)
	if err != nil {
		return "of that address"
	}
	return u.Scheme + "://" + u.Host
}

// take writes what is missing, and not a byte more.
func (d *download) take(body io.Reader, w sink) error {
	if d.report != nil {
		d.report(d.have, d.total)
	}
	_, err := io.Copy(&progressWriter{w: w, d: d}, io.LimitReader(body, d.total-d.have))
	switch {
	case err != nil:
		return fmt.Errorf("read the audio: %w", err)
	case d.have != d.total:
		return fmt.Errorf("the gateway sent %d bytes of %d: %w", d.have, d.total, io.ErrUnexpectedEOF)
	}
	if n, _ := io.ReadFull(body, make([]byte, 1)); n > 0 {
		return errPermanent{fmt.Errorf("the gateway sends more than the %d bytes that it said", d.total)}
	}
	return nil
}

// span reads from the head of a response which bytes follow: all of them, or
// those from have on of the same audio as before. done: there is nothing more.
func (d *download) span(resp *http.Response, w sink, ranged bool) (done bool, err error) {
	switch {
	case resp.StatusCode == http.StatusOK:
		return false, d.begin(resp, w)
	case ranged && resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		_, _, size, err := contentRange(resp.Header.Get("Content-Range"))
		if err == nil && size == d.have {
			d.total = size
			return true, nil
		}
		return false, d.changed()
	case ranged && resp.StatusCode == http.StatusPartialContent:
		return false, d.goOn(resp)
	case resp.StatusCode == http.StatusPartialContent:
		return false, errPermanent{errors.New("the gateway sends a part where all was asked for")}
	}
	return false, refusedBy(resp)
}

// begin takes the head of a response with the whole audio.
func (d *download) begin(resp *http.Response, w sink) error {
	if resp.ContentLength < 0 {
		return errPermanent{errors.New("the gateway does not say how long the audio is")}
	}
	etag := strongETag(resp.Header.Get("ETag"))
	if err := w.restart(etag); err != nil {
		return errPermanent{err}
	}
	d.have, d.total, d.etag = 0, resp.ContentLength, etag
	return nil
}

// goOn takes the head of a response with the rest of the audio.
func (d *download) goOn(resp *http.Response) error {
	start, end, size, err := contentRange(resp.Header.Get("Content-Range"))
	switch {
	case err != nil:
		return errPermanent{err}
	case resp.Header.Get("ETag") != d.etag, d.total >= 0 && size != d.total:
		return d.changed()
	case start != d.have || end != size-1:
		return errPermanent{fmt.Errorf("the gateway sends the bytes %d to %d of %d, not those from %d on", start, end, size, d.have)}
	}
	d.total = size
	return nil
}

// changed lets the next attempt begin anew.
func (d *download) changed() error {
	d.etag, d.total = "", -1
	return errors.New("the gateway has other audio now than before")
}

// strongETag is an ETag that only the same bytes have, or nothing.
func strongETag(h string) string {
	odd := func(r rune) bool { return r <= ' ' || r == '"' || r >= 0x7f }
	if n := len(h); n < 3 || n > 256 || h[0] != '"' || h[n-1] != '"' || strings.ContainsFunc(h[1:n-1], odd) {
		return ""
	}
	return h
}

// contentRange reads "bytes 5-9/10" and "bytes */10", whose start is -1.
func contentRange(h string) (start, end, size int64, err error) {
	unit, length, ok := strings.Cut(h, "/")
	span, bytes := strings.CutPrefix(unit, "bytes ")
	from, to, dash := strings.Cut(span, "-")
	start, end = -1, -1
	size, err = strconv.ParseInt(length, 10, 64)
	if err == nil && span != "*" {
		start, err = strconv.ParseInt(from, 10, 64)
		ok = ok && dash
		if err == nil {
			end, err = strconv.ParseInt(to, 10, 64)
		}
	}
	if err != nil || !ok || !bytes || size < 0 {
		return 0, 0, 0, fmt.Errorf("the gateway sent an unreadable Content-Range %q", h)
	}
	return start, end, size, nil
}

// refusedBy makes an error of a refusal. Only a gateway that is busy or broken
// for now is worth another attempt.
func refusedBy(resp *http.Response) error {
	if resp.StatusCode/100 == 3 {
		return errPermanent{&failure{
			exit: exitRefused, code: "redirected", status: resp.StatusCode, what: "the gateway redirects to another address (" + printable(resp.Status) + ")",
			next: "get follows no redirect, since the credential would go along; ask the operator for the gateway's own address",
		}}
	}
	var p problemBody
	err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&p)
	if err != nil || p.Code == "" {
		p = problemBody{Title: resp.Status, Code: "http_" + strconv.Itoa(resp.StatusCode)}
	}
	what := "gateway " + origin(resp.Request.URL.String()) + ": " + strings.Trim(printable(p.Title)+": "+printable(p.Detail), ": ")
	failure := &failure{code: p.Code, status: resp.StatusCode, what: what, next: p.Help}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return failure
	}
	return errPermanent{failure}
}

// progressWriter counts what goes through it.
type progressWriter struct {
	w io.Writer
	d *download
}

func (p *progressWriter) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	if p.d.have += int64(n); p.d.report != nil {
		p.d.report(p.d.have, p.d.total)
	}
	if err != nil {
		return n, errPermanent{err}
	}
	return n, nil
}

// heardReader calls heard when bytes come.
type heardReader struct {
	r     io.Reader
	heard func()
}

func (h *heardReader) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	if n > 0 {
		h.heard()
	}
	return n, err
}

// stream is a sink that cannot take back what it was given.
type stream struct {
	io.Writer
	begun bool
}

func (s *stream) restart(string) error {
	if s.begun {
		return errors.New("the gateway begins anew, and what was written cannot be taken back; try again with a file for -o")
	}
	s.begun = true
	return nil
}

// backOff waits half a second, doubled with every failed attempt.
func backOff(ctx context.Context, failed int) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(500 * time.Millisecond << min(failed-1, 4)):
		return nil
	}
}
