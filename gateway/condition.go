package gateway

import (
	"net/http"
	"strings"
	"time"
)

// A version is what the preconditions of a request are held against.
type version struct {
	etag     string    // strong, with its quotes
	modified time.Time // whole seconds; zero: not known
}

// check evaluates the preconditions of a GET or HEAD in the order of RFC 9110
// section 13.2.2. It returns 0 when the request goes on, or the status 304 or
// 412 that answers it.
func (v version) check(h http.Header) int {
	if tags, ok := list(h, "If-Match"); ok {
		if !anyTag(tags, func(t string) bool { return t == "*" || t == v.etag }) {
			return http.StatusPreconditionFailed
		}
	} else if since, ok := date(h, "If-Unmodified-Since"); ok && !v.modified.IsZero() && v.modified.After(since) {
		return http.StatusPreconditionFailed
	}
	if tags, ok := list(h, "If-None-Match"); ok {
		if anyTag(tags, func(t string) bool { return t == "*" || strings.TrimPrefix(t, "W/") == v.etag }) {
			return http.StatusNotModified
		}
	} else if since, ok := date(h, "If-Modified-Since"); ok && !v.modified.IsZero() && !v.modified.After(since) {
		return http.StatusNotModified
	}
	return 0
}

// allowsRange reports whether the If-Range of a request, if there is one, lets
// its Range be honoured: the same strong tag, or exactly the same date.
func (v version) allowsRange(h http.Header) bool {
	values := h["If-Range"]
	if len(values) == 0 {
		return true
	}
	if len(values) > 1 {
		return false
	}
	value := strings.Trim(values[0], " \t")
	if strings.HasPrefix(value, `"`) || strings.HasPrefix(value, "W/") {
		return value == v.etag
	}
	t, err := http.ParseTime(value)
	return err == nil && !v.modified.IsZero() && t.Equal(v.modified)
}

func list(h http.Header, name string) (string, bool) {
	values := h[name]
	return strings.Join(values, ","), len(values) > 0
}

// date reads a header of one HTTP date; any other is as good as none.
func date(h http.Header, name string) (time.Time, bool) {
	values := h[name]
	if len(values) != 1 {
		return time.Time{}, false
	}
	t, err := http.ParseTime(values[0])
	return t, err == nil
}

// anyTag reports whether match holds for * or an entity tag in the list s. What
// comes after something malformed is not looked at.
func anyTag(s string, match func(string) bool) bool {
	for {
		s = strings.TrimLeft(s, " \t,")
		if strings.HasPrefix(s, "*") {
			return match("*")
		}
		tag := leadingTag(s)
		if tag == "" {
			return false
		}
		if match(tag) {
			return true
		}
		s = s[len(tag):]
	}
}

// leadingTag is the entity tag that s begins with, or "".
func leadingTag(s string) string {
	open := len(s) - len(strings.TrimPrefix(s, "W/"))
	if open >= len(s) || s[open] != '"' {
		return ""
	}
	n := strings.IndexByte(s[open+1:], '"')
	if n < 0 {
		return ""
	}
	return s[:open+1+n+1]
}
