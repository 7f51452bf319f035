package policy

import (
	"cmp"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/musenai/musen/policy/cat"
)

// IssuerOptions are what an Issuer signs with.
type IssuerOptions struct {
	Issuer     string
	Audience   string
	KeyID      string
	Key        ed25519.PrivateKey
	LinkKeyID  string
	LinkSecret []byte   // at least 32 random bytes
	SessionKey LinkKey  // of the cookies of shares, not that of links; zero: no sessions
	Subjects   Subjects // that are suspended or ended get nothing; nil: all are active
	Now        func() time.Time
	Rand       io.Reader
	MaxTTL     time.Duration // longest life of a token; 0: 366 days
	MaxLinkTTL time.Duration // longest life of a link; 0: 7 days
	Foreign    []string      // names of foreign issuers, whose subjects are not the node's to name
	Cipher     Cipher        // hides who issues a token from its bearer; nil: only the node itself issues
}

// An Issuer makes tokens and links. It is safe for concurrent use if its Rand
// is.
type Issuer struct {
	o    IssuerOptions
	with atomic.Pointer[signers]
}

// signers are what an Issuer signs with at one time.
type signers struct {
	tokens   jose.Signer
	records  jose.Signer // of a type that no token has
	links    *cat.Signer
	sessions *cat.Signer // nil: makes no sessions
}

// NewIssuer makes an Issuer. It refuses a key or a secret that NewVerifier
// refuses.
func NewIssuer(o IssuerOptions) (*Issuer, error) {
	if o.Issuer == "" || o.Audience == "" || o.Now == nil || o.Rand == nil {
		return nil, errors.New("make an issuer: issuer, audience, clock and randomness must be given")
	}
	o.MaxTTL = cmp.Or(o.MaxTTL, defaultMaxTTL)
	o.MaxLinkTTL = cmp.Or(o.MaxLinkTTL, defaultMaxLinkTTL)
	i := &Issuer{o: o}
	if err := i.SignWith(o.KeyID, o.Key, LinkKey{o.LinkKeyID, o.LinkSecret}, o.SessionKey); err != nil {
		return nil, fmt.Errorf("make an issuer: %w", err)
	}
	return i, nil
}

// SignWith has all tokens, links and sessions from now on be signed with these
// keys. With a zero session key there are no sessions.
func (i *Issuer) SignWith(kid string, key ed25519.PrivateKey, link, session LinkKey) error {
	if len(key) != ed25519.PrivateKeySize {
		return errors.New("want a whole Ed25519 key")
	}
	var ofSessions []LinkKey
	if session.ID != "" {
		ofSessions = append(ofSessions, session)
	}
	if _, _, err := macVerifiers([]LinkKey{link}, ofSessions); err != nil {
		return err
	}
	if _, err := signingKeys([]PublicKey{{ID: kid, Key: key.Public()}}); err != nil {
		return err
	}
	header := (&jose.SignerOptions{}).WithType("at+jwt").WithHeader("kid", kid)
	tokens, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key}, header)
	if err != nil {
		return err
	}
	records, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key}, (&jose.SignerOptions{}).WithType("musen-record+jwt").WithHeader("kid", kid))
	if err != nil {
		return err
	}
	with := &signers{tokens: tokens, records: records}
	if with.links, err = cat.NewSigner(link.ID, link.Secret); err != nil {
		return err
	}
	if session.ID != "" {
		if with.sessions, err = cat.NewSigner(session.ID, session.Secret); err != nil {
			return err
		}
	}
	i.with.Store(with)
	return nil
}

// A RequestError says why an Issuer makes no credential of what it was asked
// for. Its text may be told to whoever asked.
type RequestError struct{ reason string }

// Error is the reason.
func (e *RequestError) Error() string { return e.reason }

func reject(format string, args ...any) error {
	return &RequestError{fmt.Sprintf(format, args...)}
}

// A TokenRequest says what a token is to grant.
type TokenRequest struct {
	// Subject is who will bear the token. Policy takes those that begin with
	// "service:" for services, with "host:" for hosts, and others for users.
	Subject  string
	Stations []string // ids; empty: all stations, and the node itself
	Actions  []Action
	TTL      time.Duration
	// Identity makes the roles of the subject count for whoever bears the token.
	// Then it may name no action.
	Identity bool
	// SecondFactor is when the bearer showed one; zero: not told.
	SecondFactor time.Time
	// By is who issues it, after those who issued what that one does so with. None:
	// the node itself, or whoever holds it.
	By []Granter
}

