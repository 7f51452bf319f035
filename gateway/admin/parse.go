package admin

import (
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multibase"
	"github.com/multiformats/go-multihash"
)

const (
	maxCID  = 128  // characters
	maxText = 1000 // bytes of a title, an artist, a name of a file, a description
	maxName = 256  // bytes of a subject or a jti
)

// parseCID reads a CID of a segment in any of its eight spellings, and only in
// the one exact form of each.
func parseCID(s string) (cid.Cid, error) {
	if len(s) > maxCID {
		return cid.Undef, errCID
	}
	c, err := cid.Decode(s)
	if err != nil || !spelled(c, s) {
		return cid.Undef, errCID
	}
	p := c.Prefix()
	if p.MhType != multihash.SHA2_256 || p.MhLength != 32 || p.Codec != cid.Raw && p.Codec != cid.DagProtobuf {
		return cid.Undef, errCID
	}
	return c, nil
}

// spelled reports whether s is how a base that segments are named in spells c:
// decoders take mixed case and stray bits too.
func spelled(c cid.Cid, s string) bool {
	if c.Version() == 0 {
		return c.String() == s
	}
	base := multibase.Encoding(s[0])
	switch base {
	case multibase.Base16, multibase.Base16Upper, multibase.Base32, multibase.Base32Upper,
		multibase.Base36, multibase.Base36Upper, multibase.Base58BTC, multibase.Base64url:
		again, err := c.StringOfBase(base)
		return err == nil && again == s
	}
	return false
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

// text reads one line of text.
func (p *parameters) text(name string) string {
	v := p.values.Get(name)
	if !isText(v) {
		p.fail(name, "is not one line of text of at most 1000 bytes")
	}
	return v
}

// isName reports whether s can be a subject or a jti; it may be empty.
func isName(s string) bool { return len(s) <= maxName && isText(s) }

// isText reports whether s is text in one line, not overly long.
func isText(s string) bool {
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
