package media

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// maxHeld is what a probe may hold at any time, whatever it is shown.
const maxHeld = 1 << 20

func tagOf(version byte, frames string) string {
	n := len(frames)
	return "ID3" + string([]byte{version, 0, 0, byte(n >> 21 & 127), byte(n >> 14 & 127), byte(n >> 7 & 127), byte(n & 127)}) + frames
}

func frameOf(id, text string) string {
	size := binary.BigEndian.AppendUint32(nil, uint32(len(text)))
	if len(id) == 3 {
		return id + string(size[1:]) + text
	}
	return id + string(size) + "\x00\x00" + text
}

func sound(t testing.TB) string { return string(read(t, "plain.aac")) }

// TestID3 reads titles in every version and encoding of the tag.
func TestID3(t *testing.T) {
	wide := func(s string, order binary.AppendByteOrder) (b string) {
		for _, u := range utf16.Encode([]rune(s)) {
			b += string(order.AppendUint16(nil, u))
		}
		return b
	}
	const title = "Zürich – Łódź 🎵"
	unsynced := tagOf(3, frameOf("PRIV", "a\xff\x00\x00b")+frameOf("TIT2", "\x00plain"))
	unsynced = strings.Replace(unsynced, "\xff\x00", "\xff\x00\x00", 1)
	unsynced = unsynced[:5] + "\x80" + unsynced[6:9] + string([]byte{unsynced[9] + 1}) + unsynced[10:]
	picture := strings.Repeat("\x89PNG\xff\xf1\x50\x80", 400_000)
	for name, c := range map[string]struct{ tag, want string }{
		"2.2":                 {tagOf(2, frameOf("TT2", "\x00plain")), "plain"},
		"2.3 Latin-1":         {tagOf(3, frameOf("TIT2", "\x00Z\xfcrich")), "Zürich"},
		"2.3 UTF-16":          {tagOf(3, frameOf("TIT2", "\x01\xff\xfe"+wide(title, binary.LittleEndian))), title},
		"2.3 UTF-16 BE":       {tagOf(3, frameOf("TIT2", "\x01\xfe\xff"+wide(title, binary.BigEndian))), title},
		"2.4 UTF-16 BE":       {tagOf(4, frameOf("TIT2", "\x02"+wide(title, binary.BigEndian))), title},
		"2.4 UTF-8":           {tagOf(4, frameOf("TIT2", "\x03"+title+"\x00")), title},
		"2.4 several":         {tagOf(4, frameOf("TIT2", "\x03one\x00two")), "one, two"},
		"2.4 size of 2.3":     {tagOf(4, frameOf("TXXX", strings.Repeat("x", 200))+frameOf("TIT2", "\x03far")), "far"},
		"2.3 unsynchronised":  {unsynced, "plain"},
		"behind a picture":    {tagOf(4, "APIC\x01\x43\x28\x00\x00\x00"+picture+frameOf("TIT2", "\x03far")), "far"},
		"two tags":            {tagOf(3, frameOf("TIT2", "\x00first")) + tagOf(4, frameOf("TIT2", "\x03second")), "first"},
		"unknown encoding":    {tagOf(4, frameOf("TIT2", "\x09what")), ""},
		"compressed":          {tagOf(3, "TIT2\x00\x00\x00\x05\x00\x80\x00what"), ""},
		"frame too long":      {tagOf(3, "TIT2\x7f\xff\xff\xff\x00\x00\x00what"), ""},
		"longer than allowed": {tagOf(4, frameOf("TIT2", "\x03"+strings.Repeat("x", 5000))), ""},
		"extended header":     {tagExtended(), "plain"},
		"extended 2.4":        {flagged(tagOf(4, "\x00\x00\x00\x06\x01\x00"+frameOf("TIT2", "\x00plain")), 0x40), "plain"},
		"extended too far":    {flagged(tagOf(4, "\x7f\x00\x00\x06\x01\x00"+frameOf("TIT2", "\x00plain")), 0x40), ""},
		"footer":              {flagged(tagOf(4, frameOf("TIT2", "\x00plain")), 0x10) + "3DI\x04\x00\x10\x00\x00\x00\x10", "plain"},
		"compressed 2.2":      {flagged(tagOf(2, frameOf("TT2", "\x00plain")), 0x40), ""},
		"2.3 grouped":         {tagOf(3, "TIT2\x00\x00\x00\x07\x00\x20g\x00plain"), "plain"},
		"2.4 everything":      {tagOf(4, "TIT2\x00\x00\x00\x0d\x00\x43g\x00\x00\x00\x08\x01\xff\x00\xfeo\x00k\x00"), "ok"},
		"2.4 encrypted":       {tagOf(4, "TIT2\x00\x00\x00\x06\x00\x04\x00plain"), ""},
	} {
		got := probe([]byte(c.tag + sound(t)))
		if got.MediaType != "audio/aac" || got.Title != c.want {
			t.Errorf("%s: %+v, not %q", name, got, c.want)
		}
	}
}

