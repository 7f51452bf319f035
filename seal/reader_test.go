package seal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/musenai/musen/seal"
	"pgregory.net/rapid"
)

// TestReaderAgreesWithTink opens what the writer sealed with Tink's reader and
// with ours, whole and in ranges around every chunk boundary.
func TestReaderAgreesWithTink(t *testing.T) {
	for _, size := range boundarySizes() {
		plain := plaintext(size)
		s := sealed(t, plain)
		oracle, err := tinkReader(t, s, testKey(), testAD())
		if err != nil {
			t.Fatal(err)
		}
		want, err := io.ReadAll(oracle)
		if err != nil || !bytes.Equal(want, plain) {
			t.Fatalf("size %d: Tink reads %d bytes, %v", size, len(want), err)
		}
		r, err := open(s, int64(len(s)), testKey(), testAD())
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Verify(t.Context()); err != nil {
			t.Errorf("size %d: %v", size, err)
		}
		checkRanges(t, r, want)
	}
}

// checkRanges reads ranges between all pairs of interesting offsets.
func checkRanges(t *testing.T, r *seal.Reader, want []byte) {
	t.Helper()
	size := int64(len(want))
	offsets := []int64{0, 1, size / 2, size - 1, size}
	for b := int64(firstPlain); b < size && b < 3*plainChunk; b += plainChunk {
		offsets = append(offsets, b-1, b, b+1)
	}
	offsets = slices.DeleteFunc(offsets, func(o int64) bool { return o < 0 || o > size })
	for _, from := range offsets {
		for _, to := range offsets {
			if to < from {
				continue
			}
			var got bytes.Buffer
			n, err := r.WriteRange(&got, from, to-from)
			if err != nil || n != to-from || !bytes.Equal(got.Bytes(), want[from:to]) {
				t.Fatalf("size %d: range %d to %d = %d bytes, %v", size, from, to, n, err)
			}
		}
	}
}

// TestAnyRange is the property that a table only samples: every range of every
// audio is the same bytes that were sealed, by WriteRange and by ReadAt.
func TestAnyRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		near := rapid.IntRange(0, 6).Draw(t, "chunks")*plainChunk - seal.HeaderSize
		size := max(0, near+rapid.IntRange(-70, 70).Draw(t, "over"))
		plain := plaintext(int64(size))
		header := rapid.SliceOfN(rapid.Byte(), 40, 40).Draw(t, "header")
		header[0] = seal.HeaderSize
		s := sealWith(t, header, testKey(), testAD(), plain)
		r, err := open(s, int64(len(s)), testKey(), testAD())
		if err != nil {
			t.Fatal(err)
		}
		from := rapid.IntRange(0, size).Draw(t, "from")
		n := rapid.IntRange(0, size-from).Draw(t, "n")
		var got bytes.Buffer
		if m, err := r.WriteRange(&got, int64(from), int64(n)); err != nil || m != int64(n) {
			t.Fatalf("WriteRange = %d, %v", m, err)
		}
		if !bytes.Equal(got.Bytes(), plain[from:from+n]) {
			t.Fatal("WriteRange wrote other bytes")
		}
		over := rapid.IntRange(0, 100).Draw(t, "past the range")
		p := make([]byte, n+over)
		m, err := r.ReadAt(p, int64(from))
		want := plain[from:min(from+n+over, size)]
		if !bytes.Equal(p[:m], want) || (m < len(p)) != (err == io.EOF) || (err != nil && err != io.EOF) {
			t.Fatalf("ReadAt = %d, %v, want %d", m, err, len(want))
		}
	})
}

// TestReaderIsAnIOReaderAt runs the standard library's own checks.
func TestReaderIsAnIOReaderAt(t *testing.T) {
	for _, size := range []int64{0, 1, 1500} { // it reads byte by byte
		plain := plaintext(size)
		s := sealed(t, plain)
		r, err := open(s, int64(len(s)), testKey(), testAD())
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(io.NewSectionReader(r, 0, size), plain); err != nil {
			t.Errorf("size %d: %v", size, err)
		}
		if n, err := r.ReadAt(make([]byte, 1), size); n != 0 || err != io.EOF {
			t.Errorf("size %d: ReadAt its end = %d, %v", size, n, err)
		}
		if n, err := r.ReadAt(make([]byte, 1), -1); n != 0 || err == nil || err == io.EOF {
			t.Errorf("size %d: ReadAt(-1) = %d, %v", size, n, err)
		}
	}
}

