// Package host runs the two roles that hold no keys: storage, an operator's own
// pinning node, and replica, a community host inside its contract.
//
// By the import rules it cannot see keys, plaintext, stations or the catalogue:
// what it stores was sealed elsewhere, and it serves ciphertext alone.
package host
