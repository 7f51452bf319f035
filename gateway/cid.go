package gateway

import (
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multibase"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/cidpath"
)

// parseCID reads a CID as cidpath does; any other is musen.ErrNotFound. With
// the CID comes its canonical spelling.
func parseCID(s string) (cid.Cid, string, error) {
	c, ok := cidpath.Parse(s)
	if !ok {
		return cid.Undef, "", musen.ErrNotFound
	}
	return c, canonical(c, s), nil
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
