package cat

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Labels of COSE headers, the algorithm HS256, and the CBOR tags around a
// token as they are spelled: CWT is optional, COSE_Mac0 is not.
const (
	labelAlg = 1
	labelKid = 4
	algHS256 = 5
	tagCWT   = "\xd8\x3d"
	tagMac0  = "\xd1"
)

// minSecret is the shortest secret in bytes: as long as the tag.
const minSecret = sha256.Size

// mac0 is a COSE_Mac0.
type mac0 struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected map[int64][]byte
	Payload     []byte
	Tag         []byte
}

// codec spells deterministic CBOR (RFC 8949, 4.2.1), and reads CBOR within
// bounds.
type codec struct {
	enc    cbor.EncMode
	dec    cbor.DecMode
	header []byte // the one protected header that is accepted
}

func newCodec() (codec, error) {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return codec{}, fmt.Errorf("set up CBOR: %w", err)
	}
	dec, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		MaxNestedLevels:  8,
		MaxArrayElements: 64,
		MaxMapPairs:      64,
	}.DecMode()
	if err != nil {
		return codec{}, fmt.Errorf("set up CBOR: %w", err)
	}
	header, err := enc.Marshal(map[int64]int64{labelAlg: algHS256})
	if err != nil {
		return codec{}, fmt.Errorf("set up CBOR: %w", err)
	}
	return codec{enc, dec, header}, nil
}

// covered is what the authentication tag of m covers.
func (c codec) covered(m mac0) ([]byte, error) {
	input, err := c.enc.Marshal([]any{"MAC0", m.Protected, []byte{}, m.Payload})
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return input, nil
}

// sum is the authentication tag of m.
func (c codec) sum(secret []byte, m mac0) ([]byte, error) {
	input, err := c.covered(m)
	if err != nil {
		return nil, err
	}
	return hmacSHA256(secret, input), nil
}

func hmacSHA256(secret, input []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write(input)
	return h.Sum(nil)
}

// authentic reports, in constant time, whether tag is the whole tag of input.
func authentic(secret, input, tag []byte) bool { return hmac.Equal(hmacSHA256(secret, input), tag) }

// spell is the one spelling of m that is accepted.
func (c codec) spell(m mac0, tagged bool) ([]byte, error) {
	b, err := c.enc.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	if tagged {
		return append([]byte(tagCWT+tagMac0), b...), nil
	}
	return append([]byte(tagMac0), b...), nil
}

// parse reads a token that has exactly one spelling: nothing outside the MAC
// can be changed without being refused, but for the CWT tag.
func (c codec) parse(raw string) (m mac0, tagged bool, err error) {
	if len(raw) > base64.RawURLEncoding.EncodedLen(MaxSize) {
		return m, false, fmt.Errorf("longer than %d bytes: %w", MaxSize, ErrMalformed)
	}
	b, err := decodeBase64(raw)
	if err != nil {
		return m, false, err
	}
	rest, tagged := bytes.CutPrefix(b, []byte(tagCWT))
	rest, ok := bytes.CutPrefix(rest, []byte(tagMac0))
	if !ok {
		return m, false, fmt.Errorf("not a COSE_Mac0: %w", ErrMalformed)
	}
	if err := c.dec.Unmarshal(rest, &m); err != nil {
		return m, false, fmt.Errorf("not a COSE_Mac0: %w", ErrMalformed)
	}
	if len(m.Unprotected) != 1 || len(m.Tag) != sha256.Size {
		return m, false, fmt.Errorf("headers or tag not as expected: %w", ErrMalformed)
	}
	spelled, err := c.spell(m, tagged)
	if err != nil || !bytes.Equal(spelled, b) {
		return m, false, fmt.Errorf("not canonical: %w", ErrMalformed)
	}
	if !bytes.Equal(m.Protected, c.header) {
		return m, false, fmt.Errorf("protected header is not alg HS256 alone: %w", ErrMalformed)
	}
	return m, tagged, nil
}

// decodeBase64 refuses padding, white space and left-over bits.
func decodeBase64(raw string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(raw)
	if err != nil || base64.RawURLEncoding.EncodedLen(len(b)) != len(raw) {
		return nil, fmt.Errorf("not base64url: %w", ErrMalformed)
	}
	return b, nil
}
