// Package contract is what the host of a replica agreed to give: disk, upload,
// hours and stations. The host's own node enforces it.
//
// It does not know what is stored, nor who asks for it.
package contract

import "time"

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
