// Package media tells from the headers of audio what it is: media type, title,
// artist and duration, while the bytes go by on their way to the seal.
//
// It does not know what the audio sounds like: nothing is ever decoded. It does
// not know file names, stations or policy, and it believes no length that it is
// told: a header moves it forward, never makes it allocate.
package media

import (
	"io"
	"time"
)

var _ io.Writer = (*Probe)(nil)

// Info is what the headers of a stream say. All of it is empty unless the
// stream is audio in a container that the package knows.
type Info struct {
	MediaType string        // such as audio/mpeg; "": not audio
	Container string        // such as mp3 or ogg
	Title     string        // one line of at most 200 characters, "" if there is none
	Artist    string        // as Title
	Duration  time.Duration // 0: not told
}

// A Probe watches audio go by. It keeps a few kilobytes, at most one mebibyte,
// whatever it is shown, and takes time in proportion to what it is shown. How
// the stream is cut into writes makes no difference.
//
// A Probe is for one stream and one goroutine.
type Probe struct {
	walk  walk
	start start
	size  int64
	tail  []byte // the last id3v1Size bytes of the stream
	done  bool
}

// NewProbe returns a probe that has seen nothing yet.
func NewProbe() *Probe {
	p := &Probe{tail: make([]byte, 0, 2*id3v1Size)}
	p.walk = walk{format: &p.start, want: len(id3Magic)}
	return p
}

// Write looks at the next bytes of the stream. It keeps no reference to b,
// takes all of it and never fails.
func (p *Probe) Write(b []byte) (int, error) {
	if p.done {
		return len(b), nil
	}
	p.size += int64(len(b))
	p.remember(b)
	p.walk.write(b)
	return len(b), nil
}

// Info tells what the stream is, now that it has ended: what is written after
// the first call of Info is not looked at.
func (p *Probe) Info() Info {
	if !p.done {
		p.done = true
		p.walk.finish()
	}
	info := p.start.info(p.size)
	if info.MediaType == "" {
		return Info{}
	}
	if info.Container == "mp3" || info.Container == "adts" {
		last := id3v1(p.tail)
		info.Title, info.Artist = either(info.Title, last.title), either(info.Artist, last.artist)
	}
	info.Title, info.Artist = CleanText(info.Title), CleanText(info.Artist)
	return info
}

// remember keeps the end of the stream, where ID3v1 stands.
func (p *Probe) remember(b []byte) {
	if len(b) > id3v1Size {
		b = b[len(b)-id3v1Size:]
	}
	p.tail = append(p.tail, b...)
	if over := len(p.tail) - id3v1Size; over > 0 {
		p.tail = p.tail[:copy(p.tail, p.tail[over:])]
	}
}

// Extension is how the name of a file of that media type ends, with the dot.
// It is ".bin" for a type that no Info has.
func Extension(mediaType string) string {
	switch mediaType {
	case "audio/mpeg":
		return ".mp3"
	case "audio/aac":
		return ".aac"
	case "audio/mp4":
		return ".m4a"
	case "audio/ogg":
		return ".ogg"
	case "audio/flac":
		return ".flac"
	case "audio/wav":
		return ".wav"
	case "video/mp2t":
		return ".ts"
	case "audio/webm":
		return ".webm"
	case "audio/matroska":
		return ".mka"
	}
	return ".bin"
}

// tags is what a container's own tags say, as found.
type tags struct{ title, artist string }

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// longest is what no honest recording lasts.
const longest = 90 * 24 * time.Hour

// span is units/rate seconds, or 0 for what cannot be true.
func span(units, rate float64) time.Duration {
	if s := units / rate; s > 0 && s < longest.Seconds() {
		return time.Duration(s * float64(time.Second))
	}
	return 0
}
