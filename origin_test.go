package musen_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/testnet"
	"github.com/musenai/musen/policy"
	"github.com/musenai/musen/seal"
	"github.com/musenai/musen/testdata/audio"
)

// What is streamed is what was added, whole and in every range.
func TestWhatIsHeardIsWhatWasAdded(t *testing.T) {
	h := testnet.New(t)
	o := h.Origin()
	station(t, o, "jazz")
	const chunk, leaf = 65536 - seal.TagSize, 4*(65536-seal.TagSize) - seal.HeaderSize
	for i, size := range []int{wavHeader + 1, chunk - seal.HeaderSize, chunk - seal.HeaderSize + 1, leaf, leaf + 1, 2*leaf + chunk, 5*leaf + 7} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			source := wav(byte(i), size-wavHeader)
			s := add(t, o, "jazz", source)
			want := (seal.SealedSize(int64(size)) + musen.LeafSize - 1) / musen.LeafSize
			if s.Size != int64(size) || s.SealedSize != seal.SealedSize(int64(size)) || int64(len(s.Leaves)) != want || s.MediaType != "audio/wav" {
				t.Errorf("segment %+v of %d bytes", s, size)
			}
			if len(s.Leaves) == 1 && !s.Leaves[0].Equals(s.CID) {
				t.Errorf("a single leaf %s that is not the root %s", s.Leaves[0], s.CID)
			}
			e := h.Edge(t)
			wantAudio(t, e, s.CID, source)
			rapid.Check(t, func(r *rapid.T) {
				off := rapid.Int64Range(0, s.Size).Draw(r, "off")
				n := rapid.Int64Range(0, s.Size-off).Draw(r, "n")
				if !bytes.Equal(play(t, e, s.CID, off, n), source[off:off+n]) {
					r.Fatalf("wrong bytes %d to %d", off, off+n)
				}
			})
		})
	}
	inAgreement(t, h)
}

// Every bundled container is known by its headers and heard byte for byte,
// also after a restart. No plaintext is on the disk.
func TestEveryContainer(t *testing.T) {
	h := testnet.New(t)
	station(t, h.Origin(), "demo")
	sources := map[string][]byte{}
	files, err := filepath.Glob("testdata/audio/0*")
	must(t, err)
	segments := map[string]musen.Segment{}
	for _, name := range files {
		f, err := audio.Files().Open(filepath.Base(name))
		must(t, err)
		source, err := io.ReadAll(f)
		must(t, err)
		sources[name], segments[name] = source, add(t, h.Origin(), "demo", source)
		if s := segments[name]; s.Title == "" || s.Title == "take one" || s.Artist != "Demo Radio" || s.Duration <= 0 {
			t.Errorf("%s: title %q, artist %q, %s", name, s.Title, s.Artist, s.Duration)
		}
	}
	if len(files) != 8 {
		t.Fatalf("%d bundled files", len(files))
	}
	h.Reopen(t)
	e := h.Edge(t)
	for name, source := range sources {
		wantAudio(t, e, segments[name].CID, source)
		noPlaintext(t, h, source)
	}
}

// noPlaintext looks for a piece from the middle of audio in every file.
func noPlaintext(t *testing.T, h *testnet.Home, audio []byte) {
	t.Helper()
	piece := audio[len(audio)/2 : len(audio)/2+64]
	must(t, filepath.WalkDir(h.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, piece) {
			t.Errorf("%s holds audio", path)
		}
		return err
	}))
}

