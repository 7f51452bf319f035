// Package wire holds the JSON shapes of the admin API, shared by its server
// and its client, so that the two cannot drift apart. openapi.yaml in package
// admin describes the same shapes, and tests hold every answer against it.
//
// It does not know HTTP, nor what any of the fields is allowed to be: the
// server checks.
package wire

import (
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire/swarm"
)

// Status tells what node answers, and how much it holds.
type Status struct {
	Version     string   `json:"version"`
	Realm       string   `json:"realm"`
	PeerID      string   `json:"peer_id"`
	Addresses   []string `json:"addresses"` // multiaddrs that peers can dial
	RepoSize    int64    `json:"repo_size"` // bytes that blocks and their records take on the disk
	Stations    int      `json:"stations"`
	Segments    int      `json:"segments"`
	Uptime      int64    `json:"uptime_seconds"`
	Warnings    []string `json:"warnings"`     // what an operator should look at
	PublicURL   string   `json:"public_url"`   // where listeners reach it
	StorageMax  int64    `json:"storage_max"`  // bytes that it may take; 0: no limit but the disk's
	StorageFree int64    `json:"storage_free"` // bytes that it may take now, under both
}

// Station is a station.
type Station struct {
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	Description string     `json:"description"`
	Label       string     `json:"label"` // what peers know it by
	Downloads   bool       `json:"downloads"`
	Epoch       uint64     `json:"epoch"`
	Created     time.Time  `json:"created"`
	Replication swarm.Want `json:"replication"`
}

// FromStation shapes a station.
func FromStation(s musen.Station) Station {
	return Station{
		ID: s.ID, Name: s.Name, Description: s.Description, Label: s.Label,
		Downloads: s.Downloads, Epoch: s.Epoch, Created: s.Created.UTC(),
		Replication: swarm.FromReplication(s.Replication),
	}
}

// Stations is the answer to a listing of stations.
type Stations struct {
	Stations []Station `json:"stations"`
}

// NewStation asks for a station. Downloads are on unless switched off, and
// there is one copy unless more are asked for.
type NewStation struct {
	Name        string            `json:"name"`
	Description string            `json:"description,omitempty"`
	Downloads   *bool             `json:"downloads,omitempty"`
	Replication *swarm.WantChange `json:"replication,omitempty"`
}

// StationChange changes what is not nil.
type StationChange struct {
	Name        *string           `json:"name,omitempty"`
	Description *string           `json:"description,omitempty"`
	Downloads   *bool             `json:"downloads,omitempty"`
	Replication *swarm.WantChange `json:"replication,omitempty"`
}

// Segment is a segment of a station.
type Segment struct {
	CID         string    `json:"cid"`
	Segment     string    `json:"segment"` // its id
	Station     string    `json:"station"` // the station's id
	StationName string    `json:"station_name"`
	Title       string    `json:"title"`
	Artist      string    `json:"artist"`
	MediaType   string    `json:"media_type"`
	DurationMS  int64     `json:"duration_ms"` // 0: the headers of the audio do not tell
	Size        int64     `json:"size"`        // bytes of audio
	SealedSize  int64     `json:"sealed_size"` // bytes of ciphertext
	AIGenerated bool      `json:"ai_generated"`
	Created     time.Time `json:"created"`
	PublishAt   time.Time `json:"publish_at,omitzero"` // absent: at once
	ExpiresAt   time.Time `json:"expires_at,omitzero"` // absent: never
	Takedown    string    `json:"takedown,omitempty"`  // category; absent: none is in force
}

// FromSegment shapes a segment of station.
func FromSegment(s musen.Segment, station musen.Station) Segment {
	return Segment{
		CID: s.CID.String(), Segment: s.ID, Station: s.Station, StationName: station.Name,
		Title: s.Title, Artist: s.Artist, MediaType: s.MediaType,
		DurationMS: s.Duration.Milliseconds(), Size: s.Size, SealedSize: s.SealedSize,
		AIGenerated: s.AIGenerated, Created: s.Created.UTC(),
		PublishAt: utc(s.PublishAt), ExpiresAt: utc(s.ExpiresAt), Takedown: s.Takedown,
	}
}

// utc is t in UTC; the zero time stays zero.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

