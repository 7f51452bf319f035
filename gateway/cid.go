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
// a CID. Any other is musen.ErrNotFound.
func parseCID(s string) (cid.Cid, error) {
	if len(s) > maxCID {
		return cid.Undef, musen.ErrNotFound
	}
	c, err := cid.Decode(s)
	if err != nil || spelling(c, s) != s {
		return cid.Undef, musen.ErrNotFound
	}
	p := c.Prefix()
	if p.MhType != multihash.SHA2_256 || p.MhLength != 32 || p.Codec != cid.Raw && p.Codec != cid.DagProtobuf {
		return cid.Undef, musen.ErrNotFound
	}
	return c, nil
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

// canonical spells the CIDs of both codecs that c's multihash can have, c's own
// first: a link is bound to one of them.
func canonical(c cid.Cid) [2]string {
	raw := cid.NewCidV1(cid.Raw, c.Hash()).String()
	dag := cid.NewCidV1(cid.DagProtobuf, c.Hash()).String()
	if c.Type() == cid.Raw {
		return [2]string{raw, dag}
	}
	return [2]string{dag, raw}
}