func TestTitles(t *testing.T) {
	h := testnet.New(t)
	station(t, h.Origin(), "jazz")
	tags := map[string]string{"INAM": "From the tags", "IART": "Tagged artist"}
	for i, c := range []struct {
		req           musen.AddRequest
		tags          map[string]string
		title, artist string
	}{
		{musen.AddRequest{Title: "Asked", Artist: "Asked artist", Filename: "file.wav"}, tags, "Asked", "Asked artist"},
		{musen.AddRequest{Filename: "file.wav"}, tags, "From the tags", "Tagged artist"},
		{musen.AddRequest{Title: "Asked"}, tags, "Asked", "Tagged artist"},
		{musen.AddRequest{Filename: `C:\music\Blue in Green.take 2.wav`}, nil, "Blue in Green.take 2", ""},
		{musen.AddRequest{Filename: "../../etc/pass\r\nwd.wav"}, nil, "pass wd", ""}, // H34, H39
		{musen.AddRequest{Filename: "/"}, nil, "", ""},
		{musen.AddRequest{}, nil, "", ""},
	} {
		c.req.Station = "jazz"
		s, _, err := h.Origin().Add(t.Context(), c.req, bytes.NewReader(taggedWAV(byte(i), 1000, c.tags)))
		must(t, err)
		kept, err := h.Rows.Segment(t.Context(), s.CID.Hash())
		must(t, err)
		for _, got := range []musen.Segment{s, kept} {
			if got.Title != c.title || got.Artist != c.artist {
				t.Errorf("%+v: title %q, artist %q", c.req, got.Title, got.Artist)
			}
		}
	}
}

// What Add says of a segment is what the catalogue says of it.
func TestAddTellsWhatIsKept(t *testing.T) {
	h := testnet.New(t)
	st := station(t, h.Origin(), "jazz")
	req := musen.AddRequest{
		Station: st.ID, Title: "T", Artist: "A", AIGenerated: true,
		PublishAt: h.Clock.Now().Add(time.Hour), ExpiresAt: h.Clock.Now().Add(2 * time.Hour),
	}
	s, _, err := h.Origin().Add(t.Context(), req, bytes.NewReader(wav(1, 600<<10)))
	must(t, err)
	kept, err := h.Rows.Segment(t.Context(), s.CID.Hash())
	must(t, err)
	if fmt.Sprintf("%+v", s) != fmt.Sprintf("%+v", kept) {
		t.Errorf("told %+v\nkept %+v", s, kept)
	}
	if !musen.IsID(s.ID) || s.Station != st.ID || !s.Created.Equal(h.Clock.Now()) || !s.AIGenerated {
		t.Errorf("told %+v", s)
	}
}

// A failed add leaves no intent, no pin, no key, and blocks for one GC only.
func TestRefusedAudioLeavesNothing(t *testing.T) {
	h := testnet.New(t)
	station(t, h.Origin(), "jazz")
	blocks := blockFiles(t, h)
	broken := errors.New("upload broke")
	long := wav(1, 700<<10)
	ctx, cancel := context.WithCancel(t.Context())
	for _, c := range []struct {
		name  string
		req   musen.AddRequest
		audio io.Reader
		want  error
	}{
		{"not audio", musen.AddRequest{}, strings.NewReader(strings.Repeat("<html>", 100_000)), musen.ErrNotAudio},
		{"empty", musen.AddRequest{}, strings.NewReader(""), musen.ErrNotAudio},
		{"header cut", musen.AddRequest{}, bytes.NewReader(long[:20]), musen.ErrNotAudio},
		{"one byte too long", musen.AddRequest{}, bytes.NewReader(wav(1, 1<<20-wavHeader+1)), musen.ErrTooLarge},
		{"without end", musen.AddRequest{}, io.MultiReader(bytes.NewReader(long), forever{}), musen.ErrTooLarge},
		{"broken at once", musen.AddRequest{}, iotest.ErrReader(broken), broken},
		{"broken in the middle", musen.AddRequest{}, io.MultiReader(bytes.NewReader(long), iotest.ErrReader(broken)), broken},
		{"cut in the middle", musen.AddRequest{}, io.MultiReader(bytes.NewReader(long), iotest.ErrReader(io.ErrUnexpectedEOF)), io.ErrUnexpectedEOF},
		{"no such station", musen.AddRequest{Station: "blues"}, bytes.NewReader(long), musen.ErrNotFound},
		{"expires before it is published", musen.AddRequest{PublishAt: h.Clock.Now().Add(time.Hour), ExpiresAt: h.Clock.Now().Add(time.Minute)}, bytes.NewReader(long), musen.ErrInvalid},
		{"expires when it is published", musen.AddRequest{PublishAt: h.Clock.Now().Add(time.Hour), ExpiresAt: h.Clock.Now().Add(time.Hour)}, bytes.NewReader(long), musen.ErrInvalid},
		{"canceled in the middle", musen.AddRequest{}, io.MultiReader(bytes.NewReader(long), onRead(cancel), forever{}), context.Canceled}, // last: ends ctx
		{"canceled before", musen.AddRequest{}, bytes.NewReader(long), context.Canceled},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &faults{}
			o := f.put(h.Origin())
			o.MaxSegment = 1 << 20
			if c.req.Station == "" {
				c.req.Station = "jazz"
			}
			_, existing, err := o.Add(ctx, c.req, c.audio)
			if !errors.Is(err, c.want) || existing {
				t.Errorf("got %v, existing %v, want %v", err, existing, c.want)
			}
			nothingLeft(t, h, blocks, f.wrapped...)
		})
	}
	o := h.Origin()
	o.MaxSegment = 1 << 20
	add(t, o, "jazz", wav(1, 1<<20-wavHeader))
}

