package gateway

import (
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multibase"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen"
)

// maxCID is longer than any spelling that is accepted: base16 of a CIDv1 with
// a sha2-256 multihash has 73 characters.
const maxCID = 128

// parseCID reads a CID in one of its spellings: CIDv0, or CIDv1 in base32 of
// either case, base36, base58btc, base64url or base16, with the codec raw or
// dag-pb. Its hash is sha2-256, and the spelling is the one that the CID
// itself has in that base: nothing that two clients could read differently is
// a CID. Any other is musen.ErrNotFound. With the CID comes its canonical
// spelling.
func parseCID(s string) (cid.Cid, string, error) {
	if len(s) > maxCID {
		return cid.Undef, "", musen.ErrNotFound
	}
	c, err := cid.Decode(s)
	if err != nil || spelling(c, s) != s {
		return cid.Undef, "", musen.ErrNotFound
	}
	p := c.Prefix()
	if p.MhType != multihash.SHA2_256 || p.MhLength != 32 || p.Codec != cid.Raw && p.Codec != cid.DagProtobuf {
		return cid.Undef, "", musen.ErrNotFound
	}
	return c, canonical(c, s), nil
}

// spelling spells c in the base that s begins with, or returns "".
func spelling(c cid.Cid, s string) string {
	if c.Version() == 0 {
		return c.String()
	}
	base := multibase.Encoding(s[0])
	switch base {
	case multibase.Base32, multibase.Base32Upper, multibase.Base36,
		multibase.Base58BTC, multibase.Base64url, multibase.Base16:
	default:
		return ""
	}
	out, err := c.StringOfBase(base)
	if err != nil {
		return ""
	}
	return out
}

// canonical is the spelling that c has in logs and in links: CIDv1 in base32.
// The spelling that c was parsed from is used if it is that one.
func canonical(c cid.Cid, parsed string) string {
	if c.Version() == 1 && parsed[0] == multibase.Base32 {
		return parsed
	}
	return cid.NewCidV1(c.Type(), c.Hash()).String()
}

// alias is the canonical spelling of the CID of the same multihash with the
// other codec.
func alias(c cid.Cid) string {
	codec := uint64(cid.Raw)
	if c.Type() == cid.Raw {
		codec = cid.DagProtobuf
	}
	return cid.NewCidV1(codec, c.Hash()).String()
}
