// Package local is how the commands of a host talk to its running node: JSON
// over HTTP on a unix socket that only the owner of the home can open.
//
// It does not know how the node does what it is asked, nor how a person is
// shown what it answers.
package local

import (
	"errors"
	"fmt"
	"time"

	"github.com/musenai/musen/internal/denylist"
	"github.com/musenai/musen/internal/host/scrub"
	"github.com/musenai/musen/pin/contract"
)

// ErrNotRunning says that no node answers on the socket.
var ErrNotRunning = errors.New("no node is running")

// Removed is the code of a refusal because the origin ended the membership of
// the host.
const Removed = "removed"

// An Error is a refusal of the node.
type Error struct {
	Status int    `json:"status"`
	Code   string `json:"code"` // stable
	Detail string `json:"detail"`
}

// Error says what was refused.
func (e *Error) Error() string { return e.Detail }

// Refuse makes an Error, for a Node to return.
func Refuse(status int, code, format string, args ...any) error {
	return &Error{Status: status, Code: code, Detail: fmt.Sprintf(format, args...)}
}

// A Status is how a host is.
type Status struct {
	PeerID   string            `json:"peer_id"`
	Role     string            `json:"role"`
	Name     string            `json:"name"`
	Site     string            `json:"site"`
	Realm    string            `json:"realm"`
	Version  string            `json:"version"`
	HTTP     string            `json:"http"` // address of the HTTP listener; "": off
	Peer     []string          `json:"peer"` // multiaddrs that it listens on
	Origins  []Line            `json:"origins"`
	CaughtUp bool              `json:"caught_up"`         // it has carried out what it missed, and so serves
	Removed  *time.Time        `json:"removed,omitempty"` // when the origin said that this host is no member any more; nil: it did not
	Opens    *time.Time        `json:"opens,omitempty"`   // when it serves again; nil: it does now
	Paused   *time.Time        `json:"paused,omitempty"`
	Leaving  bool              `json:"leaving"`
	Draining bool              `json:"draining"` // the operator has what it holds moved elsewhere, as far as the origin told
	Appeal   string            `json:"appeal"`
	Standing *Standing         `json:"standing,omitempty"` // by the word of the origin; nil: not told since the start
	Contract contract.Contract `json:"contract"`
	Held     int64             `json:"held"`    // segments
	Lost     int64             `json:"lost"`    // segments that should be here and are not whole, besides
	Bad      int64             `json:"bad"`     // blocks that the check of the disk under way found rotten or missing
	Working  int64             `json:"working"` // orders being carried out
	Waiting  int64             `json:"waiting"` // orders to be carried out, those among them
	Unsent   int64             `json:"unsent"`  // receipts that the origin has not recorded
	Used     int64             `json:"used"`    // bytes
	Free     int64             `json:"free"`    // bytes that it could take; less than 0: it holds more than it offers
	Disk     int64             `json:"disk"`    // bytes that it takes and that are free on its disk, whatever it offers
	Served   int64             `json:"served"`  // bytes
	Audits   int64             `json:"audits"`  // challenges answered since the start
	Audited  *time.Time        `json:"audited,omitempty"`
	Scrub    *scrub.Result     `json:"scrub,omitempty"` // the last pass that ended
	// Denylists are those that the host subscribes to.
	Denylists []denylist.State `json:"denylists,omitempty"`
}

// A Standing is what the origin thinks of the host.
type Standing struct {
	Is      string     `json:"is"` // new, good, warned, paused or dropped
	Since   *time.Time `json:"since,omitempty"`
	Reason  string     `json:"reason"`            // in words
	Audit   string     `json:"audit"`             // outcome of its last audit: proved, wrong, missing, late, offline; "": none
	Audited *time.Time `json:"audited,omitempty"` // the last that reached the host
}

// A Line is the connection to one origin.
type Line struct {
	Peer  string    `json:"peer"`
	Up    bool      `json:"up"`
	Since time.Time `json:"since,omitzero"`
	// Reason is why it is down, in words; empty: it is up, or was not tried yet.
	Reason string `json:"reason,omitempty"`
}

// A Why says why the host has a segment, or has not.
type Why struct {
	CID    string     `json:"cid"`
	Held   bool       `json:"held"`
	Denied bool       `json:"denied"` // removed or taken down, or on a denylist: it is not served
	Label  string     `json:"label"`  // of the station that it is of
	Size   int64      `json:"size"`
	Since  *time.Time `json:"since,omitempty"`
	Seq    uint64     `json:"seq"` // of the order to hold it; 0: the pinset asks for it
	Last   *Order     `json:"last,omitempty"`
	Reason string     `json:"reason"` // in words
}

// An Order is one that was carried out, or tried, since the start.
type Order struct {
	Seq     uint64    `json:"seq"`
	Verb    string    `json:"verb"`
	CID     string    `json:"cid"`
	Label   string    `json:"label"`
	Size    int64     `json:"size"`
	Outcome string    `json:"outcome"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// orders is a list of them.
type orders struct {
	Orders []Order `json:"orders"`
}

// pause says until when.
type pause struct {
	Until time.Time `json:"until"` // zero: resume
}

// leave says whether the host asks to be drained.
type leave struct {
	Leaving bool `json:"leaving"`
}

// appeal is what a host says against its standing.
type appeal struct {
	Text string `json:"text"`
}