// forever never ends.
type forever struct{}

func (forever) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// onRead is called when what stands before it was read, and ends.
type onRead func()

func (f onRead) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

func TestSameAudio(t *testing.T) {
	h := testnet.New(t)
	f := &faults{}
	o := f.put(h.Origin())
	station(t, o, "jazz")
	station(t, o, "blues")
	source := wav(1, 300<<10)
	req := musen.AddRequest{Station: "jazz", Title: "First"}
	first, _, err := o.Add(t.Context(), req, bytes.NewReader(source))
	must(t, err)

	req.Title = "Second"
	second, existing, err := o.Add(t.Context(), req, bytes.NewReader(source))
	must(t, err)
	if !existing || second.ID != first.ID || !second.CID.Equals(first.CID) || second.Title != "First" {
		t.Errorf("existing %v, %+v", existing, second)
	}
	other := add(t, o, "blues", source)
	req.Again = true
	again, existing, err := o.Add(t.Context(), req, bytes.NewReader(source))
	must(t, err)
	if existing || again.CID.Equals(first.CID) || other.CID.Equals(first.CID) || again.Title != "Second" {
		t.Errorf("existing %v, first %s, again %s, other station %s", existing, first.CID, again.CID, other.CID)
	}
	inAgreement(t, h)
	fp := f.fingerprints // of first, second, other, again
	if fp[0] != fp[1] || fp[0] == fp[2] || len(fp[2]) != 32 || fp[3] != "" {
		t.Errorf("fingerprints %x: equal audio of two stations must not look equal", fp)
	}

	must(t, o.Remove(t.Context(), first.CID))
	fresh := add(t, o, "jazz", source) // what is removed does not exist
	if fresh.CID.Equals(first.CID) {
		t.Error("a removed CID came back")
	}
	e := h.Edge(t)
	for _, s := range []musen.Segment{other, again, fresh} {
		wantAudio(t, e, s.CID, source)
	}
	inAgreement(t, h)
}

func TestSameAudioAtTheSameTime(t *testing.T) {
	h := testnet.New(t)
	o := h.Origin()
	station(t, o, "jazz")
	source := wav(1, 300<<10)
	type outcome struct {
		s        musen.Segment
		existing bool
	}
	outcomes := make(chan outcome, 8)
	var wg sync.WaitGroup
	for range cap(outcomes) {
		wg.Go(func() {
			s, existing, err := o.Add(context.Background(), musen.AddRequest{Station: "jazz"}, bytes.NewReader(source))
			if err != nil {
				t.Error(err)
			}
			outcomes <- outcome{s, existing}
		})
	}
	wg.Wait()
	close(outcomes)
	added, ids := 0, map[string]bool{}
	for out := range outcomes {
		ids[out.s.ID] = true
		if !out.existing {
			added++
		}
	}
	if added != 1 || len(ids) != 1 {
		t.Errorf("%d new segments, %d different ones", added, len(ids))
	}
	inAgreement(t, h)
	wantAudio(t, h.Edge(t), firstRoot(t, h), source)
}

