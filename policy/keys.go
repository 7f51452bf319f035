package policy

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// heldKeys are keys by id, which do not change.
type heldKeys map[string]PublicKey

var _ KeySource = heldKeys(nil)

// Key implements KeySource.
func (h heldKeys) Key(kid string, _ bool) (PublicKey, error) {
	k, ok := h[kid]
	if !ok {
		return PublicKey{}, errors.New("no such key")
	}
	return k, nil
}

// signingKeys checks keys and holds them by id.
func signingKeys(keys []PublicKey) (heldKeys, error) {
	held := make(heldKeys, len(keys))
	for _, k := range keys {
		if _, twice := held[k.ID]; twice || k.ID == "" || len(k.ID) > maxKeyID {
			return nil, fmt.Errorf("check public key %.80q: id is empty, long or given twice", k.ID)
		}
		alg, err := algorithm(k.Key)
		if err != nil {
			return nil, fmt.Errorf("check public key %q: %w", k.ID, err)
		}
		k.Algorithms = []string{string(alg)}
		held[k.ID] = k
	}
	return held, nil
}

// maxKeyID is the longest id of a key, in bytes.
const maxKeyID = 128

func algorithm(key crypto.PublicKey) (jose.SignatureAlgorithm, error) {
	switch k := key.(type) {
	case ed25519.PublicKey:
		if len(k) == ed25519.PublicKeySize {
			return jose.EdDSA, nil
		}
	case *ecdsa.PublicKey:
		if k == nil || k.Curve != elliptic.P256() {
			break
		}
		if _, err := k.ECDH(); err != nil {
			return "", fmt.Errorf("not on P-256: %w", err)
		}
		return jose.ES256, nil
	}
	return "", fmt.Errorf("%T: want a whole Ed25519 or P-256 key", key)
}

// linkKeys checks secrets and holds them by id.
func linkKeys(keys []LinkKey) (map[string][]byte, error) {
	held := make(map[string][]byte, len(keys))
	for _, k := range keys {
		if _, twice := held[k.ID]; twice || k.ID == "" || len(k.ID) > maxKeyID {
			return nil, fmt.Errorf("check link key %.80q: id is empty, long or given twice", k.ID)
		}
		if err := checkSecret(k.Secret); err != nil {
			return nil, fmt.Errorf("check link key %q: %w", k.ID, err)
		}
		held[k.ID] = k.Secret
	}
	return held, nil
}

// Least of what 32 random bytes have: the chance that they have fewer distinct
// values is under 10^-12.
const (
	minSecret   = 32
	minDistinct = 16
)

// checkSecret refuses what was not drawn at random: short secrets, repeated
// ones, and those that stand in published examples.
func checkSecret(secret []byte) error {
	if len(secret) < minSecret {
		return fmt.Errorf("secret of %d bytes, want at least %d random bytes", len(secret), minSecret)
	}
	distinct := make(map[byte]bool)
	for _, b := range secret {
		distinct[b] = true
	}
	if len(distinct) < minDistinct {
		return fmt.Errorf("secret of %d distinct bytes, want random bytes", len(distinct))
	}
	for _, known := range publishedSecrets() {
		if bytes.Contains(secret, known) {
			return fmt.Errorf("secret from a published example, want random bytes")
		}
	}
	return nil
}

// publishedSecrets are long enough to pass for secrets, and known to everybody:
// the keys of RFC 8392 and of CAT examples, of the vectors in cat, of RFC 7515
// and of jwt.io, and rows of the keyboard or of the alphabet.
func publishedSecrets() [][]byte {
	known := [][]byte{
		[]byte("403697de87af64611c1d32a05dab0fe1fcb715a86ab435f1ec99192d79569388"),
		[]byte("8f1c6a0e2b9d4735c1e8f05a7b6d3924e0a1b2c3d4e5f60718293a4b5c6d7e8f"),
		[]byte("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"),
		[]byte("a-string-secret-at-least-256-bits-long"),
		[]byte("a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long"),
		[]byte("your-256-bit-secret"), []byte("your-384-bit-secret"), []byte("your-512-bit-secret"),
		[]byte("abcdefghijklmnop"), []byte("ABCDEFGHIJKLMNOP"), []byte("0123456789abcdef"),
		[]byte("qwertyuiop"), []byte("changeme"), []byte("change-me"), []byte("change_me"),
	}
	for _, text := range known[:2] {
		if b, err := hex.DecodeString(string(text)); err == nil {
			known = append(known, b)
		}
	}
	var counted []byte
	for i := range byte(32) {
		counted = append(counted, i)
	}
	return append(known, counted, counted[1:])
}

// KeySet is the JSON Web Key Set (RFC 7517) of public keys that the node signs
// with, for others to verify its tokens.
func KeySet(keys []PublicKey) ([]byte, error) {
	held, err := signingKeys(keys)
	if err != nil {
		return nil, err
	}
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, k := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.Key, KeyID: k.ID, Use: "sig", Algorithm: held[k.ID].Algorithms[0]})
	}
	return json.Marshal(set)
}
