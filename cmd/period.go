package cmd

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A period is a flag value that reads a duration, such as 90m, 8h, 3d or 1d12h.
type period time.Duration

// maxDays is more than any duration here may have.
const maxDays = 36500

// parsePeriod reads a duration in whole days, hours, minutes and seconds. A day
// has 24 hours.
func parsePeriod(s string) (time.Duration, error) {
	wrong := fmt.Errorf("%.40q is no duration: write it like 3d, 8h, 90m or 1d12h, at most %dd", s, maxDays)
	days, rest, some := strings.Cut(s, "d")
	if !some {
		days, rest = "", s
	}
	var d time.Duration
	if some {
		n, err := strconv.ParseUint(days, 10, 32)
		if err != nil || n > maxDays {
			return 0, wrong
		}
		d = time.Duration(n) * 24 * time.Hour
	}
	if rest == "" && some {
		return d, nil
	}
	more, err := time.ParseDuration(rest)
	if err != nil || strings.Contains(rest, ".") || more < 0 && some || more > maxDays*24*time.Hour {
		return 0, wrong
	}
	return d + more, nil
}

// String implements pflag.Value.
func (p *period) String() string {
	if *p == 0 {
		return ""
	}
	return time.Duration(*p).String()
}

// Set implements pflag.Value.
func (p *period) Set(s string) error {
	d, err := parsePeriod(s)
	*p = period(d)
	return err
}

// Type implements pflag.Value.
func (p *period) Type() string { return "duration" }
