package musen_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/testnet"
	"github.com/musenai/musen/policy"
)

const wavHeader = 44

// wav is audio of n bytes after its header; it differs by seed.
func wav(seed byte, n int) []byte { return taggedWAV(seed, n, nil) }

// taggedWAV has a LIST chunk of kind INFO with these texts by their ids.
func taggedWAV(seed byte, n int, info map[string]string) []byte {
	le := binary.LittleEndian
	format := []byte("fmt \x10\x00\x00\x00\x01\x00\x01\x00")
	format = le.AppendUint32(format, 8000)
	format = le.AppendUint32(format, 8000)
	format = append(format, 1, 0, 8, 0)
	var list []byte
	for id, text := range info {
		list = append(le.AppendUint32(append(list, id...), uint32(len(text))), text...)
		list = append(list, make([]byte, len(text)%2)...)
	}
	if list != nil {
		list = append(append(le.AppendUint32([]byte("LIST"), uint32(len(list)+4)), "INFO"...), list...)
	}
	b := append(le.AppendUint32([]byte("RIFF"), uint32(4+len(format)+len(list)+8+n)), "WAVE"...)
	b = append(append(b, format...), list...)
	b = le.AppendUint32(append(b, "data"...), uint32(n))
	sound := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(sound)
	return append(b, sound...)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func station(t testing.TB, o *musen.Origin, name string) musen.Station {
	t.Helper()
	s, err := o.CreateStation(t.Context(), musen.Station{Name: name, Downloads: true})
	must(t, err)
	return s
}

func add(t testing.TB, o *musen.Origin, station string, audio []byte) musen.Segment {
	t.Helper()
	s, existing, err := o.Add(t.Context(), musen.AddRequest{Station: station, Filename: "take one.wav"}, bytes.NewReader(audio))
	must(t, err)
	if existing {
		t.Fatal("new audio is said to exist")
	}
	return s
}

// play is what whoever may do everything hears of a range.
func play(t testing.TB, e *musen.Edge, c cid.Cid, off, n int64) []byte {
	t.Helper()
	stream, err := e.Open(t.Context(), policy.LocalOperator(), policy.Listen, c)
	must(t, err)
	var heard bytes.Buffer
	written, err := stream.WriteRange(t.Context(), &heard, off, n)
	must(t, err)
	if written != n || int64(heard.Len()) != n {
		t.Fatalf("%d bytes asked for, %d written, %d said to be", n, heard.Len(), written)
	}
	return heard.Bytes()
}

func wantAudio(t testing.TB, e *musen.Edge, c cid.Cid, audio []byte) {
	t.Helper()
	if !bytes.Equal(play(t, e, c, 0, int64(len(audio))), audio) {
		t.Fatalf("segment %s does not sound like its source", c)
	}
}

// blockFiles are the blocks on the disk.
func blockFiles(t testing.TB, h *testnet.Home) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(h.Dir, "node", "blocks", "*", "*.data"))
	must(t, err)
	slices.Sort(files)
	return files
}

// inAgreement fails unless every live segment is pinned, nothing else is, and
// no intent is left.
func inAgreement(t testing.TB, h *testnet.Home) {
	t.Helper()
	pending, err := h.Rows.Pending(t.Context())
	must(t, err)
	if len(pending) != 0 {
		t.Errorf("intents are left: %v", pending)
	}
	owned := map[string]bool{}
	for c, err := range h.Rows.Roots(t.Context()) {
		must(t, err)
		owned[string(c.Hash())] = true
	}
	for c, err := range h.Node.Pins(t.Context()) {
		must(t, err)
		if !owned[string(c.Hash())] {
			t.Errorf("%s is pinned and no segment's", c)
		}
		delete(owned, string(c.Hash()))
	}
	if len(owned) != 0 {
		t.Errorf("%d segments are not pinned", len(owned))
	}
}

// nothingLeft fails unless GC brings the disk back to these blocks and the
// wrapped keys are in no file of the catalogue.
func nothingLeft(t testing.TB, h *testnet.Home, blocks []string, wrapped ...[]byte) {
	t.Helper()
	inAgreement(t, h)
	_, _, err := h.Node.GC(t.Context())
	must(t, err)
	if got := blockFiles(t, h); !slices.Equal(got, blocks) {
		t.Errorf("%d blocks are on the disk, want %d", len(got), len(blocks))
	}
	files, err := filepath.Glob(filepath.Join(h.Dir, "catalogue.db*"))
	must(t, err)
	if len(files) == 0 {
		t.Fatal("no catalogue on the disk")
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		must(t, err)
		for _, key := range wrapped {
			if bytes.Contains(b, key) {
				t.Errorf("%s holds a destroyed key", filepath.Base(name))
			}
		}
	}
}

