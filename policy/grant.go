package policy

import (
	"crypto/sha256"
	"slices"
	"time"

	"github.com/musenai/musen/policy/cat"
)

// A Grant is what a verified credential says its bearer may do. It is
// immutable, cheap to copy and safe for concurrent use. Its zero value grants
// nothing; only a Verifier and LocalOperator make others.
//
// A grant whose credential is an identity is worth what the roles of its
// subject are worth at each moment, besides what the credential names.
type Grant struct {
	c       *credential
	region  string
	without RoleSet // that do not count
}

// credential is what was verified. It is never changed once it is in a Grant.
type credential struct {
	print      [sha256.Size]byte // of the exact bytes that were verified
	kind       string
	id         string
	subject    string
	issued     time.Time
	notBefore  time.Time
	expires    time.Time
	stations   []string
	everywhere bool
	actions    actionSet
	epoch      uint64     // links and sessions only
	parent     string     // id of what a link was minted with
	generation uint64     // of the share whose subject this is
	link       cat.Claims // links only

	from     *trust    // tokens only: who issued it
	key      PublicKey // that its signature was made with; of links, the ID alone
	named    []string  // stations as an issuer names them, to be looked up at each use
	identity bool      // the roles of the subject count
	by       []Granter // own tokens only: who issued it
	factor   time.Time // when the bearer showed a second factor; zero: not told
}

// credentialSize is the memory of a credential and its place in a cache, in
// bytes, without what it refers to.
const credentialSize = 512

// weight is about how much memory c takes, in bytes.
func (c *credential) weight() uint32 {
	n := credentialSize + len(c.id) + len(c.subject) + len(c.parent) + len(c.link.Issuer) + len(c.link.ID)
	for _, list := range [][]string{c.stations, c.named, c.link.Methods, c.link.Audience} {
		for _, s := range list {
			n += 16 + len(s)
		}
	}
	for _, m := range c.link.Paths {
		n += 24 + len(m.Value)
	}
	for _, by := range c.by {
		n += 64 + len(by.Subject) + 64*len(by.Roles)
	}
	return uint32(n)
}

// The kinds of a Grant.
const (
	kindToken   = "token"
	kindLink    = "link"
	kindSession = "session"
	kindLocal   = "local"
)

// LocalOperator is the grant of whoever can open the node's own admin socket:
// every action on every station, without expiry. It must be given to nobody
// who came over a network.
func LocalOperator() Grant {
	return Grant{c: &credential{
		print: sha256.Sum256([]byte(kindLocal)), kind: kindLocal, subject: kindLocal,
		everywhere: true, actions: everyAction(),
	}}
}

// ID is the jti or cti of the credential, and empty for LocalOperator and the
// zero Grant.
func (g Grant) ID() string { return g.get().id }

// Subject is whom the credential was issued to; it may be empty for a link.
func (g Grant) Subject() string { return g.get().subject }

// Kind is "token", "link", "session" or "local", and empty for the zero Grant.
func (g Grant) Kind() string { return g.get().kind }

// Issuer is the name of the issuer of a token that the node has not issued
// itself, and empty for every other grant.
func (g Grant) Issuer() string {
	if from := g.get().from; from != nil {
		return from.Name
	}
	return ""
}

// Issued is when the credential was made; zero for LocalOperator.
func (g Grant) Issued() time.Time { return g.get().issued }

// Expires is when the credential ends; zero for LocalOperator, which does not.
func (g Grant) Expires() time.Time { return g.get().expires }

// Session is the id of the session that the grant is of, or was minted with;
// empty for a grant that has to do with none.
func (g Grant) Session() string {
	c := g.get()
	switch {
	case c.kind == kindSession:
		return c.id
	case isShare(c.subject):
		return c.parent
	}
	return ""
}

// Bearer is the kind and the id of the credential that the grant is of or, for a
// link that was minted with a token or a session, of that one: what is held
// by the same bearer has the same.
func (g Grant) Bearer() (kind, id string) {
	c := g.get()
	switch {
	case c.parent == "":
		return c.kind, c.id
	case isShare(c.subject):
		return kindSession, c.parent
	}
	return kindToken, c.parent
}

// Epoch is the epoch of the station that a link or a session was made in, and 0
// for every other grant.
func (g Grant) Epoch() uint64 { return g.get().epoch }

// Has reports whether the credential names a.
func (g Grant) Has(a Action) bool { return g.get().actions.has(a) }

// Covers reports whether the credential names the station of that id. The
// empty id stands for the whole node and needs a credential for all stations.
func (g Grant) Covers(station string) bool {
	c := g.get()
	return c.everywhere || station != "" && slices.Contains(c.stations, station)
}

// From is g as it is used from a region, which a policy may ask for. Whoever
// calls it must know the region from somebody who is trusted with that.
func (g Grant) From(region string) Grant {
	g.region = region
	return g
}

// Identity reports whether the credential stands for a person or a program by
// name, so that the roles of its subject count.
func (g Grant) Identity() bool { return g.get().identity }

// SecondFactor is when the bearer last showed a second factor to the issuer of
// the credential; zero if that was not told.
func (g Grant) SecondFactor() time.Time { return g.get().factor }

// get spares the methods a check for the zero Grant.
func (g Grant) get() *credential {
	if g.c == nil {
		return &credential{}
	}
	return g.c
}
