package seal_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/musenai/musen/seal"
	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle"
	"pgregory.net/rapid"
)

const (
	firstPlain = seal.ChunkSize - seal.HeaderSize - seal.TagSize
	plainChunk = seal.ChunkSize - seal.TagSize
	leafSize   = 4 * seal.ChunkSize
)

// plaintext is the rule that the vectors name: byte i is i mod 251.
func plaintext(size int64) []byte {
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(i % 251)
	}
	return p
}

func testKey() []byte { return bytes.Repeat([]byte{0x4b}, seal.KeySize) }

func testAD() []byte { return seal.AssociatedData("station", "segment") }

// sealed seals with the package's writer.
func sealed(t testing.TB, plain []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := seal.NewWriter(&out, testKey(), testAD())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// sealWith is FORMAT.md in its shortest form, with a header that the caller
// chooses. Only tests may choose one: two audios under one header and key
// would share nonces.
func sealWith(t rapid.TB, header, key, ad, plain []byte) []byte {
	t.Helper()
	derived, err := hkdf.Key(sha256.New, key, header[1:33], string(ad), 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	out := bytes.Clone(header)
	for i, size := 0, firstPlain; ; i, size = i+1, plainChunk {
		nonce := binary.BigEndian.AppendUint32(bytes.Clone(header[33:40]), uint32(i))
		if len(plain) <= size {
			return gcm.Seal(out, append(nonce, 1), plain, nil)
		}
		out = gcm.Seal(out, append(nonce, 0), plain[:size], nil)
		plain = plain[size:]
	}
}

// tinkReader is the oracle: Tink's own sequential reader.
func tinkReader(t testing.TB, sealed, key, ad []byte) (io.Reader, error) {
	t.Helper()
	return tinkAEAD(t, key).NewDecryptingReader(bytes.NewReader(sealed), ad)
}

func tinkAEAD(t testing.TB, key []byte) *subtle.AESGCMHKDF {
	t.Helper()
	aead, err := subtle.NewAESGCMHKDF(key, "SHA256", 32, seal.ChunkSize, 0)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

// open makes a reader of sealed bytes, whose size the catalogue says is size.
func open(sealed []byte, size int64, key, ad []byte) (*seal.Reader, error) {
	opener, err := seal.NewOpener(sealed[:min(len(sealed), seal.HeaderSize)], size, key, ad)
	if err != nil {
		return nil, err
	}
	return opener.Reader(bytes.NewReader(sealed)), nil
}

// boundarySizes are audio sizes around every boundary of the first two leaves
// and of later ones.
func boundarySizes() []int64 {
	sizes := []int64{0, 1, 2, 15, 16, 17, seal.HeaderSize, 1000}
	for chunks := int64(1); chunks <= 9; chunks++ {
		full := chunks*plainChunk - seal.HeaderSize
		sizes = append(sizes, full-1, full, full+1)
	}
	for _, leaves := range []int64{3, 5} {
		full := leaves*4*plainChunk - seal.HeaderSize
		sizes = append(sizes, full-1, full, full+1, full+12345)
	}
	return sizes
}

func TestSizesAreThoseOfSealedBytes(t *testing.T) {
	for _, size := range boundarySizes() {
		got := int64(len(sealed(t, plaintext(size))))
		if want := seal.SealedSize(size); got != want {
			t.Errorf("%d bytes sealed to %d, SealedSize says %d", size, got, want)
		}
		if back, err := seal.PlainSize(got); err != nil || back != size {
			t.Errorf("PlainSize(%d) = %d, %v, want %d", got, back, err, size)
		}
	}
}

// TestSizesCoverEveryLength walks every sealed size of the first three chunks:
// each is either the size of exactly one audio, or refused.
func TestSizesCoverEveryLength(t *testing.T) {
	next := int64(0)
	for s := int64(-1); s <= 3*seal.ChunkSize; s++ {
		plain, err := seal.PlainSize(s)
		if seal.SealedSize(next) != s {
			if !errors.Is(err, seal.ErrFormat) {
				t.Fatalf("PlainSize(%d) = %d, %v: no audio seals to that", s, plain, err)
			}
			continue
		}
		if err != nil || plain != next {
			t.Fatalf("PlainSize(%d) = %d, %v, want %d", s, plain, err, next)
		}
		next++
	}
	if next < 3*plainChunk-seal.HeaderSize {
		t.Fatalf("only %d sizes of audio seal", next)
	}
}

func TestSizesDoNotOverflow(t *testing.T) {
	const maxSealed = (1<<32 - 1) * seal.ChunkSize
	const maxPlain = (1<<32-1)*plainChunk - seal.HeaderSize
	if got := seal.SealedSize(maxPlain); got != maxSealed {
		t.Errorf("the longest audio seals to %d, want %d", got, int64(maxSealed))
	}
	if got, err := seal.PlainSize(maxSealed); err != nil || got != maxPlain {
		t.Errorf("PlainSize(%d) = %d, %v", int64(maxSealed), got, err)
	}
	for _, plain := range []int64{maxPlain + 1, math.MaxInt64, math.MaxInt64 - seal.ChunkSize, -1, math.MinInt64} {
		if got := seal.SealedSize(plain); got != -1 {
			t.Errorf("SealedSize(%d) = %d, want -1", plain, got)
		}
	}
	for _, s := range []int64{maxSealed + 1, math.MaxInt64, math.MaxInt64 - seal.ChunkSize, -1, 0, math.MinInt64} {
		if got, err := seal.PlainSize(s); !errors.Is(err, seal.ErrFormat) {
			t.Errorf("PlainSize(%d) = %d, %v, want ErrFormat", s, got, err)
		}
	}
}

func TestNewKeyTakesAllOfItsRandomness(t *testing.T) {
	a, err := seal.NewKey(rand.Reader)
	if err != nil || len(a) != seal.KeySize {
		t.Fatalf("NewKey = %d bytes, %v", len(a), err)
	}
	b, _ := seal.NewKey(rand.Reader)
	if bytes.Equal(a, b) {
		t.Error("two keys are equal")
	}
	if key, err := seal.NewKey(strings.NewReader("too short")); err == nil || key != nil {
		t.Errorf("NewKey of a short source = %x, %v", key, err)
	}
}

func TestAssociatedDataTellsPairsApart(t *testing.T) {
	pairs := [][2]string{
		{"", ""}, {"a", ""}, {"", "a"}, {"a", "b"}, {"b", "a"}, {"ab", ""}, {"", "ab"}, {"ab", "c"}, {"a", "bc"},
		{"a\x00\x00\x00\x00\x00\x00\x00\x01b", ""}, {"a\x00", "b"}, {"a", "\x00b"},
	}
	seen := map[string][2]string{}
	for _, p := range pairs {
		ad := string(seal.AssociatedData(p[0], p[1]))
		if other, ok := seen[ad]; ok {
			t.Errorf("%q and %q have one encoding", p, other)
		}
		seen[ad] = p
	}
}

// TestSealsDiffer shows that equal audio never has equal sealed bytes, and no
// chunk of them (H15).
func TestSealsDiffer(t *testing.T) {
	plain := plaintext(2 * seal.ChunkSize)
	a, b := sealed(t, plain), sealed(t, plain)
	for from := 0; from < len(a); from += seal.ChunkSize {
		to := min(from+seal.ChunkSize, len(a))
		if bytes.Equal(a[from:to], b[from:to]) {
			t.Errorf("sealed bytes %d to %d are equal", from, to)
		}
	}
}

func TestWrongKeySizesAreRefused(t *testing.T) {
	good := sealed(t, plaintext(10))
	for _, size := range []int{0, 16, 31, 33, 64} {
		key := make([]byte, size)
		if _, err := seal.NewWriter(io.Discard, key, testAD()); err == nil {
			t.Errorf("NewWriter took a key of %d bytes", size)
		}
		if _, err := open(good, int64(len(good)), key, testAD()); err == nil {
			t.Errorf("NewOpener took a key of %d bytes", size)
		}
	}
}

// failAfter is a disk that is full after some bytes.
type failAfter struct {
	bytes.Buffer
	left int
}

var errFull = errors.New("full")

func (f *failAfter) Write(p []byte) (int, error) {
	n, _ := f.Buffer.Write(p[:min(len(p), f.left)])
	f.left -= n
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

// TestWriterErrorsAreFinal: once a write failed nothing more is written, also
// by Close and also when the disk has space again, so no shorter segment that
// would open can come of it.
func TestWriterErrorsAreFinal(t *testing.T) {
	plain := plaintext(3 * seal.ChunkSize)
	for _, space := range []int{seal.HeaderSize, 1000, seal.ChunkSize, 2*seal.ChunkSize + 5, 3 * seal.ChunkSize} {
		disk := &failAfter{left: space}
		w, err := seal.NewWriter(disk, testKey(), testAD())
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write(plain)
		if closeErr := w.Close(); !errors.Is(closeErr, errFull) || (err != nil && !errors.Is(err, errFull)) {
			t.Fatalf("space %d: write %v, close %v", space, err, closeErr)
		}
		disk.left = 1 << 20
		if n, err := w.Write([]byte("more")); n != 0 || !errors.Is(err, errFull) {
			t.Errorf("space %d: a later write = %d, %v", space, n, err)
		}
		if err := w.Close(); !errors.Is(err, errFull) {
			t.Errorf("space %d: a later close = %v", space, err)
		}
		if disk.Len() != space {
			t.Errorf("space %d: %d bytes were written", space, disk.Len())
		}
	}
	if _, err := seal.NewWriter(&failAfter{left: 3}, testKey(), testAD()); !errors.Is(err, errFull) {
		t.Errorf("a header that was not written: %v", err)
	}
}

func TestWriterIsClosedOnce(t *testing.T) {
	var out bytes.Buffer
	w, err := seal.NewWriter(&out, testKey(), testAD())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := w.Write([]byte("late")); n != 0 || err == nil {
		t.Errorf("a write after Close = %d, %v", n, err)
	}
	if int64(out.Len()) != seal.SealedSize(0) {
		t.Errorf("an empty audio sealed to %d bytes", out.Len())
	}
}
