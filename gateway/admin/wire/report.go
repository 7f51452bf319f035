package wire

import (
	"time"

	"github.com/musenai/musen"
)

// ContentReport is what people say is wrong with something, and what became of
// it. What they say stands in Statements alone, as they sent it; a list has
// none.
type ContentReport struct {
	ID           string      `json:"id"`
	CID          string      `json:"cid,omitempty"`     // absent: it is about a station, or a share that is not known
	Station      string      `json:"station,omitempty"` // id; absent: what was reported is not here
	StationName  string      `json:"station_name,omitempty"`
	Share        string      `json:"share,omitempty"` // id of the share whose link was given first
	Category     string      `json:"category"`
	State        string      `json:"state"`             // received, in_review, closed
	Outcome      string      `json:"outcome,omitempty"` // of one that is closed: action, none
	Created      time.Time   `json:"created"`
	Overdue      bool        `json:"overdue"`
	Count        int         `json:"count"`     // how often it was said
	Reporters    int         `json:"reporters"` // how many said it, as far as they are told apart
	Actor        string      `json:"by,omitempty"`
	Reason       string      `json:"reason,omitempty"`
	Changed      *time.Time  `json:"changed,omitempty"` // when it was taken up or closed
	Title        string      `json:"title,omitempty"`   // of the segment
	Artist       string      `json:"artist,omitempty"`
	SegmentState string      `json:"segment_state,omitempty"`
	Statements   []Statement `json:"statements,omitempty"`
}

// Statement is what one reporter said.
type Statement struct {
	Text string    `json:"text"`
	Made time.Time `json:"made"`
}

// FromContentReport shapes a report, of a station with that name.
func FromContentReport(r musen.ContentReport, station string) ContentReport {
	p := ContentReport{
		ID: r.ID, Station: r.Station, StationName: station, Share: r.Share, Category: string(r.Category), State: "closed",
		Created: r.Created.UTC(), Count: r.Count, Reporters: r.Reporters, Actor: r.Actor, Reason: r.Reason,
	}
	switch r.State {
	case musen.ReportReceived:
		p.State = "received"
	case musen.ReportInReview:
		p.State = "in_review"
	case musen.ReportActedOn:
		p.Outcome = "action"
	case musen.ReportDismissed:
		p.Outcome = "none"
	}
	if r.CID.Defined() {
		p.CID = r.CID.String()
	}
	if changed := utc(r.Changed); !changed.IsZero() {
		p.Changed = &changed
	}
	for _, s := range r.Statements {
		p.Statements = append(p.Statements, Statement{Text: s.Text, Made: s.Made.UTC()})
	}
	return p
}

// SetSegment adds what is known of the segment.
func (p *ContentReport) SetSegment(s musen.Segment) {
	p.Title, p.Artist, p.SegmentState = s.Title, s.Artist, segmentState(s.State)
}

func segmentState(s musen.State) string {
	switch s {
	case musen.Removed:
		return "removed"
	case musen.TakenDown:
		return "taken_down"
	}
	return "live"
}

// ContentReports is a page of reports, the oldest first.
type ContentReports struct {
	Reports []ContentReport `json:"reports"`
	Next    string          `json:"next,omitempty"` // cursor of the next page; absent on the last
}

// ReportDecision closes a report.
type ReportDecision struct {
	Outcome string `json:"outcome"`
	Reason  string `json:"reason"`
}
