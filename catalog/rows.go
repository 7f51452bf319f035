package catalog

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/uptrace/bun"

	"github.com/musenai/musen"
)

// A box seals columns.
type box struct {
	cipher Cipher
	mac    func([]byte) []byte
}

// A cell names one column of one row: what is sealed for it opens nowhere else.
type cell struct{ table, id, column string }

func (c cell) associatedData() []byte {
	return []byte("musen catalogue 1\x00" + c.table + "\x00" + c.column + "\x00" + c.id)
}

func (b box) seal(at cell, plain string) ([]byte, error) {
	sealed, err := b.cipher.Encrypt([]byte(plain), at.associatedData())
	if err != nil {
		return nil, fmt.Errorf("seal %s.%s of %q: %w", at.table, at.column, at.id, err)
	}
	return sealed, nil
}

func (b box) open(at cell, sealed []byte) (string, error) {
	plain, err := b.cipher.Decrypt(sealed, at.associatedData())
	if err != nil {
		return "", fmt.Errorf("open %s.%s of %q, is it the keyring of this home?: %w", at.table, at.column, at.id, err)
	}
	return string(plain), nil
}

// lookup is the keyed hash under which a value of that kind is found.
func (b box) lookup(kind, value string) []byte {
	return b.mac([]byte(kind + "\x00" + value))
}

// micros and instant keep times to the microsecond; the zero time stays zero.
func micros(t time.Time) int64   { return t.UnixMicro() }
func instant(us int64) time.Time { return time.UnixMicro(us).UTC() }

const (
	pending = iota // states of a row; the rest are 1 + musen.State
	live
	removed
)

type segmentRow struct {
	bun.BaseModel `bun:"table:segments,alias:s"`

	ID          string `bun:"id,pk"`
	Station     string `bun:"station"`
	State       int    `bun:"state"`
	Created     int64  `bun:"created"`
	Multihash   []byte `bun:"multihash"`
	Codec       int64  `bun:"codec"`
	Leaves      []byte `bun:"leaves"`
	Fingerprint []byte `bun:"fingerprint"`
	Title       []byte `bun:"title"`
	Artist      []byte `bun:"artist"`
	MediaType   string `bun:"media_type"`
	Duration    int64  `bun:"duration"`
	Size        int64  `bun:"size"`
	SealedSize  int64  `bun:"sealed_size"`
	AIGenerated bool   `bun:"ai_generated"`
	PublishAt   int64  `bun:"publish_at"`
	ExpiresAt   int64  `bun:"expires_at"`
	MAC         []byte `bun:"mac"`

	KeyGeneration int64  `bun:"key_generation,scanonly"`
	WrappedKey    []byte `bun:"wrapped_key,scanonly"`
}

// content spells every column but the MAC, so that no two rows read alike.
func (r *segmentRow) content() string {
	var b []byte
	for _, n := range []int64{
		int64(r.State), r.Created, r.Codec, r.Duration, r.Size, r.SealedSize, r.PublishAt, r.ExpiresAt,
	} {
		b = binary.AppendVarint(b, n)
	}
	b = strconv.AppendBool(b, r.AIGenerated)
	for _, s := range [][]byte{
		[]byte(r.ID), []byte(r.Station), r.Multihash, r.Leaves, r.Fingerprint, r.Title, r.Artist, []byte(r.MediaType),
	} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return string(b)
}

// sign makes later damage of the row's columns known.
func (r *segmentRow) sign(b box) { r.MAC = b.lookup("segment row", r.content()) }

// sound reports whether the row is as it was signed.
func (r *segmentRow) sound(b box) bool {
	return hmac.Equal(r.MAC, b.lookup("segment row", r.content()))
}

