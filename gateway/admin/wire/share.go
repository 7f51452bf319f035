package wire

import (
	"time"

	"github.com/musenai/musen"
)

// NewShare asks for a share of a station. Times are in seconds; 0 takes the
// node's default. Downloads are on unless switched off.
type NewShare struct {
	Password   string `json:"password,omitempty"`
	TTL        int64  `json:"ttl,omitempty"`         // of the share
	SessionTTL int64  `json:"session_ttl,omitempty"` // of what it opens
	MaxUses    int    `json:"max_uses,omitempty"`    // sessions; 0: any number
	Downloads  *bool  `json:"downloads,omitempty"`
}

// Share is the record of a share.
type Share struct {
	ID          string    `json:"id"`
	Station     string    `json:"station"` // its id
	StationName string    `json:"station_name"`
	State       string    `json:"state"`    // live, revoked, expired or spent
	Password    bool      `json:"password"` // asks for one
	Downloads   bool      `json:"downloads"`
	SessionTTL  int64     `json:"session_ttl"` // seconds
	MaxUses     int       `json:"max_uses"`    // 0: any number
	Uses        int       `json:"uses"`
	Created     time.Time `json:"created"`
	Expires     time.Time `json:"expires,omitzero"` // absent: never
	Revoked     time.Time `json:"revoked,omitzero"` // absent: not by itself
}

// FromShare shapes the record of a share of station as it is at now.
func FromShare(s musen.Share, station musen.Station, now time.Time) Share {
	state := string(s.End(station.Epoch, now))
	if state == "" {
		state = "live"
	}
	return Share{
		ID: s.ID, Station: s.Station, StationName: station.Name, State: state, Password: s.Password != "",
		Downloads: s.Downloads, SessionTTL: int64(s.SessionTTL / time.Second), MaxUses: s.MaxUses, Uses: s.Uses,
		Created: s.Created.UTC(), Expires: utc(s.Expires), Revoked: utc(s.Revoked),
	}
}

// MadeShare is the only answer that holds the link of a share: the node keeps
// none.
type MadeShare struct {
	Share
	URL string `json:"url,omitempty"` // absent: the caller may not have it
}

// Shares is the answer to a listing of shares.
type Shares struct {
	Shares []Share `json:"shares"`
}

// SharePassword sets the password of a share.
type SharePassword struct {
	Password string `json:"password"`
}

// Regenerated is the answer to a regeneration: the new share, and where the old
// ones have ended.
type Regenerated struct {
	MadeShare
	Epoch uint64 `json:"epoch"` // of the station from now on
	Reach *Reach `json:"reach,omitempty"`
}
