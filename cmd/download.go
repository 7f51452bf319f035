package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// maxAttempts is how often in a row a download is tried without a byte of
// progress before it is given up.
const maxAttempts = 5

// A download fetches one segment from a gateway, in as many requests as the
// network makes of it.
type download struct {
	client *http.Client
	url    string
	token  string                           // bearer token, empty for a link
	wait   func(context.Context, int) error // between attempts
	report func(done, total int64)
}

// errPermanent marks what another attempt cannot mend.
type errPermanent struct{ error }

func (e errPermanent) Unwrap() error { return e.error }

// to writes the audio from byte have on to w, and returns how many bytes the
// audio has in all. A gateway never ends a response short without an error,
// and the length is checked here all the same.
func (d *download) to(ctx context.Context, w io.Writer, have int64) (total int64, err error) {
	total = -1
	for failed := 0; ; {
		before := have
		total, err = d.attempt(ctx, w, &have, total)
		var permanent errPermanent
		if err == nil || errors.As(err, &permanent) {
			return total, err
		}
		if failed++; have > before {
			failed = 1
		}
		if failed >= maxAttempts {
			return total, fmt.Errorf("%w (gave up after %d attempts without progress at byte %d)", err, failed, have)
		}
		if err := d.wait(ctx, failed); err != nil {
			return total, err
		}
	}
}

// attempt makes one request for what is missing.
func (d *download) attempt(ctx context.Context, w io.Writer, have *int64, total int64) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url, nil)
	if err != nil {
		return total, errPermanent{err}
	}
	if d.token != "" {
		req.Header.Set("Authorization", "Bearer "+d.token)
	}
	if *have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", *have))
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return total, withoutURL(err)
	}
	defer resp.Body.Close()
	size, done, err := d.span(resp, *have, total)
	if err != nil || done {
		return size, err
	}
	_, err = io.Copy(&progressWriter{w: w, done: have, total: size, report: d.report}, resp.Body)
	switch {
	case err != nil:
		return size, fmt.Errorf("read the audio: %w", err)
	case *have != size:
		return size, fmt.Errorf("the gateway sent %d bytes of %d: %w", *have, size, io.ErrUnexpectedEOF)
	}
	return size, nil
}

// span reads from the head of a response which bytes follow: it must go on at
// have, in audio of the same length as before. done: there is nothing more.
func (d *download) span(resp *http.Response, have, total int64) (size int64, done bool, err error) {
	switch resp.StatusCode {
	case http.StatusOK:
		if size = resp.ContentLength; size < 0 {
			return total, false, errPermanent{errors.New("the gateway does not say how long the audio is")}
		}
		if have > 0 {
			return total, false, errPermanent{errors.New("the gateway does not resume; remove the partial file and try again")}
		}
	case http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		var start int64
		if start, size, err = contentRange(resp.Header.Get("Content-Range")); err != nil {
			return total, false, errPermanent{err}
		}
		done = start < 0 && size == have
		if !done && start != have {
			return total, false, errPermanent{fmt.Errorf("the gateway resumes at byte %d of %d, not at %d; remove the partial file and try again", start, size, have)}
		}
	default:
		return total, false, refusedBy(resp)
	}
	if total >= 0 && size != total {
		return total, false, errPermanent{fmt.Errorf("the length changed from %d to %d bytes", total, size)}
	}
	return size, done, nil
}

// contentRange reads "bytes 5-9/10" and "bytes */10", whose start is -1.
func contentRange(h string) (start, size int64, err error) {
	span, length, ok := strings.Cut(strings.TrimPrefix(h, "bytes "), "/")
	from, _, dash := strings.Cut(span, "-")
	start = -1
	size, err = strconv.ParseInt(length, 10, 64)
	if err == nil && span != "*" {
		start, err = strconv.ParseInt(from, 10, 64)
		ok = ok && dash
	}
	if err != nil || !ok || size < 0 {
		return 0, 0, fmt.Errorf("the gateway sent an unreadable Content-Range %q", h)
	}
	return start, size, nil
}

// refusedBy makes an error of a refusal. Only a gateway that is busy or broken
// for now is worth another attempt.
func refusedBy(resp *http.Response) error {
	var p problemBody
	err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&p)
	if err != nil || p.Code == "" {
		p = problemBody{Title: resp.Status, Code: "http_" + strconv.Itoa(resp.StatusCode)}
	}
	failure := &failure{code: p.Code, status: resp.StatusCode, what: strings.TrimSpace(p.Title + ": " + p.Detail), next: p.Help}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return failure
	}
	return errPermanent{failure}
}

// progressWriter counts what goes through it.
type progressWriter struct {
	w      io.Writer
	done   *int64
	total  int64
	report func(done, total int64)
}

func (p *progressWriter) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	if *p.done += int64(n); p.report != nil {
		p.report(*p.done, p.total)
	}
	if err != nil {
		return n, errPermanent{err}
	}
	return n, nil
}

// fetchFile downloads to path. What was fetched before an interruption lies in
// path.part and is gone on with; path appears only when it is whole.
func (d *download) fetchFile(ctx context.Context, path string) (total int64, err error) {
	part, err := os.OpenFile(path+".part", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	defer part.Close()
	st, err := part.Stat()
	if err != nil {
		return 0, err
	}
	if total, err = d.to(ctx, part, st.Size()); err != nil {
		return total, err
	}
	if err := part.Sync(); err != nil {
		return total, err
	}
	return total, os.Rename(path+".part", path)
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
