// Package contract is what the host of a replica agreed to give: disk, upload,
// hours and stations. The host's own node enforces it, and a change takes
// effect at once.
//
// It does not know what is stored, nor who asks for it.
package contract

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrInvalid says that a contract, or a part of one, cannot be kept or cannot
// be read.
var ErrInvalid = errors.New("not a contract")

const (
	// MinDisk is the least disk that can be offered: below it there is room for
	// the folders of a node and little else.
	MinDisk = 16 << 20
	maxDisk = 1 << 60
	// minUp is the least upload cap, in bytes per second: 8 kbit.
	minUp = 1000
	maxUp = 1 << 50
	// maxLabels and maxLabel bound the stations that a host may choose.
	maxLabels = 256
	maxLabel  = 64
	day       = 24 * 60 // minutes
)

// A Contract is what a host offers. The zero Contract offers nothing.
type Contract struct {
	Disk  int64    `cbor:"1,keyasint"`           // bytes that the replica may take, all told
	Up    int64    `cbor:"2,keyasint,omitempty"` // bytes per second that it may send; 0: no cap
	Hours Hours    `cbor:"3,keyasint,omitempty"` // when it serves; zero: always
	Label []string `cbor:"4,keyasint,omitempty"` // labels of the stations that it carries; none: all
}

// Hours are the part of each day in which a replica serves, in minutes since
// midnight of its own clock, which is Offset seconds ahead of UTC. From may be
// later than To: then they span midnight. The zero Hours are the whole day.
type Hours struct {
	From   int `cbor:"1,keyasint,omitempty"`
	To     int `cbor:"2,keyasint,omitempty"`
	Offset int `cbor:"3,keyasint,omitempty"`
}

// Carries reports whether the contract is for segments under a label.
func (c Contract) Carries(label string) bool {
	for _, l := range c.Label {
		if l == label {
			return true
		}
	}
	return len(c.Label) == 0
}

// Check refuses a contract that no node can keep. The error wraps ErrInvalid
// and names what is wrong.
func (c Contract) Check() error {
	h := c.Hours
	switch {
	case c.Disk != 0 && (c.Disk < MinDisk || c.Disk > maxDisk):
		return fmt.Errorf("%w: %s of disk is not between %s and %s", ErrInvalid, sizeText(c.Disk), sizeText(MinDisk), sizeText(maxDisk))
	case c.Up != 0 && (c.Up < minUp || c.Up > maxUp):
		return fmt.Errorf("%w: an upload of %s is not at least %s", ErrInvalid, rateText(c.Up), rateText(minUp))
	case h.From < 0 || h.From >= day || h.To < 0 || h.To >= day || h.Offset <= -24*60*60 || h.Offset >= 24*60*60:
		return fmt.Errorf("%w: hours from minute %d to %d, %d s ahead of UTC, are not within a day", ErrInvalid, h.From, h.To, h.Offset)
	case len(c.Label) > maxLabels:
		return fmt.Errorf("%w: %d stations, more than %d: leave them out to carry all", ErrInvalid, len(c.Label), maxLabels)
	}
	for _, l := range c.Label {
		if !isLabel(l) {
			return fmt.Errorf("%w: %.80q is not the label of a station", ErrInvalid, l)
		}
	}
	return nil
}

// isLabel reports whether s looks like a station's random name.
func isLabel(s string) bool {
	return s != "" && len(s) <= maxLabel && strings.IndexFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || '0' <= r && r <= '9')
	}) < 0
}

// Equal reports whether two contracts offer the same.
func (c Contract) Equal(o Contract) bool {
	return c.Disk == o.Disk && c.Up == o.Up && c.Hours == o.Hours && slices.Equal(c.Label, o.Label)
}

// Open reports whether t is within the hours.
func (h Hours) Open(t time.Time) bool {
	if h.From == h.To {
		return true
	}
	t = t.UTC().Add(time.Duration(h.Offset) * time.Second)
	now := t.Hour()*60 + t.Minute()
	if h.From < h.To {
		return now >= h.From && now < h.To
	}
	return now >= h.From || now < h.To
}

// Next is the first moment from t on that is within the hours.
func (h Hours) Next(t time.Time) time.Time {
	if h.Open(t) {
		return t
	}
	local := t.UTC().Add(time.Duration(h.Offset) * time.Second)
	midnight := local.Truncate(24 * time.Hour)
	next := midnight.Add(time.Duration(h.From) * time.Minute)
	if !next.After(local) {
		next = next.Add(24 * time.Hour)
	}
	return next.Add(-time.Duration(h.Offset) * time.Second)
}
