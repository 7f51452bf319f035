package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"github.com/musenai/musen/policy"
)

// Bounds of a key set.
const (
	maxKeys  = 64
	maxKeyID = 128  // bytes
	minRSA   = 2048 // bits
	maxRSA   = 8192 // bits: larger ones take long to verify with
)

// Parse reads a key set: its keys by id that can verify one of the algorithms.
// Keys that are for something else, or that nobody should verify with, are left
// out, as RFC 7517 has it: those without an id or of one that is there twice,
// private and symmetric ones, RSA keys of less than 2048 bits. A set that has
// none left, or too many, is an error.
func Parse(set []byte, algorithms []string) (map[string]policy.PublicKey, error) {
	var s struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(set, &s); err != nil {
		return nil, errors.New("it is not a JSON Web Key Set")
	}
	if len(s.Keys) > maxKeys {
		return nil, fmt.Errorf("it has %d keys, more than %d", len(s.Keys), maxKeys)
	}
	keys, twice := map[string]policy.PublicKey{}, map[string]bool{}
	for _, raw := range s.Keys {
		k, ok := parseKey(raw, algorithms)
		if !ok {
			continue
		}
		_, there := keys[k.ID]
		twice[k.ID] = there
		keys[k.ID] = k
	}
	for id, yes := range twice {
		if yes {
			delete(keys, id) // which of them is meant?
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("it has no key that could be used")
	}
	return keys, nil
}

// parseKey reads one key, and reports whether it is to be used.
func parseKey(raw []byte, algorithms []string) (policy.PublicKey, bool) {
	var meant struct {
		Use string   `json:"use"`
		Ops []string `json:"key_ops"`
	}
	var k jose.JSONWebKey
	if json.Unmarshal(raw, &meant) != nil || k.UnmarshalJSON(raw) != nil {
		return policy.PublicKey{}, false
	}
	switch {
	case k.KeyID == "" || len(k.KeyID) > maxKeyID || !k.Valid() || !k.IsPublic():
		return policy.PublicKey{}, false
	case meant.Use != "" && meant.Use != "sig", len(meant.Ops) > 0 && !slices.Contains(meant.Ops, "verify"):
		return policy.PublicKey{}, false
	}
	var usable []string
	for _, a := range fitting(k.Key) {
		said := k.Algorithm == "" || k.Algorithm == a || a == "EdDSA" && k.Algorithm == "Ed25519"
		if said && slices.Contains(algorithms, a) {
			usable = append(usable, a)
		}
	}
	return policy.PublicKey{ID: k.KeyID, Key: k.Key, Algorithms: usable}, len(usable) > 0
}

// fitting are the algorithms that a key can be used with.
func fitting(key crypto.PublicKey) []string {
	switch k := key.(type) {
	case ed25519.PublicKey:
		if len(k) == ed25519.PublicKeySize {
			return []string{"EdDSA"}
		}
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return []string{"ES256"}
		}
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n >= minRSA && n <= maxRSA && k.E >= 65537 && k.E&1 == 1 {
			return []string{"RS256", "PS256"}
		}
	}
	return nil
}

func sorted(keys map[string]policy.PublicKey) []string { return slices.Sorted(maps.Keys(keys)) }
