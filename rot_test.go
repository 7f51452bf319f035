package musen_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/testnet"
	"github.com/musenai/musen/policy"
)

// damage is something that happens to the bytes of a leaf on the disk; nil
// stands for a file that is gone.
type damage struct {
	name string
	leaf int
	do   func(b []byte) []byte
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		b[at] ^= 0x10
		return b
	}
}

func cutTo(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:n] } }

func gone([]byte) []byte { return nil }

func damages() []damage {
	return []damage{
		{"length of the header", 0, flip(0)},
		{"salt", 0, flip(5)},
		{"nonce prefix", 0, flip(38)},
		{"first byte of audio", 0, flip(40)},
		{"tag of the first chunk", 0, flip(65535)},
		{"middle of a later leaf", 1, flip(100_000)},
		{"last byte of a full leaf", 1, flip(musen.LeafSize - 1)},
		{"last byte of all", 2, func(b []byte) []byte { return flip(len(b) - 1)(b) }},
		{"cut in the header", 0, cutTo(20)},
		{"cut in a chunk", 1, cutTo(100_000)},
		{"cut between chunks", 1, cutTo(65536)},
		{"cut to nothing", 0, cutTo(0)},
		{"later leaf cut to nothing", 2, cutTo(0)},
		{"zeros", 1, func(b []byte) []byte { clear(b); return b }},
		{"first leaf gone", 0, gone},
		{"last leaf gone", 2, gone},
	}
}

func (d damage) strike(t *testing.T, h *testnet.Home, s musen.Segment) {
	t.Helper()
	name := h.BlockFile(s.Leaves[d.leaf])
	b, err := os.ReadFile(name)
	must(t, err)
	if b = d.do(b); b == nil {
		must(t, os.Remove(name))
		return
	}
	must(t, os.WriteFile(name, b, 0o600))
}

// keepCopies returns what puts the blocks of a segment back.
func keepCopies(t *testing.T, h *testnet.Home, s musen.Segment) (restore func()) {
	t.Helper()
	copies := map[string][]byte{}
	for _, c := range s.Leaves {
		b, err := os.ReadFile(h.BlockFile(c))
		must(t, err)
		copies[h.BlockFile(c)] = b
	}
	return func() {
		for name, b := range copies {
			must(t, os.WriteFile(name, b, 0o600))
		}
	}
}

// Whatever happens to blocks on the disk, what is heard is a true beginning of
// the audio and then an error; never a wrong byte, never a short success.
func TestRotWithoutAPeer(t *testing.T) {
	h := testnet.New(t, testnet.Uncached)
	o := h.Origin()
	station(t, o, "jazz")
	source := wav(1, 700<<10)
	s := add(t, o, "jazz", source)
	restore := keepCopies(t, h, s)
	for _, d := range damages() {
		for _, warm := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/warm=%v", d.name, warm), func(t *testing.T) {
				e := h.Edge(t)
				if warm {
					play(t, e, s.CID, 0, 1)
				}
				d.strike(t, h, s)
				heard, err := hear(t, e, s.CID)
				if !errors.Is(err, musen.ErrUnavailable) && (d.leaf != 0 || !warm || err != nil) {
					t.Errorf("error %v", err)
				}
				if !bytes.HasPrefix(source, heard) || (err == nil) != (len(heard) == len(source)) {
					t.Errorf("%d wrong bytes of %d, %v", len(heard), len(source), err)
				}
				restore()
				if !warm { // the same edge opens it once it is well
					wantAudio(t, e, s.CID, source)
				}
			})
		}
	}
}

// hear plays all of a segment as far as it goes.
func hear(t *testing.T, e *musen.Edge, c cid.Cid) ([]byte, error) {
	t.Helper()
	stream, err := e.Open(t.Context(), policy.LocalOperator(), policy.Listen, c)
	if err != nil {
		return nil, err
	}
	var heard bytes.Buffer
	n, err := stream.WriteRange(t.Context(), &heard, 0, stream.Size())
	if n != int64(heard.Len()) {
		t.Errorf("%d bytes written, said to be %d", heard.Len(), n)
	}
	return heard.Bytes(), err
}

