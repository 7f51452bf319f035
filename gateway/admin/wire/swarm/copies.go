package swarm

import "time"

// A Copy is one copy of a segment.
type Copy struct {
	Peer    string    `json:"peer,omitempty"` // ID; absent: a pinning service
	Name    string    `json:"name"`
	Site    string    `json:"site"`
	Role    string    `json:"role"`   // origin, storage, replica or service
	State   string    `json:"state"`  // ordered, held, proved, failed, lost or purging
	Counts  bool      `json:"counts"` // at present: proved, on a peer that is there and in standing
	Since   time.Time `json:"since,omitzero"`
	Proved  time.Time `json:"proved,omitzero"`
	Outcome string    `json:"outcome,omitempty"` // of the last audit
	Reason  string    `json:"reason,omitempty"`  // why it failed or is late
}

// Health is how the copies of a segment are.
type Health struct {
	CID         string    `json:"cid"`
	Station     string    `json:"station,omitempty"` // id
	StationName string    `json:"station_name,omitempty"`
	Title       string    `json:"title,omitempty"`
	Want        Want      `json:"want"`
	Level       string    `json:"level"` // none, stored, replicated or durable
	Gone        bool      `json:"gone"`  // removed; copies are those not purged yet
	Copies      []Copy    `json:"copies"`
	Reason      string    `json:"reason,omitempty"` // what is not as it should be; absent: healthy
	Next        time.Time `json:"next,omitzero"`    // try
}

// Summary counts the segments of a station, or of all. Each level includes
// those above it.
type Summary struct {
	Segments   int       `json:"segments"`
	Bytes      int64     `json:"bytes"` // of ciphertext
	Away       int       `json:"away"`  // below stored, since all peers that have a copy are away
	Stored     int       `json:"stored"`
	Replicated int       `json:"replicated"`
	Durable    int       `json:"durable"`
	Unhealthy  int       `json:"unhealthy"` // have a reason
	Copies     int       `json:"copies"`    // that peers who are there say they hold
	Proved     int       `json:"proved"`    // of those
	Purging    int       `json:"purging"`   // removed, and not purged everywhere yet
	Fewer      int       `json:"fewer"`     // durable, with fewer copies on trusted peers than there could be
	Strangers  int       `json:"strangers"` // pins of no segment; left alone
	Surveyed   time.Time `json:"surveyed,omitzero"`
}

// Replication is a Summary, and the segments that are not as they should be, or
// some of them.
type Replication struct {
	Summary
	List []Health `json:"list"`
}

// Selection names segments; none means all.
type Selection struct {
	CIDs []string `json:"cids,omitempty"`
}

// Recovered tells how many segments are tried again now.
type Recovered struct {
	Segments int `json:"segments"`
}

// Rebalanced tells how many copies are on their way to other peers.
type Rebalanced struct {
	Moved int `json:"moved"`
}