func TestRangesOutsideTheAudioAreRefused(t *testing.T) {
	s := sealed(t, plaintext(100))
	r, err := open(s, int64(len(s)), testKey(), testAD())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]int64{
		{-1, 1}, {0, -1}, {0, 101}, {100, 1}, {101, 0}, {1, 100}, {50, math.MaxInt64}, {math.MaxInt64, math.MaxInt64},
		{math.MaxInt64, 1}, {math.MinInt64, 1}, {0, math.MinInt64},
	} {
		var got bytes.Buffer
		if n, err := r.WriteRange(&got, c[0], c[1]); n != 0 || err == nil || got.Len() != 0 {
			t.Errorf("WriteRange(%d, %d) = %d, %v, wrote %d bytes", c[0], c[1], n, err, got.Len())
		}
	}
}

// recorder notes what is read and written.
type recorder struct {
	io.ReaderAt
	reads  [][2]int64
	writes []int
}

func (r *recorder) ReadAt(p []byte, off int64) (int, error) {
	r.reads = append(r.reads, [2]int64{off, int64(len(p))})
	return r.ReaderAt.ReadAt(p, off)
}

func (r *recorder) Write(p []byte) (int, error) {
	r.writes = append(r.writes, len(p))
	return len(p), nil
}

// TestARangeTouchesOnlyItsChunks: one read and one write for each chunk, no
// read of the header and none that crosses an IPFS leaf (P11).
func TestARangeTouchesOnlyItsChunks(t *testing.T) {
	s := sealed(t, plaintext(5*plainChunk))
	opener, err := seal.NewOpener(s[:seal.HeaderSize], int64(len(s)), testKey(), testAD())
	if err != nil {
		t.Fatal(err)
	}
	const c = seal.ChunkSize
	for _, tt := range []struct {
		off, n int64
		reads  [][2]int64
		writes []int
	}{
		{0, 0, nil, nil},
		{firstPlain + 5, 0, nil, nil},
		{0, 1, [][2]int64{{40, c - 40}}, []int{1}},
		{firstPlain - 1, 2, [][2]int64{{40, c - 40}, {c, c}}, []int{1, 1}},
		{firstPlain, plainChunk, [][2]int64{{c, c}}, []int{plainChunk}},
		{firstPlain + 3*plainChunk, 1, [][2]int64{{leafSize, c}}, []int{1}},
		{5*plainChunk - 1, 1, [][2]int64{{5 * c, 56}}, []int{1}},
		{10, firstPlain, [][2]int64{{40, c - 40}, {c, c}}, []int{firstPlain - 10, 10}},
	} {
		rec := &recorder{ReaderAt: bytes.NewReader(s)}
		if n, err := opener.Reader(rec).WriteRange(rec, tt.off, tt.n); n != tt.n || err != nil {
			t.Fatalf("range %d+%d = %d, %v", tt.off, tt.n, n, err)
		}
		if fmt.Sprint(rec.reads) != fmt.Sprint(tt.reads) || !slices.Equal(rec.writes, tt.writes) {
			t.Errorf("range %d+%d read %v, wrote %v, want %v, %v", tt.off, tt.n, rec.reads, rec.writes, tt.reads, tt.writes)
		}
	}
}

