package media

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strings"
	"time"
)

const (
	ebmlMagic      = "\x1a\x45\xdf\xa3"
	ebmlHeaderSize = 12 // the longest id and the longest size
)

// ebml walks the elements of WebM and Matroska.
type ebml struct {
	tags
	docType  string
	audio    bool
	video    bool
	scale    uint64  // nanoseconds a unit of duration
	duration float64 // in units
	tagName  string
}

func (e *ebml) step(b []byte) (int64, int) {
	id, size, head := element(b)
	if head == 0 {
		return 0, 0
	}
	enter, keep := ebmlKind(id)
	switch {
	case enter:
		return int64(head), ebmlHeaderSize
	case size < 0: // of a length not told, which only what is entered may have
		return 0, 0
	case size > keep:
		return int64(head) + size, ebmlHeaderSize
	case len(b) < head+int(size) && len(b) == ebmlHeaderSize:
		return 0, head + int(size)
	}
	e.leaf(id, b[head:min(head+int(size), len(b))])
	return int64(head) + size, ebmlHeaderSize
}

// element reads the header of an element; size -1: not told; head 0: it is none.
func element(b []byte) (id uint32, size int64, head int) {
	if len(b) < 2 {
		return 0, 0, 0
	}
	n := bits.LeadingZeros8(b[0]) + 1
	if n > 4 || len(b) <= n {
		return 0, 0, 0
	}
	for _, c := range b[:n] {
		id = id<<8 | uint32(c)
	}
	m := bits.LeadingZeros8(b[n]) + 1
	if m > 8 || len(b) < n+m {
		return 0, 0, 0
	}
	ones := b[n]|byte(0xff<<(8-m)) == 0xff
	size = int64(b[n] & byte(0xff>>m))
	for _, c := range b[n+1 : n+m] {
		ones = ones && c == 0xff
		size = size<<8 | int64(c)
	}
	if ones {
		size = -1
	}
	return id, size, n + m
}

const (
	ebmlDocType   = 0x4282
	ebmlScale     = 0x2ad7b1
	ebmlDuration  = 0x4489
	ebmlTitle     = 0x7ba9
	ebmlTrackType = 0x83
	ebmlTagName   = 0x45a3
	ebmlTagString = 0x4487
)

// ebmlKind reports whether an element is entered, and else of which size it
// may be to be looked at.
func ebmlKind(id uint32) (enter bool, keep int64) {
	const (
		header, segment, info, tracks, trackEntry = 0x1a45dfa3, 0x18538067, 0x1549a966, 0x1654ae6b, 0xae
		tagList, tag, simpleTag                   = 0x1254c367, 0x7373, 0x67c8
	)
	switch id {
	case header, segment, info, tracks, trackEntry, tagList, tag, simpleTag:
		return true, 0
	case ebmlDocType, ebmlTitle, ebmlTagName, ebmlTagString:
		return false, textSize
	case ebmlScale, ebmlDuration, ebmlTrackType:
		return false, 8
	}
	return false, -1
}

func (e *ebml) leaf(id uint32, b []byte) {
	switch id {
	case ebmlDocType:
		e.docType = several(string(b))
	case ebmlTitle:
		e.title = either(e.title, several(string(b)))
	case ebmlScale:
		e.scale = unsigned(b)
	case ebmlDuration:
		e.duration = float(b)
	case ebmlTrackType:
		const video, audio = 1, 2
		e.video = e.video || unsigned(b) == video
		e.audio = e.audio || unsigned(b) == audio
	case ebmlTagName:
		e.tagName = string(b)
	case ebmlTagString:
		if into := e.wanted(); into != nil {
			*into = either(*into, several(string(b)))
		}
	}
}

func (e *ebml) wanted() *string {
	switch {
	case strings.EqualFold(e.tagName, "TITLE"):
		return &e.title
	case strings.EqualFold(e.tagName, "ARTIST"):
		return &e.artist
	}
	return nil
}

func unsigned(b []byte) (n uint64) {
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n
}

func float(b []byte) float64 {
	switch len(b) {
	case 4:
		return float64(math.Float32frombits(binary.BigEndian.Uint32(b)))
	case 8:
		return math.Float64frombits(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (e *ebml) info(int64) Info {
	if !e.audio || e.video {
		return Info{}
	}
	info := Info{Container: e.docType, Title: e.title, Artist: e.artist}
	switch e.docType {
	case "webm":
		info.MediaType = "audio/webm"
	case "matroska":
		info.MediaType = "audio/matroska"
	}
	scale := e.scale
	if scale == 0 {
		scale = uint64(time.Millisecond)
	}
	info.Duration = span(e.duration*float64(scale), float64(time.Second))
	return info
}
