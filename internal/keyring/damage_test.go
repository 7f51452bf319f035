package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"filippo.io/age"
)

// refuses opens a keyring that must not open, with an error of that kind whose
// words name all of hints; no file may change by it.
func refuses(t *testing.T, dir string, unlock Unlock, kind error, hints ...string) {
	t.Helper()
	_, err := Open(dir, unlock)
	if !errors.Is(err, kind) {
		t.Fatalf("got %v, want %v", err, kind)
	}
	for _, h := range hints {
		if !strings.Contains(err.Error(), h) {
			t.Errorf("the error does not say %q: %v", h, err)
		}
	}
	if strings.Contains(err.Error(), "AGE-SECRET-KEY-1Q") || strings.Contains(err.Error(), "correct horse") {
		t.Errorf("the error tells a secret: %v", err)
	}
}

// P37, H22: modes, owners, links, kinds, missing files.
func TestOpenRefusesUnsafeFiles(t *testing.T) {
	for _, name := range []string{secretsFile, stationsFile, "../identity.txt"} {
		base := filepath.Base(name)
		for what, c := range map[string]struct {
			spoil func(path string) error
			kind  error
			hint  string
		}{
			"readable by group":  {func(p string) error { return os.Chmod(p, 0o640) }, ErrUnsafe, "chmod 0600"},
			"readable by others": {func(p string) error { return os.Chmod(p, 0o644) }, ErrUnsafe, "chmod 0600"},
			"set-uid":            {func(p string) error { return os.Chmod(p, 0o600|fs.ModeSetuid) }, ErrUnsafe, "chmod 0600"},
			"symbolic link": {func(p string) error {
				return errors.Join(os.Rename(p, p+".real"), os.Symlink(p+".real", p))
			}, ErrUnsafe, "symbolic link"},
			"fifo": {func(p string) error {
				return errors.Join(os.Remove(p), syscall.Mkfifo(p, 0o600))
			}, ErrUnsafe, "special file"},
			"folder":  {func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) }, ErrUnsafe, "a folder"},
			"missing": {os.Remove, fs.ErrNotExist, map[bool]string{true: "keyring.identity_file", false: "backup"}[base == "identity.txt"]},
			"empty":   {func(p string) error { return os.Truncate(p, 0) }, ErrDamaged, "0 bytes"},
			"huge":    {func(p string) error { return os.Truncate(p, 1<<30) }, ErrDamaged, "bytes"},
		} {
			t.Run(base+" "+what, func(t *testing.T) {
				_, dir, unlock := filled(t)
				if err := c.spoil(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
				refuses(t, dir, unlock, c.kind, base, c.hint)
			})
		}
	}
}

func TestOpenRefusesUnsafeFolder(t *testing.T) {
	_, dir, unlock := filled(t)
	for _, mode := range []fs.FileMode{0o750, 0o701, 0o777} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		refuses(t, dir, unlock, ErrUnsafe, dir, "chmod 0700")
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	link := dir + "-link"
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	refuses(t, link, unlock, ErrUnsafe, "symbolic link")
	refuses(t, dir+"-none", unlock, fs.ErrNotExist, "musen init")
	if err := Create(link, unlock); !errors.Is(err, ErrUnsafe) {
		t.Errorf("Create through a link: %v", err)
	}
}

func TestOpenRefusesFilesOfAnotherUser(t *testing.T) {
	_, dir, unlock := filled(t)
	stranger := os.Geteuid() + 1
	k := &Keyring{dir: dir, unlock: unlock, uid: stranger}
	if err := k.load(); !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), "another user") {
		t.Errorf("folder of another user: %v", err)
	}
	if _, err := readPrivate(unlock.IdentityFile, stranger, 1<<20); !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), "another user") {
		t.Errorf("file of another user: %v", err)
	}
}

// H22: every cut of keyring.age is refused, and every flipped bit.
func TestOpenRefusesDamagedSecrets(t *testing.T) {
	_, dir, unlock := filled(t)
	whole, err := os.ReadFile(filepath.Join(dir, secretsFile))
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, b []byte) {
		put(t, dir, secretsFile, b)
		if _, err := Open(dir, unlock); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrLocked) {
			t.Fatalf("%s: %v", what, err)
		} else if !strings.Contains(err.Error(), secretsFile) {
			t.Fatalf("%s: the error does not name the file: %v", what, err)
		}
	}
	for n := range len(whole) {
		check(fmt.Sprintf("cut to %d bytes", n), whole[:n])
		flipped := bytes.Clone(whole)
		flipped[n] ^= 4
		check(fmt.Sprintf("flipped bit in byte %d", n), flipped)
	}
	check("extended", append(bytes.Clone(whole), 0))
}

