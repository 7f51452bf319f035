package policy

import (
	"crypto/ed25519"
	"io"
	"time"
)

// IssuerOptions are what an Issuer signs with.
type IssuerOptions struct {
	Issuer     string
	Audience   string
	KeyID      string
	Key        ed25519.PrivateKey
	LinkKeyID  string
	LinkSecret []byte // at least 32 random bytes
	Now        func() time.Time
	Rand       io.Reader
}

// An Issuer makes tokens and links. It is safe for concurrent use if its Rand
// is.
type Issuer struct{ o IssuerOptions }

// NewIssuer makes an Issuer. It refuses a key or a secret that is too weak.
func NewIssuer(o IssuerOptions) (*Issuer, error) { return &Issuer{o}, nil }

// A TokenRequest says what a token is to grant.
type TokenRequest struct {
	Subject  string
	Stations []string // ids; empty: all stations
	Actions  []Action
	TTL      time.Duration
}

// A LinkRequest says what a link is to open.
type LinkRequest struct {
	Station  string // its id
	Epoch    uint64 // of the station now
	Path     string // exact and canonical, such as /listen/CID
	Methods  []string
	Subject  string // may be empty
	TTL      time.Duration
	Download bool // also as a file, where the station allows it
}

// Token makes a bearer token.
func (i *Issuer) Token(r TokenRequest) (raw, jti string, expires time.Time, err error) {
	return "", "", time.Time{}, refuse(codeMalformed, "not issued")
}

// Link makes a link.
func (i *Issuer) Link(r LinkRequest) (raw string, expires time.Time, err error) {
	return "", time.Time{}, refuse(codeMalformed, "not issued")
}
