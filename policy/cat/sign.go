package cat

import (
	"encoding/base64"
	"errors"
	"fmt"
)

// A Signer makes tokens under one key. It is safe for concurrent use.
type Signer struct {
	codec  codec
	kid    string
	secret []byte
}

// NewSigner makes a Signer. It refuses a secret of less than 32 bytes, and an
// empty kid.
func NewSigner(kid string, secret []byte) (*Signer, error) {
	if err := checkKey(kid, secret); err != nil {
		return nil, err
	}
	c, err := newCodec()
	if err != nil {
		return nil, err
	}
	return &Signer{c, kid, append([]byte(nil), secret...)}, nil
}

// Sign makes a token with the CWT tag. It refuses claims that Verify would
// refuse.
func (s *Signer) Sign(c Claims) (string, error) {
	payload, err := s.codec.payload(c)
	if err != nil {
		return "", fmt.Errorf("encode claims: %w", err)
	}
	if _, err := s.codec.claims(payload); err != nil {
		return "", err
	}
	m := mac0{Protected: s.codec.header, Unprotected: map[int64][]byte{labelKid: []byte(s.kid)}, Payload: payload}
	if m.Tag, err = s.codec.sum(s.secret, m); err != nil {
		return "", err
	}
	b, err := s.codec.spell(m, true)
	if err != nil {
		return "", err
	}
	if len(b) > MaxSize {
		return "", fmt.Errorf("%d bytes are more than %d: %w", len(b), MaxSize, ErrMalformed)
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

// A Verifier verifies tokens under any of its keys. It is safe for concurrent
// use.
type Verifier struct {
	codec codec
	keys  map[string][]byte
}

// NewVerifier makes a Verifier of secrets by kid. It refuses a secret of less
// than 32 bytes, and an empty kid.
func NewVerifier(keys map[string][]byte) (*Verifier, error) {
	held := make(map[string][]byte, len(keys))
	for kid, secret := range keys {
		if err := checkKey(kid, secret); err != nil {
			return nil, err
		}
		held[kid] = append([]byte(nil), secret...)
	}
	c, err := newCodec()
	if err != nil {
		return nil, err
	}
	return &Verifier{c, held}, nil
}

// Verify returns the claims of a token that one of the keys made. It looks
// neither at the clock nor at a request: see CheckTime and CheckRequest. No
// claim is read before the authentication tag was found right.
func (v *Verifier) Verify(raw string) (Claims, error) {
	m, tagged, err := v.codec.parse(raw)
	if err != nil {
		return Claims{}, err
	}
	secret, ok := v.keys[string(m.Unprotected[labelKid])]
	if !ok {
		return Claims{}, fmt.Errorf("unknown key: %w", ErrMAC)
	}
	input, err := v.codec.covered(m)
	if err != nil {
		return Claims{}, err
	}
	if !authentic(secret, input, m.Tag) {
		return Claims{}, ErrMAC
	}
	c, err := v.codec.claims(m.Payload)
	c.Tagged, c.KeyID = tagged, string(m.Unprotected[labelKid])
	return c, err
}

func checkKey(kid string, secret []byte) error {
	if kid == "" {
		return errors.New("check link key: it has no id")
	}
	if len(secret) < minSecret {
		return fmt.Errorf("check link key %q: secret of %d bytes, want at least %d", kid, len(secret), minSecret)
	}
	return nil
}
