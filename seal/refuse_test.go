package seal_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/musenai/musen/seal"
)

// checkRefused opens damaged bytes of that catalogued size whole. It wants an
// error of the given kind (nil: any) and nothing written but a prefix of the
// truth that ends at or before trusted, the end of the chunks that are intact.
func checkRefused(t *testing.T, what string, damaged []byte, size int64, truth []byte, trusted int, kind error) {
	t.Helper()
	r, err := open(damaged, size, testKey(), testAD())
	var got bytes.Buffer
	if err == nil {
		_, err = r.WriteRange(&got, 0, sizeOf(t, size))
		if verifyErr := r.Verify(t.Context()); verifyErr == nil || verifyErr.Error() != err.Error() {
			t.Errorf("%s: verify says %v, reading %v", what, verifyErr, err)
		}
	}
	if err == nil || errors.Is(err, io.EOF) || (kind != nil && !errors.Is(err, kind)) {
		t.Errorf("%s: error is %v, want %v", what, err, kind)
	}
	if got.Len() > trusted || !bytes.HasPrefix(truth, got.Bytes()) {
		t.Errorf("%s: %d bytes left, of which at most %d are true", what, got.Len(), trusted)
	}
}

func sizeOf(t testing.TB, sealed int64) int64 {
	t.Helper()
	n, err := seal.PlainSize(sealed)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// plainBefore is how much audio the chunks in front of one hold.
func plainBefore(chunk int) int {
	return max(0, chunk*plainChunk-seal.HeaderSize)
}

// TestCutIsRefused cuts at every chunk boundary ±1 byte and more, once with
// the catalogue still right and once with a catalogue that believes the cut
// size (H17).
func TestCutIsRefused(t *testing.T) {
	for _, size := range []int64{0, 1, 100, firstPlain, firstPlain + 1, 2*plainChunk + 100, 5 * plainChunk} {
		truth := plaintext(size)
		s := sealed(t, truth)
		cuts := []int{0, 1, 39, 40, 41, 55, 56, 57, len(s) - 17, len(s) - 16, len(s) - 15, len(s) - 1}
		for b := seal.ChunkSize; b < len(s); b += seal.ChunkSize {
			cuts = append(cuts, b-1, b, b+1, b+15, b+16, b+17)
		}
		for _, cut := range cuts {
			if cut < 0 || cut >= len(s) {
				continue
			}
			intact := plainBefore(cut / seal.ChunkSize)
			checkRefused(t, "cut", s[:cut], int64(len(s)), truth, intact, nil)
			last := plainBefore(max(0, (cut-1)/seal.ChunkSize))
			checkRefused(t, "cut, catalogue too", s[:cut], int64(cut), truth, last, nil)
		}
	}
}

// TestExtendedIsRefused appends bytes, a copy of the last chunk, and whole
// chunks of the segment itself, as long as the catalogue believes it (H17).
// Bytes past the catalogued size are none of the segment's and stay unread.
func TestExtendedIsRefused(t *testing.T) {
	for _, size := range []int64{0, 1, 100, firstPlain, firstPlain + 1, 2*plainChunk + 100, 3*plainChunk - seal.HeaderSize} {
		truth := plaintext(size)
		s := sealed(t, truth)
		last := (len(s) - 1) / seal.ChunkSize
		for _, tail := range [][]byte{
			{0}, make([]byte, 15), make([]byte, 16), make([]byte, 17), make([]byte, seal.ChunkSize),
			s[last*seal.ChunkSize:], s[:min(len(s), seal.ChunkSize)], s,
		} {
			longer := slices.Concat(s, tail)
			checkRefused(t, "extended", longer, int64(len(longer)), truth, plainBefore(last), nil)
			r, err := open(longer, int64(len(s)), testKey(), testAD())
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if _, err := r.WriteRange(&got, 0, size); err != nil || !bytes.Equal(got.Bytes(), truth) {
				t.Errorf("size %d: bytes past the catalogued size changed what is read: %v", size, err)
			}
		}
	}
}

// TestAnEmptyLastChunkIsRefused: also when whoever has the key sealed it, a
// segment has one form only (H17). Tink would take it.
func TestAnEmptyLastChunkIsRefused(t *testing.T) {
	whole := sealWith(t, testHeader(), testKey(), testAD(), plaintext(2*plainChunk-seal.HeaderSize+1))
	s := whole[:2*seal.ChunkSize+seal.TagSize]
	if _, err := open(s, int64(len(s)), testKey(), testAD()); !errors.Is(err, seal.ErrFormat) {
		t.Errorf("a last chunk without audio: %v", err)
	}
}

func testHeader() []byte {
	return append([]byte{seal.HeaderSize}, bytes.Repeat([]byte{0xa5}, seal.HeaderSize-1)...)
}

// TestReorderedIsRefused swaps, repeats and drops chunks (H16, H17).
func TestReorderedIsRefused(t *testing.T) {
	truth := plaintext(6 * plainChunk)
	s := sealed(t, truth)
	chunk := func(i int) []byte { return s[i*seal.ChunkSize : min((i+1)*seal.ChunkSize, len(s))] }
	for _, order := range [][]int{
		{0, 2, 1, 3, 4, 5, 6}, {0, 1, 2, 3, 5, 4, 6}, {0, 1, 1, 3, 4, 5, 6}, {0, 1, 3, 4, 5, 6}, {0, 1, 2, 3, 4, 6},
		{1, 0, 2, 3, 4, 5, 6}, {4, 5, 2, 3, 0, 1, 6}, {0, 0, 2, 3, 4, 5, 6}, {0, 1, 2, 3, 4, 5, 5, 6}, {0, 6},
	} {
		var damaged []byte
		first := -1
		for i, from := range order {
			damaged = append(damaged, chunk(from)...)
			if first < 0 && (from != i || (i == len(order)-1) != (from == 6)) {
				first = i
			}
		}
		checkRefused(t, "reordered", damaged, int64(len(damaged)), truth, plainBefore(first), nil)
	}
}

// TestSwappedIsRefused puts chunks of another segment in, sealed under another
// key, under the same key, and with the other's header (H16).
func TestSwappedIsRefused(t *testing.T) {
	truth := plaintext(3 * plainChunk)
	s, same := sealed(t, truth), sealed(t, truth)
	other := sealWith(t, s[:40], bytes.Repeat([]byte{1}, 32), testAD(), truth)
	otherAD := sealWith(t, s[:40], testKey(), seal.AssociatedData("station", "other"), truth)
	for _, donor := range [][]byte{same, other, otherAD} {
		for i := range 4 {
			damaged := bytes.Clone(s)
			from := max(seal.HeaderSize, i*seal.ChunkSize)
			copy(damaged[from:min((i+1)*seal.ChunkSize, len(s))], donor[from:])
			checkRefused(t, "swapped", damaged, int64(len(s)), truth, plainBefore(i), seal.ErrCorrupt)
		}
	}
	checkRefused(t, "whole other segment", other, int64(len(s)), truth, 0, seal.ErrCorrupt)
	checkRefused(t, "whole other segment", otherAD, int64(len(s)), truth, 0, seal.ErrCorrupt)
	checkRefused(t, "header of another", slices.Concat(same[:40], s[40:]), int64(len(s)), truth, 0, seal.ErrCorrupt)
}

// TestWrongKeyOrAssociatedDataOpensNothing covers H16 and a wrong key.
func TestWrongKeyOrAssociatedDataOpensNothing(t *testing.T) {
	for _, size := range []int64{0, 1, 2 * plainChunk} {
		s := sealed(t, plaintext(size))
		wrongKey := testKey()
		wrongKey[31] ^= 1
		for _, c := range []struct{ key, ad []byte }{
			{wrongKey, testAD()},
			{make([]byte, seal.KeySize), testAD()},
			{testKey(), nil},
			{testKey(), seal.AssociatedData("station", "other")},
			{testKey(), seal.AssociatedData("other", "segment")},
			{testKey(), seal.AssociatedData("stationsegment", "")},
			{testKey(), testAD()[1:]},
		} {
			r, err := open(s, int64(len(s)), c.key, c.ad)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			var bad *seal.ChunkError
			if n, err := r.WriteRange(&got, 0, size); n != 0 || got.Len() != 0 || !errors.As(err, &bad) || bad.Chunk != 0 {
				t.Errorf("size %d: %d bytes, %v", size, n, err)
			}
		}
	}
}

// TestBitFlipsAreRefused flips bits of the header, of every chunk and of every
// tag (H16, H19). Chunks in front of the flip still open, and the error names
// the chunk.
func TestBitFlipsAreRefused(t *testing.T) {
	truth := plaintext(4*plainChunk + 100)
	s := sealed(t, truth)
	flip := func(at int, bit byte, kind error) {
		damaged := bytes.Clone(s)
		damaged[at] ^= bit
		intact := plainBefore(at / seal.ChunkSize)
		checkRefused(t, "bit flip", damaged, int64(len(s)), truth, intact, kind)
	}
	for bit := byte(1); bit != 0; bit <<= 1 {
		flip(0, bit, seal.ErrFormat)
	}
	for at := 1; at < seal.HeaderSize; at++ {
		flip(at, 1<<(at%8), seal.ErrCorrupt)
	}
	for start := 0; start < len(s); start += seal.ChunkSize {
		end := min(start+seal.ChunkSize, len(s))
		first := max(start, seal.HeaderSize)
		for _, at := range []int{first, first + 1, (first + end) / 2, end - 17, end - 16, end - 9, end - 1} {
			flip(at, 1, seal.ErrCorrupt)
			flip(at, 0x80, seal.ErrCorrupt)
		}
	}
}

// TestErrorsNameTheChunk lets a caller find the IPFS leaf to fetch again.
func TestErrorsNameTheChunk(t *testing.T) {
	s := sealed(t, plaintext(6*plainChunk))
	for chunk := range int64(7) {
		want := seal.ChunkError{Chunk: chunk, Offset: max(chunk*seal.ChunkSize, seal.HeaderSize)}
		damaged := bytes.Clone(s)
		damaged[want.Offset+5] ^= 4
		r, err := open(damaged, int64(len(s)), testKey(), testAD())
		if err != nil {
			t.Fatal(err)
		}
		from := max(0, chunk*plainChunk-seal.HeaderSize)
		var bad *seal.ChunkError
		if n, err := r.ReadAt(make([]byte, 1), from); n != 0 || !errors.As(err, &bad) || *bad != want || !errors.Is(err, seal.ErrCorrupt) {
			t.Errorf("chunk %d: read %d, %v", chunk, n, err)
		}
	}
}

// TestOtherFormatsAreRefused: there is one format, so there is nothing to
// downgrade to (H19).
func TestOtherFormatsAreRefused(t *testing.T) {
	s := sealed(t, plaintext(100))
	for first := range 256 {
		header := bytes.Clone(s[:seal.HeaderSize])
		header[0] = byte(first)
		_, err := seal.NewOpener(header, int64(len(s)), testKey(), testAD())
		if (err == nil) != (first == seal.HeaderSize) || (err != nil && !errors.Is(err, seal.ErrFormat)) {
			t.Errorf("header length byte %d: %v", first, err)
		}
	}
	for _, n := range []int{0, 1, 24, 39, 41, 56} { // 24: the header of AES-128
		header := bytes.Clone(s[:n])
		if _, err := seal.NewOpener(header, int64(len(s)), testKey(), testAD()); !errors.Is(err, seal.ErrFormat) {
			t.Errorf("header of %d bytes: %v", n, err)
		}
	}
}
