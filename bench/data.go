package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
)

const (
	bigSize     = 5 << 20
	smallSize   = 160 << 10
	rangeSize   = 64 << 10
	uploadSize  = 20_000_000
	longSize    = 100_000_000
	wavHeader   = 44
	sampleBytes = 44100 * 2 * 2 // of a second of stereo
)

// audio is a WAV of size bytes whose samples are random: the same seed gives
// the same bytes, and no two seeds share any.
func audio(seed uint64, size int64) io.Reader {
	h := make([]byte, 0, wavHeader)
	h = append(h, "RIFF"...)
	h = binary.LittleEndian.AppendUint32(h, uint32(size-8))
	h = append(h, "WAVEfmt "...)
	h = binary.LittleEndian.AppendUint32(h, 16)
	h = binary.LittleEndian.AppendUint16(h, 1) // PCM
	h = binary.LittleEndian.AppendUint16(h, 2)
	h = binary.LittleEndian.AppendUint32(h, 44100)
	h = binary.LittleEndian.AppendUint32(h, sampleBytes)
	h = binary.LittleEndian.AppendUint16(h, 4)
	h = binary.LittleEndian.AppendUint16(h, 16)
	h = append(h, "data"...)
	h = binary.LittleEndian.AppendUint32(h, uint32(size-wavHeader))
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return io.MultiReader(bytes.NewReader(h), io.LimitReader(rand.NewChaCha8(key), size-wavHeader))
}

// audioBytes is audio in memory.
func audioBytes(seed uint64, size int64) []byte {
	b := make([]byte, size)
	if _, err := io.ReadFull(audio(seed, size), b); err != nil {
		panic(err) // unreachable: audio never fails
	}
	return b
}

// A shelf is a set of files of one size that is served.
type shelf struct {
	dir   string
	names []string
	size  int64
}

func makeShelf(dir string, count int, size int64) (shelf, error) {
	s := shelf{dir: dir, size: size}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return s, err
	}
	for i := range count {
		name := fmt.Sprintf("%05d.wav", i)
		if err := os.WriteFile(filepath.Join(dir, name), audioBytes(uint64(size)<<20+uint64(i), size), 0o644); err != nil {
			return s, err
		}
		s.names = append(s.names, name)
	}
	return s, nil
}

func (s shelf) file(i int) string { return filepath.Join(s.dir, s.names[i]) }

// writeList writes paths, one a line, for wrk.
func writeList(file string, paths []string) error {
	var b bytes.Buffer
	for _, p := range paths {
		fmt.Fprintln(&b, p)
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}
