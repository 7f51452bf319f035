package musen

import (
	"encoding/base32"
	"fmt"
	"io"
	"strings"
)

// idEncoding spells ids: lower-case base32 without padding.
var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// newID makes an id of 128 bits read from rand.
func newID(rand io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return "", fmt.Errorf("make an id: %w", err)
	}
	return idEncoding.EncodeToString(b[:]), nil
}

// maxStationName is the longest name of a station, in bytes.
const maxStationName = 63

// CheckStationName returns an error that wraps ErrInvalid unless name is 1 to
// 63 of the characters a-z, 0-9, - and _, starts with a letter or digit, and
// cannot be taken for an id.
func CheckStationName(name string) error {
	const allowed = "abcdefghijklmnopqrstuvwxyz0123456789-_"
	switch {
	case name == "" || len(name) > maxStationName:
		return fmt.Errorf("station name %.80q: %w: give 1 to %d characters", name, ErrInvalid, maxStationName)
	case strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(allowed, r) }):
		return fmt.Errorf("station name %q: %w: use only a-z, 0-9, - and _", name, ErrInvalid)
	case name[0] == '-' || name[0] == '_':
		return fmt.Errorf("station name %q: %w: start with a letter or a digit", name, ErrInvalid)
	case IsID(name):
		return fmt.Errorf("station name %q: %w: it looks like an id", name, ErrInvalid)
	}
	return nil
}

// IsID reports whether s is spelled as an id of a station or a segment.
func IsID(s string) bool {
	b, err := idEncoding.DecodeString(s)
	return err == nil && len(b) == 16 && idEncoding.EncodeToString(b) == s
}