// Audio that is removed while it is added once more is neither there nor
// unknown: whoever adds it can try again.
func TestSameAudioRemovedMeanwhile(t *testing.T) {
	h := testnet.New(t)
	blocks := blockFiles(t, h)
	f := &faults{}
	o := f.put(h.Origin())
	station(t, o, "jazz")
	s := add(t, o, "jazz", wav(1, 1000))
	f.hooks = map[string]func(){"SegmentByFingerprint": func() { must(t, o.Remove(t.Context(), s.CID)) }}
	_, existing, err := o.Add(t.Context(), musen.AddRequest{Station: "jazz"}, bytes.NewReader(wav(1, 1000)))
	wantErr(t, err, musen.ErrUnavailable)
	if existing || errors.Is(err, musen.ErrNotFound) {
		t.Errorf("existing %v, %v", existing, err)
	}
	nothingLeft(t, h, blocks, f.wrapped...)
}

// A station cannot be removed in the middle of an add.
func TestStationInUseStays(t *testing.T) {
	h := testnet.New(t)
	f := &faults{}
	o := f.put(h.Origin())
	st := station(t, o, "jazz")
	f.hooks = map[string]func(){"Commit": func() { wantErr(t, o.RemoveStation(t.Context(), st.ID), musen.ErrInvalid) }}
	s := add(t, o, "jazz", wav(1, 1000))
	wantAudio(t, h.Edge(t), s.CID, wav(1, 1000))
}

func TestRemove(t *testing.T) {
	h := testnet.New(t)
	f := &faults{}
	o := f.put(h.Origin())
	station(t, o, "jazz")
	blocks := blockFiles(t, h)
	wantErr(t, o.Remove(t.Context(), testCID(t)), musen.ErrNotFound)

	s := add(t, o, "jazz", wav(1, 700<<10))
	must(t, o.Remove(t.Context(), spellings(s.CID)[1])) // H25
	wantErr(t, o.Remove(t.Context(), s.CID), musen.ErrGone)
	nothingLeft(t, h, blocks, f.wrapped...)

	// What a failure left, the next try takes.
	s = add(t, o, "jazz", wav(1, 700<<10))
	f.before = map[string]bool{"Unpin": true}
	wantErr(t, o.Remove(t.Context(), s.CID), errFault)
	if _, err := h.Edge(t).Open(t.Context(), policy.LocalOperator(), policy.Listen, s.CID); !errors.Is(err, musen.ErrGone) {
		t.Errorf("half removed: %v", err)
	}
	f.before = nil
	wantErr(t, o.Remove(t.Context(), s.CID), musen.ErrGone)
	nothingLeft(t, h, blocks, f.wrapped...)
}

// No goroutine outlives an Add or a stream, however they end.
func TestNothingKeepsRunning(t *testing.T) {
	h := testnet.New(t)
	o := h.Origin()
	station(t, o, "jazz")
	e := h.Edge(t)
	s := add(t, o, "jazz", wav(1, 300<<10)) // Kubo and the catalogue have all that they start by now
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())

	add(t, o, "jazz", wav(2, 300<<10))
	for _, step := range []string{"Begin", "Add", "Commit"} {
		f := &faults{before: map[string]bool{step: true}}
		_, _, err := f.put(o).Add(t.Context(), musen.AddRequest{Station: "jazz"}, bytes.NewReader(wav(3, 300<<10)))
		wantErr(t, err, errFault)
	}
	_, _, err := o.Add(t.Context(), musen.AddRequest{Station: "jazz"}, iotest.ErrReader(errFault))
	wantErr(t, err, errFault)
	ctx, cancel := context.WithCancel(t.Context())
	_, _, err = o.Add(ctx, musen.AddRequest{Station: "jazz"}, io.MultiReader(bytes.NewReader(wav(3, 300<<10)), onRead(cancel), forever{}))
	wantErr(t, err, context.Canceled)
	stream, err := e.Open(t.Context(), policy.LocalOperator(), policy.Listen, s.CID)
	must(t, err)
	_, err = stream.WriteRange(t.Context(), failing{}, 0, stream.Size())
	wantErr(t, err, errFault)
	if errors.Is(err, musen.ErrUnavailable) {
		t.Errorf("a listener who left is said to be a failure here: %v", err)
	}
	_, err = stream.WriteRange(ctx, io.Discard, 0, stream.Size())
	wantErr(t, err, context.Canceled)
}

// failing is a listener who left.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFault }
