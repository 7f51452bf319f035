package keyring

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

const (
	secretsFormat = "musen keyring 1"
	// rotatedFormat is that of secrets in which a key was rotated: a program that
	// does not know the old keys must not open it.
	rotatedFormat = "musen keyring 2"
	secretSize    = 32
)

// secrets is what keyring.age holds once it is unlocked.
type secrets struct {
	Format      string `json:"format"`
	Realm       string `json:"realm"`
	Root        []byte `json:"root"`        // Tink keyset, AES256-GCM
	Issuer      []byte `json:"issuer"`      // seed of an Ed25519 key
	Link        []byte `json:"link"`        // HMAC-SHA-256 key
	Fingerprint []byte `json:"fingerprint"` // HMAC-SHA-256 key
	Catalogue   []byte `json:"catalogue"`   // Tink keyset, AES256-GCM
	Lookup      []byte `json:"lookup"`      // HMAC-SHA-256 key

	OldIssuers []oldKey `json:"old_issuers,omitempty"` // public Ed25519 keys, newest last
	OldLinks   []oldKey `json:"old_links,omitempty"`   // HMAC-SHA-256 keys, newest last
}

func newSecrets() (*secrets, error) {
	s := &secrets{Format: secretsFormat}
	for _, key := range []*[]byte{&s.Issuer, &s.Link, &s.Fingerprint, &s.Lookup} {
		*key = make([]byte, secretSize)
		rand.Read(*key) // never fails
	}
	var realm [16]byte
	rand.Read(realm[:])
	s.Realm = idEncoding().EncodeToString(realm[:])
	for _, set := range []*[]byte{&s.Root, &s.Catalogue} {
		var err error
		if *set, err = newKeyset(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// idEncoding spells the realm as ids of stations and segments are spelled.
func idEncoding() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}

func newKeyset() ([]byte, error) {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("make a keyset: %w", err)
	}
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(h, keyset.NewBinaryWriter(&b)); err != nil {
		return nil, fmt.Errorf("write a keyset: %w", err)
	}
	return b.Bytes(), nil
}

func openKeyset(b []byte) (tink.AEAD, error) {
	h, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(b)))
	if err != nil {
		return nil, fmt.Errorf("read a keyset: %w", err)
	}
	a, err := aead.New(h)
	if err != nil {
		return nil, fmt.Errorf("use a keyset: %w", err)
	}
	return a, nil
}

func (s *secrets) encode() []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // unreachable: strings and bytes only
	}
	return b
}

func (s *secrets) wipe() {
	for _, b := range [][]byte{s.Root, s.Issuer, s.Link, s.Fingerprint, s.Catalogue, s.Lookup} {
		clear(b)
	}
	for _, old := range s.OldLinks {
		clear(old.Key)
	}
}

func parseSecrets(b []byte) (*secrets, error) {
	s := new(secrets)
	if err := decodeExactly(b, s, secretsFormat, rotatedFormat); err != nil {
		return nil, err
	}
	if s.Format == secretsFormat && len(s.OldIssuers)+len(s.OldLinks) > 0 {
		return nil, fmt.Errorf("%w: it has keys that its format does not know: restore it from a backup", ErrDamaged)
	}
	for _, old := range slices.Concat(s.OldIssuers, s.OldLinks) {
		if len(old.Key) != secretSize || bytes.Equal(old.Key, make([]byte, secretSize)) || old.Until <= 0 {
			return nil, fmt.Errorf("%w: an old key is empty or of the wrong length: restore it from a backup", ErrDamaged)
		}
	}
	if realm, err := idEncoding().DecodeString(s.Realm); err != nil || len(realm) != 16 {
		return nil, fmt.Errorf("%w: it names no realm: restore it from a backup", ErrDamaged)
	}
	for _, key := range [][]byte{s.Issuer, s.Link, s.Fingerprint, s.Lookup} {
		if len(key) != secretSize || bytes.Equal(key, make([]byte, secretSize)) {
			return nil, fmt.Errorf("%w: a secret is empty or of the wrong length: restore it from a backup", ErrDamaged)
		}
	}
	return s, nil
}

// use makes the keyring work with s, of which it keeps no reference.
func (k *Keyring) use(s *secrets) (err error) {
	if k.root, err = openKeyset(s.Root); err == nil {
		k.catalogue, err = openKeyset(s.Catalogue)
	}
	if err != nil {
		return fmt.Errorf("%w: %v: restore it from a backup", ErrDamaged, err)
	}
	k.realm = s.Realm
	k.fingerprint = slices.Clone(s.Fingerprint)
	k.lookup = slices.Clone(s.Lookup)
	k.useCredentials(s)
	return nil
}

// decodeExactly reads JSON of one of some formats into v, a pointer. The only
// accepted spelling is the one that the keyring writes: no other order, spaces,
// unknown or repeated names.
func decodeExactly(b []byte, v any, formats ...string) error {
	var head struct {
		Format string `json:"format"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return fmt.Errorf("%w: it is cut short or not JSON: restore it from a backup", ErrDamaged)
	}
	if !slices.Contains(formats, head.Format) {
		return fmt.Errorf("%w: its format is %.40q, this program knows %q only: use the version of the program that wrote it", ErrDamaged, head.Format, formats)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: it is not of the format %q: restore it from a backup", ErrDamaged, head.Format)
	}
	if again, err := json.Marshal(v); err != nil || !bytes.Equal(again, b) {
		return fmt.Errorf("%w: it is not spelled as the keyring writes it: restore it from a backup", ErrDamaged)
	}
	return nil
}
