package wire

import "time"

// The kinds of a Key.
const (
	KeyOfTokens   = "token"
	KeyOfLinks    = "link"
	KeyOfSessions = "session" // derived from that of links
	KeyOfIssuer   = "issuer"  // of somebody else whose tokens are accepted
)

// The states of a Key.
const (
	KeySigns    = "signs"    // the node signs with it
	KeyVerifies = "verifies" // what it signed is good
	KeyRevoked  = "revoked"  // nothing that it signed is
)

// A Key signs credentials. The id of one of a foreign issuer begins with that
// issuer's name and a bar.
type Key struct {
	ID     string    `json:"id"`
	Kind   string    `json:"kind"`
	State  string    `json:"state"`
	Issuer string    `json:"issuer,omitempty"` // its name; absent: the node itself
	Until  time.Time `json:"until,omitzero"`   // when nothing that it signed lives any more; absent: not known
}

// An Issuer is somebody else whose tokens are accepted.
type Issuer struct {
	Name    string    `json:"name"`
	URL     string    `json:"url"`
	Keys    int       `json:"keys"`
	Fetched time.Time `json:"fetched,omitzero"` // absent: never
	Error   string    `json:"error,omitempty"`  // of the last request for its keys
}

// Keys is the answer to a listing of keys.
type Keys struct {
	Keys    []Key    `json:"keys"`
	Issuers []Issuer `json:"issuers"`
}

// Rotation asks for a new key of a kind.
type Rotation struct {
	Kind string `json:"kind"`
}

// Rotated names the key that signs now.
type Rotated struct {
	ID string `json:"id"`
}
