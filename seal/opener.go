package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"
)

// Buffers lends the chunk buffers that readers open in, and takes them back.
// Openers made by the same Buffers share them. The zero value is ready, safe
// for concurrent use and must not be copied.
type Buffers struct {
	pool sync.Pool
}

// chunkBuffer is where one chunk at a time is opened in place. The nonce lives
// in it because what is passed to a cipher.AEAD escapes.
type chunkBuffer struct {
	nonce  [nonceSize]byte
	sealed []byte // ChunkSize bytes
}

func (b *Buffers) get() *chunkBuffer {
	if buf, ok := b.pool.Get().(*chunkBuffer); ok {
		return buf
	}
	return &chunkBuffer{sealed: make([]byte, ChunkSize)}
}

func (b *Buffers) put(buf *chunkBuffer) { b.pool.Put(buf) }

// An Opener is what is needed to open one segment: the cipher derived from its
// key, and its size. It is immutable, safe for concurrent use and holds about
// 1 KiB. It can open the segment, so it is as secret as the key.
type Opener struct {
	aead    cipher.AEAD
	prefix  [prefixSize]byte
	sealed  int64
	plain   int64
	last    int64 // number of the last chunk
	buffers *Buffers
}

// NewOpener makes an Opener with buffers of its own. See Buffers.NewOpener.
func NewOpener(header []byte, sealedSize int64, key, ad []byte) (*Opener, error) {
	return new(Buffers).NewOpener(header, sealedSize, key, ad)
}

// NewOpener makes an Opener of the first HeaderSize sealed bytes of a segment.
// The sealed size must come from a trusted record, never from the sealed bytes:
// with it, cut or extended bytes do not open. The arguments are not kept.
//
// A header or size that the format does not have is ErrFormat. A wrong key, or
// wrong associated data, shows when the first chunk is opened.
func (b *Buffers) NewOpener(header []byte, sealedSize int64, key, ad []byte) (*Opener, error) {
	if len(header) != HeaderSize || header[0] != HeaderSize {
		return nil, fmt.Errorf("open a header of %d bytes: %w", len(header), ErrFormat)
	}
	plain, err := PlainSize(sealedSize)
	if err != nil {
		return nil, err
	}
	aead, err := deriveAEAD(key, header[1:1+saltSize], ad)
	if err != nil {
		return nil, fmt.Errorf("open a header: %w", err)
	}
	o := &Opener{aead: aead, sealed: sealedSize, plain: plain, last: countChunks(sealedSize) - 1, buffers: b}
	copy(o.prefix[:], header[1+saltSize:])
	return o, nil
}

func deriveAEAD(key, salt, ad []byte) (cipher.AEAD, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	derived, err := hkdf.Key(sha256.New, key, salt, string(ad), KeySize)
	if err != nil {
		return nil, err
	}
	defer clear(derived)
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Size is the length of the audio in bytes.
func (o *Opener) Size() int64 { return o.plain }

// nonce sets buf's nonce to the one of a chunk.
func (o *Opener) nonce(buf *chunkBuffer, chunk int64) []byte {
	n := buf.nonce[:]
	copy(n, o.prefix[:])
	binary.BigEndian.PutUint32(n[prefixSize:], uint32(chunk))
	n[nonceSize-1] = 0
	if chunk == o.last {
		n[nonceSize-1] = 1
	}
	return n
}
