package gateway

import (
	"fmt"
	"strings"

	"github.com/musenai/musen/gateway/problem"
)

// maxRanges is how many ranges one request may ask for. A Range header with
// more is ignored, as RFC 9110 section 14.2 allows: the answer is then the
// whole, which is never more than a single honest request can ask for.
const maxRanges = 16

// A byteRange is n bytes from off.
type byteRange struct{ off, n int64 }

func (b byteRange) end() int64 { return b.off + b.n }

// contentRange is the Content-Range value of b within size bytes.
func (b byteRange) contentRange(size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", b.off, b.end()-1, size)
}

// parseRange reads a Range header for a representation of size bytes. It
// returns no range and no error for a header that has to be ignored: none,
// another unit, anything malformed, more than maxRanges, or a representation
// of no bytes. It returns problem.BadRange when no byte asked for exists.
// Ranges that overlap or touch are returned as one; so the ranges together are
// never longer than the representation.
func parseRange(header string, size int64) ([]byteRange, error) {
	unit, set, ok := strings.Cut(header, "=")
	if !ok || !strings.EqualFold(unit, "bytes") || size <= 0 {
		return nil, nil
	}
	var ranges []byteRange
	specs := 0
	for spec := range strings.SplitSeq(set, ",") {
		spec = strings.Trim(spec, " \t")
		if spec == "" {
			continue // a list may have empty elements
		}
		b, ok := parseSpec(spec, size)
		if specs++; !ok || specs > maxRanges {
			return nil, nil
		}
		if b.n > 0 {
			ranges = coalesce(ranges, b)
		}
	}
	if specs > 0 && len(ranges) == 0 {
		return nil, problem.BadRange
	}
	return ranges, nil
}

// parseSpec reads a-b, a- or -n. A range without a byte in it has n 0; one that
// is malformed is not ok.
func parseSpec(spec string, size int64) (b byteRange, ok bool) {
	first, last, ok := strings.Cut(spec, "-")
	if !ok {
		return b, false
	}
	if first == "" {
		n, ok := parseDecimal(last)
		n = min(n, size)
		return byteRange{size - n, n}, ok
	}
	from, ok := parseDecimal(first)
	if !ok {
		return b, false
	}
	to := size - 1
	if last != "" {
		n, ok := parseDecimal(last)
		if !ok || n < from {
			return b, false
		}
		to = min(to, n)
	}
	if from >= size {
		return b, true
	}
	return byteRange{from, to - from + 1}, true
}

// parseDecimal reads digits; a number that is too large is the largest there
// is, which no representation reaches.
func parseDecimal(s string) (n int64, ok bool) {
	const largest = 1<<63 - 1
	for i := range len(s) {
		d := int64(s[i]) - '0'
		if d < 0 || d > 9 {
			return 0, false
		}
		if n > (largest-d)/10 {
			n = largest
			continue
		}
		n = n*10 + d
	}
	return n, s != ""
}

// coalesce adds b to ranges, in one with those that it overlaps or touches and
// at the place of the first of them. No two of the ranges touch, so what joins
// b to some of them cannot touch another.
func coalesce(ranges []byteRange, b byteRange) []byteRange {
	kept, at := ranges[:0], -1
	for _, r := range ranges {
		if b.off > r.end() || r.off > b.end() {
			kept = append(kept, r)
			continue
		}
		off := min(r.off, b.off)
		b = byteRange{off, max(r.end(), b.end()) - off}
		if at < 0 {
			at = len(kept)
			kept = append(kept, b)
		}
	}
	if at < 0 {
		return append(kept, b)
	}
	kept[at] = b
	return kept
}