func tagExtended() string {
	return flagged(tagOf(3, "\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00"+frameOf("TIT2", "\x00plain")), 0x40)
}

func flagged(tag string, flags byte) string { return tag[:5] + string([]byte{flags}) + tag[6:] }

// TestCleanText: what is told of a stranger's tag is fit for a log line, a
// header and a page.
func TestCleanText(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                         "plain",
		"  a\r\nSet-Cookie: x\x00\tb ":  "a Set-Cookie: x b",
		"\u202egnp.exe\u2069\u200f":     "gnp.exe",
		"bad \xff\xfe bytes":            "bad \ufffd bytes",
		"line\u2028para\u2029nel\u0085": "line para nel",
		"\ufeffmark":                    "mark",
		"\x1b[31mred\x7f":               "[31mred",
		"\n\x00\u200e":                  "",
		strings.Repeat("é", 300):        strings.Repeat("é", 200),
		strings.Repeat("a ", 150):       strings.TrimSpace(strings.Repeat("a ", 100)),
		"नमस्ते \u200d👩\u200d🚀":         "नमस्ते \u200d👩\u200d🚀",
	} {
		if got := CleanText(in); got != want {
			t.Errorf("%q became %q, not %q", in, got, want)
		}
	}
}

// clean reports whether a title is what Info promises.
func clean(s string) bool {
	bad := func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }
	return utf8.ValidString(s) && utf8.RuneCountInString(s) <= 200 &&
		strings.TrimSpace(s) == s && !strings.ContainsFunc(s, bad)
}

func box(kind string, body ...string) string {
	all := strings.Join(body, "")
	return string(binary.BigEndian.AppendUint32(nil, uint32(8+len(all)))) + kind + all
}

