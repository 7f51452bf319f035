package keyring

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"unicode/utf8"

	"filippo.io/age"
)

const (
	minPassphrase = 12 // characters
	maxUnlockFile = 64 << 10
	scryptStanza  = "scrypt"
	x25519Stanza  = "X25519"

	defaultWorkFactor = 18 // 256 MiB and about a second
	maxWorkFactor     = 22 // what age opens

	settingPassword = "keyring.passphrase_file"
	settingIdentity = "keyring.identity_file"
)

// Unlock says what opens keyring.age: exactly one of the two files, which must
// be regular, of mode 0600 or 0400, and owned by who runs the program.
type Unlock struct {
	// PassphraseFile has the passphrase as its first line: every character up
	// to the line end, spaces included, at least 12 of them.
	PassphraseFile string
	// IdentityFile is an age identity file with one X25519 identity, as
	// GenerateIdentity or age-keygen makes it.
	IdentityFile string
	// WorkFactor is the base-2 logarithm of scrypt's cost that Create gives a
	// passphrase; 0 means 18. Open takes it from the file.
	WorkFactor int
}

// GenerateIdentity makes an age identity file at path, mode 0600, durably. It
// does not touch a file that is there: the error then wraps fs.ErrExist.
func GenerateIdentity(path string) error {
	if err := generateIdentity(path); err != nil {
		return fmt.Errorf("generate identity %s: %w", path, err)
	}
	return nil
}

func generateIdentity(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return fs.ErrExist
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	text := fmt.Sprintf("# This opens the keyring. Keep a copy where the data is not.\n# public key: %s\n%s\n", id.Recipient(), id)
	return replaceFile(filepath.Dir(path), filepath.Base(path), []byte(text))
}

// path is the one file that unlocks.
func (u Unlock) path() (string, error) {
	switch {
	case u.PassphraseFile != "" && u.IdentityFile != "":
		return "", fmt.Errorf("%w: both a passphrase file and an identity file are given: set %s or %s, not both", ErrLocked, settingPassword, settingIdentity)
	case u.PassphraseFile != "":
		return u.PassphraseFile, nil
	case u.IdentityFile != "":
		return u.IdentityFile, nil
	}
	return "", fmt.Errorf("%w: nothing is given to unlock it: set %s or %s", ErrLocked, settingPassword, settingIdentity)
}

// read reads and parses the file that unlocks.
func (u Unlock) read(uid int) (age.Identity, age.Recipient, error) {
	path, err := u.path()
	if err != nil {
		return nil, nil, err
	}
	b, err := readPrivate(path, uid, maxUnlockFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w: set %s or %s to the file that opens the keyring", err, settingPassword, settingIdentity)
	}
	if err != nil {
		return nil, nil, err
	}
	defer clear(b)
	if u.PassphraseFile != "" {
		return u.parsePassphrase(path, b)
	}
	return parseIdentity(path, b)
}

func (u Unlock) parsePassphrase(path string, b []byte) (age.Identity, age.Recipient, error) {
	if u.WorkFactor < 0 || u.WorkFactor > maxWorkFactor {
		return nil, nil, fmt.Errorf("%w: a work factor of %d is not between 1 and %d", ErrLocked, u.WorkFactor, maxWorkFactor)
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if n := utf8.RuneCount(line); n < minPassphrase {
		return nil, nil, fmt.Errorf("%w: the passphrase in %s has %d characters: make its first line at least %d long", ErrLocked, path, n, minPassphrase)
	}
	id, err := age.NewScryptIdentity(string(line))
	if err != nil {
		return nil, nil, err
	}
	r, err := age.NewScryptRecipient(string(line))
	if err != nil {
		return nil, nil, err
	}
	r.SetWorkFactor(cmp.Or(u.WorkFactor, defaultWorkFactor))
	return id, r, nil
}

func parseIdentity(path string, b []byte) (age.Identity, age.Recipient, error) {
	ids, err := age.ParseIdentities(bytes.NewReader(b))
	if err == nil && len(ids) == 1 {
		if id, ok := ids[0].(*age.X25519Identity); ok {
			return id, id.Recipient(), nil
		}
	}
	// age's own error may quote the line, which is the secret.
	return nil, nil, fmt.Errorf("%w: %s does not hold exactly one X25519 identity (a line AGE-SECRET-KEY-1…): restore it from a backup", ErrLocked, path)
}

func (u Unlock) seal(plain []byte, uid int) ([]byte, error) {
	defer clear(plain)
	_, recipient, err := u.read(uid)
	if err != nil {
		return nil, err
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, recipient)
	if err == nil {
		if _, err = w.Write(plain); err == nil {
			err = w.Close()
		}
	}
	u.freeMemory()
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", secretsFile, err)
	}
	return sealed.Bytes(), nil
}

// open unseals the bytes of keyring.age, found at path. The caller wipes them.
func (u Unlock) open(sealed []byte, path string, uid int) ([]byte, error) {
	identity, _, err := u.read(uid)
	if err != nil {
		return nil, err
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), identity)
	u.freeMemory()
	var other *age.NoIdentityMatchError
	if errors.As(err, &other) {
		return nil, u.mismatch(path, other.StanzaTypes)
	}
	if err == nil {
		plain, rerr := io.ReadAll(io.LimitReader(r, maxSecretsSize))
		if rerr == nil {
			return plain, nil
		}
		err = rerr
	}
	return nil, fmt.Errorf("%s: %w: it is cut short or changed (%v): restore it from a backup", path, ErrDamaged, err)
}

// mismatch tells apart a wrong kind of key from a wrong key.
func (u Unlock) mismatch(path string, stanzas []string) error {
	key, _ := u.path()
	switch {
	case u.PassphraseFile != "" && slices.Contains(stanzas, x25519Stanza):
		return fmt.Errorf("%s: %w by a passphrase: it was sealed to an identity: set %s", path, ErrLocked, settingIdentity)
	case u.IdentityFile != "" && slices.Contains(stanzas, scryptStanza):
		return fmt.Errorf("%s: %w by an identity: it was sealed with a passphrase: set %s", path, ErrLocked, settingPassword)
	case u.PassphraseFile != "":
		return fmt.Errorf("%s: %w: the passphrase in %s is not the one it was sealed with", path, ErrLocked, key)
	}
	return fmt.Errorf("%s: %w: the identity in %s is not the one it was sealed to", path, ErrLocked, key)
}

// freeMemory gives the memory that scrypt took, 256 MiB by default, back to the
// system: it is needed once in the life of a process.
func (u Unlock) freeMemory() {
	if u.PassphraseFile != "" {
		debug.FreeOSMemory()
	}
}
