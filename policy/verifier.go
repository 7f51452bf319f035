package policy

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/musenai/musen/policy/cat"
)

// Revocations answers from memory: it is asked at every use of a credential.
type Revocations interface {
	// Revoked reports whether the credential of that id was revoked, or all of
	// subject that were issued until a time which issued is not after.
	Revoked(id, subject string, issued time.Time) bool
	// KeyRevoked reports whether all that was signed with a key was revoked. The
	// key of another issuer is named by the issuer's name, a bar, and its kid.
	KeyRevoked(key string) bool
	// Epoch is the epoch of the station now; false if there is no such station.
	Epoch(station string) (uint64, bool)
}

// Shares answers from memory, as Revocations does.
type Shares interface {
	// Generation counts the passwords that a share has had; false if there is no
	// such share, or it was revoked.
	Generation(share string) (generation uint64, live bool)
}

// A PublicKey checks the signatures of tokens that name its ID as their kid.
type PublicKey struct {
	ID  string
	Key crypto.PublicKey // ed25519.PublicKey, *ecdsa.PublicKey on P-256, or *rsa.PublicKey
	// Algorithms are those of JOSE that a token may be signed with by this key.
	// A KeySource tells them; of the node's own keys they are not looked at.
	Algorithms []string
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
	SessionKeys []LinkKey       // of the cookies of shares; none of LinkKeys may be among them
	Issuers     []ForeignIssuer // whose tokens are accepted besides
	Revocations Revocations
	Shares      Shares   // nil: no session is good
	Subjects    Subjects // nil: all are active
	Uses        Uses     // nil: nobody follows them
	Roles       Roles    // of those who issue tokens; nil: they hold none
	Cipher      Cipher   // that of the Issuer; nil: no token that somebody issued is good
	// Stations finds stations that foreign issuers name, from memory; nil: they
	// name none.
	Stations func(nameOrID string) (id string, ok bool)
	// Current returns an error, which wraps ErrStale, while Revocations may be
	// out of date; nil: it never is. It is asked at every use of a credential.
	Current    func() error
	Now        func() time.Time
	After      func(time.Duration) <-chan time.Time // nil: time.After
	Leeway     time.Duration                        // tolerated between clocks; at most 5 minutes
	MaxTTL     time.Duration                        // longest life of a token; 0: 366 days
	MaxLinkTTL time.Duration                        // longest life of a link; 0: 7 days
	CacheBytes int                                  // memory for credentials verified before; 0: 16 MiB
}

// Defaults and limits of VerifierOptions.
const (
	defaultMaxTTL     = 366 * 24 * time.Hour
	defaultMaxLinkTTL = 7 * 24 * time.Hour
	defaultCacheBytes = 16 << 20
	maxLeeway         = 5 * time.Minute
)

// ErrStale says that it is not known what was revoked of late, so that no
// credential may be relied on now.
var ErrStale = errors.New("what was revoked is not known now")

// A Verifier turns credentials into grants. It is safe for concurrent use.
//
// What it verified it remembers by the SHA-256 of the exact bytes, in bounded
// memory, and asks only the clock and Revocations again. It remembers nothing
// of what it refused.
type Verifier struct {
	o        VerifierOptions
	own      *trust
	ownKeys  atomic.Pointer[heldKeys]
	links    atomic.Pointer[cat.Verifier]
	sessions atomic.Pointer[cat.Verifier]
	foreign  map[string]*trust // by iss
	known    *otter.Cache[credentialKey, *credential]
}

// credentialKey tells credentials of the same bytes and different kinds apart.
type credentialKey struct {
	kind  string
	print [sha256.Size]byte
}

// NewVerifier makes a Verifier. It refuses keys that are too weak, and two of
// the same id.
func NewVerifier(o VerifierOptions) (*Verifier, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("make a verifier: %w", err)
	}
	o.setDefaults()
	v := &Verifier{o: o}
	if err := v.SetKeys(o.Keys, o.LinkKeys, o.SessionKeys); err != nil {
		return nil, fmt.Errorf("make a verifier: %w", err)
	}
	if err := v.trustAll(); err != nil {
		return nil, fmt.Errorf("make a verifier: %w", err)
	}
	known, err := otter.New(&otter.Options[credentialKey, *credential]{
		MaximumWeight: uint64(o.CacheBytes),
		Weigher:       func(_ credentialKey, c *credential) uint32 { return c.weight() },
	})
	if err != nil {
		return nil, fmt.Errorf("make a verifier: %w", err)
	}
	v.known = known
	return v, nil
}