func TestOpenRefusesDamagedStations(t *testing.T) {
	_, dir, unlock := filled(t)
	whole, err := os.ReadFile(filepath.Join(dir, stationsFile))
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, b []byte) {
		put(t, dir, stationsFile, b)
		if _, err := Open(dir, unlock); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), stationsFile) {
			t.Fatalf("%s: %v", what, err)
		}
	}
	for n := range len(whole) {
		check(fmt.Sprintf("cut to %d bytes", n), whole[:n])
		flipped := bytes.Clone(whole)
		flipped[n] ^= 1
		check(fmt.Sprintf("flipped bit in byte %d", n), flipped)
	}
	check("trailing newline", append(bytes.Clone(whole), '\n'))
	_, other, _ := filled(t)
	foreign, err := os.ReadFile(filepath.Join(other, stationsFile))
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, stationsFile, foreign)
	refuses(t, dir, unlock, ErrDamaged, stationsFile, "another keyring")
}

// H22: two keys of one id, keys of wrong length, unknown formats: refused for
// what they are even when the whole is authentic.
func TestOpenRefusesInconsistentStations(t *testing.T) {
	for what, c := range map[string]struct {
		spoil func(d *stationsDoc)
		hint  string
	}{
		"two same generations": {func(d *stationsDoc) { d.Stations[0].Keys = append(d.Stations[0].Keys, d.Stations[0].Keys[0]) }, "twice"},
		"two same stations":    {func(d *stationsDoc) { d.Stations[1] = d.Stations[0] }, "twice"},
		"generation 0":         {func(d *stationsDoc) { d.Stations[0].Keys[0].Number = 0 }, "out of order"},
		"no keys":              {func(d *stationsDoc) { d.Stations[0].Keys = nil }, "no key"},
		"short key":            {func(d *stationsDoc) { d.Stations[0].Keys[0].Wrapped = make([]byte, 8) }, "wrong length"},
		"all-zero key":         {func(d *stationsDoc) { clear(d.Stations[0].Keys[0].Wrapped) }, "does not open"},
		"swapped keys": {func(d *stationsDoc) {
			a, b := &d.Stations[0].Keys[0].Wrapped, &d.Stations[1].Keys[0].Wrapped
			*a, *b = *b, *a
		}, "does not open"},
		"bad id":        {func(d *stationsDoc) { d.Stations[0].ID = "a b" }, "not an id"},
		"newer format":  {func(d *stationsDoc) { d.Format = "musen stations 9" }, "version of the program"},
		"no list":       {func(d *stationsDoc) { d.Stations = nil }, "missing"},
		"foreign realm": {func(d *stationsDoc) { d.Realm = jazz }, "another keyring"},
	} {
		t.Run(what, func(t *testing.T) {
			k, dir, unlock := filled(t)
			b, err := os.ReadFile(filepath.Join(dir, stationsFile))
			if err != nil {
				t.Fatal(err)
			}
			doc, err := parseStations(b)
			if err != nil {
				t.Fatal(err)
			}
			c.spoil(doc)
			if doc.Check, err = k.root.Encrypt([]byte(checkText), doc.authenticated()); err != nil {
				t.Fatal(err)
			}
			put(t, dir, stationsFile, doc.encode())
			refuses(t, dir, unlock, ErrDamaged, stationsFile, c.hint)
		})
	}
}