func TestWriteRangeAllocatesNothingPerChunk(t *testing.T) {
	s := sealed(t, plaintext(40*plainChunk))
	r, err := open(s, int64(len(s)), testKey(), testAD())
	if err != nil {
		t.Fatal(err)
	}
	allocs := testing.AllocsPerRun(20, func() {
		if _, err := r.WriteRange(io.Discard, 0, 40*plainChunk); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 4 { // a pool may be emptied by the collector at any time
		t.Errorf("%.0f allocations for 41 chunks", allocs)
	}
}

// TestOpenerIsShared opens many ranges of two segments at once with openers
// that share buffers: no reader sees bytes of another.
func TestOpenerIsShared(t *testing.T) {
	var buffers seal.Buffers
	var wg sync.WaitGroup
	for _, size := range []int64{3 * plainChunk, 2*plainChunk + 77} {
		plain := bytes.Repeat([]byte{byte(size)}, int(size))
		s := sealed(t, plain)
		opener, err := buffers.NewOpener(s[:seal.HeaderSize], int64(len(s)), testKey(), testAD())
		if err != nil {
			t.Fatal(err)
		}
		r := opener.Reader(bytes.NewReader(s))
		for i := range int64(8) {
			wg.Go(func() {
				for off := i * 777; off < size; off += 30_000 {
					n := min(size-off, 70_000)
					var got bytes.Buffer
					if _, err := r.WriteRange(&got, off, n); err != nil || !bytes.Equal(got.Bytes(), plain[off:off+n]) {
						t.Errorf("range %d+%d: %v", off, n, err)
					}
				}
			})
		}
	}
	wg.Wait()
}

// TestErrorsOfTheSourceArePassedOn: a disk error is not a corrupt chunk, and a
// source that ends early is never io.EOF, which io.Copy takes for success.
func TestErrorsOfTheSourceArePassedOn(t *testing.T) {
	s := sealed(t, plaintext(3*plainChunk))
	opener, err := seal.NewOpener(s[:seal.HeaderSize], int64(len(s)), testKey(), testAD())
	if err != nil {
		t.Fatal(err)
	}
	errDisk := errors.New("bad sector")
	for _, tt := range []struct{ err, want error }{
		{errDisk, errDisk}, {io.EOF, io.ErrUnexpectedEOF}, {nil, io.ErrUnexpectedEOF},
		{fmt.Errorf("read block: %w", io.EOF), io.ErrUnexpectedEOF}, {context.Canceled, context.Canceled},
	} {
		r := opener.Reader(failingAt{s, seal.ChunkSize + 100, tt.err})
		var got bytes.Buffer
		n, err := r.WriteRange(&got, 0, opener.Size())
		if n != firstPlain || int64(got.Len()) != n || !errors.Is(err, tt.want) || errors.Is(err, io.EOF) || errors.Is(err, seal.ErrCorrupt) {
			t.Errorf("source ends with %v: %d bytes, %v", tt.err, n, err)
		}
		if err := r.Verify(t.Context()); !errors.Is(err, tt.want) {
			t.Errorf("source ends with %v: verify: %v", tt.err, err)
		}
	}
}

// failingAt is a source that fails at a byte.
type failingAt struct {
	b   []byte
	at  int64
	err error
}

func (f failingAt) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) <= f.at {
		return copy(p, f.b[off:]), nil
	}
	if off >= f.at {
		return 0, f.err
	}
	return copy(p, f.b[off:f.at]), f.err
}

// TestErrorsOfTheWriterArePassedOn counts what a writer that fails took.
func TestErrorsOfTheWriterArePassedOn(t *testing.T) {
	s := sealed(t, plaintext(3*plainChunk))
	r, err := open(s, int64(len(s)), testKey(), testAD())
	if err != nil {
		t.Fatal(err)
	}
	n, err := r.WriteRange(&failAfter{left: firstPlain + 9}, 0, 3*plainChunk)
	if n != firstPlain+9 || !errors.Is(err, errFull) {
		t.Errorf("a full disk took %d bytes, %v", n, err)
	}
	for _, c := range []int{-1, 1 << 20} {
		if n, err := r.WriteRange(liar(c), 0, 10); n != 0 || err == nil {
			t.Errorf("a writer that claims %d: %d, %v", c, n, err)
		}
	}
	if n, err := r.WriteRange(liar(3), 0, 10); n != 3 || err != io.ErrShortWrite {
		t.Errorf("a short write: %d, %v", n, err)
	}
}

// liar is a writer that claims a number of bytes.
type liar int

func (l liar) Write([]byte) (int, error) { return int(l), nil }

func TestVerifyStopsWhenCancelled(t *testing.T) {
	s := sealed(t, plaintext(3*plainChunk))
	ctx, cancel := context.WithCancel(t.Context())
	rec := &recorder{ReaderAt: cancelling{bytes.NewReader(s), cancel}}
	opener, err := seal.NewOpener(s[:seal.HeaderSize], int64(len(s)), testKey(), testAD())
	if err != nil {
		t.Fatal(err)
	}
	if err := opener.Reader(rec).Verify(ctx); !errors.Is(err, context.Canceled) || len(rec.reads) != 1 {
		t.Errorf("verify = %v after %d reads", err, len(rec.reads))
	}
}

// cancelling ends a context at the first read.
type cancelling struct {
	io.ReaderAt
	cancel func()
}

func (c cancelling) ReadAt(p []byte, off int64) (int, error) {
	c.cancel()
	return c.ReaderAt.ReadAt(p, off)
}