// Added is the answer to an upload. Existing tells that the station had this
// audio already, and the segment is that one. Level and Reason are told to who
// waited for a level: the one that was reached, and why it is none better.
type Added struct {
	Segment
	Existing bool   `json:"existing"`
	Level    string `json:"level,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

// Segments is one page of a station's segments. Next is the cursor of the next
// page, empty on the last.
type Segments struct {
	Segments []Segment `json:"segments"`
	Next     string    `json:"next,omitempty"`
}

// LinkRequest asks for a link to a segment. TTL is in seconds; 0 takes the
// node's default.
type LinkRequest struct {
	TTL      int64  `json:"ttl,omitempty"`
	Download bool   `json:"download,omitempty"`
	Subject  string `json:"subject,omitempty"` // revoking the subject ends the link
}

// Link opens one segment for whoever has it, until it expires.
type Link struct {
	URL     string    `json:"url"`
	Expires time.Time `json:"expires"`
}

// TokenRequest asks for a bearer token. Stations are names or ids; none means
// all stations. TTL is in seconds; 0 takes the node's default.
type TokenRequest struct {
	Subject  string   `json:"subject"`
	Stations []string `json:"stations,omitempty"`
	Actions  []string `json:"actions"`
	Roles    bool     `json:"roles,omitempty"` // those of the subject count for the bearer
	TTL      int64    `json:"ttl,omitempty"`
}

// IssuedToken is the only answer that holds a token: the node keeps none.
type IssuedToken struct {
	Token   string    `json:"token"`
	ID      string    `json:"jti"`
	Expires time.Time `json:"expires"`
}

// Token is the record of a token that was issued.
type Token struct {
	ID       string    `json:"jti"`
	Subject  string    `json:"subject"`
	Stations []string  `json:"stations"` // ids; empty: all
	Actions  []string  `json:"actions"`
	Roles    bool      `json:"roles,omitempty"` // those of the subject count for the bearer
	Issued   time.Time `json:"issued"`
	Expires  time.Time `json:"expires"`
	Revoked  time.Time `json:"revoked,omitzero"`    // absent: not revoked
	IssuedBy string    `json:"issued_by,omitempty"` // subject; absent: whoever holds the node
}

// FromToken shapes the record of a token.
func FromToken(t musen.Token) Token {
	return Token{
		ID: t.ID, Subject: t.Subject,
		Stations: append([]string{}, t.Stations...), Actions: append([]string{}, t.Actions...), Roles: t.Identity,
		Issued: t.Issued.UTC(), Expires: t.Expires.UTC(), Revoked: utc(t.Revoked), IssuedBy: t.Issuer,
	}
}

// Tokens is the answer to a listing of tokens.
type Tokens struct {
	Tokens []Token `json:"tokens"`
}

// Revocation names what to revoke: one token, all of a subject, all that a
// subject has issued, or all that was signed with a key. Exactly one of the four
// is given. Issuer says whose they are, by name or URL; absent: as the node
// itself calls them.
type Revocation struct {
	ID       string `json:"jti,omitempty"`
	Subject  string `json:"subject,omitempty"`
	IssuedBy string `json:"issued_by,omitempty"`
	Key      string `json:"key,omitempty"`
	Issuer   string `json:"issuer,omitempty"`
}

// Revoked is the answer to a Revocation, which is in force. Known tells that a
// token with that jti was issued here, or that the key is known; of a subject,
// and of what others issue, nothing is kept that would tell, so it is always
// known.
type Revoked struct {
	Known bool   `json:"known"`
	Name  string `json:"name"` // of what was revoked, as the node calls it
	Reach *Reach `json:"reach,omitempty"`
}

// VerifyRequest names the segments to read back; none means all that the
// caller may audit. With Repair blocks that are wrong or missing are fetched
// from peers first.
type VerifyRequest struct {
	CIDs   []string `json:"cids,omitempty"`
	Repair bool     `json:"repair,omitempty"`
}

// Verified is one line of the answer to a VerifyRequest. Error is empty when
// every block and chunk of the segment is sound.
type Verified struct {
	CID     string `json:"cid"`
	Station string `json:"station,omitempty"` // id
	OK      bool   `json:"ok"`
	Blocks  int    `json:"blocks"` // read and hash-checked
	Mended  int    `json:"mended"` // blocks that were replaced by those of peers
	Chunks  int64  `json:"chunks"` // opened
	Bytes   int64  `json:"bytes"`  // of audio
	Error   string `json:"error,omitempty"`
}

// Collected tells what a garbage collection removed.
type Collected struct {
	Removed int   `json:"removed"` // blocks
	Freed   int64 `json:"freed"`   // bytes
}

// Question asks policy whether a request would be allowed: that of the bearer
// of Token, or that of a Subject with Actions on Stations (none: all).
type Question struct {
	Action   string   `json:"action"`
	Station  string   `json:"station,omitempty"` // name or id; empty: the node itself
	CID      string   `json:"cid,omitempty"`     // of a segment of that station
	Token    string   `json:"token,omitempty"`
	Subject  string   `json:"subject,omitempty"`
	Actions  []string `json:"actions,omitempty"`
	Stations []string `json:"stations,omitempty"`
}

// Explanation is policy's answer to a Question.
type Explanation struct {
	Allowed  bool     `json:"allowed"`
	Reason   string   `json:"reason"`
	Policies []string `json:"policies"` // ids of those that decided
}
