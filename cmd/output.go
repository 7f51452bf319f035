package cmd

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// printJSON writes v as one line.
func (a *app) printJSON(v any) error {
	return json.NewEncoder(a.stdout).Encode(v)
}

// printFields writes one thing for a person, a field a line.
func (a *app) printFields(fields ...[2]string) {
	width := 0
	for _, f := range fields {
		width = max(width, len(f[0]))
	}
	for _, f := range fields {
		if f[1] != "" {
			fmt.Fprintf(a.stdout, "%-*s  %s\n", width, f[0], printable(f[1]))
		}
	}
}

// newTable starts a table for a person.
func newTable(w io.Writer, head ...any) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = text.FormatDefault
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	t.AppendHeader(head)
	return t
}

// appendRow adds a row to a table.
func appendRow(t table.Writer, cells ...any) {
	for i, c := range cells {
		if s, ok := c.(string); ok {
			cells[i] = printable(s)
		}
	}
	t.AppendRow(cells)
}

// size spells a number of bytes for a person.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1024, 0
	for ; v >= 1024 && i < len(units)-1; i++ {
		v /= 1024
	}
	return fmt.Sprintf("%.1f %ciB", v, units[i])
}

// length spells a duration of audio, as 3:07.
func length(ms int64) string {
	if ms <= 0 {
		return ""
	}
	s := (ms + 500) / 1000
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// when spells a moment for a person, and nothing for the zero time.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// onOff is a flag value that reads on or off.
type onOff bool

func (o *onOff) String() string {
	if *o {
		return "on"
	}
	return "off"
}

func (o *onOff) Set(s string) error {
	switch s {
	case "on", "true", "yes":
		*o = true
	case "off", "false", "no":
		*o = false
	default:
		return fmt.Errorf("must be on or off")
	}
	return nil
}

func (o *onOff) Type() string { return "on|off" }

// span is a flag value that reads LOW..HIGH, or one number for both.
type span struct{ low, high int }

func (s *span) String() string {
	switch {
	case *s == span{}:
		return ""
	case s.low == s.high:
		return strconv.Itoa(s.low)
	}
	return fmt.Sprintf("%d..%d", s.low, s.high)
}

func (s *span) Set(text string) error {
	low, high, two := strings.Cut(text, "..")
	if !two {
		high = low
	}
	var err, err2 error
	s.low, err = strconv.Atoi(low)
	s.high, err2 = strconv.Atoi(high)
	if err != nil || err2 != nil || s.low < 1 || s.high < s.low {
		return fmt.Errorf("must be a number, or a least and a greatest one such as 2..3")
	}
	return nil
}

func (s *span) Type() string { return "min..max" }

// moment is a flag value that reads an RFC 3339 time.
type moment struct{ time.Time }

func (m *moment) String() string {
	if m.IsZero() {
		return ""
	}
	return m.Format(time.RFC3339)
}

func (m *moment) Set(s string) (err error) {
	if m.Time, err = time.Parse(time.RFC3339, s); err != nil {
		return fmt.Errorf("must be a time such as 2027-01-31T18:00:00Z")
	}
	return nil
}

func (m *moment) Type() string { return "time" }
