// Package cidpath reads CIDs as callers spell them: in paths and parameters on
// the listeners of origins and hosts, in the admin API, and on the command line.
//
// It does not know which CIDs exist, nor how a refusal is answered.
package cidpath

import (
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multibase"
	"github.com/multiformats/go-multihash"
)

// maxLength is longer than any spelling that is accepted: base16 of a CIDv1
// with a sha2-256 multihash has 73 characters.
const maxLength = 128

// Parse reads a CID in one of its spellings: CIDv0, or CIDv1 in base16, base32
// or base36 of either case, base58btc or base64url, with the codec raw or
// dag-pb. Its hash is sha2-256, and the spelling is the one that the CID itself
// has in that base: nothing that two clients could read differently is a CID.
func Parse(s string) (c cid.Cid, ok bool) {
	if len(s) > maxLength {
		return cid.Undef, false
	}
	c, err := cid.Decode(s)
	if err != nil || !spelled(c, s) {
		return cid.Undef, false
	}
	p := c.Prefix()
	if p.MhType != multihash.SHA2_256 || p.MhLength != 32 || p.Codec != cid.Raw && p.Codec != cid.DagProtobuf {
		return cid.Undef, false
	}
	return c, true
}

// spelled reports whether s is how a base that is accepted spells c: decoders
// take mixed case and stray bits too.
func spelled(c cid.Cid, s string) bool {
	if c.Version() == 0 {
		return c.String() == s
	}
	base := multibase.Encoding(s[0])
	switch base {
	case multibase.Base16, multibase.Base16Upper, multibase.Base32, multibase.Base32Upper,
		multibase.Base36, multibase.Base36Upper, multibase.Base58BTC, multibase.Base64url:
		again, err := c.StringOfBase(base)
		return err == nil && again == s
	}
	return false
}
