package cidpath

import (
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multibase"
	"github.com/multiformats/go-multihash"
)

func example(t testing.TB, codec uint64) cid.Cid {
	t.Helper()
	sum := sha256.Sum256([]byte("a segment"))
	mh, err := multihash.Encode(sum[:], multihash.SHA2_256)
	if err != nil {
		t.Fatal(err)
	}
	return cid.NewCidV1(codec, mh)
}

func spell(t testing.TB, c cid.Cid, base multibase.Encoding) string {
	t.Helper()
	s, err := c.StringOfBase(base)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// H25: every spelling that is accepted names the same CID, and no other base
// names any.
func TestSpellings(t *testing.T) {
	for _, codec := range []uint64{cid.Raw, cid.DagProtobuf} {
		c := example(t, codec)
		for base, name := range multibase.EncodingToStr {
			s, err := c.StringOfBase(base)
			if err != nil {
				continue // a base of bytes
			}
			got, ok := Parse(s)
			want := strings.Contains(" base16 base16upper base32 base32upper base36 base36upper base58btc base64url ", " "+name+" ")
			if ok != want || ok && !got.Equals(c) {
				t.Errorf("%s %q: %s, %v", name, s, got, ok)
			}
		}
	}
	v0 := cid.NewCidV0(example(t, cid.Raw).Hash())
	if got, ok := Parse(v0.String()); !ok || !got.Equals(v0) {
		t.Errorf("version 0: %s, %v", got, ok)
	}
}

// H25: the last letter of base32 has bits that no byte needs. With any but the
// right ones it decodes to the same CID, and is none.
func TestStrayBitsAreNoCID(t *testing.T) {
	c := example(t, cid.Raw)
	right := spell(t, c, multibase.Base32)
	stray := 0
	for _, letter := range "abcdefghijklmnopqrstuvwxyz234567" {
		s := right[:len(right)-1] + string(letter)
		lax, err := cid.Decode(s)
		if s == right || err != nil || !lax.Equals(c) {
			continue
		}
		stray++
		for _, s := range []string{s, strings.ToUpper(s)} {
			if got, ok := Parse(s); ok {
				t.Errorf("%q is %s", s, got)
			}
		}
	}
	if stray != 3 {
		t.Errorf("%d other last letters decode to the same CID, want 3", stray)
	}
}

// H25: whatever is not the one spelling of a CID in its base is no CID.
func TestOthersAreNoCID(t *testing.T) {
	c := example(t, cid.Raw)
	b32, b16, b36 := spell(t, c, multibase.Base32), spell(t, c, multibase.Base16), spell(t, c, multibase.Base36)
	for _, bad := range []string{
		"", "b", "F", "K", "Qm", b32 + "=", b32 + "a", b32[:len(b32)-1], " " + b32, b32[1:],
		"f" + strings.ToUpper(b16[1:]), "F" + b16[1:], "b" + strings.ToUpper(b32[1:]), "B" + b32[1:], "K" + b36[1:],
		"z" + cid.NewCidV0(c.Hash()).String(), "bafkqaaa", "f" + strings.Repeat("0", 200), "b\x00",
		cid.NewCidV1(cid.DagCBOR, c.Hash()).String(), cid.NewCidV1(cid.Raw, c.Hash()[:20]).String(),
	} {
		if got, ok := Parse(bad); ok {
			t.Errorf("%q is %s", bad, got)
		}
	}
}
