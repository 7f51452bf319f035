// Package problem answers refused and failed requests: it maps any error to
// one status, one stable code and plain words, and writes them as an RFC 9457
// application/problem+json body.
//
// An answer never holds the text of the error that caused it, so no token,
// path on disk, address or key can leave in one. The package does not know
// routes, gin or what a request wanted, and it logs nothing.
package problem

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/musenai/musen"
)

// A Problem is the body of an answer that refuses or fails a request.
type Problem struct {
	Type      string `json:"type"`   // always about:blank: Code tells problems apart
	Title     string `json:"title"`  // the status in words
	Status    int    `json:"status"` // the HTTP status
	Detail    string `json:"detail"` // what is wrong, in plain words
	Code      Code   `json:"code"`   // stable, for programs
	Help      string `json:"help"`   // what the caller can do about it
	RequestID string `json:"request_id,omitempty"`
}

// Of returns the problem that err is, without a request id. An error that the
// tables do not know is status 500.
func Of(err error) Problem {
	code := codeOf(err)
	a := lookUp(code)
	if a.status == 0 {
		code, a = internal, lookUp(internal)
	}
	detail := a.detail
	if code == gone && errors.Is(err, musen.ErrExpired) {
		detail = "The segment has expired."
	}
	if why := musen.TakedownCategory(err); code == takenDown && why != "" {
		detail = "The segment was taken down: " + strings.ReplaceAll(why, "_", " ") + "."
	}
	if d := detailOf(err); d != "" {
		detail = d
	}
	return Problem{
		Type: "about:blank", Title: title(a.status), Status: a.status,
		Detail: detail, Code: code, Help: cmp.Or(helpOf(err), a.help),
	}
}

// title names a status; net/http has no words for some.
func title(status int) string {
	if t := http.StatusText(status); t != "" {
		return t
	}
	return strconv.Itoa(status)
}

// Write answers a request with the problem that err is and returns it. It must
// come before anything else was written. Headers that describe a body that was
// about to be sent are dropped; every answer is private and stored by no cache.
func Write(w http.ResponseWriter, r *http.Request, err error) Problem {
	p := Of(err)
	p.RequestID = RequestID(r.Context())
	body, err := json.Marshal(p)
	if err != nil { // a struct of strings and an int always marshals
		panic(err)
	}
	body = append(body, '\n')
	setHeader(w.Header(), p, len(body))
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // a client that is gone needs no answer; net/http sends HEAD none
	return p
}

func setHeader(h http.Header, p Problem, length int) {
	for _, name := range []string{"Content-Disposition", "Content-Encoding", "Etag", "Last-Modified", "Accept-Ranges"} {
		h.Del(name)
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(length))
	h.Set("Cache-Control", "private, no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", challenge(p.Code))
	}
	if seconds := lookUp(p.Code).retry; seconds > 0 && h.Get("Retry-After") == "" {
		h.Set("Retry-After", strconv.Itoa(seconds))
	}
}

// challenge is the WWW-Authenticate value of RFC 6750: no error code for a
// request that came without a credential.
func challenge(c Code) string {
	if c == CredentialMissing {
		return `Bearer realm="musen"`
	}
	return `Bearer realm="musen", error="invalid_token", error_description="` + string(c) + `"`
}
