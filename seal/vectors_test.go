package seal_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/musenai/musen/seal"
)

var update = flag.Bool("update", false, "write testdata/seal anew")

const vectorDir = "../testdata/seal"

// hexBytes are bytes that JSON shows in hexadecimal.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// vector is what a second implementation must seal and open alike. The
// plaintext is the rule of plaintext: byte i is i mod 251.
type vector struct {
	Name            string   `json:"name"`
	Key             hexBytes `json:"key"`
	Station         string   `json:"station"`
	Segment         string   `json:"segment"`
	AssociatedData  hexBytes `json:"associated_data"`
	Header          hexBytes `json:"header"`
	PlaintextSize   int64    `json:"plaintext_size"`
	PlaintextSHA256 hexBytes `json:"plaintext_sha256"`
	SealedSize      int64    `json:"sealed_size"`
	SealedSHA256    hexBytes `json:"sealed_sha256"`
	Sealed          []byte   `json:"sealed_base64,omitempty"`
}

// refusal is what no implementation may open: sealed bytes made of pieces of
// vectors, and the size, key and ids that the catalogue has for them.
type refusal struct {
	Name       string   `json:"name"`
	Key        hexBytes `json:"key"`
	Station    string   `json:"station"`
	Segment    string   `json:"segment"`
	SealedSize int64    `json:"sealed_size"`
	Pieces     []piece  `json:"pieces"`
	Error      string   `json:"error"` // format, corrupt or short
	Chunk      int64    `json:"chunk"` // that does not open; 0 for format
	Opens      int64    `json:"opens"` // bytes of audio in the chunks before it
}

// piece is bytes From to To of the sealed bytes of a vector, or Hex.
type piece struct {
	Vector string   `json:"vector,omitempty"`
	From   int64    `json:"from,omitempty"`
	To     int64    `json:"to,omitempty"`
	Hex    hexBytes `json:"hex,omitempty"`
}

func seed(what, name string) []byte {
	sum := sha256.Sum256([]byte("musen.seal.v1 vector " + what + " " + name))
	return sum[:]
}

func makeVector(t testing.TB, name, station, segment string, size int64, show bool) vector {
	header := append([]byte{seal.HeaderSize}, seed("salt", name)...)
	header = append(header, seed("nonce prefix", name)[:7]...)
	v := vector{
		Name: name, Key: seed("key", name), Station: station, Segment: segment,
		AssociatedData: seal.AssociatedData(station, segment), Header: header, PlaintextSize: size,
	}
	plain := plaintext(size)
	s := sealWith(t, v.Header, v.Key, v.AssociatedData, plain)
	plainSum, sum := sha256.Sum256(plain), sha256.Sum256(s)
	v.PlaintextSHA256, v.SealedSHA256, v.SealedSize = plainSum[:], sum[:], int64(len(s))
	if show {
		v.Sealed = s
	}
	return v
}

func makeVectors(t testing.TB) []vector {
	const station, segment = "mfzwizltoq2dgnbvgy3tqojqge", "onswo3lfnz2dcmrtgq2tmnzyha"
	const leafPlain = 4*plainChunk - seal.HeaderSize
	return []vector{
		makeVector(t, "empty", station, segment, 0, true),
		makeVector(t, "one byte", station, segment, 1, true),
		makeVector(t, "short", station, segment, 300, true),
		makeVector(t, "ids of many bytes", "ラジオ", "", 5, true),
		makeVector(t, "ids that run together", "ラ", "ジオ", 5, true),
		makeVector(t, "one chunk less one", station, segment, firstPlain-1, false),
		makeVector(t, "one chunk", station, segment, firstPlain, false),
		makeVector(t, "two chunks", station, segment, firstPlain+1, true),
		makeVector(t, "three chunks", station, segment, firstPlain+2*plainChunk, false),
		makeVector(t, "one leaf", station, segment, leafPlain, false),
		makeVector(t, "one leaf and one byte", station, segment, leafPlain+1, false),
		makeVector(t, "three leaves", station, segment, 2*leafPlain+100_000, false),
	}
}