// TestMP4Lies is moov with counts and sizes that are not true.
func TestMP4Lies(t *testing.T) {
	ftyp := box("ftyp", "M4A \x00\x00\x00\x00")
	track := box("trak",
		box("tkhd", strings.Repeat("\x00", 12)+"\x00\x00\x00\x01"),
		box("mdia", box("mdhd", strings.Repeat("\x00", 12)+"\x00\x00\xac\x44"+"\x00\x00\x00\x00"),
			box("hdlr", "\x00\x00\x00\x00\x00\x00\x00\x00soun"),
			box("minf", box("stbl", box("stts", "\x00\x00\x00\x00\xff\xff\xff\xff"), box("stsz", strings.Repeat("\xff", 12))))))
	mvhd := func(duration string) string {
		return box("mvhd", strings.Repeat("\x00", 12)+"\x00\x00\x03\xe8"+duration)
	}
	title := box("udta", box("meta", "\x00\x00\x00\x00", box("ilst",
		box("covr", box("data", strings.Repeat("\xff", 3<<20))),
		box("\xa9nam", box("data", "\x00\x00\x00\x01\x00\x00\x00\x00found"))), "\x00\x00\x00\x00"))
	fragment := func(count string) string {
		return box("moof", box("traf", box("tfhd", "\x00\x00\x00\x08\x00\x00\x00\x01\x00\x00\x04\x00"),
			box("trun", "\x00\x00\x00\x00"+count)))
	}
	mdat := box("mdat", strings.Repeat("\xff\xfb\x90\x00", 1000))
	for name, c := range map[string]struct {
		stream string
		want   Info
	}{
		"tables of four billion": {ftyp + mdat + box("moov", mvhd("\x00\x00\x0b\xb8"), track, title),
			Info{Title: "found", Duration: 3 * time.Second}},
		"eternity":      {ftyp + box("moov", mvhd("\xff\xff\xff\xfe"), track, title) + mdat, Info{Title: "found", Duration: (1<<32 - 2) * time.Millisecond}},
		"not known":     {ftyp + box("moov", mvhd("\xff\xff\xff\xff"), track) + mdat, Info{}},
		"fragments":     {ftyp + box("moov", mvhd("\x00\x00\x00\x00"), track) + fragment("\x00\x00\x00\x2b") + mdat + fragment("\x00\x00\x00\x2b"), Info{Duration: 86 * 1024 * time.Second / 44100}},
		"no fragments":  {ftyp + box("moov", mvhd("\x00\x00\x00\x00"), track) + fragment("\xff\xff\xff\xff") + mdat, Info{}},
		"child outside": {ftyp + box("moov", mvhd("\x00\x00\x0b\xb8"), track, "\x7f\xff\xff\xfffree") + mdat, Info{Duration: 3 * time.Second}},
		"size of one":   {ftyp + box("moov", mvhd("\x00\x00\x0b\xb8"), track) + "\x00\x00\x00\x03mdat" + mdat, Info{Duration: 3 * time.Second}},
		"endless box":   {ftyp + box("moov", mvhd("\x00\x00\x0b\xb8"), track) + "\x00\x00\x00\x01mdat\xff\xff\xff\xff\xff\xff\xff\xff" + mdat, Info{Duration: 3 * time.Second}},
		"deep":          {ftyp + strings.Repeat("\x00\x0f\x00\x00moov", 1000) + mdat, Info{MediaType: "none"}},
	} {
		if c.want.MediaType == "" {
			c.want.MediaType, c.want.Container = "audio/mp4", "mp4"
		} else {
			c.want = Info{}
		}
		check(t, name, probe([]byte(c.stream)), c.want)
	}
}

// TestWAVLies is WAV whose sizes are not true.
func TestWAVLies(t *testing.T) {
	wave := read(t, "rf64.wav")
	at := bytes.Index(wave, []byte("data")) + 4
	for name, size := range map[string]uint32{"more than there is": 1 << 31, "to the end": 1<<32 - 1, "none": 0} {
		b := bytes.Clone(wave)
		binary.LittleEndian.PutUint32(b[at:], size)
		copy(b[bytes.Index(b, []byte("ds64"))+16:], strings.Repeat("\x7f", 8))
		check(t, name, probe(b), probe(wave))
	}
}

