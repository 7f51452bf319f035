package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

const (
	lineFormat = 1
	hashLabel  = "musen audit 1\n"
	sealLabel  = "musen audit 1\x00"

	hashField  = `,"hash":"`
	tailLength = len(hashField) + 2*sha256.Size + len(`"}`)
)

// A line is a record as it stands in a file, but for its hash.
type line struct {
	Format  int               `json:"v"`
	Seq     uint64            `json:"seq"`
	Time    time.Time         `json:"time"`
	Event   string            `json:"event"`
	Outcome string            `json:"outcome,omitempty"`
	Code    string            `json:"code,omitempty"`
	By      string            `json:"by,omitempty"`
	Actor   []byte            `json:"actor,omitempty"`
	Cred    []byte            `json:"credential,omitempty"`
	Object  []byte            `json:"object,omitempty"`
	Reason  []byte            `json:"reason,omitempty"`
	Request string            `json:"request,omitempty"`
	Facts   map[string]string `json:"facts,omitempty"`
	Prev    string            `json:"prev"`
}

// associatedData binds a sealed field to its place.
func associatedData(origin string, seq uint64, field string) []byte {
	return []byte(sealLabel + origin + "\x00" + strconv.FormatUint(seq, 10) + "\x00" + field)
}

// encode makes the line of r, which comes after head, newline included, and
// returns the head that it makes.
func (o Options) encode(r Record, head Head) ([]byte, Head, error) {
	l := line{
		Format: lineFormat, Seq: head.Size + 1, Time: r.Time.UTC().Truncate(time.Microsecond), Event: r.Event, Outcome: r.Outcome,
		Code: r.Code, By: r.By, Request: r.Request, Facts: r.Facts, Prev: hex.EncodeToString(head.Hash[:]),
	}
	for _, f := range []struct {
		to          *[]byte
		name, plain string
	}{{&l.Actor, "actor", r.Actor}, {&l.Cred, "credential", r.Credential}, {&l.Object, "object", r.Object}, {&l.Reason, "reason", r.Reason}} {
		if f.plain == "" {
			continue
		}
		var err error
		if *f.to, err = o.Cipher.Encrypt([]byte(f.plain), associatedData(o.Origin, l.Seq, f.name)); err != nil {
			return nil, head, fmt.Errorf("seal the %s of a record: %w", f.name, err)
		}
	}
	b, err := json.Marshal(l)
	if err != nil {
		return nil, head, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	body := b[:len(b)-1] // the brace comes after the hash
	next := Head{l.Seq, hashOf(body)}
	b = append(body, hashField+hex.EncodeToString(next.Hash[:])+"\"}\n"...)
	if len(b) > maxLine {
		return nil, head, fmt.Errorf("%w: a record of %d bytes", ErrInvalid, len(b))
	}
	return b, next, nil
}

// hashOf is the hash of a record, of the bytes of its line before the hash.
func hashOf(body []byte) (sum [sha256.Size]byte) {
	h := sha256.New()
	h.Write([]byte(hashLabel))
	h.Write(body)
	h.Sum(sum[:0])
	return sum
}

var (
	errForm    = errors.New("it is not a record")
	errChanged = errors.New("it was changed after it was written: its hash does not fit")
)

// decode reads a line without its newline, and checks its own hash.
func decode(b []byte) (l line, hash [sha256.Size]byte, err error) {
	if len(b) <= tailLength {
		return l, hash, errForm
	}
	body, tail := b[:len(b)-tailLength], b[len(b)-tailLength:]
	text, ok := bytes.CutPrefix(tail, []byte(hashField))
	text, closed := bytes.CutSuffix(text, []byte(`"}`))
	if !ok || !closed {
		return l, hash, errForm
	}
	hash = hashOf(body)
	if hex.EncodeToString(hash[:]) != string(text) {
		return l, hash, errChanged
	}
	if err := json.Unmarshal(b, &l); err != nil || l.Seq == 0 {
		return line{}, hash, errForm
	}
	if l.Format != lineFormat {
		return l, hash, fmt.Errorf("its format is %d, this program knows %d", l.Format, lineFormat)
	}
	return l, hash, nil
}

// sealedElsewhere stands for what does not open.
const sealedElsewhere = "(sealed with another keyring)"

// record opens what is sealed in l.
func (o Options) record(l line) Record {
	r := Record{
		Seq: l.Seq, Time: l.Time, Event: l.Event, Outcome: l.Outcome, Code: l.Code, By: l.By, Request: l.Request, Facts: l.Facts,
	}
	for _, f := range []struct {
		to     *string
		name   string
		sealed []byte
	}{{&r.Actor, "actor", l.Actor}, {&r.Credential, "credential", l.Cred}, {&r.Object, "object", l.Object}, {&r.Reason, "reason", l.Reason}} {
		if len(f.sealed) == 0 {
			continue
		}
		plain, err := o.Cipher.Decrypt(f.sealed, associatedData(o.Origin, l.Seq, f.name))
		if *f.to = string(plain); err != nil {
			*f.to = sealedElsewhere
		}
	}
	return r
}