// H22: secrets that are authentic but wrong never become an all-zero key.
func TestOpenRefusesInconsistentSecrets(t *testing.T) {
	for what, spoil := range map[string]func(s *secrets){
		"zero issuer":      func(s *secrets) { clear(s.Issuer) },
		"short link key":   func(s *secrets) { s.Link = s.Link[:16] },
		"no fingerprint":   func(s *secrets) { s.Fingerprint = nil },
		"no root":          func(s *secrets) { s.Root = nil },
		"broken root":      func(s *secrets) { s.Root = s.Root[:len(s.Root)-3] },
		"broken catalogue": func(s *secrets) { s.Catalogue = []byte("x") },
		"no realm":         func(s *secrets) { s.Realm = "" },
		"newer format":     func(s *secrets) { s.Format = "musen keyring 3" },
	} {
		t.Run(what, func(t *testing.T) {
			_, dir, unlock := filled(t)
			s, err := newSecrets()
			if err != nil {
				t.Fatal(err)
			}
			spoil(s)
			sealed, err := unlock.seal(s.encode(), os.Geteuid())
			if err != nil {
				t.Fatal(err)
			}
			put(t, dir, secretsFile, sealed)
			refuses(t, dir, unlock, ErrDamaged, secretsFile)
		})
	}
	// Whole secrets, but of another keyring: the self-test notices at start (H23).
	_, dir, unlock := filled(t)
	s, err := newSecrets()
	if err != nil {
		t.Fatal(err)
	}
	k := reopen(t, dir, unlock)
	s.Realm = k.Realm()
	sealed, err := unlock.seal(s.encode(), os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, secretsFile, sealed)
	refuses(t, dir, unlock, ErrDamaged, stationsFile, "does not belong")
}

// H23: the wrong identity or passphrase fails at start, for what it is.
func TestOpenRefusesTheWrongUnlock(t *testing.T) {
	_, dir, unlock := filled(t)
	before := snapshot(t, dir)
	tmp := t.TempDir()
	other := filepath.Join(tmp, "other.txt")
	if err := GenerateIdentity(other); err != nil {
		t.Fatal(err)
	}
	put(t, tmp, "pass", []byte("correct horse battery\n"))
	pass := filepath.Join(tmp, "pass")

	refuses(t, dir, Unlock{IdentityFile: other}, ErrLocked, secretsFile, other, "not the one")
	refuses(t, dir, Unlock{PassphraseFile: pass}, ErrLocked, secretsFile, "sealed to an identity", "identity_file")
	refuses(t, dir, Unlock{}, ErrLocked, "passphrase_file", "identity_file")
	refuses(t, dir, Unlock{PassphraseFile: pass, IdentityFile: other}, ErrLocked, "not both")
	id, err := os.ReadFile(unlock.IdentityFile)
	if err != nil {
		t.Fatal(err)
	}
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for what, b := range map[string][]byte{
		"two identities":      append(bytes.Clone(id), id...),
		"no identity":         []byte("# nothing\n"),
		"cut":                 id[:len(id)-9],
		"not an identity":     []byte("AGE-SECRET-KEY-1QQQQQQQQQQ\n"),
		"another kind of key": []byte(hybrid.String() + "\n"),
		"binary":              {0, 1, 2, 0xff},
	} {
		t.Run(what, func(t *testing.T) {
			put(t, tmp, "broken.txt", b)
			refuses(t, dir, Unlock{IdentityFile: filepath.Join(tmp, "broken.txt")}, ErrLocked, "broken.txt", "AGE-SECRET-KEY-1…")
		})
	}
	for name, b := range snapshot(t, dir) {
		if before[name] != b {
			t.Errorf("a refused Open changed %s", name)
		}
	}
}

func TestPassphrase(t *testing.T) {
	tmp := t.TempDir()
	dir := filepath.Join(tmp, "keyring")
	at := func(text string) Unlock {
		put(t, tmp, "pass", []byte(text))
		return Unlock{PassphraseFile: filepath.Join(tmp, "pass"), WorkFactor: 8}
	}
	for _, short := range []string{"\n", "short\n", "elevenchars\n", "\ncorrect horse battery\n", "ääääääääääa"} {
		if err := Create(dir, at(short)); !errors.Is(err, ErrLocked) && !errors.Is(err, ErrDamaged) {
			t.Errorf("Create with the passphrase %q: %v", short, err)
		}
	}
	for _, factor := range []int{-1, 23} {
		u := at("correct horse battery")
		u.WorkFactor = factor
		if err := Create(dir, u); !errors.Is(err, ErrLocked) {
			t.Errorf("Create with a work factor of %d: %v", factor, err)
		}
	}
	const right = " correct horse battery "
	if err := Create(dir, at(right+"\na second line is not read\n")); err != nil {
		t.Fatal(err)
	}
	for _, same := range []string{right, right + "\n", right + "\r\n", right + "\nother"} {
		if _, err := Open(dir, at(same)); err != nil {
			t.Errorf("Open with %q: %v", same, err)
		}
	}
	for _, wrong := range []string{"correct horse battery\n", "Correct horse battery \n", right + " \n", "another one entirely\n"} {
		refuses(t, dir, at(wrong), ErrLocked, secretsFile, "pass", "not the one")
	}
	identity := filepath.Join(tmp, "id")
	if err := GenerateIdentity(identity); err != nil {
		t.Fatal(err)
	}
	refuses(t, dir, Unlock{IdentityFile: identity}, ErrLocked, "sealed with a passphrase", "passphrase_file")
	if err := os.Chmod(at(right).PassphraseFile, 0o644); err != nil {
		t.Fatal(err)
	}
	refuses(t, dir, Unlock{PassphraseFile: filepath.Join(tmp, "pass")}, ErrUnsafe, "pass", "chmod 0600")
}

