package media

import (
	"bytes"
	"encoding/binary"
)

const (
	tsPacketSize = 188
	tsSync       = 0x47
)

// ts reads an MPEG transport stream: its first programme, and in it the first
// stream of AAC or MP3, whose frames are counted as if they stood alone.
type ts struct {
	program uint16 // PID of the table of the programme
	table   bool   // seen
	video   bool
	sound   uint16 // PID
	frames  *frames
	walk    walk
}

// isTS reports whether b starts with packets.
func isTS(b []byte) bool {
	n := 0
	for i := 0; i < len(b) && n < sniffRun; i += tsPacketSize {
		if b[i] != tsSync {
			return false
		}
		n++
	}
	return n == sniffRun
}

func (t *ts) step(b []byte) (int64, int) {
	if b[0] != tsSync {
		if i := bytes.IndexByte(b, tsSync); i > 0 {
			return int64(i), tsPacketSize
		}
		return int64(len(b)), tsPacketSize
	}
	if len(b) < tsPacketSize {
		return int64(len(b)), 0
	}
	starts, pid := b[1]&0x40 != 0, binary.BigEndian.Uint16(b[1:])&0x1fff
	body := tsBody(b)
	switch {
	case t.frames != nil && pid == t.sound:
		if starts {
			body = pesBody(body)
		}
		t.walk.write(body)
	case pid == 0 && starts && t.program == 0:
		t.programs(body)
	case t.program != 0 && pid == t.program && starts && !t.table:
		t.streams(body)
	}
	return tsPacketSize, tsPacketSize
}

// tsBody is what a packet carries.
func tsBody(b []byte) []byte {
	const adaptation, payload = 0x20, 0x10
	head := 4
	if b[3]&adaptation != 0 {
		head += 1 + int(b[4])
	}
	if b[3]&payload == 0 || head > len(b) {
		return nil
	}
	return b[head:]
}

// pesBody goes past the header of a PES packet.
func pesBody(b []byte) []byte {
	if len(b) < 9 || !bytes.HasPrefix(b, []byte{0, 0, 1}) {
		return b
	}
	return b[min(9+int(b[8]), len(b)):]
}

// section is the inside of the table of that id that starts in b, without its
// checksum, as far as it lies in one packet.
func section(b []byte, id byte) []byte {
	if len(b) == 0 || int(b[0])+4 > len(b) {
		return nil
	}
	b = b[1+int(b[0]):]
	if b[0] != id {
		return nil
	}
	const head, checksum = 8, 4
	end := 3 + int(binary.BigEndian.Uint16(b[1:])&0xfff) - checksum
	if end = min(end, len(b)); end < head {
		return nil
	}
	return b[head:end]
}

func (t *ts) programs(b []byte) {
	const id = 0
	for b = section(b, id); len(b) >= 4 && t.program == 0; b = b[4:] {
		if number := binary.BigEndian.Uint16(b); number != 0 {
			t.program = binary.BigEndian.Uint16(b[2:]) & 0x1fff
		}
	}
}

func (t *ts) streams(b []byte) {
	const id = 2
	if b = section(b, id); len(b) < 4 {
		return
	}
	t.table = true
	b = b[min(4+int(binary.BigEndian.Uint16(b[2:])&0xfff), len(b)):]
	for len(b) >= 5 {
		t.stream(b[0], binary.BigEndian.Uint16(b[1:])&0x1fff)
		b = b[min(5+int(binary.BigEndian.Uint16(b[3:])&0xfff), len(b)):]
	}
}

func (t *ts) stream(kind byte, pid uint16) {
	var c codec
	switch kind {
	case 0x03, 0x04:
		c = mp3Codec()
	case 0x0f:
		c = adtsCodec()
	case 0x01, 0x02, 0x10, 0x1b, 0x20, 0x24, 0x33:
		t.video = true
	}
	if c.parse != nil && t.frames == nil {
		t.sound, t.frames = pid, &frames{codec: c}
		t.walk = walk{format: t.frames, want: firstFrameSize}
	}
}

func (t *ts) info(int64) Info {
	if t.frames == nil || t.video {
		return Info{}
	}
	t.walk.finish()
	if t.frames.first.kind == 0 {
		return Info{}
	}
	return Info{MediaType: "video/mp2t", Container: "mpegts", Duration: t.frames.duration()}
}
