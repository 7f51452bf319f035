// Package auditlog holds the shapes of the admin API that are about the audit
// log. It knows how JSON spells them, and nothing of how records are kept.
package auditlog

import (
	"encoding/hex"
	"time"

	"github.com/musenai/musen/gateway/admin/wire/access"
	"github.com/musenai/musen/internal/audit"
)

// Record is one entry of the log, with its names opened.
type Record struct {
	Seq        uint64            `json:"seq"`
	Time       time.Time         `json:"time"`
	Event      string            `json:"event"`
	Outcome    string            `json:"outcome,omitempty"`
	Code       string            `json:"code,omitempty"`
	By         string            `json:"by,omitempty"`
	Actor      string            `json:"actor,omitempty"`
	Credential string            `json:"credential,omitempty"`
	Object     string            `json:"object,omitempty"`
	Reason     string            `json:"reason,omitempty"`
	Request    string            `json:"request,omitempty"`
	Facts      map[string]string `json:"facts,omitempty"`
}

// FromRecord shapes a record.
func FromRecord(r audit.Record) Record {
	return Record{
		Seq: r.Seq, Time: r.Time.UTC(), Event: r.Event, Outcome: r.Outcome, Code: r.Code, By: r.By, Actor: r.Actor, Credential: r.Credential,
		Object: r.Object, Reason: r.Reason, Request: r.Request, Facts: r.Facts,
	}
}

// Records are some of the log, in order.
type Records struct {
	Records []Record `json:"records"`
	Size    uint64   `json:"size"` // number of the last of them
}

// Head is a state of the log.
type Head struct {
	Size uint64 `json:"size"` // in records
	Hash string `json:"hash"` // of the last
}

// FromHead shapes a head.
func FromHead(h audit.Head) Head { return Head{h.Size, hex.EncodeToString(h.Hash[:])} }

// Head is h as the log knows it, and whether it is one.
func (h Head) Head() (audit.Head, bool) {
	out := audit.Head{Size: h.Size}
	n, err := hex.Decode(out.Hash[:], []byte(h.Hash))
	return out, err == nil && n == len(out.Hash) && len(h.Hash) == 2*n
}

// Checkpoint is a signed state of the log.
type Checkpoint struct {
	Checkpoint string `json:"checkpoint"`          // a signed note
	Key        string `json:"key"`                 // that verifies it; no secret
	Catalogue  *Head  `json:"catalogue,omitempty"` // what the catalogue knows
}

// Count is how many records there are of a kind.
type Count struct {
	Event   string `json:"event,omitempty"`
	Actor   string `json:"actor,omitempty"`
	Outcome string `json:"outcome,omitempty"`
	N       int    `json:"n"`
}

// FromCounts shapes counts.
func FromCounts(counts []audit.Count) []Count {
	list := make([]Count, len(counts))
	for i, n := range counts {
		list[i] = Count{n.Event, n.Actor, n.Outcome, n.N}
	}
	return list
}

// Digest is what happened since the log was last signed off.
type Digest struct {
	After   uint64         `json:"after"` // the last record that was signed off; 0: none was
	Head    Head           `json:"head"`  // the last record that is in the digest
	From    *time.Time     `json:"from,omitempty"`
	To      *time.Time     `json:"to,omitempty"`
	Records int            `json:"records"`
	Events  []Count        `json:"events"`
	Actors  []Count        `json:"actors"`
	Checked *time.Time     `json:"checked,omitempty"` // when the node last verified the whole log
	Faults  []string       `json:"faults"`            // that it found
	Last    *access.Review `json:"last,omitempty"`
}

// SignOff is the wish to sign that a digest was read.
type SignOff struct {
	Reviewer string `json:"reviewer"`
	Head     Head   `json:"head"` // of the digest
}
