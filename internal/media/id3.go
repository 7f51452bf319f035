package media

import (
	"bytes"
	"encoding/binary"
)

const (
	id3Magic      = "ID3"
	id3HeaderSize = 10
	id3v1Magic    = "TAG"
	id3v1Size     = 128
	// tagSize is how much of a tag is kept where it cannot be read piece by
	// piece; a picture goes by unkept in all other cases.
	tagSize = 256 << 10
)

// id3 reads one ID3v2 tag frame by frame.
type id3 struct {
	tags
	version byte
	left    int64 // bytes of the tag to come
	state   func(b []byte) (int64, int)
}

func (t *id3) info(int64) Info { return Info{} }

func (t *id3) step(b []byte) (int64, int) {
	if t.state == nil {
		t.state = t.header
	}
	n, want := t.state(b)
	t.left -= n
	return n, want
}

// end goes past what is left of the tag.
func (t *id3) end() (int64, int) { return t.left, 0 }

// next goes on by n bytes to what may be a frame.
func (t *id3) next(n int64) (int64, int) {
	if t.left-n < int64(t.frameHeader()) {
		return t.end()
	}
	t.state = t.frame
	return n, t.frameHeader()
}

func (t *id3) frameHeader() int {
	if t.version == 2 {
		return 6
	}
	return 10
}

func (t *id3) header(b []byte) (int64, int) {
	if len(b) < id3HeaderSize {
		return int64(len(b)), 0
	}
	const unsynced, extended = 0x80, 0x40
	t.version, t.left = b[3], id3Length(b)
	flags, size := b[5], int(t.left)-id3HeaderSize
	switch {
	case t.left <= id3HeaderSize:
		return t.end()
	case t.version == 2 && flags&extended != 0: // compressed, in a way nobody defined
		return t.end()
	case t.version < 4 && flags&unsynced != 0:
		t.state = t.unsynced
		return id3HeaderSize, min(size, tagSize)
	case flags&extended != 0:
		t.state = t.extended
		return id3HeaderSize, 4
	}
	return t.next(id3HeaderSize)
}

func (t *id3) extended(b []byte) (int64, int) {
	if len(b) < 4 {
		return t.end()
	}
	n := int64(binary.BigEndian.Uint32(b)) + 4
	if t.version == 4 {
		size, _ := syncsafe(b)
		n = int64(size)
	}
	if n < 4 || n > t.left {
		return t.end()
	}
	return t.next(n)
}

// unsynced reads a tag whose frames tell sizes that are not those of the
// stream: it is kept, restored and read from memory.
func (t *id3) unsynced(b []byte) (int64, int) {
	b = resync(b)
	inner := &id3{version: t.version, left: int64(len(b))}
	inner.state = inner.frame
	w := walk{format: inner, want: inner.frameHeader()}
	w.write(b)
	t.tags = inner.tags
	return t.end()
}

func (t *id3) frame(b []byte) (int64, int) {
	head := t.frameHeader()
	if len(b) < head || b[0] == 0 {
		return t.end()
	}
	size := t.frameSize(b)
	if size < 0 || size > t.left-int64(head) {
		return t.end()
	}
	switch into := t.wanted(string(b[:4])); {
	case into == nil || *into != "" || size > textSize:
	case len(b) < head+int(size):
		return 0, head + int(size)
	default:
		*into = t.text(b[:head], b[head:])
	}
	return t.next(int64(head) + size)
}

// wanted is where the text of a frame belongs whose header starts with id.
func (t *id3) wanted(id string) *string {
	if t.version == 2 {
		id = id[:3]
	}
	switch id {
	case "TIT2", "TT2":
		return &t.title
	case "TPE1", "TP1":
		return &t.artist
	}
	return nil
}

// frameSize is the size of the frame without its header.
func (t *id3) frameSize(head []byte) int64 {
	if t.version == 2 {
		return int64(head[3])<<16 | int64(head[4])<<8 | int64(head[5])
	}
	if size, ok := syncsafe(head[4:]); ok && t.version == 4 {
		return int64(size)
	}
	return int64(binary.BigEndian.Uint32(head[4:])) // also of writers that take 2.4 for 2.3
}

// text is the text of a text frame, "" where it is compressed or encrypted.
func (t *id3) text(head, b []byte) string {
	switch t.version {
	case 3:
		if head[9]&0xc0 != 0 {
			return ""
		}
		if head[9]&0x20 != 0 && len(b) > 0 { // grouped
			b = b[1:]
		}
	case 4:
		const grouped, hidden, unsynced, length = 0x40, 0x0c, 0x02, 0x01
		if head[9]&hidden != 0 {
			return ""
		}
		if head[9]&grouped != 0 && len(b) > 0 {
			b = b[1:]
		}
		if head[9]&length != 0 && len(b) >= 4 {
			b = b[4:]
		}
		if head[9]&unsynced != 0 {
			b = resync(b)
		}
	}
	return encoded(b)
}

// encoded decodes text behind the byte that names its encoding.
func encoded(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	switch b[0] {
	case 0:
		return several(latin1(b[1:]))
	case 1:
		return several(utf16Text(b[1:], binary.LittleEndian))
	case 2:
		return several(utf16Text(b[1:], binary.BigEndian))
	case 3:
		return several(string(b[1:]))
	}
	return ""
}

// id3Length is how many bytes the tag with that header takes: where it is not
// the header of a tag, just its first letters.
func id3Length(b []byte) int64 {
	const footer = 0x10
	size, ok := syncsafe(b[6:])
	switch version := b[3]; {
	case !ok || version < 2 || version > 4:
		return int64(len(id3Magic))
	case version == 4 && b[5]&footer != 0:
		return int64(size) + 2*id3HeaderSize
	}
	return int64(size) + id3HeaderSize
}

// syncsafe reads four bytes of seven bits.
func syncsafe(b []byte) (int, bool) {
	if (b[0]|b[1]|b[2]|b[3])&0x80 != 0 {
		return 0, false
	}
	return int(b[0])<<21 | int(b[1])<<14 | int(b[2])<<7 | int(b[3]), true
}

// resync undoes unsynchronisation.
func resync(b []byte) []byte {
	return bytes.ReplaceAll(b, []byte{0xff, 0}, []byte{0xff})
}

// id3v1 reads the tag that a stream ends with.
func id3v1(tail []byte) tags {
	if len(tail) != id3v1Size || !bytes.HasPrefix(tail, []byte(id3v1Magic)) {
		return tags{}
	}
	field := func(b []byte) string {
		b, _, _ = bytes.Cut(b, []byte{0})
		return loose(b)
	}
	return tags{title: field(tail[3:33]), artist: field(tail[33:63])}
}
