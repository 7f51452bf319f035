// Package front is what the listeners that strangers reach have in common, at
// an origin and at a host: TLS from files that may be replaced, a bound on open
// connections, and ciphertext by CID.
//
// It does not know which blocks may be had, who asks, how a refusal is worded,
// or what else a listener serves.
package front
