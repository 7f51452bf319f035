package admin

import (
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/internal/cidpath"
)

const (
	maxText = 1000 // bytes of a title, an artist, a name of a file, a description
	maxName = 256  // bytes of a subject or a jti
)

// parseCID reads a CID of a segment as cidpath does.
func parseCID(s string) (cid.Cid, error) {
	c, ok := cidpath.Parse(s)
	if !ok {
		return cid.Undef, errCID
	}
	return c, nil
}

// parameters reads the query of a request that checkQuery has passed. The
// first one that cannot be read is kept as err.
type parameters struct {
	values url.Values
	err    error
}

func (p *parameters) fail(name, what string) {
	if p.err == nil {
		p.err = badParameter(name, what)
	}
}

// text reads text that is shown as it is.
func (p *parameters) text(name string) string {
	v := p.values.Get(name)
	if !isText(v) {
		p.fail(name, "is not one line of text of at most 1000 bytes, without characters that change its direction")
	}
	return v
}

// fileName reads the name of a file, which may be any that is one line: what is
// shown of it is cleaned.
func (p *parameters) fileName(name string) string {
	v := p.values.Get(name)
	if !isLine(v) {
		p.fail(name, "is not one line of text of at most 1000 bytes")
	}
	return v
}

// isName reports whether s can be a subject; it may be empty.
func isName(s string) bool { return len(s) <= maxName && isText(s) }

// isText reports whether s is a line that looks like what it is: it has none
// of the characters that are taken out of the texts in audio, which change
// direction or are no characters at all.
func isText(s string) bool {
	return isLine(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.Is(unicode.Bidi_Control, r) || r == '\ufeff' || r == '\ufffe' || r == '\uffff'
	})
}

// isLine reports whether s is text in one line, not overly long.
func isLine(s string) bool {
	return len(s) <= maxText && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp)
	})
}

// flag reads true or false; absent is false.
func (p *parameters) flag(name string) bool {
	switch p.values.Get(name) {
	case "true":
		return true
	case "false":
		return false
	}
	if p.values.Has(name) {
		p.fail(name, "is neither true nor false")
	}
	return false
}

// moment reads a time of RFC 3339; absent is the zero time.
func (p *parameters) moment(name string) time.Time {
	if !p.values.Has(name) {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, p.values.Get(name))
	if err != nil || t.Year() < 1970 {
		p.fail(name, "is not a time like 2026-01-31T12:00:00Z")
		return time.Time{}
	}
	return t.UTC()
}

// number reads a whole number from low to high; absent is high.
func (p *parameters) number(name string, low, high int) int {
	if !p.values.Has(name) {
		return high
	}
	n, err := strconv.Atoi(p.values.Get(name))
	if err != nil || n < low || n > high {
		p.fail(name, "is not a number from "+strconv.Itoa(low)+" to "+strconv.Itoa(high))
	}
	return n
}
