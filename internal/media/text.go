package media

import (
	"encoding/binary"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	titleRunes = 200     // of a title that is told
	textSize   = 4 << 10 // bytes of a text that are looked at
)

// CleanText makes text that a stranger wrote fit for a log line, a header and
// a page, as the titles of Info are: valid UTF-8 without control or direction
// characters, white space as single spaces, at most 200 characters.
func CleanText(s string) string {
	if len(s) > 4*textSize {
		s = s[:4*textSize]
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r), unicode.IsSpace(r):
			return ' '
		case unicode.Is(unicode.Bidi_Control, r), r == '\ufeff', r == '\ufffe', r == '\uffff':
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, string(utf8.RuneError)))
	s = strings.Join(strings.Fields(s), " ")
	if runes := []rune(s); len(runes) > titleRunes {
		s = strings.TrimSpace(string(runes[:titleRunes]))
	}
	return s
}

// latin1 decodes ISO 8859-1.
func latin1(b []byte) string {
	runes := make([]rune, len(b))
	for i, c := range b {
		runes[i] = rune(c)
	}
	return string(runes)
}

// loose decodes text of which nobody said how it is written: as UTF-8 where it
// can be that, else as ISO 8859-1.
func loose(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return latin1(b)
}

// utf16Text decodes UTF-16; a byte order mark wins over order.
func utf16Text(b []byte, order binary.ByteOrder) string {
	if len(b) >= 2 {
		switch {
		case b[0] == 0xff && b[1] == 0xfe:
			b, order = b[2:], binary.LittleEndian
		case b[0] == 0xfe && b[1] == 0xff:
			b, order = b[2:], binary.BigEndian
		}
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = order.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}

// several joins values that a tag separates by NUL.
func several(s string) string {
	s = strings.Trim(s, "\x00")
	return strings.ReplaceAll(s, "\x00", ", ")
}

// short is at most the first textSize bytes of b.
func short(b []byte) []byte { return b[:min(len(b), textSize)] }