func makeRefusals(vectors []vector) []refusal {
	of := map[string]vector{}
	for _, v := range vectors {
		of[v.Name] = v
	}
	const c = seal.ChunkSize
	refuse := func(name, of1 string, size int64, kind string, chunk int64, pieces ...piece) refusal {
		v := of[of1]
		return refusal{
			Name: name, Key: v.Key, Station: v.Station, Segment: v.Segment, SealedSize: size,
			Pieces: append([]piece{}, pieces...), Error: kind, Chunk: chunk, Opens: int64(plainBefore(int(chunk))),
		}
	}
	cut := func(v string, from, to int64) piece { return piece{Vector: v, From: from, To: to} }
	lit := func(b ...byte) piece { return piece{Hex: b} }
	short, three := of["short"], of["three chunks"]
	size, size3 := short.SealedSize, three.SealedSize
	whole3 := cut("three chunks", 0, size3)
	otherKey, otherStation, otherSegment, moved := refuse("wrong key", "short", size, "corrupt", 0, cut("short", 0, size)),
		refuse("wrong station", "short", size, "corrupt", 0, cut("short", 0, size)),
		refuse("wrong segment", "short", size, "corrupt", 0, cut("short", 0, size)),
		refuse("ids cut elsewhere", "ids of many bytes", of["ids of many bytes"].SealedSize, "corrupt", 0,
			cut("ids of many bytes", 0, of["ids of many bytes"].SealedSize))
	otherKey.Key, otherStation.Station, otherSegment.Segment = of["empty"].Key, "other", "other"
	moved.Station, moved.Segment = "ラ", "ジオ"
	return []refusal{
		otherKey, otherStation, otherSegment, moved,
		refuse("header length byte 24", "short", size, "format", 0, lit(24), cut("short", 1, size)),
		refuse("header length byte 41", "short", size, "format", 0, lit(41), cut("short", 1, size)),
		refuse("salt changed", "short", size, "corrupt", 0, cut("short", 0, 1), lit(short.header(1)^1), cut("short", 2, size)),
		refuse("nonce prefix changed", "short", size, "corrupt", 0, cut("short", 0, 39), lit(short.header(39)^1), cut("short", 40, size)),
		refuse("ciphertext changed", "short", size, "corrupt", 0, cut("short", 0, 40), lit(short.Sealed[40]^0x80), cut("short", 41, size)),
		refuse("tag changed", "short", size, "corrupt", 0, cut("short", 0, size-1), lit(short.Sealed[size-1]^1)),
		refuse("size 0", "empty", 0, "format", 0),
		refuse("size of a header alone", "empty", 40, "format", 0, cut("empty", 0, 40)),
		refuse("size without a whole tag", "empty", 55, "format", 0, cut("empty", 0, 55)),
		refuse("empty last chunk", "two chunks", c+16, "format", 0, cut("two chunks", 0, c), cut("two chunks", c+1, c+17)),
		refuse("negative size", "empty", -1, "format", 0, cut("empty", 0, 56)),
		refuse("too many chunks", "empty", 1<<48, "format", 0, cut("empty", 0, 56)),
		refuse("cut by a byte", "short", size, "short", 0, cut("short", 0, size-1)),
		refuse("cut by a byte, size too", "short", size-1, "corrupt", 0, cut("short", 0, size-1)),
		refuse("last chunk dropped", "three chunks", size3, "short", 2, cut("three chunks", 0, 2*c)),
		refuse("last chunk dropped, size too", "three chunks", 2*c, "corrupt", 1, cut("three chunks", 0, 2*c)),
		refuse("extended by a byte", "short", size+1, "corrupt", 0, cut("short", 0, size), lit(0)),
		refuse("last chunk repeated", "three chunks", 4*c, "corrupt", 2, whole3, cut("three chunks", 2*c, 3*c)),
		refuse("chunks swapped", "three leaves", of["three leaves"].SealedSize, "corrupt", 1, cut("three leaves", 0, c),
			cut("three leaves", 2*c, 3*c), cut("three leaves", c, 2*c), cut("three leaves", 3*c, of["three leaves"].SealedSize)),
		refuse("chunk left out", "three chunks", 2*c, "corrupt", 1, cut("three chunks", 0, c), cut("three chunks", 2*c, 3*c)),
		refuse("chunk of another segment", "three chunks", size3, "corrupt", 1, cut("three chunks", 0, c),
			cut("one leaf", c, 2*c), cut("three chunks", 2*c, 3*c)),
		refuse("header of another segment", "short", size, "corrupt", 0, cut("one byte", 0, 40), cut("short", 40, size)),
	}
}

func (v vector) header(i int) byte { return v.Header[i] }

