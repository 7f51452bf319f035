package trustless

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/internal/cidpath"
)

// A refusal is an answer other than what was asked for. Code is stable.
type refusal struct {
	status int
	code   string
	detail string
	retry  time.Duration // 0: no Retry-After
}

// Error returns the code.
func (r refusal) Error() string { return r.code }

func notFound() error {
	return refusal{status: http.StatusNotFound, code: "not_found", detail: "There is nothing here by this address."}
}

func gone() error {
	return refusal{status: http.StatusGone, code: "gone", detail: "This host does not serve this: it was removed, or is on a denylist."}
}

func busy(detail string, retry time.Duration) error {
	return refusal{status: http.StatusServiceUnavailable, code: "busy", detail: detail, retry: max(retry, time.Second)}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.TLS != nil {
		w.Header().Set("Strict-Transport-Security", "max-age=31536000")
	}
	release, err := s.answer(w, r)
	if err != nil {
		s.refuse(w, r, err)
	}
	release()
}

// answer sends what was asked for, or says why not. release must be called
// once the answer is sent.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) (release func(), err error) {
	release = func() {}
	if err := s.oversize(w, r); err != nil {
		return release, err
	}
	id, err := route(r)
	if err != nil {
		return release, err
	}
	if s.o.Terms.Denied(id.Hash()) {
		return release, gone()
	}
	if retry, closed := s.o.Terms.Closed(); closed {
		return release, busy("This host does not serve now.", retry)
	}
	select {
	case s.slots <- struct{}{}:
		release = func() { <-s.slots }
	default:
		return release, busy("This host serves as many as it can.", 5*time.Second)
	}
	defer func() {
		if v := recover(); v != nil {
			release()
			panic(v) // net/http cuts the connection
		}
	}()
	return release, s.send(w, r, id)
}

// oversize refuses requests that are larger than any honest one, and those with
// a body, which no route takes. What is left of them is not waited for.
func (s *Server) oversize(w http.ResponseWriter, r *http.Request) error {
	fields := 0
	for _, values := range r.Header {
		fields += len(values)
	}
	var err error
	switch {
	case len(r.RequestURI) > s.o.Limits.URLBytes:
		err = refusal{status: http.StatusRequestURITooLong, code: "uri_too_long", detail: "The address is too long."}
	case fields > s.o.Limits.Headers:
		err = refusal{status: http.StatusRequestHeaderFieldsTooLarge, code: "header_too_large", detail: "The headers of the request are too many."}
	case r.ContentLength != 0:
		err = refusal{status: http.StatusBadRequest, code: "bad_request", detail: "No request here has a body."}
	default:
		return nil
	}
	w.Header().Set("Connection", "close")
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Second))
	return err
}

// route finds the CID that a request is for.
func route(r *http.Request) (cid.Cid, error) {
	spelled, ok := strings.CutPrefix(r.URL.EscapedPath(), "/ipfs/")
	if !ok {
		return cid.Undef, notFound()
	}
	id, ok := cidpath.Parse(spelled)
	switch {
	case !ok:
		return cid.Undef, notFound()
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return cid.Undef, refusal{status: http.StatusMethodNotAllowed, code: "method_not_allowed", detail: "This can only be read."}
	}
	return id, nil
}

// size is the length of a block on this disk. The empty folder, which every
// node has for itself, is none that is held.
func (s *Server) size(r *http.Request, id cid.Cid) (int, error) {
	if string(id.Hash()) == string(unixfs.EmptyDirNode().Cid().Hash()) {
		return 0, notFound()
	}
	n, err := s.o.Blocks.Blockstore().GetSize(r.Context(), id)
	if err != nil {
		return 0, fmt.Errorf("%w: stat block %s: %w", notFound(), id, err)
	}
	return n, nil
}

// parseRange reads a Range header of one range within size bytes; n 0 says that
// no byte of it exists. It is not ok when the header has to be ignored: there
// is none, it is malformed, it has several ranges, or there is no byte at all.
func parseRange(header string, size int64) (off, n int64, ok bool) {
	unit, spec, found := strings.Cut(header, "=")
	first, last, dash := strings.Cut(strings.Trim(spec, " \t"), "-")
	if !found || !dash || !strings.EqualFold(unit, "bytes") || size <= 0 {
		return 0, 0, false
	}
	from, okFrom := parseDecimal(first)
	to, okTo := parseDecimal(last)
	switch {
	case first == "" && okTo: // the last so many
		n := min(to, size)
		return size - n, n, true
	case !okFrom || last != "" && (!okTo || to < from):
		return 0, 0, false
	case from >= size:
		return 0, 0, true
	case last == "":
		to = size - 1
	}
	return from, min(to, size-1) - from + 1, true
}

// parseDecimal reads digits; a number that is too large is the largest there is.
func parseDecimal(s string) (n int64, ok bool) {
	v, err := strconv.ParseUint(s, 10, 63)
	if errors.Is(err, strconv.ErrRange) {
		return 1<<63 - 1, strings.Trim(s, "0123456789") == ""
	}
	return int64(v), err == nil
}

// refuse answers with an RFC 9457 problem.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	ref, ok := errors.AsType[refusal](err)
	if !ok {
		ref = refusal{status: http.StatusInternalServerError, code: "internal", detail: "Something went wrong inside the host."}
		if r.Context().Err() == nil {
			s.o.Log.Error("HTTP request failed", "err", err)
		}
	}
	h := w.Header()
	switch ref.status {
	case http.StatusMethodNotAllowed:
		h.Set("Allow", "GET, HEAD")
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", strconv.FormatInt(int64((ref.retry+time.Second-1)/time.Second), 10))
	}
	body, _ := json.Marshal(map[string]any{ // of texts and a number
		"type": "about:blank", "title": http.StatusText(ref.status), "status": ref.status, "code": ref.code, "detail": ref.detail,
	})
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Access-Control-Allow-Origin", "*")
	w.WriteHeader(ref.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that is gone needs no answer
	}
	s.answers.Send(w)
}