// tokenClaims are the claims of a token as they are spelled.
type tokenClaims struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"`
	Audience  string   `json:"aud"`
	ID        string   `json:"jti"`
	Issued    int64    `json:"iat"`
	NotBefore int64    `json:"nbf"`
	Expires   int64    `json:"exp"`
	Scope     string   `json:"scope"`
	Stations  []string `json:"stations"`
	Roles     bool     `json:"roles,omitempty"`
	AuthTime  int64    `json:"auth_time,omitempty"`
	Methods   []string `json:"amr,omitempty"`
	By        string   `json:"by,omitempty"` // sealed
}

// Token makes a bearer token, valid at once. The token is a secret; its jti is
// not, and revokes it. A request that cannot be met is a *RequestError.
func (i *Issuer) Token(r TokenRequest) (raw, jti string, expires time.Time, err error) {
	err = r.check(i.o.MaxTTL)
	if err == nil && isForeign(r.Subject, i.o.Foreign) {
		err = reject("subject %.80q: it stands for one of another issuer", r.Subject)
	}
	if err != nil {
		return "", "", time.Time{}, fmt.Errorf("issue a token for %.80q: %w", r.Subject, err)
	}
	if barred(i.o.Subjects, r.Subject) {
		return "", "", time.Time{}, reject("the subject is suspended or ended")
	}
	id, err := i.newID()
	if err != nil {
		return "", "", time.Time{}, fmt.Errorf("issue a token for %.80q: %w", r.Subject, err)
	}
	jti = hex.EncodeToString(id) // of base64, one in 64 would begin like an option of a command
	issued := i.o.Now().Truncate(time.Second)
	expires = issued.Add(r.TTL).Truncate(time.Second)
	claims := tokenClaims{
		Issuer: i.o.Issuer, Subject: r.Subject, Audience: i.o.Audience, ID: jti,
		Issued: issued.Unix(), NotBefore: issued.Unix(), Expires: expires.Unix(),
		Scope: r.scope(), Stations: r.stations(), Roles: r.Identity,
	}
	if !r.SecondFactor.IsZero() {
		claims.AuthTime, claims.Methods = r.SecondFactor.Unix(), []string{"mfa"}
	}
	by, err := sealGranters(i.o.Cipher, r.By, kindToken, jti)
	if err == nil {
		claims.By = base64.RawURLEncoding.EncodeToString(by)
		raw, err = i.sign(claims)
	}
	if err != nil {
		return "", "", time.Time{}, fmt.Errorf("issue a token for %.80q: %w", r.Subject, err)
	}
	return raw, jti, expires, nil
}

func (r TokenRequest) check(maxTTL time.Duration) error {
	switch {
	case r.Subject == "":
		return reject("no subject")
	case len(r.Actions) == 0 && !r.Identity:
		return reject("no action")
	case r.TTL < time.Second || r.TTL > maxTTL:
		return reject("ttl %v: want 1s to %v", r.TTL, maxTTL)
	case slices.Contains(r.Stations, "") || slices.Contains(r.Stations, everyStation):
		return reject("a station without an id; name none for all of them")
	}
	for _, a := range r.Actions {
		if !everyAction().has(a) {
			return reject("action %.80q: unknown", string(a))
		}
	}
	return checkSubject(r.Subject)
}

// checkSubject refuses subjects that nobody may bear.
func checkSubject(subject string) error {
	switch {
	case subject == kindLocal:
		return reject("subject %q: it stands for the operator of the node", subject)
	case isShare(subject):
		return reject("subject %.80q: it stands for whoever has a share", subject)
	case strings.HasPrefix(subject, byPrefix):
		return reject("subject %.80q: it stands for the tokens that somebody has issued", subject)
	}
	return checkName(subject)
}

func checkName(subject string) error {
	if len(subject) > maxName {
		return reject("subject: give at most %d bytes", maxName)
	}
	return nil
}

func (r TokenRequest) scope() string {
	words := make([]string, 0, len(r.Actions))
	for _, a := range r.Actions {
		words = append(words, string(a))
	}
	return newActionSet(words).scope()
}

