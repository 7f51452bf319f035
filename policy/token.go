package policy

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Bounds of a token, in bytes. They are checked before anything is decoded.
const (
	maxToken       = 8 << 10
	maxTokenHeader = 1 << 10 // in base64url
	maxName        = 256     // of an id or a subject
)

// tokenTypes are the two spellings of the media type of RFC 9068.
func tokenTypes() []string { return []string{"at+jwt", "application/at+jwt"} }

// parseToken verifies everything of a token that does not change with time.
func (v *Verifier) parseToken(raw string) (*credential, error) {
	if err := checkSpelling(raw); err != nil {
		return nil, err
	}
	header, rest, _ := strings.Cut(raw, ".")
	named, _, _ := strings.Cut(rest, ".")
	h, err := parseHeader(header)
	if err != nil {
		return nil, err
	}
	from, err := v.trustOf(named)
	if err != nil {
		return nil, err
	}
	c, err := from.parse(raw, h)
	if refused, ok := errors.AsType[*CredentialError](err); ok && from.Name != "" {
		return nil, refuse(refused.Code, refused.why+" (issuer "+from.Name+")") // the name in the configuration
	}
	return c, err
}

// parse verifies a token with that header as one of this issuer.
func (t *trust) parse(raw string, h tokenHeader) (*credential, error) {
	payload, key, err := t.payload(raw, h)
	if err != nil {
		return nil, err
	}
	claims, err := parseObject(payload)
	if err != nil {
		return nil, refuse(codeMalformed, "claims are not strict JSON")
	}
	c, err := t.tokenClaims(claims, payload)
	if err == nil {
		c.from, c.key = t, key
	}
	return c, err
}

// payload is what was signed of a token with that header, by the key of this
// issuer that the header names.
func (t *trust) payload(raw string, h tokenHeader) ([]byte, PublicKey, error) {
	key, err := t.key(h)
	if err != nil {
		return nil, key, err
	}
	jws, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(h.alg)})
	if err != nil {
		return nil, key, refuse(codeMalformed, "not a JWS in compact form")
	}
	payload, err := jws.Verify(key.Key)
	if err != nil || !saltFits(raw, h, key.Key) {
		return nil, key, refuse(codeSignature, "signature does not verify")
	}
	return payload, key, nil
}

// saltFits reports whether a signature of RSASSA-PSS that verifies has a salt as
// long as its hash, as RFC 7518, 3.5 wants; go-jose takes any.
func saltFits(raw string, h tokenHeader, key crypto.PublicKey) bool {
	if jose.SignatureAlgorithm(h.alg) != jose.PS256 {
		return true
	}
	end := strings.LastIndexByte(raw, '.')
	public, ok := key.(*rsa.PublicKey)
	sig, err := base64.RawURLEncoding.DecodeString(raw[end+1:])
	if !ok || err != nil {
		return false
	}
	sum := sha256.Sum256([]byte(raw[:end]))
	return rsa.VerifyPSS(public, crypto.SHA256, sum[:], sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
}

// checkSpelling refuses every spelling but the canonical one: three parts of
// base64url without padding, white space or left-over bits.
func checkSpelling(raw string) error {
	if len(raw) > maxToken || strings.Count(raw, ".") != 2 {
		return refuse(codeMalformed, "too long, or not of three parts")
	}
	for part := range strings.SplitSeq(raw, ".") {
		if !canonicalBase64(part) {
			return refuse(codeMalformed, "a part is not canonical base64url")
		}
	}
	return nil
}

// canonicalBase64 reports whether s is the one spelling of some bytes. It does
// not allocate.
func canonicalBase64(s string) bool {
	if s == "" || len(s)%4 == 1 {
		return false
	}
	for i := range len(s) {
		if base64Value(s[i]) < 0 {
			return false
		}
	}
	last := base64Value(s[len(s)-1])
	switch len(s) % 4 {
	case 2:
		return last&0b1111 == 0
	case 3:
		return last&0b11 == 0
	}
	return true
}

func base64Value(c byte) int {
	switch {
	case 'A' <= c && c <= 'Z':
		return int(c - 'A')
	case 'a' <= c && c <= 'z':
		return int(c-'a') + 26
	case '0' <= c && c <= '9':
		return int(c-'0') + 52
	case c == '-':
		return 62
	case c == '_':
		return 63
	}
	return -1
}

// tokenHeader is what the header of a token says.
type tokenHeader struct {
	alg, kid, typ string
	bare          bool // alg, kid and typ are all it says
}

// parseHeader reads a header. It holds alg, kid and mostly typ, and it may name
// the thumbprint of a certificate, which nothing is done with: no key or address
// of one, and nothing critical.
func parseHeader(part string) (h tokenHeader, err error) {
	if len(part) > maxTokenHeader {
		return h, refuse(codeMalformed, "header too long")
	}
	data, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return h, refuse(codeMalformed, "header is not base64url")
	}
	header, err := parseObject(data)
	if err != nil {
		return h, refuse(codeMalformed, "header is not strict JSON")
	}
	for member, v := range header {
		text, ok := v.(string)
		if !ok || !slices.Contains([]string{"alg", "kid", "typ", "x5t", "x5t#S256"}, member) {
			return h, refuse(codeMalformed, "header is not alg, kid and typ alone")
		}
		switch member {
		case "alg":
			h.alg = text
		case "kid":
			h.kid = text
		case "typ":
			h.typ = text
		}
	}
	h.bare = len(header) == 3 && h.alg != "" && h.typ != ""
	if h.kid == "" || len(h.kid) > maxKeyID {
		return h, refuse(codeMalformed, "header names no key, or a long one")
	}
	return h, nil
}

