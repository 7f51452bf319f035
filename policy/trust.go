package policy

import (
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// ErrNoKeys says that a KeySource has no keys at all that it may still use.
var ErrNoKeys = errors.New("the keys of the issuer cannot be had")

// A KeySource has the public keys of one issuer, which may change.
type KeySource interface {
	// Key is the key of that id. With ask it may ask the issuer for a key that
	// it does not know, within seconds and not often; without, it answers from
	// memory. It knows nothing of a token but the id.
	Key(kid string, ask bool) (PublicKey, error)
}

// A ForeignIssuer is somebody else whose tokens are accepted.
type ForeignIssuer struct {
	// Name is the operator's short word for it. Subjects, ids and keys of its
	// tokens begin with it and a bar, so that those of two issuers never are the
	// same.
	Name       string
	Issuer     string // the iss that its tokens have
	Audience   string // the aud that they must have
	Keys       KeySource
	Algorithms []string      // that they may be signed with: EdDSA, ES256, RS256, PS256
	Types      []string      // the typ that they may have; "" is for none
	IDTokens   bool          // also those that were made for the client that logged in
	MaxTTL     time.Duration // longest life of one
	Leeway     time.Duration // between its clock and this one
	Claims     ClaimMapping
}

// A ClaimMapping says what of the claims of a token grants what. A claim is
// named by its name, or, where it lies deeper, by a JSON pointer that begins
// with a slash. All other claims are dropped.
type ClaimMapping struct {
	Stations        string   // claim with the names or ids of stations; "": none
	StationTemplate string   // what stands for a value, in place of {}; "": the value
	AllStations     bool     // the value * stands for all stations, and the node
	DefaultStations []string // names or ids, for a token without that claim
	Actions         string   // claim with words for actions; "": none
	ActionPrefix    string   // what these words begin with
	DefaultActions  []Action // for a token without that claim
	Allowed         []Action // no other is ever granted
}

// bar separates the name of an issuer from what it says.
const bar = "|"

// trust is one issuer whose tokens are accepted. Without a Name it is the node
// itself.
type trust struct {
	ForeignIssuer
	reserved []string // names of others, whose subjects it must not have
	cipher   Cipher   // of the node itself: opens what its tokens say of who issued them
}

// isWord reports whether s may be the Name of an issuer.
func isWord(s string) bool {
	return s != "" && len(s) <= 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// trustAll takes the issuers of the options.
func (v *Verifier) trustAll() error {
	v.own = &trust{ForeignIssuer: ForeignIssuer{
		Issuer: v.o.Issuer, Audience: v.o.Audience, Keys: ownKeys{v}, Types: tokenTypes(),
		Algorithms: []string{string(jose.EdDSA), string(jose.ES256)}, MaxTTL: v.o.MaxTTL, Leeway: v.o.Leeway,
	}, cipher: v.o.Cipher}
	v.foreign = map[string]*trust{}
	for _, f := range v.o.Issuers {
		if err := f.check(); err != nil {
			return fmt.Errorf("issuer %.40q: %w", f.Name, err)
		}
		if v.foreign[f.Issuer] != nil || f.Issuer == v.o.Issuer || v.isName(f.Name) {
			return fmt.Errorf("issuer %.40q: it or its name is there twice", f.Name)
		}
		v.foreign[f.Issuer] = &trust{ForeignIssuer: f}
		v.own.reserved = append(v.own.reserved, f.Name)
	}
	return nil
}

// isName reports whether a foreign issuer has that name.
func (v *Verifier) isName(name string) bool {
	for _, t := range v.foreign {
		if t.Name == name {
			return true
		}
	}
	return false
}

func (f ForeignIssuer) check() error {
	switch {
	case !isWord(f.Name):
		return errors.New("its name is not a short word of a-z, 0-9 and -")
	case f.Issuer == "" || f.Audience == "" || f.Keys == nil:
		return errors.New("issuer, audience and keys must be told")
	case f.MaxTTL <= 0 || f.MaxTTL > defaultMaxTTL || f.Leeway < 0 || f.Leeway > maxLeeway:
		return errors.New("the life of its tokens or its leeway is out of bounds")
	case len(f.Types) == 0 || len(f.Algorithms) == 0:
		return errors.New("it has no token type or no algorithm")
	}
	for _, a := range f.Algorithms {
		if !slices.Contains(foreignAlgorithms(), a) {
			return fmt.Errorf("the algorithm %.20q is not one of %s", a, strings.Join(foreignAlgorithms(), ", "))
		}
	}
	for _, a := range slices.Concat(f.Claims.Allowed, f.Claims.DefaultActions) {
		if !everyAction().has(a) {
			return fmt.Errorf("the action %.40q is unknown", string(a))
		}
	}
	return nil
}

// foreignAlgorithms are those that a foreign issuer may be allowed: none is
// symmetric.
func foreignAlgorithms() []string { return []string{"EdDSA", "ES256", "RS256", "PS256"} }

// ownKeys are the keys of a verifier, which may be replaced.
type ownKeys struct{ v *Verifier }

// Key implements KeySource.
func (o ownKeys) Key(kid string, ask bool) (PublicKey, error) {
	return o.v.ownKeys.Load().Key(kid, ask)
}

// trustOf finds the issuer that a token says it is of. Nothing is believed of
// it yet: it is verified with the keys of that issuer alone.
func (v *Verifier) trustOf(payload string) (*trust, error) {
	if len(v.foreign) == 0 {
		return v.own, nil
	}
	data, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return nil, refuse(codeMalformed, "claims are not base64url")
	}
	claims, err := parseObject(data)
	if err != nil {
		return nil, refuse(codeMalformed, "claims are not strict JSON")
	}
	if claims["iss"] == v.own.Issuer {
		return v.own, nil
	}
	if iss, ok := claims["iss"].(string); ok && v.foreign[iss] != nil {
		return v.foreign[iss], nil
	}
	return nil, refuse(codeIssuer, "its iss is that of no issuer that is configured")
}

// key finds the key that a header names, which must be of this issuer and for
// the algorithm that the header names.
func (t *trust) key(h tokenHeader) (PublicKey, error) {
	if !slices.Contains(t.Types, h.typ) || t.Name == "" && !h.bare {
		return PublicKey{}, refuse(codeMalformed, "header has another typ, or more than alg, kid and typ")
	}
	if t.Name != "" && !slices.Contains(t.Algorithms, h.alg) {
		return PublicKey{}, refuse(codeSignature, "algorithm is not the issuer's")
	}
	key, err := t.Keys.Key(h.kid, true)
	if errors.Is(err, ErrNoKeys) {
		return PublicKey{}, refuse(codeNoKeys, "the keys of its issuer cannot be had")
	}
	if err != nil {
		return PublicKey{}, refuse(codeSignature, "unknown key")
	}
	if !slices.Contains(key.Algorithms, h.alg) {
		return PublicKey{}, refuse(codeSignature, "algorithm is not the key's")
	}
	return key, nil
}

// tokenClaims reads claims whose signature was verified, and that were spelled
// as payload.
func (t *trust) tokenClaims(m map[string]any, payload []byte) (*credential, error) {
	if m["iss"] != t.Issuer {
		return nil, refuse(codeIssuer, "another issuer")
	}
	if !hasAudience(m["aud"], t.Audience) {
		return nil, refuse(codeAudience, "another audience")
	}
	if t.Name == "" {
		return t.ownClaims(m)
	}
	if !t.IDTokens && isIDToken(m) {
		return nil, refuse(codeMalformed, "an ID token, made for the client that logged in")
	}
	subject, ok := name(m["sub"])
	id, named := name(m["jti"])
	if _, there := m["jti"]; !there {
		id, named = UnnamedID(payload), true
	}
	if !ok || !named || len(t.Name)+len(bar)+len(subject) > maxName || len(t.Name)+len(bar)+len(id) > maxName {
		return nil, refuse(codeMalformed, "sub missing, or sub or jti of the wrong form")
	}
	c := &credential{kind: kindToken, id: t.Name + bar + id, subject: t.Name + bar + subject, identity: true, factor: secondFactor(m)}
	if err := t.Claims.apply(c, m); err != nil {
		return nil, err
	}
	return c, t.tokenTimes(c, m)
}

// ownClaims reads the claims of a token of the node itself.
func (t *trust) ownClaims(m map[string]any) (*credential, error) {
	c := &credential{kind: kindToken}
	var ok [4]bool
	c.id, ok[0] = name(m["jti"])
	c.subject, ok[1] = name(m["sub"])
	c.stations, c.everywhere, ok[2] = stations(m["stations"])
	c.by, ok[3] = tokenGranters(t.cipher, m["by"], c.id)
	if ok != [4]bool{true, true, true, true} || c.subject == kindLocal || isShare(c.subject) || isForeign(c.subject, t.reserved) {
		return nil, refuse(codeMalformed, "jti, sub, stations or by missing, reserved or of the wrong form")
	}
	scope, isText := m["scope"].(string)
	if _, there := m["scope"]; there && !isText {
		return nil, refuse(codeMalformed, "scope is not text")
	}
	c.actions = newActionSet(strings.Split(scope, " "))
	c.identity, c.factor = m["roles"] == true, secondFactor(m)
	return c, t.tokenTimes(c, m)
}

// isForeign reports whether a subject is one of a foreign issuer's.
func isForeign(subject string, names []string) bool {
	name, _, ok := strings.Cut(subject, bar)
	return ok && slices.Contains(names, name)
}

// UnnamedID is the id that a token without a jti has: a hash of the claims as
// they were signed, which only its issuer can spell otherwise.
func UnnamedID(payload []byte) string {
	sum := sha256.Sum256(payload)
	return "sha256:" + hex.EncodeToString(sum[:16])
}

// isIDToken reports whether claims are those of an OpenID Connect ID token: its
// nonce and the hashes of what came with it are in no other.
func isIDToken(m map[string]any) bool {
	for _, claim := range []string{"nonce", "at_hash", "c_hash", "s_hash"} {
		if _, there := m[claim]; there {
			return true
		}
	}
	return false
}

// keyName is how the key of c is called by Revocations.
func (c *credential) keyName() string {
	if c.from == nil || c.from.Name == "" {
		return c.key.ID
	}
	return c.from.Name + bar + c.key.ID
}

// stillTrusted returns an error once the issuer of a token does not hold the
// key any more that it was signed with.
func (c *credential) stillTrusted() error {
	if c.from == nil {
		return nil
	}
	key, err := c.from.Keys.Key(c.key.ID, false)
	if errors.Is(err, ErrNoKeys) {
		return refuse(codeNoKeys, "the keys of its issuer cannot be had")
	}
	if err != nil || !sameKey(key.Key, c.key.Key) {
		return refuse(codeRevoked, "its issuer has withdrawn the key")
	}
	return nil
}

func sameKey(a, b crypto.PublicKey) bool {
	x, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && x.Equal(b)
}
