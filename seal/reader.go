package seal

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// A Reader opens ranges of the audio of one segment. It keeps no state between
// calls: it is safe for concurrent use if what it reads from is.
//
// An error of the sealed io.ReaderAt is passed on wrapped; if it ends before
// the segment does, that is io.ErrUnexpectedEOF, never io.EOF.
type Reader struct {
	opener *Opener
	sealed io.ReaderAt
}

var _ io.ReaderAt = (*Reader)(nil)

// Reader reads the segment from its sealed bytes. Reads go to one chunk at a
// time, never past the sealed size, and never to the header.
func (o *Opener) Reader(sealed io.ReaderAt) *Reader {
	return &Reader{opener: o, sealed: sealed}
}

// WriteRange writes n bytes of audio from off to w and returns how many it
// wrote. It makes one Write for each chunk that the range touches, and only
// after the chunk's tag was checked: on any error what was written is a true
// prefix of the range. A chunk that does not open is a *ChunkError.
//
// The range must lie inside the audio. Nothing is read for an empty one,
// except that an empty audio's only chunk is checked. w must not keep the bytes
// it is given. One chunk buffer is held until WriteRange returns.
func (r *Reader) WriteRange(w io.Writer, off, n int64) (written int64, err error) {
	size := r.opener.plain
	if off < 0 || n < 0 || off > size || n > size-off {
		return 0, fmt.Errorf("read %d bytes from byte %d: outside the audio of %d bytes", n, off, size)
	}
	if n == 0 && size > 0 {
		return 0, nil
	}
	buf := r.opener.buffers.get()
	defer r.opener.buffers.put(buf)
	if n == 0 {
		_, err := r.open(buf, 0)
		return 0, err
	}
	// Counted as if the header were plaintext, every chunk holds plainChunk.
	for at, end := off+HeaderSize, off+n+HeaderSize; at < end; {
		chunk := at / plainChunk
		plain, err := r.open(buf, chunk)
		if err != nil {
			return written, err
		}
		start := chunk * plainChunk
		m, err := writeAll(w, plain[at-start:min(end-start, int64(len(plain)))])
		at, written = at+int64(m), written+int64(m)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

func writeAll(w io.Writer, p []byte) (int, error) {
	n, err := w.Write(p)
	if n < 0 || n > len(p) {
		return 0, errors.New("writer claims more than it was given")
	}
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}

// open opens one chunk in place. What it returns begins with HeaderSize unused
// bytes if it is the first chunk, and is good until buf is used again.
func (r *Reader) open(buf *chunkBuffer, chunk int64) ([]byte, error) {
	start, skip := chunk*ChunkSize, int64(0)
	if chunk == 0 {
		skip = HeaderSize
	}
	sealed := buf.sealed[skip:min(ChunkSize, r.opener.sealed-start)]
	if err := readFull(r.sealed, sealed, start+skip); err != nil {
		return nil, fmt.Errorf("read chunk %d: %w", chunk, err)
	}
	plain, err := r.opener.aead.Open(sealed[:0], r.opener.nonce(buf, chunk), sealed, nil)
	if err != nil {
		return nil, &ChunkError{Chunk: chunk, Offset: start + skip}
	}
	return buf.sealed[:skip+int64(len(plain))], nil
}

func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil, errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

// ReadAt reads audio as io.ReaderAt says. Each call opens every chunk that it
// touches anew and returns only bytes whose tag was checked.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read from byte %d: outside the audio", off)
	}
	if off > r.opener.plain {
		return 0, io.EOF
	}
	into := fill{rest: p}
	n, err := r.WriteRange(&into, off, min(int64(len(p)), r.opener.plain-off))
	if err == nil && n < int64(len(p)) {
		err = io.EOF
	}
	return int(n), err
}

// fill is a writer into a slice that is as long as what will be written.
type fill struct{ rest []byte }

func (f *fill) Write(p []byte) (int, error) {
	n := copy(f.rest, p)
	f.rest = f.rest[n:]
	return n, nil
}

// Verify opens every chunk and returns the first error, or that of ctx once it
// is done.
func (r *Reader) Verify(ctx context.Context) error {
	buf := r.opener.buffers.get()
	defer r.opener.buffers.put(buf)
	for chunk := int64(0); chunk <= r.opener.last; chunk++ {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("verify from chunk %d: %w", chunk, err)
		}
		if _, err := r.open(buf, chunk); err != nil {
			return err
		}
	}
	return nil
}
