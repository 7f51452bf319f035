package gateway

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/musenai/musen"
)

// maxFileName is the longest name of a download without its extension, in
// bytes.
const maxFileName = 120

// attachment is the Content-Disposition of a download, as RFC 6266 has it: a
// name in ASCII for old clients, and the same in UTF-8.
func attachment(s musen.Segment) string {
	name := fileName(s)
	return `attachment; filename="` + asciiName(name) + `"; filename*=UTF-8''` + percentName(name)
}

// fileName makes a name of artist and title that is safe on every system: no
// separators, quotes, wildcards, control or invisible characters, and no dot in
// front.
func fileName(s musen.Segment) string {
	name := s.Title
	if s.Artist != "" && name != "" {
		name = s.Artist + " - " + name
	}
	name = strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune("/\\:*?\"<>|;%", r), r == utf8.RuneError, !unicode.IsPrint(r):
			return ' '
		}
		return r
	}, name)
	name = strings.Join(strings.Fields(name), " ")
	for len(name) > maxFileName {
		_, n := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-n]
	}
	name = strings.Trim(name, " .")
	if name == "" {
		name = "audio"
	}
	return name + extension(s.MediaType)
}

// extension is the file extension of a media type, or "".
func extension(mediaType string) string {
	mediaType, _, _ = strings.Cut(mediaType, ";")
	switch strings.TrimSpace(mediaType) {
	case "audio/mpeg":
		return ".mp3"
	case "audio/aac":
		return ".aac"
	case "audio/mp4":
		return ".m4a"
	case "audio/ogg":
		return ".ogg"
	case "audio/opus":
		return ".opus"
	case "audio/flac":
		return ".flac"
	case "audio/wav", "audio/x-wav", "audio/vnd.wave":
		return ".wav"
	case "audio/webm":
		return ".webm"
	case "video/mp2t":
		return ".ts"
	}
	return ""
}

// asciiName replaces what is not ASCII.
func asciiName(name string) string {
	return strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII {
			return '_'
		}
		return r
	}, name)
}

// percentName encodes a name as an ext-value of RFC 8187.
func percentName(name string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~!#$&+^`|", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	return b.String()
}
