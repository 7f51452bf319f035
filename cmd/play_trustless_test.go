package cmd_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	car "github.com/ipld/go-car/v2"
)

// H83, P85: a stranger may have every segment as blocks and as a CAR; the bytes
// are what their CIDs say, and tell nothing of the audio.
func TestTrustlessCiphertext(t *testing.T) {
	t.Parallel()
	r := startRadio(t)
	for _, a := range r.addBundled() {
		t.Run(filepath.Base(a.source), func(t *testing.T) {
			source, err := os.ReadFile(a.source)
			if err != nil {
				t.Fatal(err)
			}
			gateway := r.node.ready.Public + "/ipfs/"
			body, kind := stranger(t, gateway+a.CID+"?format=car")
			if !strings.HasPrefix(kind, "application/vnd.ipld.car") {
				t.Errorf("a CAR comes as %s", kind)
			}
			var sealed []byte
			for _, b := range unpack(t, body, a.CID) {
				opaque(t, b)
				if b.Cid().Type() == cid.Raw {
					sealed = append(sealed, b.RawData()...)
				}
				raw, kind := stranger(t, gateway+b.Cid().String()+"?format=raw")
				if !bytes.Equal(raw, b.RawData()) || !strings.HasPrefix(kind, "application/vnd.ipld.raw") {
					t.Errorf("block %s comes as %d bytes of %s", b.Cid(), len(raw), kind)
				}
			}
			if int64(len(sealed)) != a.SealedSize {
				t.Errorf("%d bytes in all leaves, the catalogue says %d", len(sealed), a.SealedSize)
			}
			if e := entropy(sealed); e <= 7.99 {
				t.Errorf("entropy of %.4f bits a byte", e)
			}
			if at := leak(sealed, source); at >= 0 {
				t.Errorf("bytes of the source are in the ciphertext at %d", at)
			}
		})
	}
}

// stranger gets a URL without any credential.
func stranger(t *testing.T, url string) (body []byte, kind string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %s, %v", url, resp.Status, err)
	}
	return body, resp.Header.Get("Content-Type")
}

// unpack reads a CAR of one root and checks each of its blocks.
func unpack(t *testing.T, body []byte, root string) (all []blocks.Block) {
	t.Helper()
	r, err := car.NewBlockReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if r.Version != 1 || len(r.Roots) != 1 || r.Roots[0].String() != root {
		t.Errorf("CAR version %d with the roots %v, asked for %s", r.Version, r.Roots, root)
	}
	for {
		b, err := r.Next() // checks the hash
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if sum, err := b.Cid().Prefix().Sum(b.RawData()); err != nil || !sum.Equals(b.Cid()) {
			t.Errorf("block %s holds the bytes of %s, %v", b.Cid(), sum, err)
		}
		all = append(all, b)
	}
	if len(all) == 0 || all[0].Cid().String() != root {
		t.Fatalf("%d blocks, the first is not the root", len(all))
	}
	return all
}

// opaque fails the test if a block begins as audio or a playlist does.
func opaque(t *testing.T, b blocks.Block) {
	t.Helper()
	head := b.RawData()[:min(12, len(b.RawData()))]
	for _, magic := range []string{"ID3", "ftyp", "OggS", "fLaC", "RIFF", "#EXTM3U"} {
		if bytes.Contains(head, []byte(magic)) {
			t.Errorf("block %s begins with %q", b.Cid(), head)
		}
	}
}

// entropy is that of the bytes, in bits a byte.
func entropy(data []byte) (bits float64) {
	var count [256]int
	for _, b := range data {
		count[b]++
	}
	for _, n := range count {
		if n > 0 {
			p := float64(n) / float64(len(data))
			bits -= p * math.Log2(p)
		}
	}
	return bits
}

// leak is where in sealed any 64 bytes in a row of source are, or -1. Every
// such run holds a whole aligned window of 16.
func leak(sealed, source []byte) int {
	windows := map[[16]byte]bool{}
	for ; len(source) >= 16; source = source[16:] {
		windows[[16]byte(source)] = true
	}
	for i := 0; i+16 <= len(sealed); i++ {
		if windows[[16]byte(sealed[i:])] {
			return i
		}
	}
	return -1
}

// The check finds what it looks for.
func TestLeakIsFound(t *testing.T) {
	source := bytes.Repeat([]byte("0123456789abcdefghijklmnop"), 40)
	sealed := append(bytes.Repeat([]byte{0xee}, 1000), source[333:333+64]...)
	if at := leak(sealed, source); at < 1000 {
		t.Errorf("found at %d", at)
	}
	if at := leak(sealed[:1000], source); at != -1 {
		t.Errorf("found at %d", at)
	}
}
