package musen

import "time"

// ReviewOfAccess is what a review of who may do what is of.
const ReviewOfAccess = "access"

// A Review is the record that somebody looked at who may do what, or at what
// was done.
type Review struct {
	ID        string
	Of        string // ReviewOfAccess, or the name of an audit log
	Size      uint64 // of an audit log: the number of the last record
	Made      time.Time
	Reviewer  string // by name
	Actor     string // the subject that signed
	Digest    string // of what was reviewed
	Signature string // JWS of the above, by the node's key
}