var errFault = errors.New("injected fault")

// faults makes steps of real parts fail: those of before without happening,
// those of after although they happened. It counts
// calls and notes wrapped keys and fingerprints.
type faults struct {
	before, after map[string]bool
	hooks         map[string]func() // called before a step

	mu           sync.Mutex
	calls        map[string]int
	wrapped      [][]byte
	fingerprints []string // as committed
}

func (f *faults) step(name string, call func() error) error {
	f.mu.Lock()
	if f.calls == nil {
		f.calls = map[string]int{}
	}
	f.calls[name]++
	f.mu.Unlock()
	if hook := f.hooks[name]; hook != nil {
		hook()
	}
	if f.before[name] {
		return errFault
	}
	err := call()
	if err == nil && f.after[name] {
		return errFault
	}
	return err
}

// put makes the parts of an Origin fail as f says.
func (f *faults) put(o *musen.Origin) *musen.Origin {
	faulty := *o
	faulty.Records = faultyRecords{o.Records, f}
	faulty.Blocks = faultyBlocks{o.Blocks, f}
	faulty.Keys = faultyKeys{o.Keys, f}
	return &faulty
}

type faultyRecords struct {
	musen.Records
	f *faults
}

func (r faultyRecords) CreateStation(ctx context.Context, s musen.Station) error {
	return r.f.step("CreateStation", func() error { return r.Records.CreateStation(ctx, s) })
}

func (r faultyRecords) Begin(ctx context.Context, s musen.Segment) error {
	return r.f.step("Begin", func() error { return r.Records.Begin(ctx, s) })
}

func (r faultyRecords) Commit(ctx context.Context, s musen.Segment, fp []byte, inner []cid.Cid) error {
	r.f.mu.Lock()
	r.f.fingerprints = append(r.f.fingerprints, string(fp))
	r.f.mu.Unlock()
	return r.f.step("Commit", func() error { return r.Records.Commit(ctx, s, fp, inner) })
}

func (r faultyRecords) Abort(ctx context.Context, segment string) error {
	return r.f.step("Abort", func() error { return r.Records.Abort(ctx, segment) })
}

func (r faultyRecords) SegmentByFingerprint(ctx context.Context, station string, fp []byte) (s musen.Segment, err error) {
	err = r.f.step("SegmentByFingerprint", func() (err error) {
		s, err = r.Records.SegmentByFingerprint(ctx, station, fp)
		return err
	})
	return s, err
}

type faultyBlocks struct {
	musen.Blocks
	f *faults
}

func (b faultyBlocks) Add(ctx context.Context, r io.Reader) (root cid.Cid, leaves, inner []cid.Cid, err error) {
	err = b.f.step("Add", func() (err error) {
		root, leaves, inner, err = b.Blocks.Add(ctx, r)
		return err
	})
	if err != nil {
		return cid.Undef, nil, nil, err
	}
	return root, leaves, inner, nil
}

func (b faultyBlocks) Remove(ctx context.Context, root cid.Cid) error {
	return b.f.step("Unpin", func() error { return b.Blocks.Remove(ctx, root) })
}

func (b faultyBlocks) GC(ctx context.Context) (blocks int, freed int64, err error) {
	err = b.f.step("GC", func() (err error) {
		blocks, freed, err = b.Blocks.GC(ctx)
		return err
	})
	return blocks, freed, err
}

type faultyKeys struct {
	musen.KeyMaker
	f *faults
}

func (k faultyKeys) AddStation(id string) error {
	return k.f.step("AddStation", func() error { return k.KeyMaker.AddStation(id) })
}

func (k faultyKeys) RemoveStation(id string) error {
	return k.f.step("RemoveStationKey", func() error { return k.KeyMaker.RemoveStation(id) })
}

func (k faultyKeys) NewDataKey(station, segment string) (key []byte, w musen.WrappedKey, err error) {
	err = k.f.step("NewDataKey", func() (err error) {
		key, w, err = k.KeyMaker.NewDataKey(station, segment)
		return err
	})
	if err != nil {
		return nil, musen.WrappedKey{}, err
	}
	k.f.mu.Lock()
	defer k.f.mu.Unlock()
	k.f.wrapped = append(k.f.wrapped, bytes.Clone(w.Ciphertext))
	return key, w, nil
}

func (k faultyKeys) Fingerprint() hash.Hash { return k.KeyMaker.Fingerprint() }
