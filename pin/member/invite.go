package member

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/wire"
)

const (
	// inviteScheme begins every invitation, and names its format.
	inviteScheme = "musen-invite-1:"
	// inviteKind is the kind under which an origin signs an invitation.
	inviteKind = "invite"
	maxInvite  = 8 << 10 // characters
)

// An Invite lets one peer into a swarm. Its String is a secret: whoever has it
// can take the place that is offered. Printed with fmt or logged it shows what
// it is for, and not the secret.
type Invite struct {
	ID      peer.ID // of the one-time identity; no secret
	Realm   string
	Origin  peer.ID
	Addrs   []string // where the origin can be dialled
	Role    Role
	Name    string // what the peer will be called; empty: it may choose
	Site    string // where it is; empty: it may say
	Expires time.Time

	key    crypto.PrivKey // of the one-time identity
	sealed wire.Envelope  // an inviteBody; nothing in what Ledger.Invites returns
}

// inviteBody is what an origin signs.
type inviteBody struct {
	Realm   string    `cbor:"1,keyasint"`
	Origin  peer.ID   `cbor:"2,keyasint"`
	Addrs   []string  `cbor:"3,keyasint"`
	Role    Role      `cbor:"4,keyasint"`
	Name    string    `cbor:"5,keyasint,omitempty"`
	Site    string    `cbor:"6,keyasint,omitempty"`
	Expires time.Time `cbor:"7,keyasint"`
	Seed    []byte    `cbor:"8,keyasint"` // of the one-time identity's Ed25519 key
}

// identity makes the one-time identity of a seed.
func identity(seed []byte) (crypto.PrivKey, peer.ID, error) {
	if len(seed) != ed25519.SeedSize {
		return nil, "", fmt.Errorf("a seed of %d bytes", len(seed))
	}
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		return nil, "", err
	}
	id, err := peer.IDFromPrivateKey(key)
	return key, id, err
}

// invite checks the body and returns what it says.
func (b inviteBody) invite() (Invite, error) {
	i := Invite{Realm: b.Realm, Origin: b.Origin, Role: b.Role, Name: b.Name, Site: b.Site, Expires: b.Expires}
	var err error
	if i.key, i.ID, err = identity(b.Seed); err != nil {
		return i, err
	}
	if i.Role != Storage && i.Role != Replica {
		return i, fmt.Errorf("%w: nobody is invited as %.20q, but as %s or %s", ErrInvalid, i.Role, Storage, Replica)
	}
	if err := checkWord("realm", i.Realm); err != nil {
		return i, err
	}
	if i.Name != "" {
		if err := checkName(i.Name); err != nil {
			return i, err
		}
	}
	if err := optional("site", i.Site); err != nil {
		return i, err
	}
	if i.Addrs, err = checkAddrs(b.Origin, b.Addrs); err != nil {
		return i, err
	}
	if len(i.Addrs) == 0 {
		return i, fmt.Errorf("%w: no address of the origin", ErrInvalid)
	}
	return i, nil
}

// String returns the invitation as one line for its receiver. It is a secret.
func (i Invite) String() string {
	if len(i.sealed.Payload) == 0 {
		return ""
	}
	b, err := wire.Marshal(i.sealed)
	if err != nil {
		return "" // unreachable: two byte strings can always be encoded
	}
	return inviteScheme + base64.RawURLEncoding.EncodeToString(b)
}

// Format writes what the invitation is for, whatever the verb: the secret is
// given by String alone.
func (i Invite) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "invite %s to realm %q as %s until %s", i.ID, i.Realm, i.Role, i.Expires.UTC().Format(time.RFC3339))
}

// ParseInvite reads what String wrote. It returns ErrInvite for anything else;
// the error does not quote it. Whether the origin named in it still knows the
// invitation, and whether it has expired, is found out by Enrol.
func ParseInvite(s string) (Invite, error) {
	s = strings.TrimSpace(s)
	i, err := parseInvite(s)
	if err != nil {
		return Invite{}, fmt.Errorf("%w: %w", ErrInvite, err)
	}
	if i.String() != s {
		return Invite{}, fmt.Errorf("%w: it was changed on its way", ErrInvite)
	}
	return i, nil
}

func parseInvite(s string) (Invite, error) {
	text, ok := strings.CutPrefix(s, inviteScheme)
	if !ok {
		return Invite{}, fmt.Errorf("it does not begin with %q", inviteScheme)
	}
	if len(s) > maxInvite {
		return Invite{}, fmt.Errorf("it has %d characters", len(s))
	}
	e, body, err := openInvite(text)
	if err != nil {
		return Invite{}, fmt.Errorf("it was changed on its way")
	}
	i, err := body.invite()
	i.sealed = e
	return i, err
}

// openInvite reads what an origin signed. Whatever is not that is a copy in
// which something was changed, wherever that shows first.
func openInvite(text string) (e wire.Envelope, body inviteBody, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err == nil {
		err = wire.Unmarshal(b, &e)
	}
	if err == nil {
		err = wire.Unmarshal(e.Payload, &body)
	}
	if err == nil {
		err = wire.Open(body.Origin, inviteKind, e, &body)
	}
	return e, body, err
}

// newSeed reads the seed of a one-time identity.
func newSeed(r io.Reader) ([]byte, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(r, seed); err != nil {
		return nil, fmt.Errorf("make a seed: %w", err)
	}
	return seed, nil
}