// segment decodes a row that is no longer pending, and refuses a damaged one.
func (r *segmentRow) segment(b box) (musen.Segment, error) {
	if !r.sound(b) {
		return musen.Segment{}, damaged(fmt.Errorf("row of segment %q was changed", r.ID))
	}
	s, err := r.decode()
	if err == nil && s.State != musen.Removed {
		if s.Title, err = b.open(cell{"segments", r.ID, "title"}, r.Title); err == nil {
			s.Artist, err = b.open(cell{"segments", r.ID, "artist"}, r.Artist)
		}
	}
	if err != nil {
		return musen.Segment{}, fmt.Errorf("row of segment %q: %w", r.ID, err)
	}
	return s, nil
}

// decode reads all that is not sealed, and takes nothing for granted.
func (r *segmentRow) decode() (musen.Segment, error) {
	if r.State < live || r.State > live+int(musen.TakenDown) {
		return musen.Segment{}, fmt.Errorf("impossible state %d", r.State)
	}
	if r.KeyGeneration < 0 || r.KeyGeneration > math.MaxUint32 || r.Codec < 0 {
		return musen.Segment{}, errors.New("impossible key generation or codec")
	}
	mh, err := multihash.Cast(r.Multihash)
	if err != nil {
		return musen.Segment{}, fmt.Errorf("multihash: %w", err)
	}
	s := musen.Segment{
		ID: r.ID, Station: r.Station, State: musen.State(r.State - live), Created: instant(r.Created),
		CID: cid.NewCidV1(uint64(r.Codec), mh), MediaType: r.MediaType, Duration: time.Duration(r.Duration),
		Size: r.Size, SealedSize: r.SealedSize, AIGenerated: r.AIGenerated,
		PublishAt: instant(r.PublishAt), ExpiresAt: instant(r.ExpiresAt),
	}
	if s.State == musen.Removed {
		return s, nil
	}
	s.Key = musen.WrappedKey{Generation: uint32(r.KeyGeneration), Ciphertext: r.WrappedKey}
	if s.Leaves, err = unpackLeaves(r.Leaves); err != nil {
		return musen.Segment{}, err
	}
	return s, checkShape(s)
}

// checkShape refuses a segment whose sizes and blocks contradict each other.
func checkShape(s musen.Segment) error {
	want := (s.SealedSize + musen.LeafSize - 1) / musen.LeafSize
	switch {
	case s.Size < 0 || s.SealedSize <= 0:
		return fmt.Errorf("impossible sizes %d and %d", s.Size, s.SealedSize)
	case int64(len(s.Leaves)) != want:
		return fmt.Errorf("%d leaves, %d sealed bytes need %d", len(s.Leaves), s.SealedSize, want)
	case len(s.Leaves) == 1 && string(s.Leaves[0].Hash()) != string(s.CID.Hash()):
		return errors.New("a single leaf that is not the root")
	}
	return nil
}

// packLeaves joins the digests of leaves, which must be raw and SHA-256.
func packLeaves(leaves []cid.Cid) ([]byte, error) {
	packed := make([]byte, 0, len(leaves)*sha256.Size)
	for _, c := range leaves {
		d, err := multihash.Decode(c.Hash())
		if err != nil || d.Code != multihash.SHA2_256 || d.Length != sha256.Size || c.Type() != cid.Raw {
			return nil, fmt.Errorf("leaf %q is not a raw block named by SHA-256", c)
		}
		packed = append(packed, d.Digest...)
	}
	return packed, nil
}

func unpackLeaves(packed []byte) ([]cid.Cid, error) {
	if len(packed)%sha256.Size != 0 {
		return nil, fmt.Errorf("%d bytes of leaf digests", len(packed))
	}
	leaves := make([]cid.Cid, 0, len(packed)/sha256.Size)
	for ; len(packed) > 0; packed = packed[sha256.Size:] {
		mh, err := multihash.Encode(packed[:sha256.Size], multihash.SHA2_256)
		if err != nil {
			return nil, err
		}
		leaves = append(leaves, cid.NewCidV1(cid.Raw, mh))
	}
	return leaves, nil
}