// SetKeys replaces the keys of the node's own tokens, links and sessions. What
// was signed with a key that is gone is refused from then on.
func (v *Verifier) SetKeys(keys []PublicKey, links, sessions []LinkKey) error {
	held, err := signingKeys(keys)
	if err != nil {
		return err
	}
	ofLinks, ofSessions, err := macVerifiers(links, sessions)
	if err != nil {
		return err
	}
	v.ownKeys.Store(&held)
	v.links.Store(ofLinks)
	v.sessions.Store(ofSessions)
	return nil
}

// macVerifiers checks the secrets of links and of sessions, which must differ:
// a cookie is never a link, and a link never a cookie.
func macVerifiers(links, sessions []LinkKey) (ofLinks, ofSessions *cat.Verifier, err error) {
	for _, l := range links {
		for _, s := range sessions {
			if l.ID == s.ID || bytes.Equal(l.Secret, s.Secret) {
				return nil, nil, fmt.Errorf("session key %.80q is a link key", s.ID)
			}
		}
	}
	secrets, err := linkKeys(links)
	if err != nil {
		return nil, nil, err
	}
	if ofLinks, err = cat.NewVerifier(secrets); err != nil {
		return nil, nil, err
	}
	if secrets, err = linkKeys(sessions); err != nil {
		return nil, nil, err
	}
	ofSessions, err = cat.NewVerifier(secrets)
	return ofLinks, ofSessions, err
}

func (o VerifierOptions) check() error {
	switch {
	case o.Issuer == "" || o.Audience == "":
		return errors.New("issuer and audience must be told")
	case o.Revocations == nil || o.Now == nil:
		return errors.New("revocations and clock must be given")
	case o.Leeway < 0 || o.Leeway > maxLeeway:
		return fmt.Errorf("leeway %v: want 0 to %v", o.Leeway, maxLeeway)
	case o.MaxTTL < 0 || o.MaxLinkTTL < 0 || o.CacheBytes < 0:
		return errors.New("a limit is negative")
	}
	return nil
}

func (o *VerifierOptions) setDefaults() {
	if o.After == nil {
		o.After = time.After
	}
	o.MaxTTL = cmp.Or(o.MaxTTL, defaultMaxTTL)
	o.MaxLinkTTL = cmp.Or(o.MaxLinkTTL, defaultMaxLinkTTL)
	o.CacheBytes = cmp.Or(o.CacheBytes, defaultCacheBytes)
}

// Token verifies a bearer token: a JWT (RFC 9068) signed with EdDSA or ES256, or
// one of a foreign issuer as that is described. Every error is a
// *CredentialError, or wraps ErrStale.
func (v *Verifier) Token(raw string) (Grant, error) { return v.token(raw, Uses.Use) }

// Examine verifies a token as Token does, for somebody who asks about it: that
// is no use of the token.
func (v *Verifier) Examine(raw string) (Grant, error) { return v.token(raw, Uses.Usable) }

func (v *Verifier) token(raw string, use func(Uses, string, time.Time) bool) (Grant, error) {
	if len(raw) > maxToken {
		return Grant{}, refuse(codeMalformed, "too long")
	}
	c, err := v.remember(kindToken, raw, v.parseToken)
	if err != nil {
		return Grant{}, err
	}
	g, err := v.grant(c)
	if err == nil {
		err = v.used(c, use)
	}
	if err != nil {
		return Grant{}, err
	}
	if len(c.named) > 0 {
		g.c = v.resolve(c)
	}
	return g, nil
}

// Link verifies a link for a request of that method and path. The path is the
// one that is routed by, before any decoding; see cat.Claims.CheckRequest for
// the paths that no link holds for. Every error is a *CredentialError, or wraps
// ErrStale.
func (v *Verifier) Link(raw, method, path string) (Grant, error) {
	if len(raw) > 2*cat.MaxSize {
		return Grant{}, refuse(codeMalformed, "too long")
	}
	c, err := v.remember(kindLink, raw, v.parseLink)
	if err != nil {
		return Grant{}, err
	}
	g, err := v.grant(c)
	if err != nil {
		return Grant{}, err
	}
	if err := c.link.CheckRequest(method, path); err != nil {
		return Grant{}, linkError(err)
	}
	return g, nil
}

