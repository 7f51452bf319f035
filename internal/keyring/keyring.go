// Package keyring keeps keys at rest and hands them out. A root key wraps
// station keys, a station key, in generations, wraps the data keys of one
// station; the wrapped data keys themselves are kept by others.
//
// A keyring is a folder of two files. keyring.age holds the secrets that seldom
// change: the root keyset, the keys that sign and authenticate credentials, the
// keys of fingerprints and of sealed columns, all of it sealed with age under a
// passphrase or an identity. Of these the keys of credentials can be rotated:
// the old ones verify for as long as something that they signed may live.
// stations.json holds the station keys, wrapped by
// the root key and authenticated by it as a whole. Both are replaced whole and
// durably, never changed in place.
//
// A damaged, readable-by-others or foreign file is an error that names the file
// and says what to do; the package never goes on without a key and never makes
// a new one in place of one that is lost. It does not know audio, CIDs, rows or
// requests; a data key leaves only against a policy.Decision. What it cannot
// see is that both files, together with the whole catalogue, were put back to
// an older state: a segment whose key generation is missing then gets ErrNoKey.
package keyring

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/musenai/musen"
)

var (
	// ErrNoDecision says that a key was asked for without a decision of policy
	// that releases it.
	ErrNoDecision = errors.New("no decision releases this key")
	// ErrNoKey says that the keyring does not have the station key that a data
	// key was wrapped with, or that the wrapped key does not belong to that
	// station and segment. It wraps musen.ErrUnavailable.
	ErrNoKey = fmt.Errorf("%w: no key", musen.ErrUnavailable)
	// ErrLocked says that the passphrase or the identity is not the right one,
	// or is not usable.
	ErrLocked = errors.New("cannot be unlocked")
	// ErrUnsafe says that a file or folder of keys is open to others, owned by
	// somebody else, or not a regular file.
	ErrUnsafe = errors.New("not safe")
	// ErrDamaged says that a file of keys is not as the keyring wrote it.
	ErrDamaged = errors.New("damaged")
)

const (
	secretsFile  = "keyring.age"
	stationsFile = "stations.json"

	maxSecretsSize  = 1 << 20
	maxStationsSize = 64 << 20
)

// A Keyring is an open keyring. It is safe for concurrent use. One process at
// a time may have a folder open to write: a write after a foreign one is
// refused. Others may read it, see OpenReader.
type Keyring struct {
	dir    string
	unlock Unlock
	uid    int // who must own the files
	log    *slog.Logger
	reader bool // never writes, and reads again what another process wrote

	realm       string
	root        tink.AEAD
	catalogue   tink.AEAD
	fingerprint []byte
	lookup      []byte

	rotating sync.Mutex // held to change the secrets, or to read them again

	mu       sync.RWMutex
	sealed   [sha256.Size]byte // of keyring.age as last read or written
	issuer   ed25519.PrivateKey
	link     []byte
	old      oldKeys
	stations map[string][]generation // ascending
	written  [sha256.Size]byte       // of stations.json as last read or written
}

// Create makes a keyring with fresh secrets and no stations in dir, which it
// makes too if need be. The keyring is durable on return. A folder that has a
// keyring already is refused and left as it is; the remains of a Create that
// was cut short are not a keyring.
func Create(dir string, unlock Unlock) error {
	if err := create(dir, unlock, os.Geteuid()); err != nil {
		return fmt.Errorf("create keyring %s: %w", dir, err)
	}
	return nil
}

func create(dir string, unlock Unlock, uid int) error {
	if err := makeDir(dir); err != nil {
		return err
	}
	if err := checkDir(dir, uid); err != nil {
		return err
	}
	if err := checkVacant(dir); err != nil {
		return err
	}
	if err := removeLeftovers(dir); err != nil {
		return err
	}
	s, err := newSecrets()
	if err != nil {
		return err
	}
	defer s.wipe()
	k := &Keyring{dir: dir, unlock: unlock, uid: uid}
	if err := k.use(s); err != nil {
		return err
	}
	sealed, err := unlock.seal(s.encode(), uid)
	if err != nil {
		return err
	}
	if err := k.writeStations(map[string][]generation{}); err != nil {
		return err
	}
	return replaceFile(dir, secretsFile, sealed)
}

