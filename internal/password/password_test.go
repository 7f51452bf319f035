package password_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/musenai/musen/internal/password"
)

func newHasher(t testing.TB, seed byte, parallel int) *password.Hasher {
	t.Helper()
	h, err := password.New(bytes.Repeat([]byte{seed}, 32), parallel)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// P20, H76: argon2id, a salt for each, and no guess without the pepper.
func TestHash(t *testing.T) {
	h, other := newHasher(t, 1, 2), newHasher(t, 2, 2)
	const word = "open sesame é"
	a, err := h.Hash(t.Context(), word)
	b, err2 := h.Hash(t.Context(), word)
	if err != nil || err2 != nil || a == b || !strings.HasPrefix(a, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatalf("hashes %q and %q, %v, %v", a, b, err, err2)
	}
	for _, c := range []struct {
		name, word, hash string
		hasher           *password.Hasher
		want             bool
	}{
		{"right", word, a, h, true},
		{"right, other salt", word, b, h, true},
		{"wrong", "open sesame", a, h, false},
		{"empty", "", a, h, false},
		{"other pepper", word, a, other, false},
		{"no hash", word, "", h, false},
		{"no hash, no word", "", "", h, false},
	} {
		if got, err := c.hasher.Matches(t.Context(), c.word, c.hash); err != nil || got != c.want {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
	if _, err := h.Matches(t.Context(), word, "not a hash"); err == nil || strings.Contains(err.Error(), word) {
		t.Errorf("a broken hash: %v", err)
	}
}

func TestRefusedPasswords(t *testing.T) {
	for word, ok := range map[string]bool{
		"12345678": true, "éééééééé": true, strings.Repeat("x", 256): true,
		"": false, "1234567": false, "ééééééé": false, strings.Repeat("x", 257): false, "12345678\xff": false,
	} {
		err := password.Check(word)
		if (err == nil) != ok || err != nil && word != "" && strings.Contains(err.Error(), word) {
			t.Errorf("%q: %v", word, err)
		}
	}
	for _, o := range []struct {
		pepper   []byte
		parallel int
	}{{nil, 1}, {make([]byte, 31), 1}, {make([]byte, 32), 0}} {
		if _, err := password.New(o.pepper, o.parallel); err == nil {
			t.Errorf("%d bytes of pepper, %d at once: accepted", len(o.pepper), o.parallel)
		}
	}
}

// Guesses wait for each other, not without end, and no longer than their
// callers.
func TestBoundedHashes(t *testing.T) {
	h := newHasher(t, 1, 1)
	leave, fill := h.Occupy(t, 1), h.Fill(t)
	if _, err := h.Hash(t.Context(), "one too many"); !errors.Is(err, password.ErrBusy) {
		t.Errorf("beyond the queue: %v", err)
	}
	fill()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Matches(ctx, "who left", ""); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who left: %v", err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := h.Hash(t.Context(), "who waited")
		done <- err
	}()
	leave()
	if err := <-done; err != nil {
		t.Errorf("who waited: %v", err)
	}
}

func BenchmarkMatches(b *testing.B) {
	h := newHasher(b, 1, 2)
	hash, err := h.Hash(b.Context(), "open sesame")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := h.Matches(b.Context(), "open sesame", hash); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
