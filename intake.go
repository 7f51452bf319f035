package musen

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"

	"github.com/musenai/musen/internal/media"
)

// intake reads the audio of one add: bounds it, recognises it, and looks at
// its headers while it goes by.
type intake struct {
	ctx    context.Context // of the one add that this reads for
	audio  io.Reader
	max    int64
	size   int64
	hash   hash.Hash
	probe  *media.Probe
	digest []byte
}

func newIntake(ctx context.Context, audio io.Reader, max int64, h hash.Hash, station string) *intake {
	io.WriteString(h, station) // equal audio of two stations is not seen to be equal
	h.Write([]byte{0})
	return &intake{ctx: ctx, audio: audio, max: max, hash: h, probe: media.NewProbe()}
}

func (in *intake) Read(p []byte) (int, error) {
	if err := in.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := in.audio.Read(p)
	if in.size += int64(n); in.size > in.max {
		return 0, fmt.Errorf("audio of more than %d bytes: %w", in.max, ErrTooLarge)
	}
	in.hash.Write(p[:n])
	in.probe.Write(p[:n])
	return n, err
}

func (in *intake) fingerprint() []byte {
	if in.digest == nil {
		in.digest = in.hash.Sum(nil)
	}
	return in.digest
}

// ErrNotAudio says that the bytes are none of the audio formats that the node
// knows.
var ErrNotAudio = errors.New("not audio of a known format")

// describe fills in what the request or, failing that, the headers tell.
func (in *intake) describe(s *Segment, req AddRequest) error {
	info := in.probe.Info()
	if info.MediaType == "" {
		return fmt.Errorf("%w: send MP3, AAC, M4A, Ogg, FLAC, WAV or MPEG-TS", ErrNotAudio)
	}
	s.MediaType, s.Duration = info.MediaType, info.Duration
	s.Title = firstOf(req.Title, info.Title, titleFromName(req.Filename))
	s.Artist = firstOf(req.Artist, info.Artist)
	return nil
}

func firstOf(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

// titleFromName makes a title of a file's name: without folders and ending.
func titleFromName(name string) string {
	base := path.Base(strings.ReplaceAll(name, "\\", "/"))
	if base == "." || base == "/" {
		return ""
	}
	return media.CleanText(strings.TrimSuffix(base, path.Ext(base)))
}
