package problem

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

// ask writes err as the answer to a request and returns what a client sees.
func ask(t *testing.T, method string, err error) (*http.Response, Problem) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, "/listen/x?CAT=secret-token", nil)
	Write(w, r.WithContext(WithRequestID(r.Context(), "abc")), err)
	var p Problem
	if method != http.MethodHead {
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Fatalf("body %q: %v", w.Body, err)
		}
	}
	return w.Result(), p
}

// P93: who could listen is told why, and where to appeal.
func TestTakenDownSaysWhy(t *testing.T) {
	h := WithHelp(fmt.Errorf("open: %w", musen.TakedownError("court_order")), "To appeal, see https://radio.example/appeal.")
	_, p := ask(t, http.MethodGet, h)
	if p.Code != "taken_down" || p.Status != 451 || p.Detail != "The segment was taken down: court order." || p.Help != "To appeal, see https://radio.example/appeal." {
		t.Errorf("%+v", p)
	}
}

func TestEveryErrorHasAStatusAndACode(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		code   Code
	}{
		{BadRequest, 400, "bad_request"},
		{CredentialMissing, 401, "credential_missing"},
		{Malformed, 401, "credential_malformed"},
		{&policy.CredentialError{Code: "credential_signature"}, 401, "credential_signature"},
		{&policy.CredentialError{Code: "credential_expired"}, 401, "credential_expired"},
		{&policy.CredentialError{Code: "credential_not_yet_valid"}, 401, "credential_not_yet_valid"},
		{&policy.CredentialError{Code: "credential_revoked"}, 401, "credential_revoked"},
		{&policy.CredentialError{Code: "credential_issuer"}, 401, "credential_issuer"},
		{&policy.CredentialError{Code: "credential_audience"}, 401, "credential_audience"},
		{&policy.CredentialError{Code: "credential_scope"}, 404, "not_found"},
		{&policy.CredentialError{Code: "subject_suspended"}, 403, "subject_suspended"},
		{&policy.CredentialError{Code: "not_found"}, 401, "credential_malformed"},
		{Forbidden, 403, "forbidden"},
		{musen.ErrNotFound, 404, "not_found"},
		{MethodNotAllowed, 405, "method_not_allowed"},
		{NotAcceptable, 406, "not_acceptable"},
		{musen.ErrExists, 409, "exists"},
		{musen.ErrGone, 410, "gone"},
		{musen.ErrExpired, 410, "gone"},
		{PreconditionFailed, 412, "precondition_failed"},
		{&http.MaxBytesError{Limit: 3}, 413, "too_large"},
		{musen.ErrTooLarge, 413, "too_large"},
		{URITooLong, 414, "uri_too_long"},
		{UnsupportedMedia, 415, "unsupported_media_type"},
		{BadRange, 416, "range_not_satisfiable"},
		{musen.ErrInvalid, 422, "invalid"},
		{TooMany, 429, "too_many_requests"},
		{HeaderTooLarge, 431, "header_too_large"},
		{musen.ErrTakenDown, 451, "taken_down"},
		{errors.Join(policy.ErrStale, musen.ErrUnavailable), 503, "revocations_unknown"},
		{errors.New("anything"), 500, "internal"},
		{Code("no such code"), 500, "internal"},
		{nil, 500, "internal"},
		{musen.ErrUnavailable, 503, "unavailable"},
		{errors.Join(musen.ErrUnavailable, context.DeadlineExceeded), 503, "unavailable"},
		{context.Canceled, 503, "unavailable"},
		{Busy, 503, "busy"},
		{musen.ErrNoSpace, 507, "no_space"},
	} {
		wrapped := c.err
		if wrapped != nil {
			wrapped = fmt.Errorf("open %q: %w", "/secret/path 203.0.113.77", c.err)
		}
		res, p := ask(t, http.MethodGet, wrapped)
		if res.StatusCode != c.status || p.Status != c.status || p.Code != c.code {
			t.Errorf("%v: status %d, body %d %s; want %d %s", c.err, res.StatusCode, p.Status, p.Code, c.status, c.code)
		}
		if p.Type != "about:blank" || p.Title == "" || p.Detail == "" || p.Help == "" || p.RequestID != "abc" {
			t.Errorf("%v: a field is missing: %+v", c.err, p)
		}
	}
}

// H13, H31, H32: nothing of the cause or of the request leaves, and no cache
// may keep an answer.
func TestAnswersArePrivateAndSilent(t *testing.T) {
	cause := fmt.Errorf("read %s: %w", "secret-token", &fs.PathError{Op: "open", Path: "/var/lib/secret", Err: musen.ErrUnavailable})
	w := httptest.NewRecorder()
	w.Header().Set("Etag", `"x"`)
	w.Header().Set("Content-Disposition", "attachment")
	Write(w, httptest.NewRequest(http.MethodGet, "/x?CAT=secret-token", nil), cause)
	if strings.Contains(w.Body.String(), "secret") {
		t.Errorf("the body tells the cause: %s", w.Body)
	}
	for name, want := range map[string]string{
		"Content-Type":           "application/problem+json",
		"Cache-Control":          "private, no-store",
		"X-Content-Type-Options": "nosniff",
		"Retry-After":            "5",
		"Etag":                   "",
		"Content-Disposition":    "",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestChallenge(t *testing.T) {
	for err, want := range map[error]string{
		CredentialMissing: `Bearer realm="musen"`,
		&policy.CredentialError{Code: "credential_expired"}: `Bearer realm="musen", error="invalid_token", error_description="credential_expired"`,
		musen.ErrNotFound: "",
	} {
		res, _ := ask(t, http.MethodGet, err)
		if got := res.Header.Get("WWW-Authenticate"); got != want {
			t.Errorf("%v: WWW-Authenticate %q, want %q", err, got, want)
		}
	}
}

func TestHeadHasTheHeadersOfGet(t *testing.T) {
	get, _ := ask(t, http.MethodGet, musen.ErrGone)
	head, _ := ask(t, http.MethodHead, musen.ErrGone)
	if get.StatusCode != head.StatusCode || fmt.Sprint(get.Header) != fmt.Sprint(head.Header) {
		t.Errorf("GET %d %v, HEAD %d %v", get.StatusCode, get.Header, head.StatusCode, head.Header)
	}
}

func TestWithDetail(t *testing.T) {
	err := fmt.Errorf("create station: %w", WithDetail(musen.ErrInvalid, `station name "A": use only a-z`))
	_, p := ask(t, http.MethodGet, err)
	if p.Code != "invalid" || p.Detail != `station name "A": use only a-z` {
		t.Errorf("got %+v", p)
	}
}

// What has expired was not removed.
func TestExpired(t *testing.T) {
	_, removed := ask(t, http.MethodGet, musen.ErrGone)
	_, expired := ask(t, http.MethodGet, fmt.Errorf("open: %w", musen.ErrExpired))
	if !strings.Contains(removed.Detail, "removed") || !strings.Contains(expired.Detail, "expired") || strings.Contains(expired.Detail, "removed") {
		t.Errorf("removed: %q, expired: %q", removed.Detail, expired.Detail)
	}
}

func TestRequestID(t *testing.T) {
	id, err := NewRequestID(bytes.NewReader(make([]byte, 12)))
	if err != nil || id != strings.Repeat("a", 20) {
		t.Errorf("id %q, %v", id, err)
	}
	if _, err := NewRequestID(bytes.NewReader(nil)); err == nil {
		t.Error("no error without randomness")
	}
	if got := RequestID(context.Background()); got != "" {
		t.Errorf("id %q of a context without one", got)
	}
}
