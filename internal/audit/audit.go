// Package audit is the log of what operators and the node itself did: a chain
// of records in files that are only ever appended to. Each record carries the
// hash of the one before, so that no record can be changed, taken out, moved or
// put in without being noticed; signed checkpoints that are kept elsewhere tell
// when the end of the log, or all of it, was put back to an older state.
// docs/design/audit.md describes the files well enough for a second
// implementation.
//
// Whom and what a record is about is sealed, so that the chain can be verified
// without keys and tells nobody anything. The package does not know HTTP,
// credentials, or what an event means to whoever records it.
package audit

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"time"
)

var (
	// ErrUnavailable says that a record could not be made durable: what it is
	// about must not be done.
	ErrUnavailable = errors.New("the audit log cannot be written")
	// ErrInvalid says that a record is of no event in the catalogue, or too long,
	// or that a checkpoint is not one.
	ErrInvalid = errors.New("not acceptable to the audit log")
)

// A Record is one entry. Actor, Credential, Object and Reason are sealed in the
// file; all else stands there in clear and must name nobody.
type Record struct {
	Seq     uint64            // from 1, without a gap; set by the log
	Time    time.Time         // set by the log
	Event   string            // one of Events
	Outcome string            // one of the outcomes below
	Code    string            // stable word that says why it was refused or failed
	By      string            // kind of credential
	Actor   string            // who
	Object  string            // on what
	Reason  string            // purpose or ticket, if it was given
	Request string            // id that is in the node's log too
	Facts   map[string]string // whatever else matters, such as digests

	Credential string // id of the one that Actor used
}

// The outcomes of an event.
const (
	Begun   = "begun"   // will be tried next; another record says what came of it
	Done    = "done"    // happened
	Refused = "refused" // was not allowed
	Failed  = "failed"  // was allowed, and did not work out
)

// A Head is the state of a log: how many records it has, and the hash of the
// last.
type Head struct {
	Size uint64
	Hash [sha256.Size]byte
}

// A Cipher seals what a record is about; a tink.AEAD is one. Associated data
// binds it to the log, the record and the field.
type Cipher interface {
	Encrypt(plaintext, associatedData []byte) ([]byte, error)
	Decrypt(ciphertext, associatedData []byte) ([]byte, error)
}

// Options are the parts of a Log. All but those of the second group must be
// set.
type Options struct {
	Dir    string // made if it is not there
	Origin string // name of this log in checkpoints, unlike that of any other
	Cipher Cipher
	Key    ed25519.PrivateKey // signs checkpoints
	Now    func() time.Time

	FileSize int64        // a file that is larger is followed by another; 16 MiB
	Tell     func(Head)   // called after each write, must not wait
	Free     func() int64 // bytes free on the disk of Dir; nil: enough
}

const (
	defaultFileSize = 16 << 20
	maxLine         = 64 << 10 // bytes, newline included
	maxTogether     = 256      // records that share one write
	maxFaults       = 100      // that are told of one log

	// lowSpace is how much of the disk is left to records of what frees space
	// or takes access away, and of what came of what was begun.
	lowSpace = 4 << 20
)
