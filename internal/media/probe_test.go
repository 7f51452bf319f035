package media

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen/testdata/audio"
)

// near is how far a duration may be from ffprobe's.
const near = 60 * time.Millisecond

func probe(b []byte) Info {
	p := NewProbe()
	p.Write(b)
	return p.Info()
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func check(t *testing.T, name string, got, want Info) {
	t.Helper()
	if off := (got.Duration - want.Duration).Abs(); off > near {
		t.Errorf("%s lasts %v, not %v", name, got.Duration, want.Duration)
	}
	got.Duration = want.Duration
	if got != want {
		t.Errorf("%s is %+v, not %+v", name, got, want)
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// bundled is the bundled audio by name.
func bundled(t testing.TB) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	err := fs.WalkDir(audio.Files(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		all[name], err = fs.ReadFile(audio.Files(), name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// samples is all the audio there is to test with, by name.
func samples(t testing.TB) map[string][]byte {
	t.Helper()
	all := bundled(t)
	names, err := filepath.Glob("testdata/*.*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		all[filepath.Base(name)] = read(t, filepath.Base(name))
	}
	return all
}

// TestBundled reads the table of testdata/audio/README.md: every file must be
// the one that is listed, and its headers must say what ffprobe found in them.
func TestBundled(t *testing.T) {
	const most, small, large = 3_000_000, 160 << 10, 3 * 256 << 10
	table, err := os.ReadFile("../../testdata/audio/README.md")
	if err != nil {
		t.Fatal(err)
	}
	files := bundled(t)
	listed, total, smallest, largest := 0, 0, most, 0
	for line := range strings.Lines(string(table)) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cell := strings.Split(strings.ReplaceAll(line, "`", ""), "|")
		for i := range cell {
			cell[i] = strings.TrimSpace(cell[i])
		}
		name := cell[1]
		b, ok := files[name]
		sum := sha256.Sum256(b)
		if !ok || strconv.Itoa(len(b)) != cell[5] || hex.EncodeToString(sum[:]) != cell[7] {
			t.Errorf("%s is not the file that README.md lists", name)
		}
		s, err := strconv.ParseFloat(cell[4], 64)
		if err != nil {
			t.Fatal(err)
		}
		got := probe(b)
		check(t, name, got, Info{
			MediaType: cell[3], Container: got.Container, Title: cell[6],
			Artist: "Demo Radio", Duration: seconds(s),
		})
		listed, total = listed+1, total+len(b)
		smallest, largest = min(smallest, len(b)), max(largest, len(b))
	}
	if listed != len(files) {
		t.Errorf("README.md lists %d files of %d", listed, len(files))
	}
	if total > most || smallest > small || largest < large {
		t.Errorf("%d bytes in all, %d to %d a file", total, smallest, largest)
	}
}

// TestSamples compares with ffprobe's figures; for bare frames and transport
// streams, where ffprobe guesses, with the packets that it counts.
func TestSamples(t *testing.T) {
	const frame = 1024. / 44100
	for _, c := range []struct {
		name, mediaType, container string
		seconds                    float64
		tagged                     bool
	}{
		{"id3v1.mp3", "audio/mpeg", "mp3", 3.030, true},
		{"id3v24.mp3", "audio/mpeg", "mp3", 3.030, true},
		{"mpeg2.mp3", "audio/mpeg", "mp3", 3.056, true},
		{"layer2.mp2", "audio/mpeg", "mp3", 3.004, false},
		{"plain.aac", "audio/aac", "adts", 131 * frame, false},
		{"fragmented.m4a", "audio/mp4", "mp4", 3.023, true},
		{"vorbis.ogg", "audio/ogg", "ogg", 3, true},
		{"flac.ogg", "audio/ogg", "ogg", 3, true},
		{"chained.ogg", "audio/ogg", "ogg", 6, true},
		{"segment.ts", "video/mp2t", "mpegts", 131 * frame, false},
		{"mp3.ts", "video/mp2t", "mpegts", 116 * 1152. / 44100, false},
		{"opus.webm", "audio/webm", "webm", 3.008, true},
		{"live.webm", "audio/webm", "webm", 0, true},
		{"opus.mka", "audio/matroska", "matroska", 3.008, true},
		{"rf64.wav", "audio/wav", "wav", 3, true},
		{"extensible.wav", "audio/wav", "wav", 3, true},
		{"pipe.wav", "audio/wav", "wav", 3, false},
	} {
		want := Info{MediaType: c.mediaType, Container: c.container, Duration: seconds(c.seconds)}
		if c.tagged {
			want.Title, want.Artist = "Chord of A", "Three Sines"
		}
		check(t, c.name, probe(read(t, c.name)), want)
	}
}

// TestNotAudio shows what a stranger may send instead.
func TestNotAudio(t *testing.T) {
	for name, b := range map[string]string{
		"nothing":        "",
		"one byte":       "\xff",
		"HTML":           "<!doctype html><html><body>" + strings.Repeat("<p>hello</p>", 2000),
		"PNG":            "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x10\x00\x00\x00\x10\x08\x06",
		"JPEG":           "\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + strings.Repeat("\xff\xdb\x00\x43", 500),
		"PDF":            "%PDF-1.7\n" + strings.Repeat("stream\xff\xfb\n", 500),
		"ZIP":            "PK\x03\x04" + strings.Repeat("\x00", 100),
		"playlist":       "#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:6,\nsegment.ts\n",
		"zeros":          strings.Repeat("\x00", 100_000),
		"ones":           strings.Repeat("\xff", 100_000),
		"UTF-16 text":    "\xff\xfeH\x00e\x00l\x00l\x00o\x00",
		"tag alone":      "ID3\x04\x00\x00\x00\x00\x00\x00",
		"tag of tags":    strings.Repeat("ID3", 10_000),
		"AVI":            "RIFF\x00\x01\x00\x00AVI LIST",
		"empty WAV":      "RIFF\x04\x00\x00\x00WAVE",
		"video in MP4":   string(read(t, "video.mp4")),
		"FLAC magic":     "fLaC",
		"Ogg magic":      "OggS",
		"MP4 of nothing": "\x00\x00\x00\x10ftypM4A \x00\x00\x00\x00",
		"WebM header":    "\x1a\x45\xdf\xa3\x87\x42\x82\x84webm",
		"script":         string(read(t, "make.sh")),
	} {
		if got := probe([]byte(b)); got != (Info{}) {
			t.Errorf("%s is taken for %+v", name, got)
		}
	}
}

// TestCutStream is a recording that starts and ends in the middle of frames,
// with a foreign tag and noise inside.
func TestCutStream(t *testing.T) {
	for _, c := range []struct{ name, mediaType string }{
		{"id3v1.mp3", "audio/mpeg"}, {"plain.aac", "audio/aac"}, {"07-night-ferry-radio-edit.mp3", "audio/mpeg"},
	} {
		b := samples(t)[c.name]
		from := len(b) / 10
		mid := len(b) / 2
		cut := append([]byte(nil), b[from:mid]...)
		cut = append(cut, "ID3\x04\x00\x00\x00\x00\x08\x00"+strings.Repeat("\xff\xfb", 512)...)
		cut = append(cut, strings.Repeat("<html>\xff\xf1\x00", 1000)...)
		cut = append(cut, b[mid:len(b)-len(b)/10]...)
		got := probe(cut)
		whole := probe(b).Duration
		if got.MediaType != c.mediaType || (got.Duration-whole*8/10).Abs() > whole/20 {
			t.Errorf("a cut %s of %v is %+v", c.name, whole, got)
		}
	}
}

func TestExtension(t *testing.T) {
	for name, b := range bundled(t) {
		want := filepath.Ext(name)
		if want == ".opus" {
			want = ".ogg"
		}
		if got := Extension(probe(b).MediaType); got != want {
			t.Errorf("%s becomes %s", name, got)
		}
	}
	for _, mediaType := range []string{"video/mp2t", "audio/webm", "audio/matroska"} {
		if ext := Extension(mediaType); ext == ".bin" {
			t.Errorf("%s has no extension", mediaType)
		}
	}
	if got := Extension("text/html"); got != ".bin" {
		t.Errorf("a page becomes %s", got)
	}
}