// H61 from the other side: with a peer that has the blocks a damaged segment
// is heard to its end, and the copy on the disk is good afterwards.
func TestRotHealsFromAPeer(t *testing.T) {
	h := testnet.New(t, testnet.Uncached)
	o := h.Origin()
	station(t, o, "jazz")
	source := wav(1, 700<<10)
	s := add(t, o, "jazz", source)
	testnet.Connect(t, h.Node, s.Leaves...)
	heal := func(name string, warm bool, some ...damage) {
		t.Run(fmt.Sprintf("%s/warm=%v", name, warm), func(t *testing.T) {
			e := h.Edge(t)
			if warm {
				play(t, e, s.CID, 0, 1)
			}
			for _, d := range some {
				d.strike(t, h, s)
			}
			heard, err := hear(t, e, s.CID)
			if err != nil || !bytes.Equal(heard, source) {
				t.Errorf("%d bytes of %d, %v", len(heard), len(source), err)
			}
			for _, d := range some {
				if warm && d.leaf == 0 {
					continue // what was not needed was not looked at
				}
				if err := h.Node.Verify(t.Context(), s.Leaves[d.leaf]); err != nil {
					t.Errorf("on the disk afterwards: %v", err)
				}
			}
			for _, c := range s.Leaves {
				must(t, h.Node.Heal(t.Context(), c))
			}
		})
	}
	all := damages()
	for _, d := range all {
		heal(d.name, false, d)
		heal(d.name, true, d)
	}
	heal("every leaf", false, all[1], all[5], all[7])
	heal("every leaf", true, all[3], all[10], all[15])
}

// Every chunk depends on the header: a range far behind it heals it as well.
func TestRottenHeaderHealsForLaterRange(t *testing.T) {
	h := testnet.New(t, testnet.Uncached)
	o := h.Origin()
	station(t, o, "jazz")
	source := wav(1, 700<<10)
	s := add(t, o, "jazz", source)
	testnet.Connect(t, h.Node, s.Leaves...)
	damages()[1].strike(t, h, s)
	const off, n = 600 << 10, 1000
	e := h.Edge(t)
	if !bytes.Equal(play(t, e, s.CID, off, n), source[off:off+n]) {
		t.Error("wrong bytes")
	}
	must(t, h.Node.Verify(t.Context(), s.Leaves[0]))
	wantAudio(t, e, s.CID, source)
}

// failingReads fails the n-th read of a real node as a bad disk does.
type failingReads struct {
	musen.BlockReader
	left atomic.Int64
	err  error
}

func (r *failingReads) ReadBlockAt(ctx context.Context, c cid.Cid, p []byte, off int64) (int, error) {
	if r.left.Add(-1) == 0 {
		return 0, r.err
	}
	return r.BlockReader.ReadBlockAt(ctx, c, p, off)
}

// A read that fails in any place ends the stream, and only that stream; a
// sector that the disk cannot read is rot.
func TestFailingReads(t *testing.T) {
	h := testnet.New(t)
	o := h.Origin()
	station(t, o, "jazz")
	source := wav(1, 300<<10)
	s := add(t, o, "jazz", source)
	opts := h.EdgeOptions()
	blocks := &failingReads{BlockReader: h.Node}
	opts.Blocks = blocks
	for nth := int64(1); nth <= 6; nth++ { // header and five chunks
		for _, fault := range []error{errFault, syscall.EIO} {
			e, err := musen.NewEdge(opts)
			must(t, err)
			blocks.err = fault
			blocks.left.Store(nth)
			heard, err := hear(t, e, s.CID)
			if fault == syscall.EIO {
				if err != nil || !bytes.Equal(heard, source) {
					t.Errorf("bad sector at read %d: %d bytes, %v", nth, len(heard), err)
				}
			} else if !errors.Is(err, musen.ErrUnavailable) || !errors.Is(err, errFault) || !bytes.HasPrefix(source, heard) {
				t.Errorf("read %d failed: %d bytes, %v", nth, len(heard), err)
			}
			wantAudio(t, e, s.CID, source)
		}
	}
}

func TestVerify(t *testing.T) {
	h := testnet.New(t, testnet.Uncached)
	o := h.Origin()
	jazz := station(t, o, "jazz")
	source := wav(1, 700<<10)
	s, small := add(t, o, "jazz", source), add(t, o, "jazz", wav(2, 1))
	e := h.Edge(t)
	auditor := h.Grant(t, []policy.Action{policy.Audit}, jazz.ID)
	sound := func(s musen.Segment, blocks int, chunks int64) {
		t.Helper()
		r, err := e.Verify(t.Context(), auditor, h.Node, spellings(s.CID)[0])
		must(t, err)
		if want := (musen.Report{CID: s.CID, Blocks: blocks, Chunks: chunks, Bytes: s.Size}); r != want {
			t.Errorf("report %+v, want %+v", r, want)
		}
	}
	sound(s, 3, 11)
	sound(small, 1, 1)

	restore := keepCopies(t, h, s)
	for _, d := range append(damages(), damage{"longer", 1, func(b []byte) []byte { return append(b, 0) }}) {
		d.strike(t, h, s)
		r, err := h.Edge(t).Verify(t.Context(), auditor, h.Node, s.CID)
		if err != nil || r.Err == nil || r.Chunks != 0 || r.Bytes != 0 {
			t.Errorf("%s: %+v, %v", d.name, r, err)
		}
		restore()
	}
	must(t, os.Remove(h.BlockFile(s.CID)))
	if r, err := e.Verify(t.Context(), auditor, h.Node, s.CID); err != nil || r.Err == nil || r.Blocks != 3 {
		t.Errorf("without its root: %+v, %v", r, err)
	}
	sound(small, 1, 1)

	_, err := e.Verify(t.Context(), auditor, h.Node, testCID(t))
	wantErr(t, err, musen.ErrNotFound)
	_, err = e.Verify(t.Context(), listen(t, h, jazz.ID), h.Node, s.CID)
	wantErr(t, err, musen.ErrNotFound)
	must(t, o.Remove(t.Context(), s.CID))
	_, err = e.Verify(t.Context(), auditor, h.Node, s.CID)
	wantErr(t, err, musen.ErrGone)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := e.Verify(ctx, auditor, h.Node, small.CID); err == nil && r.Err == nil {
		t.Errorf("canceled: %+v, %v", r, err)
	}
}

// A long segment has blocks between its root and its leaves. No stream needs
// them, but peers and GC do.
func TestVerifyBetweenRootAndLeaves(t *testing.T) {
	h := testnet.New(t)
	o := h.Origin()
	station(t, o, "jazz")
	before := blockFiles(t, h)
	s := add(t, o, "jazz", wav(1, 175*musen.LeafSize))
	ours := map[string]bool{h.BlockFile(s.CID): true}
	for _, c := range s.Leaves {
		ours[h.BlockFile(c)] = true
	}
	between := slices.DeleteFunc(blockFiles(t, h), func(f string) bool { return ours[f] || slices.Contains(before, f) })
	if len(between) == 0 {
		t.Fatal("no such blocks")
	}
	e := h.Edge(t)
	r, err := e.Verify(t.Context(), policy.LocalOperator(), h.Node, s.CID)
	if err != nil || r.Err != nil || r.Bytes != s.Size {
		t.Errorf("sound: %+v, %v", r, err)
	}
	for _, f := range between {
		b, err := os.ReadFile(f)
		must(t, err)
		must(t, os.WriteFile(f, flip(len(b)/2)(bytes.Clone(b)), 0o600))
		r, err := e.Verify(t.Context(), policy.LocalOperator(), h.Node, s.CID)
		if err != nil || r.Err == nil || r.Blocks != len(s.Leaves) {
			t.Errorf("rotten: %+v, %v", r, err)
		}
		must(t, os.WriteFile(f, b, 0o600))
	}
}
