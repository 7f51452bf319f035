// Package seal turns the audio of one segment into sealed bytes under one data
// key, and opens any range of them again. FORMAT.md describes the sealed bytes
// well enough to write a second implementation.
//
// It does not know where keys come from, who may hear what, what a CID is or
// where sealed bytes are kept: it takes a key and an io.Writer or io.ReaderAt.
package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Sizes of the sealed format in bytes.
const (
	KeySize    = 32    // of a data key
	HeaderSize = 40    // in front of the first chunk, counted inside its ChunkSize
	ChunkSize  = 65536 // of sealed bytes; only the last chunk may be shorter
	TagSize    = 16    // at the end of every chunk
)

const (
	plainChunk = ChunkSize - TagSize
	maxChunks  = 1<<32 - 1 // the chunk number in a nonce has 32 bits, Tink leaves the last out
	maxSealed  = maxChunks * ChunkSize
	maxPlain   = maxSealed - HeaderSize - maxChunks*TagSize

	saltSize   = 32
	prefixSize = 7
	nonceSize  = 12

	formatName = "musen.seal.v1"
)

var (
	// ErrCorrupt says that a chunk is not what was sealed at its place under
	// this key and associated data. A *ChunkError around it says which one.
	ErrCorrupt = errors.New("sealed bytes are corrupt")
	// ErrFormat says that a header or a sealed size is none that this format
	// has, whatever the key.
	ErrFormat = errors.New("not the sealed format")
)

// A ChunkError says which chunk did not open. It unwraps to ErrCorrupt.
type ChunkError struct {
	Chunk  int64 // counted from 0
	Offset int64 // of the chunk's first byte of ciphertext in the sealed bytes
}

// Error names the chunk and where it lies.
func (e *ChunkError) Error() string {
	return fmt.Sprintf("open chunk %d at sealed byte %d: %v", e.Chunk, e.Offset, ErrCorrupt)
}

// Unwrap returns ErrCorrupt.
func (e *ChunkError) Unwrap() error { return ErrCorrupt }

// NewKey reads a new data key from r, which must be a source of secure
// randomness. A key seals one segment and no other.
func NewKey(r io.Reader) ([]byte, error) {
	key := make([]byte, KeySize)
	if _, err := io.ReadFull(r, key); err != nil {
		return nil, fmt.Errorf("make a data key: %w", err)
	}
	return key, nil
}

// AssociatedData encodes what a seal is bound to: the format's version, the
// station and the segment. No two pairs have the same encoding.
func AssociatedData(station, segment string) []byte {
	ad := make([]byte, 0, len(formatName)+16+len(station)+len(segment))
	ad = append(ad, formatName...)
	for _, id := range [2]string{station, segment} {
		ad = binary.BigEndian.AppendUint64(ad, uint64(len(id)))
		ad = append(ad, id...)
	}
	return ad
}

// SealedSize is the number of sealed bytes that plain bytes of audio become,
// or -1 if plain is negative or more than the format can number (256 TiB).
func SealedSize(plain int64) int64 {
	if plain < 0 || plain > maxPlain {
		return -1
	}
	chunks := (plain + HeaderSize + plainChunk - 1) / plainChunk
	return plain + HeaderSize + chunks*TagSize
}

// PlainSize is the number of bytes of audio in sealed bytes of that size. A
// size that no audio seals to is ErrFormat: it was cut, extended or never was
// one.
func PlainSize(sealed int64) (int64, error) {
	if sealed < HeaderSize+TagSize || sealed > maxSealed {
		return 0, fmt.Errorf("sealed size %d: %w", sealed, ErrFormat)
	}
	plain := sealed - HeaderSize - countChunks(sealed)*TagSize
	if SealedSize(plain) != sealed {
		return 0, fmt.Errorf("sealed size %d: %w", sealed, ErrFormat)
	}
	return plain, nil
}

// countChunks tells how many chunks a sealed size has that is in range.
func countChunks(sealed int64) int64 {
	return (sealed + ChunkSize - 1) / ChunkSize
}

func checkKey(key []byte) error {
	if len(key) != KeySize {
		return fmt.Errorf("data key of %d bytes, must be %d", len(key), KeySize)
	}
	return nil
}
