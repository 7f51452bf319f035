package policy

import (
	"crypto"
	"time"
)

// Revocations answers from memory: it is asked at every use of a credential.
type Revocations interface {
	// Revoked reports whether the credential of that id, or every credential
	// of subject issued at that time, was revoked.
	Revoked(id, subject string, issued time.Time) bool
	// Epoch is the epoch of the station now; false if there is no such station.
	Epoch(station string) (uint64, bool)
}

// A PublicKey checks the signatures of tokens that name its ID as their kid.
type PublicKey struct {
	ID  string
	Key crypto.PublicKey // ed25519.PublicKey, or *ecdsa.PublicKey on P-256
}

// A LinkKey checks links that name its ID as their kid.
type LinkKey struct {
	ID     string
	Secret []byte // at least 32 random bytes
}

// VerifierOptions are what a Verifier checks credentials against.
type VerifierOptions struct {
	Issuer      string // the iss that tokens and links must have
	Audience    string // the aud that tokens must have, and links that have one
	Keys        []PublicKey
	LinkKeys    []LinkKey
	Revocations Revocations
	Now         func() time.Time
	Leeway      time.Duration // tolerated between clocks; at most 5 minutes
	MaxTTL      time.Duration // longest life of a token; 0: 366 days
	MaxLinkTTL  time.Duration // longest life of a link; 0: 7 days
	CacheBytes  int           // memory for credentials verified before; 0: 16 MiB
}

// A Verifier turns credentials into grants. It is safe for concurrent use.
type Verifier struct{ o VerifierOptions }

// NewVerifier makes a Verifier. It refuses keys that are too weak, or share an
// id.
func NewVerifier(o VerifierOptions) (*Verifier, error) { return &Verifier{o}, nil }

// Token verifies a bearer token. Every error is a *CredentialError.
func (v *Verifier) Token(raw string) (Grant, error) {
	return Grant{}, refuse(codeMalformed, "not a token")
}

// Link verifies a link for a request of that method and canonical path. Every
// error is a *CredentialError.
func (v *Verifier) Link(raw, method, path string) (Grant, error) {
	return Grant{}, refuse(codeMalformed, "not a link")
}

// Live returns a *CredentialError once g was revoked, or station, of which g
// is a link, has another epoch than when the link was made. It does not look
// at the expiry of g, which never breaks a segment that plays.
func (v *Verifier) Live(g Grant, station string) error {
	return refuse(codeRevoked, "revoked")
}

// bounds are the methods and paths that a link holds for.
type bounds struct{}
