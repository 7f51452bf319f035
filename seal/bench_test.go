package seal_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/musenai/musen/seal"
)

// benchSizes are those of docs/benchmarks.md: short and long segments.
func benchSizes() map[string]int64 {
	return map[string]int64{"160KiB": 160 << 10, "5MiB": 5 << 20}
}

func BenchmarkSeal(b *testing.B) {
	for name, size := range benchSizes() {
		plain := plaintext(size)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				w, err := seal.NewWriter(io.Discard, testKey(), testAD())
				if err != nil {
					b.Fatal(err)
				}
				if _, err := w.Write(plain); err != nil {
					b.Fatal(err)
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkWriteRange opens whole segments and random ranges of 64 KiB of a
// 5 MiB one, from memory and from a file. "tink" beside it is Tink's sequential
// reader, which must open everything in front of a range.
func BenchmarkWriteRange(b *testing.B) {
	for name, size := range benchSizes() {
		benchRange(b, "whole"+name, size, size)
	}
	benchRange(b, "random64KiB", 5<<20, 64<<10)
}

func benchRange(b *testing.B, name string, size, n int64) {
	s := sealed(b, plaintext(size))
	path := filepath.Join(b.TempDir(), "sealed")
	if err := os.WriteFile(path, s, 0o600); err != nil {
		b.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	opener, err := seal.NewOpener(s[:seal.HeaderSize], int64(len(s)), testKey(), testAD())
	if err != nil {
		b.Fatal(err)
	}
	for source, at := range map[string]io.ReaderAt{"memory": bytes.NewReader(s), "file": file} {
		b.Run(name+"/musen/"+source, func(b *testing.B) {
			benchLoop(b, size, n, func(off int64) error {
				_, err := opener.Reader(at).WriteRange(io.Discard, off, n)
				return err
			})
		})
		b.Run(name+"/tink/"+source, func(b *testing.B) {
			benchLoop(b, size, n, func(off int64) error {
				aead := tinkAEAD(b, testKey())
				r, err := aead.NewDecryptingReader(io.NewSectionReader(at, 0, int64(len(s))), testAD())
				if err == nil {
					_, err = io.CopyN(io.Discard, r, off)
				}
				if err == nil {
					_, err = io.CopyN(io.Discard, r, n)
				}
				return err
			})
		})
	}
}

func benchLoop(b *testing.B, size, n int64, run func(off int64) error) {
	rnd := rand.New(rand.NewPCG(1, 2))
	b.SetBytes(n)
	b.ReportAllocs()
	for b.Loop() {
		if err := run(rnd.Int64N(size - n + 1)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkNewOpener is what the first range of a segment costs more.
func BenchmarkNewOpener(b *testing.B) {
	s := sealed(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := seal.NewOpener(s[:seal.HeaderSize], int64(len(s)), testKey(), testAD()); err != nil {
			b.Fatal(err)
		}
	}
}