func (r TokenRequest) stations() []string {
	switch {
	case len(r.Stations) == 0 && len(r.Actions) == 0:
		return []string{} // what roles cover, policies say
	case len(r.Stations) == 0:
		return []string{everyStation}
	}
	return r.Stations
}

// sign spells claims as a token, and refuses one that is too long to be
// accepted.
func (i *Issuer) sign(claims tokenClaims) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encode claims: %w", err)
	}
	jws, err := i.with.Load().tokens.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	raw, err := jws.CompactSerialize()
	if err != nil {
		return "", fmt.Errorf("serialize: %w", err)
	}
	if len(raw) > maxToken {
		return "", reject("token of %d bytes, at most %d are accepted: name fewer stations", len(raw), maxToken)
	}
	return raw, nil
}

// newID makes a jti or a cti.
func (i *Issuer) newID() ([]byte, error) {
	id := make([]byte, 16)
	if _, err := io.ReadFull(i.o.Rand, id); err != nil {
		return nil, fmt.Errorf("make an id: %w", err)
	}
	return id, nil
}

// defaultLinkTTL is how long a link lives unless it is told otherwise.
const defaultLinkTTL = 5 * time.Minute

// A LinkRequest says what a link is to open.
type LinkRequest struct {
	Station  string        // its id
	Epoch    uint64        // of the station now
	Path     string        // exact and canonical, such as /listen/CID
	Methods  []string      // empty: GET and HEAD
	Subject  string        // may be empty
	TTL      time.Duration // 0: 5 minutes
	Download bool          // also as a file, where the station allows it
	By       []Granter     // as of a token
}

// Link makes a link, valid at once: a Common Access Token to be sent with
// requests of Path. A request that cannot be met is a *RequestError; a Path that
// is not canonical is another error.
func (i *Issuer) Link(r LinkRequest) (raw string, expires time.Time, err error) {
	if r.TTL == 0 {
		r.TTL = defaultLinkTTL
	}
	if err := checkSubject(r.Subject); err != nil {
		return "", time.Time{}, fmt.Errorf("issue a link to %.80q: %w", r.Path, err)
	}
	return i.link(r, nil)
}

// link makes a link that ends with its parent, if it has one.
func (i *Issuer) link(r LinkRequest, parent *cat.Parent) (raw string, expires time.Time, err error) {
	if barred(i.o.Subjects, r.Subject) {
		return "", time.Time{}, reject("the subject is suspended or ended")
	}
	if len(r.Methods) == 0 {
		r.Methods = []string{"GET", "HEAD"}
	}
	if err := r.check(i.o.MaxLinkTTL); err != nil {
		return "", time.Time{}, fmt.Errorf("issue a link to %.80q: %w", r.Path, err)
	}
	id, err := i.newID()
	if err != nil {
		return "", time.Time{}, fmt.Errorf("issue a link to %.80q: %w", r.Path, err)
	}
	issued := i.o.Now().Truncate(time.Second)
	claims := cat.Claims{
		Issuer: i.o.Issuer, Subject: r.Subject, ID: id,
		Issued: issued, Expires: issued.Add(r.TTL).Truncate(time.Second),
		Paths: []cat.Match{{Value: r.Path}}, Methods: r.Methods,
		Station: &cat.Station{ID: r.Station, Epoch: r.Epoch, Download: r.Download}, Parent: parent,
	}
	if claims.By, err = sealGranters(i.o.Cipher, grantersAt(r.By, r.Station), kindLink, hex.EncodeToString(id)); err != nil {
		return "", time.Time{}, fmt.Errorf("issue a link to %.80q: %w", r.Path, err)
	}
	if err := claims.CheckRequest(r.Methods[0], r.Path); err != nil {
		return "", time.Time{}, fmt.Errorf("issue a link to %.80q: %w", r.Path, err)
	}
	raw, err = i.with.Load().links.Sign(claims)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("issue a link to %.80q: %w", r.Path, err)
	}
	return raw, claims.Expires, nil
}

func (r LinkRequest) check(maxTTL time.Duration) error {
	switch {
	case r.Station == "":
		return reject("no station")
	case r.Epoch > math.MaxInt64:
		return reject("epoch out of range")
	case r.TTL < time.Second || r.TTL > maxTTL:
		return reject("ttl %v: want 1s to %v", r.TTL, maxTTL)
	}
	return checkName(r.Subject)
}
