package media

import (
	"bytes"
	"encoding/binary"
	"time"
)

const (
	oggMagic      = "OggS"
	oggHeaderSize = 27
	oggLongest    = 60 // seconds that one page may hold, generously
)

// ogg walks pages. It listens to the first stream of sound that it finds, and
// to those chained behind it.
type ogg struct {
	tags
	lost   bool // no page where one should be
	video  bool
	before time.Duration // of the streams chained before this one

	codec   oggCodec // of this stream; zero: none found yet
	serial  uint32
	comment []byte // the comment packet as far as it has come
	started bool   // the comment packet has gone by
	first   int64  // granules of the first and last page with sound, 0: none
	last    int64
}

// oggCodec is what the first packet of a stream of sound says.
type oggCodec struct {
	rate    uint32 // granules a second
	preSkip int64
	prefix  int // bytes of the comment packet before the comments
}

func (o *ogg) step(b []byte) (int64, int) {
	switch {
	case o.lost:
		return o.search(b)
	case len(b) < oggHeaderSize || !bytes.HasPrefix(b, []byte(oggMagic)):
		o.lost = true
		return 0, lostSize
	}
	table := oggHeaderSize + int(b[26])
	if len(b) < table {
		return 0, table
	}
	size := table
	for _, n := range b[oggHeaderSize:table] {
		size += int(n)
	}
	if o.wanted(b) && len(b) < size && len(b) == table {
		return 0, size
	}
	o.page(b, b[oggHeaderSize:table], b[table:])
	return int64(size), oggHeaderSize
}

// search goes to the next page after bytes that are none.
func (o *ogg) search(b []byte) (int64, int) {
	if i := bytes.Index(b, []byte(oggMagic)); i >= 0 {
		o.lost = false
		return int64(i), oggHeaderSize
	}
	return int64(max(len(b)-len(oggMagic)+1, 1)), lostSize
}

// wanted reports whether the body of a page matters, given its header.
func (o *ogg) wanted(head []byte) bool {
	return oggStarts(head) || o.mine(head) && !o.started
}

func (o *ogg) mine(head []byte) bool {
	return o.codec.rate > 0 && binary.LittleEndian.Uint32(head[14:]) == o.serial
}

func oggStarts(head []byte) bool { return head[5]&2 != 0 }

func (o *ogg) page(head, lacing, body []byte) {
	granule := int64(binary.LittleEndian.Uint64(head[6:]))
	switch {
	case oggStarts(head):
		o.open(binary.LittleEndian.Uint32(head[14:]), body)
	case !o.mine(head):
	case !o.started:
		o.comments(lacing, body)
	case granule > 0:
		if o.first == 0 {
			o.first = granule
		}
		o.last = granule
	}
}

// open looks at the first packet of a stream.
func (o *ogg) open(serial uint32, b []byte) {
	has := func(magic string, n int) bool { return len(b) >= n && bytes.HasPrefix(b, []byte(magic)) }
	var c oggCodec
	switch {
	case has("OpusHead", 19):
		c = oggCodec{rate: 48000, preSkip: int64(binary.LittleEndian.Uint16(b[10:])), prefix: len("OpusTags")}
	case has("\x01vorbis", 30):
		c = oggCodec{rate: binary.LittleEndian.Uint32(b[12:]), prefix: len("\x03vorbis")}
	case has("\x7fFLAC", 13+flacHeaderSize+flacInfoSize-4):
		rate, _ := flacInfo(b[13+flacHeaderSize:])
		c = oggCodec{rate: rate, prefix: flacHeaderSize}
	case has("\x80theora", 0), has("OVP80", 0), has("BBCD", 0):
		o.video = true
	}
	if c.rate == 0 || o.codec.rate > 0 && o.last == 0 {
		return // not sound, or beside the stream that is listened to
	}
	o.before = min(o.before+o.heard(), longest)
	o.codec, o.serial = c, serial
	o.started, o.first, o.last, o.comment = false, 0, 0, nil
}

// comments gathers the packet behind the first.
func (o *ogg) comments(lacing, body []byte) {
	n := 0
	for _, l := range lacing {
		n += int(l)
		o.started = o.started || l < 255
		if o.started {
			break
		}
	}
	n = min(n, len(body), tagSize-len(o.comment))
	o.comment = append(o.comment, body[:n]...)
	if !o.started {
		return
	}
	if p := o.codec.prefix; len(o.comment) >= p {
		t := vorbisComment(o.comment[p:])
		o.title, o.artist = either(o.title, t.title), either(o.artist, t.artist)
	}
	o.comment = nil
}

// heard is the duration of the stream at hand. One that was cut out of a
// longer one does not start at 0: its first page ends later than a page can.
func (o *ogg) heard() time.Duration {
	if o.codec.rate == 0 {
		return 0
	}
	from := o.codec.preSkip
	if o.first > oggLongest*int64(o.codec.rate) {
		from = o.first
	}
	return span(float64(o.last-from), float64(o.codec.rate))
}

func (o *ogg) info(int64) Info {
	if o.codec.rate == 0 || o.video {
		return Info{}
	}
	info := Info{MediaType: "audio/ogg", Container: "ogg", Title: o.title, Artist: o.artist}
	if d := o.before + o.heard(); d < longest {
		info.Duration = d
	}
	return info
}
