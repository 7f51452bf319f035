// Package cat makes and verifies Common Access Tokens (CTA-5007): CBOR web
// tokens (RFC 8392) in COSE_Mac0 (RFC 9052) under HMAC-SHA-256, spelled in
// base64url without padding.
//
// It understands iss, sub, aud, exp, nbf, iat, cti, catv, catu on the path,
// catm and two private claims. A token with any other claim, or a match that it
// does not understand, is refused, because a restriction that is not
// understood cannot be kept.
//
// It does not know what a station is for, who issued a token, or what was
// revoked, and it keeps nothing.
package cat

import (
	"errors"
	"fmt"
	"time"
)

// MaxSize is the longest token, in bytes before base64url.
const MaxSize = 1024

var (
	// ErrMalformed says that the token is no CAT, is spelled otherwise than
	// canonically, or holds what this package does not understand.
	ErrMalformed = errors.New("malformed token")
	// ErrMAC says that no key that is known made the token.
	ErrMAC = errors.New("wrong authentication tag")
	// ErrExpired says that the token's time is over.
	ErrExpired = errors.New("token expired")
	// ErrNotYetValid says that the token's time has not come.
	ErrNotYetValid = errors.New("token not yet valid")
	// ErrScope says that the token holds for other paths or methods.
	ErrScope = errors.New("token is for another path or method")
)

// Claims are what a token says. Times have whole seconds.
type Claims struct {
	Issuer    string
	Subject   string
	Audience  []string
	Expires   time.Time // required
	NotBefore time.Time // zero: not limited
	Issued    time.Time // zero: not told
	ID        []byte
	Paths     []Match  // all of them must hold; empty: any path
	Methods   []string // empty: any method
	Station   *Station // nil: not told
	Parent    *Parent  // nil: not told
	By        []byte   // private claim -65539: whom it ends with, as its issuer spells that; nil: not told
	// Tagged is whether the token has the outer CWT tag (61), which the MAC
	// does not cover.
	Tagged bool
	// KeyID is the kid of the key that made the token, as Verify found it. Sign
	// does not look at it.
	KeyID string
}

// A Match is a condition on the path of a request.
type Match struct {
	Value  string
	Prefix bool // Value is the beginning of the path, not all of it
}

// Station is the private claim, under the number -65537. Validators that do
// not know it lose nothing that keeps a listener out of another path.
type Station struct {
	ID       string
	Epoch    uint64
	Download bool
}

// CheckTime returns ErrExpired or ErrNotYetValid unless the claims hold at
// now, with clocks that may differ by leeway.
func (c Claims) CheckTime(now time.Time, leeway time.Duration) error {
	if !now.Before(c.Expires.Add(leeway)) {
		return ErrExpired
	}
	if now.Add(leeway).Before(c.NotBefore) || now.Add(leeway).Before(c.Issued) {
		return ErrNotYetValid
	}
	return nil
}

// CheckRequest returns ErrScope unless the claims hold for a request of that
// method and path. A path that is not canonical holds for nothing: it must be
// absolute, without empty, . or .. parts, percent signs, backslashes, ; or
// anything but plain ASCII.
func (c Claims) CheckRequest(method, path string) error {
	if !allowsMethod(c.Methods, method) {
		return fmt.Errorf("method %.20q: %w", method, ErrScope)
	}
	if !canonicalPath(path) {
		return fmt.Errorf("path %.80q: not canonical: %w", path, ErrScope)
	}
	for _, m := range c.Paths {
		if !m.holds(path) {
			return fmt.Errorf("path %.80q: %w", path, ErrScope)
		}
	}
	return nil
}

// Parent is the private claim, under the number -65538, of a token that ends
// with what it was made for.
type Parent struct {
	ID         string // of the credential that it was minted with; empty: of none
	Generation uint64 // of what the subject is
}
