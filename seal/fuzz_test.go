package seal_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/musenai/musen/seal"
)

// FuzzOpen opens arbitrary bytes of an arbitrary catalogued size. Nothing may
// panic, and whatever opens is what Tink's reader opens.
func FuzzOpen(f *testing.F) {
	for _, size := range []int64{0, 1, 300} {
		s := sealWith(f, testHeader(), testKey(), testAD(), plaintext(size))
		f.Add(s, int64(len(s)))
		f.Add(s[:len(s)-1], int64(len(s)))
		f.Add(s, int64(len(s)-1))
		f.Add(append(s, 0), int64(len(s)+1))
	}
	f.Add([]byte{}, int64(-1))
	f.Add(testHeader(), int64(1)<<62)
	f.Add(append(testHeader(), make([]byte, seal.ChunkSize)...), int64(seal.ChunkSize+40))
	f.Fuzz(func(t *testing.T, s []byte, size int64) {
		r, err := open(s, size, testKey(), testAD())
		if err != nil {
			return
		}
		var got bytes.Buffer
		n, err := r.WriteRange(&got, 0, sizeOf(t, size))
		if n != int64(got.Len()) || (err == nil && n != sizeOf(t, size)) {
			t.Fatalf("wrote %d, says %d, %v", got.Len(), n, err)
		}
		if verifyErr := r.Verify(t.Context()); (verifyErr == nil) != (err == nil) {
			t.Fatalf("verify says %v, reading %v", verifyErr, err)
		}
		if err != nil && n == 0 {
			return
		}
		oracle, err := tinkReader(t, s[:min(int64(len(s)), size)], testKey(), testAD())
		if err != nil {
			t.Fatalf("Tink does not open what opened: %v", err)
		}
		want := make([]byte, n)
		if _, err := io.ReadFull(oracle, want); err != nil || !bytes.Equal(want, got.Bytes()) {
			t.Fatalf("Tink reads other bytes: %v", err)
		}
	})
}

// FuzzRoundTrip seals audio in writes of any size and opens any range of it,
// then with one byte of the sealed bytes changed: the range is either still
// true, or an error after a true prefix.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("audio"), uint16(1), uint16(3), uint32(0), uint32(5), uint32(44))
	f.Add([]byte{}, uint16(0), uint16(1), uint32(0), uint32(0), uint32(0))
	f.Add([]byte("0123456789abcdef"), uint16(4092), uint16(4096), uint32(65470), uint32(20), uint32(65536))
	f.Add([]byte("0123456789abcdef"), uint16(16380), uint16(999), uint32(65480), uint32(131040), uint32(131071))
	f.Fuzz(func(t *testing.T, unit []byte, times, step uint16, off, n, at uint32) {
		plain := bytes.Repeat(unit, int(times)%(1<<20/max(1, len(unit))+1))
		var out bytes.Buffer
		w, err := seal.NewWriter(&out, testKey(), testAD())
		if err != nil {
			t.Fatal(err)
		}
		for rest := plain; len(rest) > 0; {
			m, err := w.Write(rest[:min(len(rest), int(step)+1)])
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[m:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		from := int64(off) % int64(len(plain)+1)
		count := int64(n) % (int64(len(plain)) - from + 1)
		s := out.Bytes()
		if got, err := readRange(t, s, from, count); err != nil || !bytes.Equal(got, plain[from:from+count]) {
			t.Fatalf("range %d+%d of %d: %d bytes, %v", from, count, len(plain), len(got), err)
		}
		s[int(at)%len(s)] ^= 0x10
		got, err := readRange(t, s, from, count)
		if !bytes.HasPrefix(plain[from:from+count], got) || (err == nil && int64(len(got)) != count) {
			t.Fatalf("a changed byte gave %d bytes of range %d+%d, %v", len(got), from, count, err)
		}
	})
}

func readRange(t testing.TB, s []byte, off, n int64) ([]byte, error) {
	t.Helper()
	r, err := open(s, int64(len(s)), testKey(), testAD())
	if err != nil {
		return nil, err
	}
	var got bytes.Buffer
	_, err = r.WriteRange(&got, off, n)
	return got.Bytes(), err
}
