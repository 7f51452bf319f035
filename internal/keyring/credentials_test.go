package keyring

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musenai/musen/policy"
)

// plainSecrets are the secrets of a keyring as they are spelled.
func plainSecrets(t *testing.T, dir string, unlock Unlock) []byte {
	t.Helper()
	sealed, err := os.ReadFile(filepath.Join(dir, secretsFile))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := unlock.open(sealed, secretsFile, os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// P75, H20: the keys of credentials are rotated; the old ones verify as long as
// they must, sign no more, and no audio is touched.
func TestRotateCredentials(t *testing.T) {
	k, dir, unlock := filled(t)
	now := time.Unix(1_800_000_000, 0)
	key, w := dataKey(t, k, jazz, song)
	kid0, private0 := k.IssuerKey()
	link0, secret0 := k.LinkKey()
	session0, _ := k.SessionKey()
	pepper, fingerprint := k.Pepper(), k.Fingerprint().Sum(nil)
	if n := len(k.OldIssuerKeys(now)) + len(k.OldLinkKeys(now)) + len(k.OldSessionKeys(now)); n != 0 {
		t.Fatalf("%d old keys at first", n)
	}
	kid1, err := k.RotateIssuer(now, 90*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	link1, err := k.RotateLink(now, 31*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		kid, private := k.IssuerKey()
		link, secret := k.LinkKey()
		session, _ := k.SessionKey()
		if kid != kid1 || kid == kid0 || link != link1 || link == link0 || session == session0 || private.Equal(private0) || bytes.Equal(secret, secret0) {
			t.Error("what signs is not new")
		}
		old, oldLinks, oldSessions := k.OldIssuerKeys(now), k.OldLinkKeys(now), k.OldSessionKeys(now)
		if len(old) != 1 || old[0].ID != kid0 || !bytes.Equal(old[0].Key, private0.Public().(ed25519.PublicKey)) || !old[0].Until.Equal(now.Add(90*24*time.Hour)) {
			t.Errorf("old keys of tokens are %+v", old)
		}
		if len(oldLinks) != 1 || oldLinks[0].ID != link0 || !bytes.Equal(oldLinks[0].Key, secret0) || len(oldSessions) != 1 || oldSessions[0].ID != session0 {
			t.Error("old secrets are other ones")
		}
		if len(k.OldLinkKeys(now.Add(31*24*time.Hour))) != 0 || len(k.OldIssuerKeys(now.Add(31*24*time.Hour))) != 1 {
			t.Error("old keys last for another time")
		}
		if !bytes.Equal(k.Pepper(), pepper) || !bytes.Equal(k.Fingerprint().Sum(nil), fingerprint) {
			t.Error("another secret changed")
		}
		if got, err := k.Release(allow(t, policy.Listen, jazz, song), jazz, song, w); err != nil || !bytes.Equal(got, key) {
			t.Errorf("a data key after the rotation: %v", err)
		}
		k = reopen(t, dir, unlock)
	}
	if bytes.Contains(plainSecrets(t, dir, unlock), private0.Seed()) || strings.Contains(string(plainSecrets(t, dir, unlock)), string(private0)) {
		t.Error("the old private key is kept")
	}
	// What is dead is forgotten at the next rotation.
	if _, err := k.RotateIssuer(now.Add(91*24*time.Hour), time.Hour); err != nil {
		t.Fatal(err)
	}
	if len(k.old.issuers) != 1 || len(k.old.links) != 0 {
		t.Errorf("%d and %d old keys are kept", len(k.old.issuers), len(k.old.links))
	}
}

// H78: a keyring in which nothing was rotated is as it always was; one in which
// something was is refused by a program that does not know how, which says so.
func TestRotationIsAFormatOfItsOwn(t *testing.T) {
	k, dir, unlock := filled(t)
	if got := plainSecrets(t, dir, unlock); !bytes.HasPrefix(got, []byte(`{"format":"musen keyring 1",`)) || bytes.Contains(got, []byte("old_")) {
		t.Error("a fresh keyring has another format")
	}
	if _, err := k.RotateLink(time.Now(), time.Hour); err != nil {
		t.Fatal(err)
	}
	rotated := plainSecrets(t, dir, unlock)
	err := decodeExactly(rotated, new(secrets), secretsFormat)
	if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), `"musen keyring 2"`) || !strings.Contains(err.Error(), "use the version of the program") {
		t.Errorf("a program of before says %v", err)
	}
	for what, spoil := range map[string]func(s *secrets){
		"old keys in the first format": func(s *secrets) { s.Format = secretsFormat },
		"a short one":                  func(s *secrets) { s.OldLinks[0].Key = s.OldLinks[0].Key[:8] },
		"an empty one":                 func(s *secrets) { clear(s.OldLinks[0].Key) },
		"one without end":              func(s *secrets) { s.OldLinks[0].Until = 0 },
	} {
		s, err := parseSecrets(rotated)
		if err != nil {
			t.Fatal(err)
		}
		spoil(s)
		sealed, err := unlock.seal(s.encode(), os.Geteuid())
		if err != nil {
			t.Fatal(err)
		}
		put(t, dir, secretsFile, sealed)
		if _, err := Open(dir, unlock); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Two processes do not rotate over each other, and a rotation that fails
// changes nothing.
func TestRotationRefuses(t *testing.T) {
	k, dir, unlock := filled(t)
	other := reopen(t, dir, unlock)
	if _, err := other.RotateIssuer(time.Now(), time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := k.RotateLink(time.Now(), time.Hour); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "changed since") {
		t.Errorf("over another process: %v", err)
	}
	k = reopen(t, dir, unlock)
	before, kid := snapshot(t, dir), firstID(k)
	if err := os.Rename(unlock.IdentityFile, unlock.IdentityFile+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := k.RotateIssuer(time.Now(), time.Hour); err == nil {
		t.Error("rotated without what unlocks")
	}
	if firstID(k) != kid || snapshot(t, dir)[secretsFile] != before[secretsFile] {
		t.Error("a rotation that failed changed something")
	}
	if err := os.Rename(unlock.IdentityFile+".away", unlock.IdentityFile); err != nil {
		t.Fatal(err)
	}
	for range maxOld - 1 {
		if _, err := k.RotateIssuer(time.Now(), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.RotateIssuer(time.Now(), time.Hour); err == nil {
		t.Error("keeps old keys without end")
	}
}

func firstID(k *Keyring) string {
	kid, _ := k.IssuerKey()
	return kid
}
