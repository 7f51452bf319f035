package wire_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"reflect"
	"runtime"
	"testing"
	"testing/iotest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	mh "github.com/multiformats/go-multihash"

	"github.com/musenai/musen/pin/wire"
)

// A note has a field of every sort that the protocols send.
type note struct {
	N    uint64    `cbor:"1,keyasint"`
	Text string    `cbor:"2,keyasint,omitempty"`
	Peer peer.ID   `cbor:"3,keyasint,omitempty"`
	Root cid.Cid   `cbor:"4,keyasint"`
	At   time.Time `cbor:"5,keyasint"`
	List []string  `cbor:"6,keyasint,omitempty"`
	Less int64     `cbor:"7,keyasint,omitempty"`
	Yes  bool      `cbor:"8,keyasint,omitempty"`
}

func newKey(t testing.TB) (crypto.PrivKey, peer.ID) {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, id
}

func aNote(t testing.TB) note {
	t.Helper()
	_, id := newKey(t)
	sum, err := mh.Sum([]byte("x"), mh.SHA2_256, -1)
	if err != nil {
		t.Fatal(err)
	}
	return note{N: math.MaxUint64, Text: "ü", Peer: id, Root: cid.NewCidV1(cid.Raw, sum),
		At: time.Unix(1_800_000_000, 0), List: []string{"a", ""}, Less: math.MinInt64, Yes: true}
}

func TestFramesComeOutAsTheyWentIn(t *testing.T) {
	first := aNote(t)
	second := note{Root: first.Root}
	var b bytes.Buffer
	for _, n := range []note{first, second} {
		if err := wire.Write(&b, n); err != nil {
			t.Fatal(err)
		}
	}
	r := iotest.OneByteReader(&b)
	var got note // used again: nothing of the first may stay in the second
	for _, want := range []note{first, second} {
		if err := wire.Read(r, 1<<10, &got); err != nil {
			t.Fatal(err)
		}
		if !got.At.Equal(want.At) {
			t.Errorf("time %v, want %v", got.At, want.At)
		}
		got.At, want.At = time.Time{}, time.Time{}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("read %+v, want %+v", got, want)
		}
	}
	if err := wire.Read(r, 1<<10, &got); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestReadEndsWithinAFrame(t *testing.T) {
	var b bytes.Buffer
	if err := wire.Write(&b, aNote(t)); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	for n := 1; n < len(whole); n++ {
		var got note
		if err := wire.Read(bytes.NewReader(whole[:n]), 1<<10, &got); err != io.ErrUnexpectedEOF {
			t.Fatalf("%d of %d bytes: %v", n, len(whole), err)
		}
	}
}

func TestReadBoundsTheFrame(t *testing.T) {
	var b bytes.Buffer
	if err := wire.Write(&b, "0123456789"); err != nil {
		t.Fatal(err)
	}
	frame := b.Bytes()
	var got string
	if err := wire.Read(bytes.NewReader(frame), len(frame)-4, &got); err != nil || got != "0123456789" {
		t.Errorf("just fits: %q, %v", got, err)
	}
	if err := wire.Read(bytes.NewReader(frame), len(frame)-5, &got); !errors.Is(err, wire.ErrTooLong) {
		t.Errorf("one too long: %v", err)
	}
	if err := wire.Read(bytes.NewReader([]byte{0xff, 0xff, 0xff, 0xff}), 1<<20, &got); !errors.Is(err, wire.ErrTooLong) {
		t.Errorf("4 GiB: %v", err)
	}
	if err := wire.Read(bytes.NewReader(make([]byte, 4)), 1<<20, &got); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("no message in the frame: %v", err)
	}
}

// Whoever only claims a long frame takes no memory for it.
func TestReadTakesMemoryForWhatArrives(t *testing.T) {
	claim := []byte{0x3f, 0xff, 0xff, 0xff, 0x41}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var got []byte
	if err := wire.Read(bytes.NewReader(claim), math.MaxInt32, &got); err != io.ErrUnexpectedEOF {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("%d bytes for a frame of which 1 came", grown)
	}
}

