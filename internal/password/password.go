// Package password hashes the passwords of shares with argon2id, and compares
// guesses with the hashes.
//
// Each hash has a salt of its own, and all are keyed with a pepper that is kept
// apart from them. Hashing takes memory and time on purpose, so no more than a
// few run at once, and no more than a bounded number wait. The package does not
// know what a password opens, how often somebody has guessed, or where hashes
// are kept.
package password

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/alexedwards/argon2id"
)

// Bounds of a password: characters at least, bytes at most.
const (
	MinLength = 8
	MaxLength = 256
)

// ErrBusy says that too many hashes wait already.
var ErrBusy = errors.New("too many passwords are being checked")

// waitsPerHash is how many may wait for each that runs.
const waitsPerHash = 32

// A Hasher hashes passwords under one pepper. It is safe for concurrent use.
type Hasher struct {
	pepper []byte
	params argon2id.Params
	nobody string        // the hash of a password that nobody has
	queue  chan struct{} // room for those that run or wait
	slots  chan struct{} // room for those that run
}

// New makes a Hasher of which at most parallel hashes run at once, each of
// which takes 19 MiB of memory. A pepper is at least 32 random bytes.
func New(pepper []byte, parallel int) (*Hasher, error) {
	if len(pepper) < 32 || parallel < 1 {
		return nil, fmt.Errorf("make a hasher of passwords: pepper of %d bytes, %d at once", len(pepper), parallel)
	}
	h := &Hasher{
		pepper: pepper,
		params: argon2id.Params{Memory: 19 << 10, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32},
		queue:  make(chan struct{}, parallel*(1+waitsPerHash)), slots: make(chan struct{}, parallel),
	}
	var err error
	if h.nobody, err = argon2id.CreateHash("", &h.params); err != nil {
		return nil, fmt.Errorf("make a hasher of passwords: %w", err)
	}
	return h, nil
}

// Check returns an error that says what is wrong with a password that is to be
// set, and never the password.
func Check(password string) error {
	switch {
	case !utf8.ValidString(password):
		return errors.New("the password is not text")
	case utf8.RuneCountInString(password) < MinLength:
		return fmt.Errorf("the password has fewer than %d characters", MinLength)
	case len(password) > MaxLength:
		return fmt.Errorf("the password has more than %d bytes", MaxLength)
	}
	return nil
}

// Hash hashes a password, with a fresh salt, into PHC form.
func (h *Hasher) Hash(ctx context.Context, password string) (hash string, err error) {
	leave, err := h.enter(ctx)
	if err == nil {
		defer leave()
		hash, err = argon2id.CreateHash(h.keyed(password), &h.params)
	}
	if err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	return hash, nil
}

// Matches reports whether hash is of that password. An empty hash matches
// nothing, which takes as long to find out.
func (h *Hasher) Matches(ctx context.Context, password, hash string) (bool, error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return false, fmt.Errorf("check a password: %w", err)
	}
	defer leave()
	against := hash
	if hash == "" {
		against = h.nobody
	}
	ok, err := argon2id.ComparePasswordAndHash(h.keyed(password), against)
	if err != nil {
		return false, fmt.Errorf("check a password: %w", err)
	}
	return ok && hash != "", nil
}

// keyed is what is hashed of a password.
func (h *Hasher) keyed(password string) string {
	mac := hmac.New(sha256.New, h.pepper)
	mac.Write([]byte(password))
	return base64.RawStdEncoding.EncodeToString(mac.Sum(nil))
}

// enter waits until one more hash may run.
func (h *Hasher) enter(ctx context.Context) (leave func(), err error) {
	select {
	case h.queue <- struct{}{}:
	default:
		return nil, ErrBusy
	}
	select {
	case h.slots <- struct{}{}:
		return func() { <-h.slots; <-h.queue }, nil
	case <-ctx.Done():
		<-h.queue
		return nil, ctx.Err()
	}
}