// checkVacant refuses a folder that has a keyring, or the stations of one.
func checkVacant(dir string) error {
	_, err := os.Lstat(filepath.Join(dir, secretsFile))
	if err == nil {
		return fmt.Errorf("%w: there is a keyring in this folder already", fs.ErrExist)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	b, err := os.ReadFile(filepath.Join(dir, stationsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		if sf, perr := parseStations(b); perr == nil && len(sf.Stations) == 0 {
			return nil
		}
	}
	return fmt.Errorf("%w: %s holds station keys whose %s is missing: restore that from a backup, or move %s away",
		fs.ErrExist, stationsFile, secretsFile, stationsFile)
}

// Open opens the keyring in dir and checks all of it: owner, modes and formats
// of folder and files, that unlock is the right one, and that every station key
// opens. The errors wrap ErrUnsafe, ErrLocked, ErrDamaged or fs.ErrNotExist.
// Remains of writes that were cut short are removed.
func Open(dir string, unlock Unlock) (*Keyring, error) {
	k := &Keyring{dir: dir, unlock: unlock, uid: os.Geteuid()}
	if err := k.load(); err != nil {
		return nil, fmt.Errorf("open keyring %s: %w", dir, err)
	}
	return k, nil
}

// OpenReader opens a keyring that another process writes, or a copy of it, as
// Open does, and changes nothing in the folder. Keys of stations that the other
// process has made or destroyed since are known after Reload, and a key that is
// missing is looked for in the folder before that is an error.
func OpenReader(dir string, unlock Unlock) (*Keyring, error) {
	k := &Keyring{dir: dir, unlock: unlock, uid: os.Geteuid(), reader: true}
	if err := k.load(); err != nil {
		return nil, fmt.Errorf("open keyring %s: %w", dir, err)
	}
	return k, nil
}

func (k *Keyring) load() error {
	if err := checkDir(k.dir, k.uid); err != nil {
		return err
	}
	if !k.reader {
		if err := removeLeftovers(k.dir); err != nil {
			return err
		}
	}
	s, sum, err := k.readSecrets()
	if err != nil {
		return err
	}
	defer s.wipe()
	k.sealed = sum
	if err := k.use(s); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(k.dir, secretsFile), err)
	}
	stations, err := k.read(stationsFile, maxStationsSize)
	if err != nil {
		return err
	}
	if err := k.loadStations(stations); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(k.dir, stationsFile), err)
	}
	return nil
}

// read reads a file of the keyring, which must be there.
func (k *Keyring) read(name string, limit int64) ([]byte, error) {
	b, err := readPrivate(filepath.Join(k.dir, name), k.uid, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: restore it from a backup: without it nothing that was added can be played", err)
	}
	return b, err
}

// LogTo makes the keyring tell l of every key that it releases or refuses:
// station, segment and action, never key material. It must be called before
// the keyring is shared.
func (k *Keyring) LogTo(l *slog.Logger) { k.log = l }

// Realm is the id of this keyring: 128 random bits in lower-case base32. Keys
// of one realm open nothing of another.
func (k *Keyring) Realm() string { return k.realm }

// Pepper is the secret of 32 bytes that passwords of shares are keyed with
// before they are hashed: without the keyring no guess can be tried on a hash.
func (k *Keyring) Pepper() []byte { return derive(k.lookup, "musen share password pepper") }

// AuditKey signs the checkpoints of the audit log. It is rotated by nothing, so
// that old ones can be verified for as long as there is the keyring.
func (k *Keyring) AuditKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(derive(k.lookup, "musen audit checkpoint key"))
}

// derive makes another secret of a secret.
func derive(secret []byte, label string) []byte {
	b, err := hkdf.Key(sha256.New, secret, nil, label, secretSize)
	if err != nil {
		panic(err) // unreachable: the length is far from the limit
	}
	return b
}

// keyID names a key by public bytes of it.
func keyID(public []byte) string {
	sum := sha256.Sum256(public)
	return hex.EncodeToString(sum[:8])
}

// Fingerprint is a fresh HMAC-SHA-256 that recognises audio that was added
// before; without the keyring its sums say nothing about the audio.
func (k *Keyring) Fingerprint() hash.Hash { return hmac.New(sha256.New, k.fingerprint) }

// Catalogue is the AEAD for sealed columns of the catalogue. It shares no key
// with audio.
func (k *Keyring) Catalogue() tink.AEAD { return k.catalogue }

// Lookup is a fresh HMAC-SHA-256 for finding rows by the value of a sealed
// column.
func (k *Keyring) Lookup() hash.Hash { return hmac.New(sha256.New, k.lookup) }
