package media

import "encoding/binary"

const (
	boxHeaderSize  = 8
	longHeaderSize = 16
	boxDepth       = 16
	trunSize       = 512 << 10 // of a table of samples that is added up
	leafSize       = 64        // of a box of figures that is looked at
)

// mp4 walks the boxes of ISO media files in the order in which they come, so
// that moov may stand anywhere. Boxes that only lead to others are entered,
// the tables that can be long are passed, and no count is believed.
type mp4 struct {
	tags
	at    int64
	ends  []int64 // of the boxes entered
	brand string
	text  *string // where the next data box belongs

	scale     uint32 // of the movie
	duration  uint64
	fragments uint64 // what mehd says
	video     bool
	track     track // being read
	sound     track // the first one with sound

	fragment struct { // being read
		mine bool
		each uint32 // duration of its samples unless told one by one
	}
	sum       uint64 // of the samples in fragments
	uncounted bool   // sum is too small
}

// track is what moov says of a track.
type track struct {
	id, scale uint32
	each      uint32 // duration of its samples in fragments
}

func (m *mp4) step(b []byte) (int64, int) {
	for len(m.ends) > 0 && m.at >= m.ends[len(m.ends)-1] {
		m.ends = m.ends[:len(m.ends)-1]
	}
	if len(b) < boxHeaderSize {
		return int64(len(b)), 0
	}
	head, size := int64(boxHeaderSize), int64(binary.BigEndian.Uint32(b))
	switch {
	case size == 1 && len(b) < longHeaderSize:
		return 0, longHeaderSize
	case size == 1:
		head, size = longHeaderSize, int64(binary.BigEndian.Uint64(b[8:]))
	case size == 0:
		size = m.left()
	}
	if size < head || size > m.left() {
		return m.bad()
	}
	return m.box(string(b[4:8]), b, head, size)
}

// left is how far the box at hand may go.
func (m *mp4) left() int64 {
	const far = 1 << 60
	if n := len(m.ends); n > 0 {
		return m.ends[n-1] - m.at
	}
	return far
}

// bad passes what is left of a box whose insides make no sense.
func (m *mp4) bad() (int64, int) {
	if len(m.ends) == 0 {
		return 0, 0
	}
	return m.goOn(m.left())
}

func (m *mp4) goOn(n int64) (int64, int) {
	m.at += n
	return n, boxHeaderSize
}

func (m *mp4) box(kind string, b []byte, head, size int64) (int64, int) {
	if skip, ok := m.enters(kind); ok && len(m.ends) < boxDepth && head+skip <= size {
		m.ends = append(m.ends, m.at+size)
		return m.goOn(head + skip)
	}
	if keep := head + min(size-head, m.keep(kind)); keep > head {
		if int64(len(b)) < keep && len(b) <= longHeaderSize {
			return 0, int(keep)
		}
		m.leaf(kind, b[head:])
	}
	return m.goOn(size)
}

// enters reports whether a box leads to boxes that matter, and how many bytes
// stand before the first of them.
func (m *mp4) enters(kind string) (int64, bool) {
	switch kind {
	case "moov", "mdia", "mvex", "moof", "udta", "ilst":
		return 0, true
	case "trak":
		m.track = track{}
		return 0, true
	case "traf":
		m.fragment.mine, m.fragment.each = false, 0
		return 0, true
	case "meta":
		return 4, true
	case "\xa9nam":
		m.text = &m.title
		return 0, true
	case "\xa9ART":
		m.text = &m.artist
		return 0, true
	}
	return 0, false
}

// keep is how much of the body of a box is looked at.
func (m *mp4) keep(kind string) int64 {
	switch kind {
	case "ftyp", "mvhd", "tkhd", "mdhd", "hdlr", "mehd", "trex", "tfhd":
		return leafSize
	case "data":
		return textSize
	case "trun":
		return trunSize
	}
	return 0
}

