package audit

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// A Checkpoint is a head that was signed.
type Checkpoint struct {
	Origin string
	Head   Head
	Made   time.Time
}

// maxCheckpoint is far more than a checkpoint has, in bytes.
const maxCheckpoint = 4 << 10

// signer signs notes with the key of a log.
type signer struct {
	note.Verifier
	key ed25519.PrivateKey
}

// Sign implements note.Signer.
func (s signer) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(s.key, msg), nil }

// VerifierKey is what checkpoints of a log are verified with, as signed notes
// spell it: it is no secret.
func VerifierKey(origin string, key ed25519.PublicKey) (string, error) {
	return note.NewEd25519VerifierKey(origin, key)
}

// Checkpoint signs what is durable now, as a signed note. key verifies it.
func (l *Log) Checkpoint() (signed, key string, err error) {
	h := l.Head()
	text := fmt.Sprintf("%s\n%d\n%s\n%s\n", l.o.Origin, h.Size, base64.StdEncoding.EncodeToString(h.Hash[:]), l.o.Now().UTC().Format(time.RFC3339))
	if key, err = VerifierKey(l.o.Origin, l.o.Key.Public().(ed25519.PublicKey)); err != nil {
		return "", "", fmt.Errorf("sign a checkpoint: %w", err)
	}
	v, err := note.NewVerifier(key)
	if err != nil {
		return "", "", fmt.Errorf("sign a checkpoint: %w", err)
	}
	b, err := note.Sign(&note.Note{Text: text}, signer{v, l.o.Key})
	if err != nil {
		return "", "", fmt.Errorf("sign a checkpoint: %w", err)
	}
	return string(b), key, nil
}

// OpenCheckpoint verifies a checkpoint with the key of VerifierKey. The error
// wraps ErrInvalid.
func OpenCheckpoint(signed, key string) (c Checkpoint, err error) {
	if len(signed) > maxCheckpoint {
		return c, fmt.Errorf("%w: a checkpoint of %d bytes", ErrInvalid, len(signed))
	}
	if by := CheckpointOrigin(signed); by == "" || strings.ContainsAny(by, "+ ") {
		return c, fmt.Errorf("%w: no checkpoint of an audit log", ErrInvalid)
	}
	v, err := note.NewVerifier(strings.TrimSpace(key))
	if err != nil {
		return c, fmt.Errorf("%w: the key of checkpoints: %w", ErrInvalid, err)
	}
	n, err := note.Open([]byte(signed), note.VerifierList(v))
	if err != nil {
		return c, fmt.Errorf("%w: no checkpoint that this log signed: %w", ErrInvalid, err)
	}
	parts := strings.Split(n.Text, "\n")
	if len(parts) != 5 || parts[0] != v.Name() {
		return c, fmt.Errorf("%w: no checkpoint of an audit log", ErrInvalid)
	}
	c.Origin = parts[0]
	size, serr := strconv.ParseUint(parts[1], 10, 64)
	hash, herr := base64.StdEncoding.Strict().DecodeString(parts[2])
	made, terr := time.Parse(time.RFC3339, parts[3])
	if serr != nil || strconv.FormatUint(size, 10) != parts[1] || herr != nil || len(hash) != len(c.Head.Hash) || terr != nil {
		return c, fmt.Errorf("%w: no checkpoint of an audit log", ErrInvalid)
	}
	c.Head.Size, c.Made = size, made
	copy(c.Head.Hash[:], hash)
	return c, nil
}

// CheckpointOrigin is the name in a checkpoint that was not verified.
func CheckpointOrigin(signed string) string {
	name, _, _ := strings.Cut(signed, "\n")
	return name
}