// Known reports whether raw was verified before, as a credential of any kind,
// and is remembered. It checks nothing of it.
func (v *Verifier) Known(raw string) bool {
	if len(raw) > maxToken {
		return false
	}
	print := fingerprint(raw)
	for _, kind := range [...]string{kindToken, kindLink, kindSession} {
		if _, ok := v.known.GetIfPresent(credentialKey{kind, print}); ok {
			return true
		}
	}
	return false
}

// remember parses raw unless the same bytes were parsed before.
func (v *Verifier) remember(kind, raw string, parse func(string) (*credential, error)) (*credential, error) {
	key := credentialKey{kind, fingerprint(raw)}
	if c, ok := v.known.GetIfPresent(key); ok {
		return c, nil
	}
	c, err := parse(raw)
	if err != nil {
		return nil, err
	}
	c.print = key.print
	if v.timely(c) == nil {
		v.known.Set(key, c)
	}
	return c, nil
}

// fingerprint is the SHA-256 of raw. It does not allocate for credentials of
// the usual length.
func fingerprint(raw string) [sha256.Size]byte {
	var room [1024]byte
	return sha256.Sum256(append(room[:0], raw...))
}

// grant checks all that may have changed since c was parsed.
func (v *Verifier) grant(c *credential) (Grant, error) {
	if err := v.timely(c); err != nil {
		v.known.Invalidate(credentialKey{c.kind, c.print})
		return Grant{}, err
	}
	if err := v.revoked(c); err != nil {
		return Grant{}, err
	}
	return Grant{c: c}, nil
}

// timely checks the times of c by the rules of links, which are those of tokens.
func (v *Verifier) timely(c *credential) error {
	times := cat.Claims{Expires: c.expires, NotBefore: c.notBefore, Issued: c.issued}
	leeway := v.o.Leeway
	if c.from != nil {
		leeway = c.from.Leeway
	}
	if err := times.CheckTime(v.o.Now(), leeway); err != nil {
		return linkError(err)
	}
	return nil
}

func (v *Verifier) revoked(c *credential) error {
	if v.o.Current != nil {
		if err := v.o.Current(); err != nil {
			return err
		}
	}
	if barred(v.o.Subjects, c.subject) {
		return refuse(codeSuspended, "the subject is suspended or ended")
	}
	if v.o.Revocations.Revoked(c.id, c.subject, c.issued) {
		return refuse(codeRevoked, "revoked")
	}
	if v.o.Revocations.KeyRevoked(c.keyName()) {
		return refuse(codeRevoked, "its key was revoked")
	}
	if err := c.stillTrusted(); err != nil {
		return err
	}
	if err := v.Stands(c.by, c.issued); err != nil {
		return err
	}
	if c.kind != kindLink && c.kind != kindSession {
		return nil
	}
	if c.parent != "" && v.o.Revocations.Revoked(c.parent, "", c.issued) {
		return refuse(codeRevoked, "what the link was minted with is revoked")
	}
	if isShare(c.subject) && !v.shareLives(c) {
		return refuse(codeRevoked, "the share is revoked, or has another password")
	}
	if epoch, ok := v.o.Revocations.Epoch(c.stations[0]); !ok || epoch != c.epoch {
		return refuse(codeRevoked, "the station has another epoch")
	}
	return nil
}

// Good returns a *CredentialError once g was revoked, or its subject suspended,
// and ErrStale while that is not known. It does not look at the expiry of g.
func (v *Verifier) Good(g Grant) error {
	if c := g.get(); c.kind != kindLocal {
		return v.revoked(c)
	}
	return nil
}

// Live returns a *CredentialError once g was revoked, its subject suspended, g
// does not cover station, or is a link or a session of an epoch of it that is
// over, and ErrStale while that is not known. It does not look at the expiry
// of g, which never breaks a segment that plays. It is cheap.
func (v *Verifier) Live(g Grant, station string) error {
	c := g.get()
	switch {
	case c.kind == kindLocal:
		return nil
	case c.kind == "" || !g.Covers(station) && !c.identity: // what roles cover, policies say
		return refuse(codeScope, "no grant for the station")
	}
	return v.revoked(c)
}