// tokenTimes reads exp, iat and nbf; only nbf may be missing.
func (t *trust) tokenTimes(c *credential, m map[string]any) error {
	var ok [3]bool
	c.expires, ok[0] = numericDate(m["exp"])
	c.issued, ok[1] = numericDate(m["iat"])
	c.notBefore, ok[2] = c.issued, true
	if nbf, there := m["nbf"]; there {
		c.notBefore, ok[2] = numericDate(nbf)
	}
	if ok != [3]bool{true, true, true} {
		return refuse(codeMalformed, "exp, iat or nbf missing or of the wrong form")
	}
	return checkTTL(c, t.MaxTTL)
}

func checkTTL(c *credential, limit time.Duration) error {
	if ttl := c.expires.Sub(c.issued); ttl <= 0 || ttl > limit {
		return refuse(codeMalformed, "lives longer than is allowed, or ends before it begins")
	}
	return nil
}

// name reads a text that stands for somebody or something.
func name(v any) (string, bool) {
	s, ok := v.(string)
	return s, ok && s != "" && len(s) <= maxName
}

// numericDate reads whole seconds since 1970, in a range that cannot overflow.
func numericDate(v any) (time.Time, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	seconds, err := strconv.ParseUint(n.String(), 10, 64)
	return time.Unix(int64(seconds), 0), err == nil && seconds <= math.MaxUint32
}

// hasAudience reports whether aud, one text or a list of them, has want.
func hasAudience(aud any, want string) bool {
	list, ok := aud.([]any)
	if !ok {
		return aud == want
	}
	texts, ok := textList(list)
	return ok && slices.Contains(texts, want)
}

// everyStation in a stations claim stands for all stations.
const everyStation = "*"

// stations reads the ids that a token covers. No claim covers none.
func stations(v any) (ids []string, everywhere, ok bool) {
	if v == nil {
		return nil, false, true
	}
	list, ok := v.([]any)
	if !ok {
		return nil, false, false
	}
	ids, ok = textList(list)
	return ids, slices.Contains(ids, everyStation), ok
}

func textList(list []any) ([]string, bool) {
	texts := make([]string, 0, len(list))
	for _, v := range list {
		s, ok := v.(string)
		if !ok {
			return nil, false
		}
		texts = append(texts, s)
	}
	return texts, true
}