// H66: a write that is cut short at any point leaves the old file or the new.
func TestCrashInTheMiddleOfAWrite(t *testing.T) {
	k, dir, unlock := filled(t)
	before := snapshot(t, dir)[stationsFile]
	if err := k.AddStation(talk); err != nil {
		t.Fatal(err)
	}
	after := snapshot(t, dir)[stationsFile]
	for what, c := range map[string]struct {
		file, temp string
		stations   int
	}{
		"temporary file made":    {before, "", 2},
		"temporary file begun":   {before, after[:len(after)/2], 2},
		"temporary file written": {before, after, 2},
		"renamed":                {after, "", 3},
	} {
		t.Run(what, func(t *testing.T) {
			put(t, dir, stationsFile, []byte(c.file))
			put(t, dir, tempPrefix+"123", []byte(c.temp))
			k := reopen(t, dir, unlock)
			if len(k.stations) != c.stations {
				t.Errorf("%d stations, want %d", len(k.stations), c.stations)
			}
			if got := snapshot(t, dir); len(got) != 2 {
				t.Errorf("left in the folder: %d files", len(got))
			}
			if err := k.AddStation(song); err != nil {
				t.Errorf("a write after the crash: %v", err)
			}
		})
	}
}

func TestCrashInTheMiddleOfCreate(t *testing.T) {
	dir, unlock := home(t)
	if err := Create(dir, unlock); err != nil {
		t.Fatal(err)
	}
	// keyring.age is written last: without it nothing was created.
	if err := os.Remove(filepath.Join(dir, secretsFile)); err != nil {
		t.Fatal(err)
	}
	put(t, dir, tempPrefix+"9", []byte("age-encryption.org/v1\n"))
	refuses(t, dir, unlock, fs.ErrNotExist, secretsFile)
	if err := Create(dir, unlock); err != nil {
		t.Fatalf("Create again: %v", err)
	}
	reopen(t, dir, unlock)
	if got := snapshot(t, dir); len(got) != 2 {
		t.Errorf("%d files in the folder", len(got))
	}
}

// A full or read-only disk leaves the keyring as it was.
func TestFailedWriteKeepsTheOldKeys(t *testing.T) {
	k, dir, unlock := filled(t)
	key, w := dataKey(t, k, jazz, song)
	moved := dir + "-gone"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(k.AddStation(talk)); err == nil {
		t.Fatal("a station was added to a folder that is not there")
	}
	if err := k.RemoveStation(jazz); err == nil {
		t.Fatal("a station was removed from a folder that is not there")
	}
	if got, err := k.Release(allow(t, "listen", jazz, song), jazz, song, w); err != nil || !bytes.Equal(got, key) {
		t.Errorf("release after a failed write: %v", err)
	}
	if err := os.Rename(moved, dir); err != nil {
		t.Fatal(err)
	}
	if err := k.AddStation(talk); err != nil {
		t.Errorf("a write after the folder is back: %v", err)
	}
	reopen(t, dir, unlock)
}

// What the parser takes, the keyring would write byte for byte.
func FuzzParseStations(f *testing.F) {
	doc := &stationsDoc{Format: stationsFormat, Realm: jazz, Check: make([]byte, len(checkText)+overheadRoot), Stations: []stationDoc{
		{ID: jazz, Keys: []generation{{1, make([]byte, 65)}, {7, make([]byte, 65)}}},
		{ID: news, Keys: []generation{{2, make([]byte, 65)}}},
	}}
	if _, err := parseStations(doc.encode()); err != nil {
		f.Fatal(err)
	}
	f.Add(doc.encode())
	f.Add([]byte(`{"format":"musen stations 1","stations":[]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		doc, err := parseStations(b)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("%v is not ErrDamaged", err)
			}
			return
		}
		if !bytes.Equal(doc.encode(), b) {
			t.Fatalf("another spelling was taken: %q", b)
		}
	})
}