func TestUnmarshalRefusesOtherSpellings(t *testing.T) {
	type pair struct {
		A int       `cbor:"1,keyasint"`
		B string    `cbor:"2,keyasint,omitempty"`
		C time.Time `cbor:"3,keyasint,omitzero"`
	}
	for what, c := range map[string]struct {
		hex string
		ok  bool
	}{
		"the one spelling":     {"a201050261 61", true},
		"without what may":     {"a10105", true},
		"keys out of order":    {"a2026161 0105", false},
		"a key twice":          {"a201050105", false},
		"an unknown key":       {"a201050905", false},
		"a text key":           {"a101056141", false},
		"a longer integer":     {"a1011805", false},
		"a longer key":         {"a1180105", false},
		"an empty field given": {"a201050260", false},
		"null for a number":    {"a101f6", false},
		"a float for a number": {"a101f94500", false},
		"indefinite length":    {"bf0105ff", false},
		"a tag":                {"c1a10105", false},
		"bytes behind it":      {"a1010500", false},
		"cut":                  {"a201", false},
		"an array":             {"8105", false},
		"not UTF-8":            {"a2010502 61ff", false},
		"a time":               {"a2010503 1a6b49d200", true},
		"a time in text":       {"a20105037432303237 2d30312d31355430383a30303a30305a", false},
		"nothing":              {"", false},
	} {
		b, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(c.hex), []byte(" "), nil)))
		if err != nil {
			t.Fatal(err)
		}
		got := pair{A: 77}
		err = wire.Unmarshal(b, &got)
		if c.ok && err != nil || !c.ok && !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
		if !c.ok && got != (pair{A: 77}) {
			t.Errorf("%s: refused, and yet %+v", what, got)
		}
	}
}

func TestUnmarshalNeedsAPointer(t *testing.T) {
	var none *note
	for _, v := range []any{note{}, none, nil} {
		if err := wire.Unmarshal([]byte{0xa0}, v); err == nil {
			t.Errorf("decoded into %T", v)
		}
	}
}

// Nesting and counts end before the stack or the memory does.
func TestUnmarshalBoundsDepthAndCount(t *testing.T) {
	var got any
	if err := wire.Unmarshal(bytes.Repeat([]byte{0x81}, 1<<20), &got); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("a million arrays in each other: %v", err)
	}
	claim := []byte{0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00}
	var list []note
	if err := wire.Unmarshal(claim, &list); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("an array of 2^63 notes: %v", err)
	}
}

func TestEnvelopesAreOfOneSignerAndOneKind(t *testing.T) {
	key, id := newKey(t)
	_, other := newKey(t)
	want := aNote(t)
	e, err := wire.Seal(key, "note", want)
	if err != nil {
		t.Fatal(err)
	}
	var got note
	if err := wire.Open(id, "note", e, &got); err != nil || got.Text != want.Text {
		t.Errorf("own: %+v, %v", got, err)
	}
	for what, open := range map[string]func() error{
		"another signer": func() error { return wire.Open(other, "note", e, &got) },
		"another kind":   func() error { return wire.Open(id, "notes", e, &got) },
		"nobody":         func() error { return wire.Open("", "note", e, &got) },
		"a hashed key":   func() error { return wire.Open(peer.ID(want.Root.Hash()), "note", e, &got) },
		"no signature":   func() error { return wire.Open(id, "note", wire.Envelope{Payload: e.Payload}, &got) },
		"nothing":        func() error { return wire.Open(id, "note", wire.Envelope{}, &got) },
		"a kind that takes from the payload": func() error {
			return wire.Open(id, "note\x00"+string(e.Payload[:1]), wire.Envelope{Payload: e.Payload[1:], Signature: e.Signature}, &got)
		},
	} {
		if err := open(); !errors.Is(err, wire.ErrSignature) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range e.Payload {
		forged := wire.Envelope{Payload: bytes.Clone(e.Payload), Signature: e.Signature}
		forged.Payload[i] ^= 1
		if err := wire.Open(id, "note", forged, &got); !errors.Is(err, wire.ErrSignature) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	garbage, err := wire.Seal(key, "note", 5)
	if err != nil {
		t.Fatal(err)
	}
	if err := wire.Open(id, "note", garbage, &got); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("signed, and no note: %v", err)
	}
}

// FuzzRead: whatever comes is a message in its one spelling, or an error.
func FuzzRead(f *testing.F) {
	key, _ := newKey(f)
	e, err := wire.Seal(key, "note", aNote(f))
	if err != nil {
		f.Fatal(err)
	}
	for _, v := range []any{e, aNote(f), note{Root: aNote(f).Root}} {
		var b bytes.Buffer
		if err := wire.Write(&b, v); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x9b, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		var n note
		again(t, b, wire.Read(bytes.NewReader(b), 1<<12, &n), n)
		var e wire.Envelope
		again(t, b, wire.Read(bytes.NewReader(b), 1<<12, &e), e)
		var list []wire.Envelope
		again(t, b, wire.Read(bytes.NewReader(b), 1<<12, &list), list)
	})
}

// again checks that what was read without an error is written as it came.
func again(t *testing.T, b []byte, err error, v any) {
	t.Helper()
	if err != nil {
		return
	}
	var out bytes.Buffer
	if err := wire.Write(&out, v); err != nil || !bytes.HasPrefix(b, out.Bytes()) {
		t.Errorf("%x was read as %+v, which is %x: %v", b, v, out.Bytes(), err)
	}
}
