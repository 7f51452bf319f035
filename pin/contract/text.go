package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/musenai/musen/config"
)

// always and noCap are the words for hours without an end and an upload
// without a cap.
const (
	always = "always"
	noCap  = "unlimited"
)

// A unit is a word for so many.
type unit struct {
	name string
	n    int64
}

// sizes are the units of disk in which one is spelled, falling.
func sizes() []unit {
	return []unit{{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9}, {"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"kB", 1e3}, {"B", 1}}
}

// rates are the units of upload, in bits per second, falling.
func rates() []unit {
	return []unit{{"Gbit", 1e9}, {"Mbit", 1e6}, {"kbit", 1e3}, {"bit", 1}}
}

// spell writes n in the largest unit that keeps it exact.
func spell(n int64, units []unit) string {
	for _, u := range units {
		if n != 0 && n%u.n == 0 {
			return strconv.FormatInt(n/u.n, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10) + units[len(units)-1].name
}

func sizeText(n int64) string { return spell(n, sizes()) }

func rateText(bytes int64) string {
	if bytes == 0 {
		return noCap
	}
	return spell(bytes*8, rates())
}

// ParseDisk reads an amount of disk, like "200GB" or "1TiB", in bytes.
func ParseDisk(s string) (int64, error) {
	n, err := config.ParseSize(s)
	if err != nil {
		return 0, fmt.Errorf("%w: disk: %w; the units are kB, MB, GB, TB, and KiB, MiB, GiB, TiB, spelled so", ErrInvalid, err)
	}
	return int64(n), nil
}

// ParseRate reads an upload cap in bits per second, like "20Mbit", and returns
// it in bytes per second. "unlimited" is 0, no cap.
func ParseRate(s string) (int64, error) {
	if s == noCap {
		return 0, nil
	}
	text := strings.TrimSuffix(s, "/s")
	for _, u := range rates() {
		digits, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSuffix(digits, " "), 10, 63)
		if err != nil || n > uint64(math.MaxInt64/u.n) || n == 0 {
			break
		}
		return max(1, int64(n)*u.n/8), nil
	}
	return 0, fmt.Errorf("%w: %.40q is not an upload: write a whole number of kbit, Mbit or Gbit per second, spelled so, like \"20Mbit\", or %s", ErrInvalid, s, noCap)
}

// ParseHours reads a part of the day, like "22:00-07:00", or "always".
func ParseHours(s string) (Hours, error) {
	if s == always {
		return Hours{}, nil
	}
	first, last, ok := strings.Cut(s, "-")
	from, okFrom := parseMinute(first)
	to, okTo := parseMinute(last)
	if ok && okFrom && okTo && from == to {
		return Hours{}, fmt.Errorf("%w: hours %.40q end when they begin: for the whole day write %s", ErrInvalid, s, always)
	}
	if !ok || !okFrom || !okTo || from == day {
		return Hours{}, fmt.Errorf("%w: %.40q are not hours: write them like \"22:00-07:00\", or %s", ErrInvalid, s, always)
	}
	return Hours{From: from, To: to % day}, nil
}

// parseMinute reads a time of day from 00:00 to 24:00.
func parseMinute(s string) (minute int, ok bool) {
	if len(s) != 5 || s[2] != ':' {
		return 0, false
	}
	h, errH := strconv.ParseUint(s[:2], 10, 8)
	m, errM := strconv.ParseUint(s[3:], 10, 8)
	minute = int(h)*60 + int(m)
	return minute, errH == nil && errM == nil && m < 60 && minute <= day
}

// String spells the hours as ParseHours reads them.
func (h Hours) String() string {
	if h.From == h.To {
		return always
	}
	return fmt.Sprintf("%02d:%02d-%02d:%02d", h.From/60, h.From%60, h.To/60, h.To%60)
}

// DiskText spells the disk as ParseDisk reads it.
func (c Contract) DiskText() string { return sizeText(c.Disk) }

// UpText spells the upload cap as ParseRate reads it.
func (c Contract) UpText() string { return rateText(c.Up) }

// A text is a contract in the words of a person. Whose clock the hours are by
// is not in it: the machine's that reads it.
type text struct {
	Disk     string   `json:"disk"`
	Up       string   `json:"up"`
	Hours    string   `json:"hours"`
	Stations []string `json:"stations"` // labels; none: all
}

// MarshalJSON spells the contract in the words that ParseDisk, ParseRate and
// ParseHours read. The offset of the hours is left out.
func (c Contract) MarshalJSON() ([]byte, error) {
	labels := c.Label
	if labels == nil {
		labels = []string{}
	}
	return json.Marshal(text{Disk: c.DiskText(), Up: c.UpText(), Hours: c.Hours.String(), Stations: labels})
}

// UnmarshalJSON reads what MarshalJSON writes. What is left out is as in the
// zero Contract; anything unknown, or that Check refuses, is ErrInvalid.
func (c *Contract) UnmarshalJSON(b []byte) error {
	t := text{Disk: "0B", Up: noCap, Hours: always}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&t); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	var out Contract
	var err error
	if out.Disk, err = ParseDisk(t.Disk); err != nil {
		return err
	}
	if out.Up, err = ParseRate(t.Up); err != nil {
		return err
	}
	if out.Hours, err = ParseHours(t.Hours); err != nil {
		return err
	}
	if len(t.Stations) > 0 {
		out.Label = t.Stations
	}
	if err := out.Check(); err != nil {
		return err
	}
	*c = out
	return nil
}
