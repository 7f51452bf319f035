package policy

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/musenai/musen/policy/cat"
)

// sharePrefix begins the subjects of the sessions of shares and of the links
// that are minted with them: revoking "share:ID" ends both.
const sharePrefix = "share:"

func isShare(subject string) bool { return strings.HasPrefix(subject, sharePrefix) }

// ShareSubject is the subject of the sessions of a share, and of the links that
// are minted with them.
func ShareSubject(id string) string { return sharePrefix + id }

// shareLives reports whether the share whose subject c has was not revoked, and
// has the password that it had then.
func (v *Verifier) shareLives(c *credential) bool {
	if v.o.Shares == nil {
		return false
	}
	generation, live := v.o.Shares.Generation(strings.TrimPrefix(c.subject, sharePrefix))
	return live && generation == c.generation
}

// maxSessionTTL is the longest life of a session.
const maxSessionTTL = 31 * 24 * time.Hour

// Session verifies the session of a share, as a cookie carries it. Every error
// is a *CredentialError.
func (v *Verifier) Session(raw string) (Grant, error) {
	if len(raw) > 2*cat.MaxSize {
		return Grant{}, refuse(codeMalformed, "too long")
	}
	c, err := v.remember(kindSession, raw, v.parseSession)
	if err != nil {
		return Grant{}, err
	}
	return v.grant(c)
}

// parseSession verifies everything of a session that does not change with time.
func (v *Verifier) parseSession(raw string) (*credential, error) {
	claims, err := v.sessions.Load().Verify(raw)
	if err != nil {
		return nil, linkError(err)
	}
	if claims.Issuer != v.o.Issuer {
		return nil, refuse(codeIssuer, "another issuer")
	}
	// A session has one spelling, and is for a station and no path of it.
	if !claims.Tagged || claims.Station == nil || claims.Station.Epoch > math.MaxInt64 || len(claims.ID) == 0 || claims.Issued.IsZero() ||
		len(claims.Paths) != 0 || len(claims.Methods) != 0 || len(claims.Audience) != 0 ||
		!isShare(claims.Subject) || claims.Parent == nil || claims.Parent.ID != "" || claims.By != nil {
		return nil, refuse(codeMalformed, "not a session: it says too little or too much")
	}
	c := linkCredential(claims)
	c.kind, c.link = kindSession, cat.Claims{}
	return c, checkTTL(c, maxSessionTTL)
}

// A SessionRequest says what a session is to open.
type SessionRequest struct {
	Share      string // its id
	Generation uint64 // of its password now
	Station    string // its id
	Epoch      uint64 // of the station now
	TTL        time.Duration
	Download   bool // also saves segments, where the station allows it
}

// Session makes the session of a share, valid at once, to be kept in a cookie.
// It opens every segment of the station until it expires, the share is revoked
// or gets another password, or the station gets another epoch. A request that
// cannot be met is a *RequestError.
func (i *Issuer) Session(r SessionRequest) (raw string, expires time.Time, err error) {
	with := i.with.Load()
	if err := r.check(with.sessions != nil); err != nil {
		return "", time.Time{}, fmt.Errorf("issue a session of share %.80q: %w", r.Share, err)
	}
	id, err := i.newID()
	if err != nil {
		return "", time.Time{}, fmt.Errorf("issue a session of share %.80q: %w", r.Share, err)
	}
	issued := i.o.Now().Truncate(time.Second)
	claims := cat.Claims{
		Issuer: i.o.Issuer, Subject: sharePrefix + r.Share, ID: id,
		Issued: issued, Expires: issued.Add(r.TTL).Truncate(time.Second),
		Station: &cat.Station{ID: r.Station, Epoch: r.Epoch, Download: r.Download},
		Parent:  &cat.Parent{Generation: r.Generation},
	}
	if raw, err = with.sessions.Sign(claims); err != nil {
		return "", time.Time{}, fmt.Errorf("issue a session of share %.80q: %w", r.Share, err)
	}
	return raw, claims.Expires, nil
}

func (r SessionRequest) check(hasKey bool) error {
	switch {
	case !hasKey:
		return reject("this issuer has no key for sessions")
	case r.Share == "" || r.Station == "":
		return reject("no share or no station")
	case r.Epoch > math.MaxInt64:
		return reject("epoch out of range")
	case r.TTL < time.Second || r.TTL > maxSessionTTL:
		return reject("ttl %v: want 1s to %v", r.TTL, maxSessionTTL)
	}
	return checkName(sharePrefix + r.Share)
}

// LinkFor makes a link as Link does for whoever bears g, to a station that g
// covers. The link grants no more than g, and ends with it: no later, and when g
// or its subject is revoked. r.Subject must be empty.
func (i *Issuer) LinkFor(g Grant, r LinkRequest) (raw string, expires time.Time, err error) {
	c := g.get()
	switch {
	case c.kind != kindToken && c.kind != kindSession:
		return "", time.Time{}, reject("links are minted for tokens and sessions alone")
	case r.Subject != "" || !g.Covers(r.Station) || !g.Has(Listen) || r.Download && !g.Has(Download):
		return "", time.Time{}, reject("a link may not grant more than what it is minted with")
	case c.kind == kindSession && c.epoch != r.Epoch:
		return "", time.Time{}, reject("the session is of another epoch")
	}
	r.Subject = c.subject
	if r.TTL == 0 {
		r.TTL = defaultLinkTTL
	}
	r.TTL = min(r.TTL, c.expires.Sub(i.o.Now().Truncate(time.Second)))
	r.By = c.by
	return i.link(r, &cat.Parent{ID: c.id, Generation: c.generation})
}
