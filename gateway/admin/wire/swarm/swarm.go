// Package swarm holds the JSON shapes of the part of the admin API that is
// about peers, copies of segments on them, and pinning services. Like those of
// package wire above it, they are shared by server and client, and openapi.yaml
// describes them.
//
// It does not know how peers are spoken to, nor what makes a copy count.
package swarm

import "time"

// A Peer is a member of the swarm, as the origin knows it. Held, Used, Free,
// Served and Version are the peer's own word.
type Peer struct {
	ID        string    `json:"id"`
	Role      string    `json:"role"` // origin, storage, replica or guest
	Name      string    `json:"name"`
	Site      string    `json:"site"`
	Addresses []string  `json:"addresses"` // multiaddrs; none: it dials
	Enrolled  time.Time `json:"enrolled"`
	Draining  bool      `json:"draining"` // gets nothing new, and gives away what it has
	Leaving   bool      `json:"leaving"`  // asks to be drained
	Offer     *Offer    `json:"offer,omitempty"`

	Up          bool      `json:"up"`                     // its line to the origin
	Since       time.Time `json:"since,omitzero"`         // when the line went up or down; absent: never seen
	Heard       time.Time `json:"heard,omitzero"`         // when something last came over it
	PausedUntil time.Time `json:"paused_until,omitzero"`  // away by announcement until then
	Waiting     int       `json:"waiting"`                // orders that it has not answered
	Standing    string    `json:"standing,omitempty"`     // new, good, warned, paused or dropped
	Why         string    `json:"standing_why,omitempty"` // it is that
	Appeal      string    `json:"appeal,omitempty"`       // against the standing, in the host's words

	Held    int64     `json:"held"`   // segments
	Proved  int64     `json:"proved"` // segments that it passed its last audit on
	Used    int64     `json:"used"`   // bytes on its disk
	Free    int64     `json:"free"`   // bytes that it could still take
	Served  int64     `json:"served"` // bytes sent since it began
	Audited time.Time `json:"audited,omitzero"`
	Outcome string    `json:"outcome,omitempty"` // of the last audit: proved, wrong, missing, late or offline
	Version string    `json:"version,omitempty"`
}

// An Offer is what the host of a replica agreed to give.
type Offer struct {
	Disk   int64    `json:"disk"`            // bytes
	Up     int64    `json:"up"`              // bytes per second; 0: no cap
	Hours  string   `json:"hours,omitempty"` // such as 22:00-07:00; absent: always
	Labels []string `json:"labels"`          // of the stations that it carries; none: all
}

// Peers is the answer to a listing of peers.
type Peers struct {
	Peers []Peer `json:"peers"`
}

// InviteRequest asks for an invite. TTL is in seconds; 0 takes the node's
// default.
type InviteRequest struct {
	Role      string   `json:"role"`                // storage or replica
	Name      string   `json:"name,omitempty"`      // what the peer will be called; absent: it may choose
	Site      string   `json:"site,omitempty"`      // where it is; absent: it may say
	TTL       int64    `json:"ttl,omitempty"`       // seconds
	Addresses []string `json:"addresses,omitempty"` // multiaddrs of this node, from where the peer is
}

// Invite is the only answer that holds an invite: whoever has the string can
// join, once.
type Invite struct {
	Invite  string    `json:"invite"` // secret
	ID      string    `json:"id"`     // no secret
	Expires time.Time `json:"expires"`
}

// OpenInvite is what is known of an invite that nobody has used yet.
type OpenInvite struct {
	ID      string    `json:"id"`
	Role    string    `json:"role"`
	Name    string    `json:"name"`
	Site    string    `json:"site"`
	Expires time.Time `json:"expires"`
}

// OpenInvites is the answer to a listing of invites.
type OpenInvites struct {
	Invites []OpenInvite `json:"invites"`
}

// Admission lets an IPFS node in as a guest, which may fetch ciphertext.
type Admission struct {
	ID   string `json:"id"` // peer ID
	Name string `json:"name,omitempty"`
}

// Reinstatement gives a peer a new start, for the reason that is kept with it.
type Reinstatement struct {
	Reason string `json:"reason"`
}

// A Service is a pinning service that keeps copies of the ciphertext.
type Service struct {
	Name      string    `json:"name"`
	Endpoint  string    `json:"endpoint"`
	TokenFile string    `json:"token_file"` // where the node reads its token
	Held      int       `json:"held"`       // segments
	Waiting   int       `json:"waiting"`    // segments that were asked for
	Failed    int       `json:"failed"`     // segments that will be tried again
	Removing  int       `json:"removing"`   // segments to be unpinned there; it has not confirmed that yet
	Leaving   bool      `json:"leaving"`    // it gets nothing new, and goes once it has confirmed all
	Reason    string    `json:"reason,omitempty"`
	Next      time.Time `json:"next,omitzero"` // try, if there is a reason
}

// Services is the answer to a listing of services.
type Services struct {
	Services []Service `json:"services"`
}

// NewService adds a service. The token itself is never sent.
type NewService struct {
	Name      string `json:"name"`
	Endpoint  string `json:"endpoint"`
	TokenFile string `json:"token_file"`
}
