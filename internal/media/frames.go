package media

import (
	"bytes"
	"encoding/binary"
	"time"
)

const (
	frameSize      = 10      // what the header of a frame, or of an ID3v2 tag, needs
	firstFrameSize = 40      // up to the word that marks a frame without sound
	lostSize       = 4 << 10 // looked through at once for the next frame
)

// A frame is what the header of one frame of MP3 or ADTS says.
type frame struct {
	size    int    // bytes, header included
	samples int    // a channel
	rate    int    // samples a second
	kind    uint32 // equal for all frames of a stream, never 0
}

// A codec is a stream of frames without a container.
type codec struct {
	container, mediaType string
	parse                func(b []byte) (frame, bool)
}

func mp3Codec() codec  { return codec{"mp3", "audio/mpeg", mp3Frame} }
func adtsCodec() codec { return codec{"adts", "audio/aac", adtsFrame} }

// frames walks a stream frame by frame and counts what would be heard. What a
// Xing or VBRI header claims is not asked: the count is what is there.
type frames struct {
	codec   codec
	first   frame // zero until found
	samples int64
	lost    bool
}

func (f *frames) step(b []byte) (int64, int) {
	if f.lost {
		return f.search(b)
	}
	h, ok := f.codec.parse(b)
	switch {
	case ok && f.first.kind == 0:
		f.first = h
		if !silent(b, h) {
			f.samples += int64(h.samples)
		}
	case ok && h.kind == f.first.kind:
		f.samples += int64(h.samples)
	case len(b) >= id3HeaderSize && string(b[:len(id3Magic)]) == id3Magic:
		return id3Length(b), frameSize
	default:
		f.lost = true
		return 0, lostSize
	}
	return int64(h.size), frameSize
}

// search goes to the next place in b where a frame may start.
func (f *frames) search(b []byte) (int64, int) {
	last := len(b) - frameSize
	for i := 0; i <= last; i++ {
		next := bytes.IndexByte(b[i:], 0xff)
		if next < 0 {
			return int64(len(b)), lostSize
		}
		i += next
		h, ok := f.codec.parse(b[i:])
		if ok && (f.first.kind == 0 || h.kind == f.first.kind) {
			f.lost = false
			return int64(i), f.wantFrame()
		}
	}
	return int64(max(last+1, 1)), lostSize
}

func (f *frames) wantFrame() int {
	if f.first.kind == 0 {
		return firstFrameSize
	}
	return frameSize
}

func (f *frames) info(int64) Info {
	return Info{
		MediaType: f.codec.mediaType,
		Container: f.codec.container,
		Duration:  f.duration(),
	}
}

func (f *frames) duration() time.Duration {
	if f.first.kind == 0 {
		return 0
	}
	return span(float64(f.samples), float64(f.first.rate))
}

// silent reports whether the first frame of an MP3 holds figures, not sound.
func silent(b []byte, h frame) bool {
	for _, at := range []int{4 + 9, 4 + 17, 4 + 32} {
		if len(b) < at+4 || h.kind>>16 == 0 {
			return false
		}
		switch string(b[at : at+4]) {
		case "Xing", "Info":
			return true
		case "VBRI":
			return at == 4+32
		}
	}
	return false
}

// mp3Frame reads the header of a frame of MPEG audio, any version and layer.
func mp3Frame(b []byte) (frame, bool) {
	const same = 0xfffe0c00 // sync, version, layer and rate
	if len(b) < 4 || b[0] != 0xff || b[1]&0xe0 != 0xe0 {
		return frame{}, false
	}
	h := binary.BigEndian.Uint32(b)
	version, layer, pad := h>>19&3, h>>17&3, int(h>>9&1)
	rate, bits := mp3Rate(version, h>>10&3), mp3Bits(version, layer, h>>12&15)
	if rate == 0 || bits == 0 {
		return frame{}, false
	}
	f := frame{samples: 1152, rate: rate, kind: h & same}
	switch {
	case layer == 3:
		f.samples, f.size = 384, (12*bits/rate+pad)*4
		return f, true
	case layer == 1 && version != 3:
		f.samples = 576
	}
	f.size = f.samples/8*bits/rate + pad
	return f, true
}

// mp3Rate is the sampling rate of that version and index, 0 where there is none.
func mp3Rate(version, index uint32) int {
	rates := [4]int{44100, 48000, 32000, 0}
	switch version {
	case 3: // MPEG-1
		return rates[index]
	case 2: // MPEG-2
		return rates[index] / 2
	case 0: // MPEG-2.5
		return rates[index] / 4
	}
	return 0
}

// mp3Bits is the bit rate of that version, layer (3 is layer I) and index, 0
// where there is none. The tables are in units of 8 kbit/s.
func mp3Bits(version, layer, index uint32) int {
	var table string
	switch {
	case layer == 0:
	case version == 3 && layer == 3:
		table = "\x00\x04\x08\x0c\x10\x14\x18\x1c\x20\x24\x28\x2c\x30\x34\x38"
	case version == 3 && layer == 2:
		table = "\x00\x04\x06\x07\x08\x0a\x0c\x0e\x10\x14\x18\x1c\x20\x28\x30"
	case version == 3:
		table = "\x00\x04\x05\x06\x07\x08\x0a\x0c\x0e\x10\x14\x18\x1c\x20\x28"
	case layer == 3:
		table = "\x00\x04\x06\x07\x08\x0a\x0c\x0e\x10\x12\x14\x16\x18\x1c\x20"
	default:
		table = "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x0a\x0c\x0e\x10\x12\x14"
	}
	if int(index) >= len(table) {
		return 0
	}
	return int(table[index]) * 8000
}

// adtsFrame reads the header of a frame of AAC.
func adtsFrame(b []byte) (frame, bool) {
	if len(b) < 7 || b[0] != 0xff || b[1]&0xf6 != 0xf0 {
		return frame{}, false
	}
	f := frame{
		size:    int(b[3]&3)<<11 | int(b[4])<<3 | int(b[5])>>5,
		samples: 1024 * (int(b[6]&3) + 1),
		rate:    aacRate(b[2] >> 2 & 15),
		kind:    1 + uint32(b[2]>>2), // profile and rate
	}
	return f, f.rate > 0 && f.size > 7
}

// aacRate is the sampling rate of that index, 0 where there is none.
func aacRate(index byte) int {
	rates := [...]int{96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350}
	if int(index) >= len(rates) {
		return 0
	}
	return rates[index]
}
