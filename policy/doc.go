// Package policy says who may do what: it verifies credentials, keeps what
// they say as a Grant, and answers requests by Cedar rules with a Decision,
// which is the only thing that releases a key.
//
// It does not know HTTP, IPFS, files or databases, holds no key of any audio,
// and never opens a connection: keys, revocations, the clock and randomness
// are handed to it.
package policy
