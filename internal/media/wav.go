package media

import (
	"encoding/binary"
	"math"
)

const (
	riffHeaderSize  = 12
	chunkHeaderSize = 8
)

// wav walks the chunks of RIFF, RF64 and BW64.
type wav struct {
	tags
	at       int64 // of the chunk at hand
	rate     uint32
	bytes    uint32 // a second
	data     int64  // where the sound starts, 0: not found
	dataSize int64  // as declared
	longData uint64 // what ds64 declares
}

func (w *wav) step(b []byte) (int64, int) {
	if w.at == 0 {
		w.at = riffHeaderSize
		return riffHeaderSize, chunkHeaderSize
	}
	if len(b) < chunkHeaderSize {
		return int64(len(b)), 0
	}
	id, size := string(b[:4]), int64(binary.LittleEndian.Uint32(b[4:]))
	if id == "data" && w.data == 0 {
		size = w.sound(size)
	}
	body := b[chunkHeaderSize:]
	if keep := int(min(size, w.keep(id))); len(b) == chunkHeaderSize && keep > 0 {
		return 0, chunkHeaderSize + keep
	}
	w.chunk(id, body)
	if size > math.MaxInt64/2 {
		return size, 0
	}
	n := chunkHeaderSize + size + size&1
	w.at += n
	return n, chunkHeaderSize
}

// keep is how much of the body of a chunk is looked at.
func (w *wav) keep(id string) int64 {
	switch id {
	case "fmt ", "ds64":
		return 24
	case "LIST", "id3 ", "ID3 ":
		return tagSize
	}
	return 0
}

// sound notes where the sound starts and returns how long it is said to be:
// who wrote to a pipe could not know.
func (w *wav) sound(size int64) int64 {
	switch {
	case size == math.MaxUint32 && w.longData > 0:
		size = int64(min(w.longData, math.MaxInt64))
	case size == math.MaxUint32, size == 0:
		size = math.MaxInt64
	}
	w.data, w.dataSize = w.at+chunkHeaderSize, size
	return size
}

func (w *wav) chunk(id string, b []byte) {
	switch {
	case id == "fmt " && len(b) >= 16:
		w.format(b)
	case id == "ds64" && len(b) >= 16:
		w.longData = binary.LittleEndian.Uint64(b[8:])
	case id == "LIST" && len(b) >= 4 && string(b[:4]) == "INFO":
		w.list(b[4:])
	case id == "id3 " || id == "ID3 ":
		tag := new(id3)
		inner := walk{format: tag, want: id3HeaderSize}
		inner.write(b)
		w.title, w.artist = either(w.title, tag.title), either(w.artist, tag.artist)
	}
}

func (w *wav) format(b []byte) {
	const pcm, float, extensible = 1, 3, 0xfffe
	w.rate, w.bytes = binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
	switch binary.LittleEndian.Uint16(b) {
	case pcm, float, extensible: // where the figure follows from others
		w.bytes = uint32(min(uint64(w.rate)*uint64(binary.LittleEndian.Uint16(b[12:])), math.MaxUint32))
	}
}

// list reads the texts of a LIST of kind INFO.
func (w *wav) list(b []byte) {
	for len(b) >= chunkHeaderSize {
		id, size := string(b[:4]), int64(binary.LittleEndian.Uint32(b[4:]))
		b = b[chunkHeaderSize:]
		text := b[:min(size, int64(len(b)))]
		switch id {
		case "INAM":
			w.title = either(w.title, several(loose(short(text))))
		case "IART":
			w.artist = either(w.artist, several(loose(short(text))))
		}
		b = b[min(size+size&1, int64(len(b))):]
	}
}

func (w *wav) info(size int64) Info {
	if w.rate == 0 || w.bytes == 0 || w.data == 0 {
		return Info{}
	}
	return Info{
		MediaType: "audio/wav",
		Container: "wav",
		Title:     w.title,
		Artist:    w.artist,
		Duration:  span(float64(max(min(w.dataSize, size-w.data), 0)), float64(w.bytes)),
	}
}
