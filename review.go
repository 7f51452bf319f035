package musen

import "time"

// A Review is the record that somebody looked at who may do what.
type Review struct {
	ID        string
	Made      time.Time
	Reviewer  string // by name
	Actor     string // the subject that signed
	Digest    string // of what was reviewed
	Signature string // JWS of the above, by the node's key
}
