package catalog

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/musenai/musen"
)

// A position is where a page of segments ended.
type position struct {
	created int64
	id      string
}

const cursorVersion = 1

// cursor spells a position for outsiders.
func (p position) cursor() string {
	b := binary.BigEndian.AppendUint64([]byte{cursorVersion}, uint64(p.created))
	return base64.RawURLEncoding.EncodeToString(append(b, p.id...))
}

// parseCursor accepts what cursor makes, in that one spelling, and "".
func parseCursor(s string) (position, error) {
	if s == "" {
		return position{created: math.MinInt64}, nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) < 9 || b[0] != cursorVersion || !musen.IsID(string(b[9:])) {
		return position{}, fmt.Errorf("cursor %.80q: %w: give one that a page came with", s, musen.ErrInvalid)
	}
	return position{int64(binary.BigEndian.Uint64(b[1:9])), string(b[9:])}, nil
}
