package media

import "bytes"

const (
	sniffSize = 16 << 10 // enough for three frames of MP3 or AAC
	sniffRun  = 3        // frames in a row that are no coincidence
	sniffLate = 4 << 10  // where the first whole frame of a cut stream may start
)

// start is the format of a stream of which nothing is known: it goes past the
// ID3v2 tags that may stand before anything, sees what follows, and is that
// format from there on.
type start struct {
	tags
	tag   *id3   // the tag being read
	inner format // nil: not known yet, or not audio
	at    int64  // where inner starts
}

func (s *start) step(b []byte) (int64, int) {
	switch {
	case s.inner != nil:
		return s.inner.step(b)
	case s.tag != nil:
		return s.readTag(b)
	case len(b) == len(id3Magic) && string(b) == id3Magic:
		s.tag = new(id3)
		return 0, id3HeaderSize
	case len(b) == len(id3Magic):
		return 0, sniffSize
	}
	n, want := int64(0), 0
	s.inner, n, want = sniff(b)
	s.at += n
	return n, want
}

func (s *start) readTag(b []byte) (int64, int) {
	n, want := s.tag.step(b)
	s.at += n
	if want > 0 {
		return n, want
	}
	s.title, s.artist = either(s.title, s.tag.title), either(s.artist, s.tag.artist)
	s.tag = nil
	return n, len(id3Magic)
}

func (s *start) info(size int64) Info {
	if s.inner == nil {
		return Info{}
	}
	info := s.inner.info(size - s.at)
	info.Title, info.Artist = either(info.Title, s.title), either(info.Artist, s.artist)
	return info
}

// sniff names the format of a stream that starts with b, where that format
// starts and how much it wants to see there. It is nil for what is not audio.
func sniff(b []byte) (f format, at int64, want int) {
	has := func(i int, magic string) bool {
		return len(b) >= i && bytes.HasPrefix(b[i:], []byte(magic))
	}
	switch {
	case has(0, "fLaC"):
		return new(flac), 0, flacMagicSize
	case has(0, oggMagic):
		return new(ogg), 0, oggHeaderSize
	case (has(0, "RIFF") || has(0, "RF64") || has(0, "BW64")) && has(8, "WAVE"):
		return new(wav), 0, riffHeaderSize
	case has(4, "ftyp"), has(4, "moov"):
		return new(mp4), 0, boxHeaderSize
	case has(0, ebmlMagic):
		return new(ebml), 0, ebmlHeaderSize
	case isTS(b):
		return new(ts), 0, tsPacketSize
	}
	for _, c := range []codec{mp3Codec(), adtsCodec()} {
		if at := findRun(b, c); at >= 0 {
			return &frames{codec: c}, int64(at), firstFrameSize
		}
	}
	return nil, 0, 0
}

// findRun is where near the start of b frames of c stand one behind the other,
// so many that it is no coincidence; -1: nowhere.
func findRun(b []byte, c codec) int {
	whole := len(b) < sniffSize // b is all there is
	for i := 0; i < min(len(b), sniffLate); i++ {
		if b[i] != 0xff {
			continue
		}
		if n, end := run(b[i:], c); n == sniffRun || whole && n == sniffRun-1 && end {
			return i
		}
	}
	return -1
}

// run counts the frames of one kind at the start of b, up to sniffRun, and
// tells whether they go to the end of b.
func run(b []byte, c codec) (n int, end bool) {
	for kind := uint32(0); n < sniffRun && len(b) > 0; n++ {
		f, ok := c.parse(b)
		if !ok || n > 0 && f.kind != kind {
			return n, len(b) == id3v1Size && bytes.HasPrefix(b, []byte(id3v1Magic))
		}
		kind, b = f.kind, b[min(f.size, len(b)):]
	}
	return n, len(b) == 0
}
