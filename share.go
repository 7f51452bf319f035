package musen

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// A Share is the record of a link that opens a station to whoever has it. The
// secret in the link is kept by nobody: it is found again by a keyed hash.
type Share struct {
	ID         string // 128 random bits in lower-case base32, never reused; no secret
	Station    string // Station.ID
	Password   string // argon2id hash in PHC form; empty: none is asked for
	Generation uint64 // +1 with each new password ends the sessions before it
	Downloads  bool   // sessions may save segments, where the station allows it
	SessionTTL time.Duration
	MaxUses    int    // sessions that may be opened; 0: any number
	Uses       int    // sessions that were opened
	Epoch      uint64 // of the station when the share was made; over with it
	Created    time.Time
	Expires    time.Time // zero: never
	Revoked    time.Time // zero: not revoked
}

// An End is why a share opens nothing any more. It is empty while it does.
type End string

// The ends of a share.
const (
	EndRevoked End = "revoked" // by itself, or with its station's epoch
	EndExpired End = "expired"
	EndSpent   End = "spent" // used as often as it may be
)

// End is why no new session of s can be opened at now, where epoch is that of
// its station. A share that is spent keeps the sessions it opened; revoked, it
// ends them.
func (s Share) End(epoch uint64, now time.Time) End {
	switch {
	case !s.Revoked.IsZero() || s.Epoch != epoch:
		return EndRevoked
	case !s.Expires.IsZero() && !now.Before(s.Expires):
		return EndExpired
	case s.MaxUses > 0 && s.Uses >= s.MaxUses:
		return EndSpent
	}
	return ""
}

// shareSecretSize is how many random bytes the secret of a share has.
const shareSecretSize = 20

// NewShare makes a share of a station with an id and a secret of 160 bits, both
// read from rand, and nothing else filled in.
func NewShare(rand io.Reader, station Station) (s Share, secret string, err error) {
	s = Share{Station: station.ID, Epoch: station.Epoch}
	if s.ID, err = newID(rand); err != nil {
		return Share{}, "", err
	}
	var b [shareSecretSize]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return Share{}, "", fmt.Errorf("make the secret of a share: %w", err)
	}
	return s, idEncoding.EncodeToString(b[:]), nil
}

// IsShareSecret reports whether s is spelled as the secret of a share.
func IsShareSecret(s string) bool {
	const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
	return len(s) == shareSecretSize*8/5 &&
		!strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(alphabet, r) })
}