func (m *mp4) leaf(kind string, b []byte) {
	f := fields{b: b}
	switch kind {
	case "ftyp":
		m.brand = f.text(4)
	case "mvhd":
		m.scale, m.duration = f.clock()
	case "mehd":
		m.fragments = f.wide(f.u32()>>24 == 1)
	case "tkhd":
		wide := f.u32()>>24 == 1
		f.wide(wide)
		f.wide(wide)
		m.track.id = f.u32()
	case "mdhd":
		m.track.scale, _ = f.clock()
	case "hdlr":
		f.skip(8)
		m.handler(f.text(4))
	case "trex":
		f.skip(4)
		if id := f.u32(); id == m.sound.id {
			f.skip(4)
			m.sound.each = f.u32()
		}
	case "tfhd":
		m.header(&f)
	case "trun":
		m.run(&f)
	case "data":
		f.skip(8)
		if m.text != nil && *m.text == "" {
			*m.text = string(f.b)
		}
		m.text = nil
	}
}

func (m *mp4) handler(kind string) {
	switch kind {
	case "vide":
		m.video = true
	case "soun":
		if m.sound.id == 0 {
			m.sound = m.track
		}
	}
}

// header reads the header of a fragment of one track.
func (m *mp4) header(f *fields) {
	const base, description, each = 0x1, 0x2, 0x8
	flags := f.u32()
	m.fragment.mine, m.fragment.each = f.u32() == m.sound.id, m.sound.each
	if flags&base != 0 {
		f.skip(8)
	}
	if flags&description != 0 {
		f.skip(4)
	}
	if flags&each != 0 {
		m.fragment.each = f.u32()
	}
}

// run adds up the samples of one run of a fragment.
func (m *mp4) run(f *fields) {
	const offset, first, duration = 0x1, 0x4, 0x100
	flags, count := f.u32(), uint64(f.u32())
	if !m.fragment.mine {
		return
	}
	if flags&duration == 0 {
		m.add(count * uint64(m.fragment.each))
		return
	}
	if flags&offset != 0 {
		f.skip(4)
	}
	if flags&first != 0 {
		f.skip(4)
	}
	more := 0 // bytes told of a sample besides its duration
	for _, flag := range []uint32{0x200, 0x400, 0x800} {
		if flags&flag != 0 {
			more += 4
		}
	}
	for ; count > 0 && len(f.b) >= 4+more; count-- {
		m.add(uint64(f.u32()))
		f.skip(more)
	}
	m.uncounted = m.uncounted || count > 0
}

func (m *mp4) add(n uint64) {
	const most = 1 << 62
	if m.sum += min(n, most); m.sum > most {
		m.sum, m.uncounted = most, true
	}
}

func (m *mp4) info(int64) Info {
	// A picture of the cover may be a track of "video" in what calls itself audio.
	audio := !m.video || m.brand == "M4A " || m.brand == "M4B "
	if m.sound.id == 0 || !audio {
		return Info{}
	}
	info := Info{MediaType: "audio/mp4", Container: "mp4", Title: m.title, Artist: m.artist}
	switch {
	case m.duration > 0:
		info.Duration = span(float64(m.duration), float64(m.scale))
	case m.fragments > 0:
		info.Duration = span(float64(m.fragments), float64(m.scale))
	case !m.uncounted:
		info.Duration = span(float64(m.sum), float64(m.sound.scale))
	}
	return info
}

// fields reads figures one after the other, 0 where there are no more.
type fields struct{ b []byte }

func (f *fields) skip(n int) { f.b = f.b[min(n, len(f.b)):] }

func (f *fields) u32() uint32 {
	if len(f.b) < 4 {
		f.b = nil
		return 0
	}
	v := binary.BigEndian.Uint32(f.b)
	f.b = f.b[4:]
	return v
}

// wide reads 8 bytes, or 4 in the older version of a box. All ones: not known.
func (f *fields) wide(wide bool) uint64 {
	hi, lo := uint32(0), f.u32()
	if wide {
		hi, lo = lo, f.u32()
	}
	if lo == 1<<32-1 && (hi == lo || !wide) {
		return 0
	}
	return uint64(hi)<<32 | uint64(lo)
}

func (f *fields) text(n int) string {
	n = min(n, len(f.b))
	s := string(f.b[:n])
	f.b = f.b[n:]
	return s
}

// clock reads what mvhd and mdhd have in common: units a second and a duration.
func (f *fields) clock() (scale uint32, duration uint64) {
	wide := f.u32()>>24 == 1
	f.wide(wide)
	f.wide(wide)
	scale = f.u32()
	return scale, f.wide(wide)
}
