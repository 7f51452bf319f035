package wire

import (
	"time"

	"github.com/musenai/musen/internal/watch"
)

// Alert says that something looked like abuse.
type Alert struct {
	Rule       string    `json:"rule"`
	At         time.Time `json:"at"`
	Count      int       `json:"count"` // when the threshold was passed
	Threshold  int       `json:"threshold"`
	Window     int64     `json:"window_seconds"`
	Subject    string    `json:"subject,omitempty"`
	Credential string    `json:"credential,omitempty"` // id of a token, link or session
	Share      string    `json:"share,omitempty"`      // id
	About      string    `json:"about,omitempty"`      // CID of a segment or path of a station that was reported
}

// FromAlert shapes an alert.
func FromAlert(a watch.Alert) Alert {
	return Alert{
		Rule: string(a.Rule), At: a.At.UTC(), Count: a.Count, Threshold: a.Threshold, Window: int64(a.Window / time.Second),
		Subject: a.Bearer.Subject, Credential: a.Bearer.Credential, Share: a.Share, About: a.About,
	}
}

// Alerts is the answer to a listing of alerts, the newest first.
type Alerts struct {
	Alerts []Alert `json:"alerts"`
}
