package keyring

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
)

const (
	jazz = "aaaaaaaaaaaaaaaaaaaaaaaaaa"
	news = "bbbbbbbbbbbbbbbbbbbbbbbbbb"
	song = "cccccccccccccccccccccccccc"
	talk = "dddddddddddddddddddddddddd"
)

// home makes a folder of mode 0700 with an identity file, and an Unlock by it.
func home(t *testing.T) (dir string, unlock Unlock) {
	t.Helper()
	root := t.TempDir()
	unlock = Unlock{IdentityFile: filepath.Join(root, "identity.txt")}
	if err := GenerateIdentity(unlock.IdentityFile); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, "keyring"), unlock
}

// filled makes a keyring with the stations jazz and news, and opens it.
func filled(t *testing.T) (*Keyring, string, Unlock) {
	t.Helper()
	dir, unlock := home(t)
	if err := Create(dir, unlock); err != nil {
		t.Fatal(err)
	}
	k := reopen(t, dir, unlock)
	for _, station := range []string{news, jazz} {
		if err := k.AddStation(station); err != nil {
			t.Fatal(err)
		}
	}
	return k, dir, unlock
}

func reopen(t *testing.T, dir string, unlock Unlock) *Keyring {
	t.Helper()
	k, err := Open(dir, unlock)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// allow is what policy answers the operator who asks for a segment.
func allow(t *testing.T, action policy.Action, station, segment string) policy.Decision {
	t.Helper()
	e, err := policy.NewEngine(policy.EngineOptions{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return e.Decide(policy.LocalOperator(), action, policy.Resource{Station: station, Downloads: true, Segment: segment})
}

func dataKey(t *testing.T, k *Keyring, station, segment string) ([]byte, musen.WrappedKey) {
	t.Helper()
	key, w, err := k.NewDataKey(station, segment)
	if err != nil {
		t.Fatal(err)
	}
	return key, w
}

func TestReleaseGivesTheKeyAfterReopen(t *testing.T) {
	k, dir, unlock := filled(t)
	key, w := dataKey(t, k, jazz, song)
	if len(key) != 32 || bytes.Contains(w.Ciphertext, key) || w.Generation != 1 {
		t.Fatalf("key of %d bytes, generation %d", len(key), w.Generation)
	}
	k = reopen(t, dir, unlock)
	for _, action := range []policy.Action{policy.Listen, policy.Download, policy.ReleaseKey, policy.Audit} {
		got, err := k.Release(allow(t, action, jazz, song), jazz, song, w)
		if err != nil || !bytes.Equal(got, key) {
			t.Errorf("%s: got %d bytes, %v", action, len(got), err)
		}
	}
	other, _ := dataKey(t, k, jazz, song)
	if bytes.Equal(other, key) {
		t.Error("two data keys are equal")
	}
}

// P31: no decision, no key.
func TestReleaseNeedsItsDecision(t *testing.T) {
	k, _, _ := filled(t)
	_, w := dataKey(t, k, jazz, song)
	for name, d := range map[string]policy.Decision{
		"zero":            {},
		"another segment": allow(t, policy.Listen, jazz, talk),
		"another station": allow(t, policy.Listen, news, song),
		"whole station":   allow(t, policy.Listen, jazz, ""),
		"another action":  allow(t, policy.Manage, jazz, song),
	} {
		if key, err := k.Release(d, jazz, song, w); !errors.Is(err, ErrNoDecision) || key != nil {
			t.Errorf("%s: got %d bytes, %v", name, len(key), err)
		}
	}
}

// P23, P68, H16: a wrapped key opens for its own station and segment only, and in
// its own realm.
func TestReleaseRefusesForeignWrappedKeys(t *testing.T) {
	k, _, _ := filled(t)
	other, _, _ := filled(t)
	_, w := dataKey(t, k, jazz, song)
	_, foreign := dataKey(t, other, jazz, song)
	flipped := musen.WrappedKey{Generation: 1, Ciphertext: bytes.Clone(w.Ciphertext)}
	flipped.Ciphertext[20] ^= 1
	for name, c := range map[string]struct {
		station, segment string
		w                musen.WrappedKey
		want             error
	}{
		"cross-segment":     {jazz, talk, w, ErrNoKey},
		"cross-station":     {news, song, w, ErrNoKey},
		"cross-realm":       {jazz, song, foreign, ErrNoKey},
		"no such station":   {talk, song, w, ErrNoKey},
		"later generation":  {jazz, song, musen.WrappedKey{Generation: 2, Ciphertext: w.Ciphertext}, ErrNoKey},
		"zero generation":   {jazz, song, musen.WrappedKey{Ciphertext: w.Ciphertext}, ErrNoKey},
		"bit flipped":       {jazz, song, flipped, ErrNoKey},
		"cut":               {jazz, song, musen.WrappedKey{Generation: 1, Ciphertext: w.Ciphertext[:20]}, ErrNoKey},
		"destroyed":         {jazz, song, musen.WrappedKey{Generation: 1}, musen.ErrGone},
		"destroyed, zeroed": {jazz, song, musen.WrappedKey{}, musen.ErrGone},
	} {
		key, err := k.Release(allow(t, policy.Listen, c.station, c.segment), c.station, c.segment, c.w)
		if !errors.Is(err, c.want) || key != nil {
			t.Errorf("%s: got %d bytes, %v", name, len(key), err)
		}
		if c.want == ErrNoKey && !errors.Is(err, musen.ErrUnavailable) {
			t.Errorf("%s: %v is not musen.ErrUnavailable", name, err)
		}
	}
}

func TestOldGenerationsStayReadable(t *testing.T) {
	k, dir, unlock := filled(t)
	first, w1 := dataKey(t, k, jazz, song)
	k.mu.Lock()
	err := k.change(func(m map[string][]generation) error { return k.addGeneration(m, jazz) })
	k.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	second, w2 := dataKey(t, k, jazz, talk)
	if w2.Generation != 2 {
		t.Fatalf("generation %d after a second key", w2.Generation)
	}
	k = reopen(t, dir, unlock)
	got1, err1 := k.Release(allow(t, policy.Listen, jazz, song), jazz, song, w1)
	got2, err2 := k.Release(allow(t, policy.Listen, jazz, talk), jazz, talk, w2)
	if err1 != nil || err2 != nil || !bytes.Equal(got1, first) || !bytes.Equal(got2, second) {
		t.Errorf("after reopen: %v, %v", err1, err2)
	}
}

// An older copy of stations.json opens, but says what is missing (H70's kin).
func TestRolledBackStationsAreNoticed(t *testing.T) {
	k, dir, unlock := filled(t)
	old, err := os.ReadFile(filepath.Join(dir, stationsFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.AddStation(talk); err != nil {
		t.Fatal(err)
	}
	_, w := dataKey(t, k, talk, song)
	put(t, dir, stationsFile, old)

	if err := k.AddStation(song); !errors.Is(err, ErrDamaged) {
		t.Errorf("a write over a foreign change: %v", err)
	}
	k = reopen(t, dir, unlock)
	_, err = k.Release(allow(t, policy.Listen, talk, song), talk, song, w)
	if !errors.Is(err, ErrNoKey) || !strings.Contains(err.Error(), stationsFile) || !strings.Contains(err.Error(), "backup") {
		t.Errorf("release after a rollback: %v", err)
	}
	if _, _, err := k.NewDataKey(talk, song); !errors.Is(err, ErrNoKey) {
		t.Errorf("new key after a rollback: %v", err)
	}
}

func TestAddStationKeepsTheKey(t *testing.T) {
	k, dir, _ := filled(t)
	before, _ := os.ReadFile(filepath.Join(dir, stationsFile))
	if err := k.AddStation(jazz); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.ReadFile(filepath.Join(dir, stationsFile)); !bytes.Equal(before, after) {
		t.Error("adding a station again changed its keys")
	}
	for _, bad := range []string{"", "a b", "a\x00", "ä", strings.Repeat("a", 65)} {
		if err := k.AddStation(bad); !errors.Is(err, musen.ErrInvalid) {
			t.Errorf("AddStation(%q): %v", bad, err)
		}
		if _, _, err := k.NewDataKey(jazz, bad); !errors.Is(err, musen.ErrInvalid) {
			t.Errorf("NewDataKey(%q): %v", bad, err)
		}
	}
}

func TestRemoveStationDestroysItsKeysAlone(t *testing.T) {
	k, dir, unlock := filled(t)
	_, wj := dataKey(t, k, jazz, song)
	kept, wn := dataKey(t, k, news, talk)
	wrapped := k.stations[jazz][0].Wrapped
	old, err := os.Open(filepath.Join(dir, stationsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := errors.Join(k.RemoveStation(jazz), k.RemoveStation(jazz)); err != nil {
		t.Fatal(err)
	}
	for _, k := range []*Keyring{k, reopen(t, dir, unlock)} {
		if _, err := k.Release(allow(t, policy.Listen, jazz, song), jazz, song, wj); !errors.Is(err, ErrNoKey) {
			t.Errorf("release of a removed station: %v", err)
		}
		if got, err := k.Release(allow(t, policy.Listen, news, talk), news, talk, wn); err != nil || !bytes.Equal(got, kept) {
			t.Errorf("release of the other station: %v", err)
		}
	}
	// A station of that name that comes back has another key.
	if err := k.AddStation(jazz); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Release(allow(t, policy.Listen, jazz, song), jazz, song, wj); !errors.Is(err, ErrNoKey) {
		t.Errorf("release under a new key of the station: %v", err)
	}
	b := make([]byte, 4096)
	if n, _ := old.ReadAt(b, 0); len(bytes.Trim(b[:n], "\x00")) != 0 || bytes.Contains(b, wrapped) {
		t.Error("the replaced file was not overwritten")
	}
}

func TestConcurrentUse(t *testing.T) {
	k, dir, unlock := filled(t)
	d := allow(t, policy.Listen, jazz, song)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			id := strings.Repeat(string(rune('e'+i)), 26)
			if err := k.AddStation(id); err != nil {
				t.Error(err)
			}
			_, w, err := k.NewDataKey(jazz, song)
			if err == nil {
				_, err = k.Release(d, jazz, song, w)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if k = reopen(t, dir, unlock); len(k.stations) != 10 {
		t.Errorf("%d stations after reopen", len(k.stations))
	}
}

// P37, P68: every keyring draws secrets of its own, and keeps them; by those of
// another realm nothing is opened or found, such as a share by its link.
func TestSecretsAreStableAndDistinct(t *testing.T) {
	k, dir, unlock := filled(t)
	again := reopen(t, dir, unlock)
	other, _, _ := filled(t)
	kid, key := k.IssuerKey()
	kid2, key2 := again.IssuerKey()
	if kid != kid2 || !key.Equal(key2) || len(kid) != 16 {
		t.Errorf("issuer key changed: %q, %q", kid, kid2)
	}
	if !ed25519.Verify(key.Public().(ed25519.PublicKey), []byte("x"), ed25519.Sign(key2, []byte("x"))) {
		t.Error("issuer key does not sign")
	}
	if otherID, otherKey := other.IssuerKey(); otherID == kid || otherKey.Equal(key) {
		t.Error("two keyrings have one issuer key")
	}
	lid, link := k.LinkKey()
	lid2, link2 := again.LinkKey()
	if lid != lid2 || !bytes.Equal(link, link2) || len(link) != 32 || lid == kid {
		t.Error("link key changed")
	}
	sid, session := k.SessionKey()
	sid2, session2 := again.SessionKey()
	if sid != sid2 || !bytes.Equal(session, session2) || len(session) != 32 || sid == lid || bytes.Equal(session, link) {
		t.Error("session key changed, or is that of links")
	}
	_, otherLink := other.LinkKey()
	_, otherSession := other.SessionKey()
	if bytes.Equal(link, otherLink) || bytes.Equal(session, otherSession) {
		t.Error("two keyrings have one link key, or one session key")
	}
	if !k.AuditKey().Equal(again.AuditKey()) || k.AuditKey().Equal(other.AuditKey()) || bytes.Equal(k.AuditKey().Seed(), k.Pepper()) {
		t.Error("the key of checkpoints is not the keyring's own")
	}
	if !bytes.Equal(k.Pepper(), again.Pepper()) || len(k.Pepper()) != 32 || bytes.Equal(k.Pepper(), other.Pepper()) {
		t.Error("the pepper changed, or is that of another keyring")
	}
	if k.Realm() != again.Realm() || k.Realm() == other.Realm() || !musen.IsID(k.Realm()) {
		t.Errorf("realms %q, %q, %q", k.Realm(), again.Realm(), other.Realm())
	}
	sum := func(k *Keyring) (a, b string) {
		f, l := k.Fingerprint(), k.Lookup()
		f.Write([]byte("x"))
		l.Write([]byte("x"))
		return string(f.Sum(nil)), string(l.Sum(nil))
	}
	f1, l1 := sum(k)
	f2, l2 := sum(again)
	if f3, l3 := sum(other); f1 != f2 || l1 != l2 || f1 == l1 || f1 == f3 || l1 == l3 {
		t.Error("fingerprint or lookup hash is not keyed as promised")
	}
	sealed, err := k.Catalogue().Encrypt([]byte("subject"), []byte("column"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Catalogue().Decrypt(sealed, []byte("column")); err != nil || string(got) != "subject" {
		t.Errorf("catalogue cipher after reopen: %q, %v", got, err)
	}
	if _, err := other.Catalogue().Decrypt(sealed, []byte("column")); err == nil {
		t.Error("another realm opened a sealed column")
	}
}

// P37, H24: the log says what was released, and never a key.
func TestReleasesAreLoggedWithoutKeys(t *testing.T) {
	k, _, _ := filled(t)
	var log bytes.Buffer
	k.LogTo(slog.New(slog.NewJSONHandler(&log, nil)))
	key, w := dataKey(t, k, jazz, song)
	if _, err := k.Release(allow(t, policy.Listen, jazz, song), jazz, song, w); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Release(policy.Decision{}, jazz, talk, w); err == nil {
		t.Fatal("released without a decision")
	}
	text := log.String()
	for _, want := range []string{`"key released","station":"` + jazz + `","segment":"` + song + `","action":"listen"`, `"key refused","station":"` + jazz + `","segment":"` + talk + `"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the log lacks %s:\n%s", want, text)
		}
	}
	if bytes.Contains(log.Bytes(), key[:8]) || strings.Count(text, "\n") != 2 {
		t.Errorf("the log holds too much:\n%s", text)
	}
}

func TestCreateRefusesAnExistingKeyring(t *testing.T) {
	_, dir, unlock := filled(t)
	before := snapshot(t, dir)
	if err := Create(dir, unlock); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create over a keyring: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, secretsFile)); err != nil {
		t.Fatal(err)
	}
	if err := Create(dir, unlock); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), secretsFile+" is missing") {
		t.Errorf("Create over orphaned stations: %v", err)
	}
	if after := snapshot(t, dir); after[stationsFile] != before[stationsFile] {
		t.Error("a refused Create changed the stations")
	}
	if err := GenerateIdentity(unlock.IdentityFile); !errors.Is(err, fs.ErrExist) {
		t.Errorf("GenerateIdentity over a file: %v", err)
	}
}

// P37
func TestFilesArePrivate(t *testing.T) {
	_, dir, unlock := filled(t)
	for path, want := range map[string]fs.FileMode{
		dir:                              fs.ModeDir | 0o700,
		filepath.Join(dir, secretsFile):  0o600,
		filepath.Join(dir, stationsFile): 0o600,
		unlock.IdentityFile:              0o600,
	} {
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v, not %v (%v)", path, info.Mode(), want, err)
		}
	}
}

func TestUnsafeNamesWhatToMend(t *testing.T) {
	k, dir, unlock := filled(t)
	if got := k.Unsafe(); len(got) != 1 || !strings.Contains(got[0], unlock.IdentityFile) || !strings.Contains(got[0], "keyring.identity_file") {
		t.Errorf("identity in the home: %q", got)
	}
	away := filepath.Join(t.TempDir(), "identity.txt")
	b, err := os.ReadFile(unlock.IdentityFile)
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Dir(away), "identity.txt", b)
	k = reopen(t, dir, Unlock{IdentityFile: away})
	if got := k.Unsafe(); len(got) != 0 {
		t.Errorf("identity elsewhere: %q", got)
	}
	if err := os.Chmod(filepath.Dir(dir), 0o777); err != nil {
		t.Fatal(err)
	}
	if got := k.Unsafe(); len(got) != 1 || !strings.Contains(got[0], "chmod go-w") {
		t.Errorf("home open to others: %q", got)
	}
}

// put writes a private file as is.
func put(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	m := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		m[e.Name()] = string(b)
	}
	return m
}
