package media

import (
	"encoding/binary"
	"strings"
)

const (
	flacMagicSize  = 4
	flacHeaderSize = 4 // of a metadata block
	flacInfoSize   = 34
)

// flac reads the metadata blocks before the first frame.
type flac struct {
	tags
	started bool // the magic has gone by
	rate    uint32
	samples uint64
	last    bool // the block at hand is the last one
}

func (f *flac) step(b []byte) (int64, int) {
	if !f.started {
		f.started = true
		return flacMagicSize, flacHeaderSize
	}
	const streamInfo, comment = 0, 4
	if f.last || len(b) < flacHeaderSize {
		return int64(len(b)), 0
	}
	kind, size := b[0]&0x7f, int(binary.BigEndian.Uint32(b)&0xffffff)
	body, keep := b[flacHeaderSize:], min(size, tagSize)
	switch {
	case kind != streamInfo && f.rate == 0 || kind == 127:
		return 0, 0 // not FLAC: the first block is always STREAMINFO
	case kind != streamInfo && kind != comment:
	case len(body) < keep && len(b) == flacHeaderSize:
		return 0, flacHeaderSize + keep
	case kind == streamInfo && len(body) >= flacInfoSize:
		f.rate, f.samples = flacInfo(body)
	case kind == comment:
		f.tags = vorbisComment(body)
	}
	f.last = b[0]&0x80 != 0
	if f.last {
		return int64(flacHeaderSize + size), 0
	}
	return int64(flacHeaderSize + size), flacHeaderSize
}

func (f *flac) info(int64) Info {
	if f.rate == 0 {
		return Info{}
	}
	return Info{
		MediaType: "audio/flac",
		Container: "flac",
		Title:     f.title,
		Artist:    f.artist,
		Duration:  span(float64(f.samples), float64(f.rate)),
	}
}

// flacInfo reads STREAMINFO. No samples: the encoder did not know.
func flacInfo(b []byte) (rate uint32, samples uint64) {
	v := binary.BigEndian.Uint64(b[10:])
	return uint32(v >> 44), v & (1<<36 - 1)
}

// vorbisComment reads the comments of FLAC, Vorbis and Opus, as far as b goes.
// Of several titles the first counts; several artists are all named.
func vorbisComment(b []byte) (t tags) {
	next := func() ([]byte, bool) {
		if len(b) < 4 {
			return nil, false
		}
		n := binary.LittleEndian.Uint32(b)
		if b = b[4:]; uint64(n) > uint64(len(b)) {
			return nil, false
		}
		entry := b[:n]
		b = b[n:]
		return entry, true
	}
	if _, ok := next(); !ok || len(b) < 4 { // the name of the encoder
		return t
	}
	for b = b[4:]; ; { // the number of entries says nothing that their end does not
		entry, ok := next()
		if !ok {
			return t
		}
		key, value, _ := strings.Cut(string(short(entry)), "=")
		switch {
		case strings.EqualFold(key, "TITLE"):
			t.title = either(t.title, value)
		case strings.EqualFold(key, "ARTIST") && t.artist == "":
			t.artist = value
		case strings.EqualFold(key, "ARTIST") && len(t.artist) < textSize:
			t.artist += ", " + value
		}
	}
}
