package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes. As text it has a unit: B, KiB, MiB, GiB, TiB, or
// the decimal kB, MB, GB, TB.
type Size int64

type unit struct {
	name  string
	bytes int64
}

// units, the binary ones first and falling.
func units() []unit {
	return []unit{
		{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
		{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1},
	}
}

// ParseSize reads a whole number with a unit, like "32MiB".
func ParseSize(s string) (Size, error) {
	for _, u := range units() {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(digits, " "), 10, 64)
		if err != nil || n < 0 || digits[0] == '+' {
			break
		}
		if n > math.MaxInt64/u.bytes {
			return 0, fmt.Errorf("size %.40q is too large", s)
		}
		return Size(n * u.bytes), nil
	}
	return 0, fmt.Errorf("%.40q is not a size: write a whole number and a unit, like \"32MiB\"", s)
}

// String spells the size in the largest binary unit that keeps it exact.
func (s Size) String() string {
	for _, u := range units()[:4] {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// MarshalText spells the size as String does.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
