package musen

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
)

// A ContentReport is what people say is wrong with one segment, or with a
// station as a whole, in one category: from the first who says so until
// somebody decides about it.
type ContentReport struct {
	ID         string
	CID        cid.Cid // of the segment; undefined: it is about a station, or a share that is not known
	Station    string  // Station.ID; empty: what it is about is not known here
	Share      string  // Share.ID of the link that the first of them gave; empty: none
	Category   ReportCategory
	State      ReportState
	Created    time.Time
	Count      int         // how often it was said
	Reporters  int         // how many said it, as far as they are told apart; see MaxReporters
	Statements []Statement // the oldest first; a list has none
	Actor      string      // who took it up or closed it
	Reason     string      // why it was closed as it was
	Changed    time.Time   // when it was taken up or closed; zero: not yet
}

// A Statement is what one reporter said.
type Statement struct {
	Text string
	Made time.Time
}

// Bounds of one ContentReport.
const (
	MaxReporters  = 64      // that are told apart
	MaxStatements = 8       // that are kept
	MaxStatement  = 2 << 10 // bytes of one
)

// A ReportCategory is what is said to be wrong.
type ReportCategory string

// ReportCategories are all there are. Where each stands never changes.
func ReportCategories() []ReportCategory {
	return []ReportCategory{
		"copyright", "impersonation", "child_safety", "hate", "harassment", "privacy", "illegal", "other",
	}
}

// Words are the category in words for people.
func (c ReportCategory) Words() string {
	words := [...]string{
		"Uses a work without permission", "Imitates a person's voice or name", "Endangers children",
		"Spreads hatred or calls for violence", "Harasses or threatens somebody", "Tells private things about somebody",
		"Breaks the law in another way", "Something else",
	}
	if i := slices.Index(ReportCategories(), c); i >= 0 {
		return words[i]
	}
	return ""
}

// ReportState is what became of a ContentReport.
type ReportState uint8

// The states of a ContentReport.
const (
	ReportReceived ReportState = iota
	ReportInReview
	ReportActedOn   // closed: something was done
	ReportDismissed // closed: nothing was done
)

// Closed reports whether it was decided.
func (s ReportState) Closed() bool { return s >= ReportActedOn }

// String is the state in words.
func (s ReportState) String() string {
	return [...]string{"received", "in review", "closed: action taken", "closed: no action"}[min(s, ReportDismissed)]
}

// A NewReport is one report as it comes in. Exactly one of CID, Share and
// Station says what it is about; whether that is there is not known.
type NewReport struct {
	ID       string // of the ContentReport, if it is the first
	CID      cid.Cid
	Share    string // the secret of one, which is not kept
	Station  string // Station.ID
	Category ReportCategory
	Text     string // may be empty
	Reporter string // pseudonym of a client
}

// MakeReportID gives r an id that is read from rand.
func (r *NewReport) MakeReportID(rand io.Reader) (err error) {
	if r.ID, err = newID(rand); err != nil {
		return fmt.Errorf("take a report: %w", err)
	}
	return nil
}

// A ReportQuery says which content reports are asked for, the oldest first.
type ReportQuery struct {
	Everywhere bool     // of all stations, and of what is not known here
	Stations   []string // otherwise of these
	Open       bool     // only those that nobody has decided about
	Cursor     string   // that a page came with; empty: from the first
	Limit      int
}

// A ReportQueue is how many content reports wait for somebody to decide.
type ReportQueue struct {
	Open, Overdue int
	Full          int // stations that have as many as there is room for; what is not known counts as one
}