// TestVectorFilesAreThoseOfTheGenerator writes them with -update.
func TestVectorFilesAreThoseOfTheGenerator(t *testing.T) {
	vectors := makeVectors(t)
	for name, v := range map[string]any{"opens.json": vectors, "refuses.json": makeRefusals(vectors)} {
		want, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(vectorDir, name)
		if *update {
			if err := os.WriteFile(path, append(want, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, append(want, '\n')) {
			t.Errorf("%s is not what the generator makes (go test ./seal -update), %v", name, err)
		}
	}
}

func readVectors[T any](t *testing.T, name string) (v []T) {
	t.Helper()
	f, err := os.Open(filepath.Join(vectorDir, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil || len(v) == 0 {
		t.Fatalf("%s: %d vectors, %v", name, len(v), err)
	}
	return v
}

// bytes are the sealed bytes of a vector, which the file has only if they are
// few.
func (v vector) bytes(t *testing.T) []byte {
	t.Helper()
	s := sealWith(t, v.Header, v.Key, seal.AssociatedData(v.Station, v.Segment), plaintext(v.PlaintextSize))
	sum := sha256.Sum256(s)
	if !bytes.Equal(sum[:], v.SealedSHA256) || (v.Sealed != nil && !bytes.Equal(s, v.Sealed)) {
		t.Errorf("%s: seals to other bytes", v.Name)
	}
	return s
}

func TestVectorsOpen(t *testing.T) {
	for _, v := range readVectors[vector](t, "opens.json") {
		s, want := v.bytes(t), plaintext(v.PlaintextSize)
		if sum := sha256.Sum256(want); !bytes.Equal(sum[:], v.PlaintextSHA256) {
			t.Errorf("%s: the plaintext has another hash", v.Name)
		}
		if !bytes.Equal(v.AssociatedData, seal.AssociatedData(v.Station, v.Segment)) || seal.SealedSize(v.PlaintextSize) != v.SealedSize {
			t.Errorf("%s: other associated data or size", v.Name)
		}
		r, err := open(s, v.SealedSize, v.Key, v.AssociatedData)
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		var got bytes.Buffer
		if _, err := r.WriteRange(&got, 0, v.PlaintextSize); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s: opens to %d bytes, %v", v.Name, got.Len(), err)
		}
		oracle, err := tinkReader(t, s, v.Key, v.AssociatedData)
		if err != nil {
			t.Fatalf("%s: Tink: %v", v.Name, err)
		}
		if all, err := io.ReadAll(oracle); err != nil || !bytes.Equal(all, want) {
			t.Errorf("%s: Tink opens it to %d bytes, %v", v.Name, len(all), err)
		}
	}
}

// TestVectorsRefuse covers H16, H17 and H19 with bytes that others can try.
func TestVectorsRefuse(t *testing.T) {
	of := map[string][]byte{}
	for _, v := range readVectors[vector](t, "opens.json") {
		of[v.Name] = v.bytes(t)
	}
	kinds := map[string]error{"format": seal.ErrFormat, "corrupt": seal.ErrCorrupt, "short": io.ErrUnexpectedEOF}
	for _, v := range readVectors[refusal](t, "refuses.json") {
		var s, truth []byte
		for _, p := range v.Pieces {
			s = append(append(s, p.Hex...), of[p.Vector][p.From:p.To]...)
		}
		truth = plaintext(v.Opens)
		r, err := open(s, v.SealedSize, v.Key, seal.AssociatedData(v.Station, v.Segment))
		var got bytes.Buffer
		if err == nil {
			_, err = r.WriteRange(&got, 0, sizeOf(t, v.SealedSize))
		}
		if kind := kinds[v.Error]; kind == nil || !errors.Is(err, kind) {
			t.Errorf("%s: %v, want %s", v.Name, err, v.Error)
		}
		if !bytes.Equal(got.Bytes(), truth) {
			t.Errorf("%s: %d bytes opened, want %d", v.Name, got.Len(), v.Opens)
		}
		var bad *seal.ChunkError
		if errors.As(err, &bad) != (v.Error == "corrupt") || (bad != nil && bad.Chunk != v.Chunk) {
			t.Errorf("%s: %v, want chunk %d", v.Name, err, v.Chunk)
		}
	}
}

// TestFormatPageShowsAVector keeps the worked example of FORMAT.md true.
func TestFormatPageShowsAVector(t *testing.T) {
	page, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	page = bytes.Join(bytes.Fields(page), nil)
	for _, v := range readVectors[vector](t, "opens.json") {
		if v.Name != "one byte" {
			continue
		}
		for _, b := range [][]byte{v.Key, v.Header[1:33], v.Header[33:], v.Sealed} {
			if !bytes.Contains(page, []byte(hex.EncodeToString(b))) {
				t.Errorf("FORMAT.md does not show %x", b)
			}
		}
		return
	}
	t.Error("no vector of one byte")
}
