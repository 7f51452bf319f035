package musen

import (
	"fmt"
	"io"

	"github.com/ipfs/go-cid"
)

const (
	maxReplicas  = 32
	maxCommunity = 64
)

// Replication is how many copies of each segment of a station there shall be.
type Replication struct {
	Min, Max  int  // copies on this node and trusted peers: fewer than Min is a fault, more than Max a waste
	Spread    bool // the copies that count are on different sites
	Community int  // further copies on replicas of the community
}

// NoReplication is one copy, the one on this node.
func NoReplication() Replication { return Replication{Min: 1, Max: 1} }

// Check returns an error that wraps ErrInvalid unless 1 ≤ Min ≤ Max ≤ 32 and
// 0 ≤ Community ≤ 64.
func (r Replication) Check() error {
	switch {
	case r.Min < 1 || r.Min > r.Max || r.Max > maxReplicas:
		return fmt.Errorf("%d to %d copies: %w: give a least and a greatest number from 1 to %d, the least first", r.Min, r.Max, ErrInvalid, maxReplicas)
	case r.Community < 0 || r.Community > maxCommunity:
		return fmt.Errorf("%d copies of the community: %w: give 0 to %d", r.Community, ErrInvalid, maxCommunity)
	}
	return nil
}

// Copies is told which segments shall have copies elsewhere. Its methods
// neither wait nor fail: whoever implements it compares what is wanted with
// what is there, and mends the difference, sooner or later.
type Copies interface {
	// Keep tells of a segment of st that became live.
	Keep(s Segment, st Station)
	// Drop tells of a segment that was removed, perhaps not for the first time.
	Drop(root cid.Cid)
}

// noCopies is the Copies of an Origin without one.
type noCopies struct{}

func (noCopies) Keep(Segment, Station) {}
func (noCopies) Drop(cid.Cid)          {}

// copies is where the origin tells of what comes and goes.
func (o *Origin) copies() Copies {
	if o.Copies == nil {
		return noCopies{}
	}
	return o.Copies
}

// labelLength is that of a label: 80 bits.
const labelLength = 16

// newLabel makes the label of a station from rand.
func newLabel(rand io.Reader) (string, error) {
	var b [10]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return "", fmt.Errorf("make a label: %w", err)
	}
	return idEncoding.EncodeToString(b[:]), nil
}

// CheckLabel returns an error that wraps ErrInvalid unless s is spelled as the
// label of a station: 16 characters of lower-case base32.
func CheckLabel(s string) error {
	if b, err := idEncoding.DecodeString(s); err != nil || len(s) != labelLength || idEncoding.EncodeToString(b) != s {
		return fmt.Errorf("label %.80q: %w: it is not %d characters of lower-case base32", s, ErrInvalid, labelLength)
	}
	return nil
}

// expired is the type of ErrExpired.
type expired struct{}

func (expired) Error() string { return "expired" }
func (expired) Unwrap() error { return ErrGone }