// TestLongTags shows tags of many mebibytes to the end of which nothing is kept.
func TestLongTags(t *testing.T) {
	filler := strings.Repeat("\xff\xfb\x90\x64", 3<<20/4)
	long := binary.LittleEndian.AppendUint32(nil, uint32(len(filler)))
	comment := "\x00\x00\x00\x00\x02\x00\x00\x00" + "\x0a\x00\x00\x00TITLE=here" + string(long) + filler
	flac := string(bundled(t)["05-harbour-light.flac"][4:42])
	block := binary.BigEndian.AppendUint32(nil, uint32(len(comment))|4<<24)
	for name, stream := range map[string]string{
		"FLAC": "fLaC" + flac + string(block) + comment,
		"WAV":  "RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x40\x1f\x00\x00\x01\x00\x08\x00LIST\x1a\x00\x30\x00INFOINAM\x05\x00\x00\x00here\x00\x00IART" + string(long) + filler + "data\x00\x00\x00\x00sound",
		"ID3":  "ID3\x03\x00\x80\x01\x3f\x7f\x7f" + frameOf("TIT2", "\x00here") + filler + sound(t),
	} {
		p := NewProbe()
		for rest := []byte(stream); len(rest) > 0; {
			n := min(len(rest), 1000)
			p.Write(rest[:n])
			rest = rest[n:]
			if held := cap(p.walk.held); held > maxHeld {
				t.Fatalf("%s: %d bytes held", name, held)
			}
		}
		if got := p.Info(); got.Title != "here" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// oggPage is a page of one packet; nobody checks its checksum.
func oggPage(flags byte, granule uint64, packet string) string {
	head := "OggS\x00" + string([]byte{flags})
	head += string(binary.LittleEndian.AppendUint64(nil, granule)) + strings.Repeat("\x00", 12)
	return head + "\x01" + string([]byte{byte(len(packet))}) + packet
}

// TestOggLies is Opus whose granules are not true.
func TestOggLies(t *testing.T) {
	head := oggPage(2, 0, "OpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00")
	tags := oggPage(0, 0, "OpusTags\x00\x00\x00\x00\xff\xff\xff\xff\x05\x00\x00\x00TITLE\xff\xff\xff\x7f")
	const hour, day = 3600 * 48000, 24 * 3600 * 48000
	other := oggPage(0, day, "x")
	other = other[:14] + "\x09" + other[15:]
	for name, c := range map[string]struct {
		stream string
		want   time.Duration
	}{
		"headers alone":    {head + tags, 0},
		"far too long":     {head + tags + oggPage(0, 1<<62, "x"), 0},
		"before the start": {head + tags + oggPage(0, 5, "x"), 0},
		"no packet ends":   {head + tags + oggPage(0, 48312, "x") + oggPage(0, 1<<64-1, "x"), time.Second},
		"cut out of a day": {head + tags + oggPage(0, day, "x") + oggPage(0, day+hour, "x"), time.Hour},
		"endless chain":    {strings.Repeat(head+tags+oggPage(0, 50*48000, "x")+oggPage(0, 80*day, "x"), 2000), 0},
		"noise between":    {head + tags + strings.Repeat("Ogg?", 5000) + oggPage(0, 48312, "x"), time.Second},
		"another beside":   {head + tags + other + oggPage(0, 48312, "x"), time.Second},
	} {
		check(t, name, probe([]byte(c.stream)), Info{MediaType: "audio/ogg", Container: "ogg", Duration: c.want})
	}
}

// TestWAVTitle reads what programs write that do not know of UTF-8.
func TestWAVTitle(t *testing.T) {
	wave := string(read(t, "extensible.wav"))
	for was, want := range map[string]string{"Ch\xf6rd of A": "Chörd of A", "Ch\xc3\xb6rd of!": "Chörd of!"} {
		if got := probe([]byte(strings.Replace(wave, "Chord of A", was, 1))); got.Title != want {
			t.Errorf("%q is told as %q", was, got.Title)
		}
	}
}

// TestWAVTag reads an ID3 tag that stands in a WAV.
func TestWAVTag(t *testing.T) {
	wave := string(read(t, "pipe.wav"))
	at := strings.Index(wave, "data")
	tag := tagOf(4, frameOf("TIT2", "\x03told")+frameOf("TPE1", "\x03her\x00him"))
	chunk := "id3 " + string(binary.LittleEndian.AppendUint32(nil, uint32(len(tag)))) + tag + strings.Repeat("\x00", len(tag)%2)
	got := probe([]byte(wave[:at] + chunk + wave[at:]))
	check(t, "WAV", got, Info{MediaType: "audio/wav", Container: "wav", Title: "told", Artist: "her, him", Duration: 3 * time.Second})
}

// TestTSLies is a transport stream with damaged tables and packets.
func TestTSLies(t *testing.T) {
	good := read(t, "segment.ts")
	for name, b := range map[string][]byte{
		"no table":           bytes.Replace(good, []byte{0x02, 0xb0}, []byte{0x03, 0xb0}, -1),
		"pointer outside":    bytes.Replace(good, []byte{0x00, 0x02, 0xb0}, []byte{0xff, 0x02, 0xb0}, -1),
		"table of no length": bytes.Replace(good, []byte{0x02, 0xb0, 0x12}, []byte{0x02, 0xb0, 0x00}, -1),
		"video beside":       bytes.Replace(good, []byte{0x0f, 0xe1, 0x00}, []byte{0x1b, 0xe1, 0x00}, -1),
		"packets of nothing": bytes.Repeat(append([]byte{0x47}, make([]byte, 187)...), 100),
	} {
		if got := probe(b); got != (Info{}) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	shifted := append(bytes.Clone(good[:188*40]), "lost"...)
	if got := probe(append(shifted, good[188*40:]...)); got.MediaType != "video/mp2t" || got.Duration < 2*time.Second {
		t.Errorf("four bytes between packets: %+v", got)
	}
}
