package keyring

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// maxOld bounds how many old keys of one kind are kept.
const maxOld = 64

// oldKey is a key that signs nothing any more.
type oldKey struct {
	Key   []byte `json:"key"`
	Until int64  `json:"until"` // what it signed is dead by then; seconds since 1970
}

type oldKeys struct{ issuers, links []oldKey }

// useCredentials takes the keys of credentials of s into use, of which it keeps
// no reference. The caller holds the lock, or is the only one who knows k.
func (k *Keyring) useCredentials(s *secrets) {
	k.issuer = ed25519.NewKeyFromSeed(s.Issuer)
	k.link = slices.Clone(s.Link)
	k.old = oldKeys{cloneOld(s.OldIssuers), cloneOld(s.OldLinks)}
}

func cloneOld(old []oldKey) []oldKey {
	out := make([]oldKey, len(old))
	for i, o := range old {
		out[i] = oldKey{slices.Clone(o.Key), o.Until}
	}
	return out
}

// IssuerKey is the key that signs the node's own tokens, and its id.
func (k *Keyring) IssuerKey() (kid string, key ed25519.PrivateKey) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return keyID(k.issuer.Public().(ed25519.PublicKey)), k.issuer
}

// LinkKey is the secret of 32 bytes that authenticates links, and its id. The
// caller may not change it.
func (k *Keyring) LinkKey() (kid string, secret []byte) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return linkID(k.link), k.link
}

func linkID(secret []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("musen link key id"))
	return keyID(mac.Sum(nil))
}

// SessionKey is the secret of 32 bytes that authenticates the sessions of
// shares, and its id. It is derived from that of links, and opens no link.
func (k *Keyring) SessionKey() (kid string, secret []byte) {
	_, link := k.LinkKey()
	return sessionKey(link)
}

func sessionKey(link []byte) (kid string, secret []byte) {
	secret = derive(link, "musen share session key")
	return keyID(derive(secret, "musen share session key id")), secret
}

// An OldKey verifies what it signed until it was rotated.
type OldKey struct {
	ID    string
	Key   []byte    // public, Ed25519; or a secret that the caller may not change
	Until time.Time // nothing that it signed lives longer
}

// OldIssuerKeys are the public keys whose tokens may still live at now.
func (k *Keyring) OldIssuerKeys(now time.Time) []OldKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return living(k.old.issuers, now, func(b []byte) (string, []byte) { return keyID(b), b })
}

// OldLinkKeys are the secrets whose links may still live at now.
func (k *Keyring) OldLinkKeys(now time.Time) []OldKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return living(k.old.links, now, func(b []byte) (string, []byte) { return linkID(b), b })
}

// OldSessionKeys are the secrets whose sessions may still live at now.
func (k *Keyring) OldSessionKeys(now time.Time) []OldKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return living(k.old.links, now, sessionKey)
}

func living(old []oldKey, now time.Time, name func([]byte) (string, []byte)) []OldKey {
	var out []OldKey
	for _, o := range old {
		if until := time.Unix(o.Until, 0); until.After(now) {
			id, key := name(o.Key)
			out = append(out, OldKey{id, key, until})
		}
	}
	return out
}

// RotateIssuer makes a new key that signs the node's own tokens from now on,
// and destroys the one that did; its public half verifies for as long as keep
// says. It is durable on return, and after a crash the one or the other signs.
func (k *Keyring) RotateIssuer(now time.Time, keep time.Duration) (kid string, err error) {
	err = k.rotate(now, func(s *secrets) error {
		public := ed25519.NewKeyFromSeed(s.Issuer).Public().(ed25519.PublicKey)
		s.OldIssuers, err = retire(s.OldIssuers, oldKey{public, now.Add(keep).Unix()})
		rand.Read(s.Issuer) // never fails
		return err
	})
	if err != nil {
		return "", fmt.Errorf("rotate the key of tokens: %w", err)
	}
	kid, _ = k.IssuerKey()
	return kid, nil
}

// RotateLink makes a new secret that authenticates links, and the sessions of
// shares, from now on. The one that did verifies for as long as keep says. It
// is durable on return, and after a crash the one or the other is in use.
func (k *Keyring) RotateLink(now time.Time, keep time.Duration) (kid string, err error) {
	err = k.rotate(now, func(s *secrets) error {
		s.OldLinks, err = retire(s.OldLinks, oldKey{slices.Clone(s.Link), now.Add(keep).Unix()})
		rand.Read(s.Link) // never fails
		return err
	})
	if err != nil {
		return "", fmt.Errorf("rotate the secret of links: %w", err)
	}
	kid, _ = k.LinkKey()
	return kid, nil
}

func retire(old []oldKey, one oldKey) ([]oldKey, error) {
	if len(old) >= maxOld {
		return nil, fmt.Errorf("%d old keys are kept already: wait until what they signed has expired", len(old))
	}
	return append(old, one), nil
}

// rotate lets f change the secrets, as they are on the disk, and makes them
// durable. It forgets old keys whose time is over. It refuses when the file is
// no longer the one that this keyring knows: another process, or a write of this
// one that failed half-way, changed it. Keys are handed out meanwhile.
func (k *Keyring) rotate(now time.Time, f func(*secrets) error) error {
	if k.reader {
		return errReader
	}
	k.rotating.Lock()
	defer k.rotating.Unlock()
	s, sum, err := k.readSecrets()
	if err != nil {
		return err
	}
	defer s.wipe()
	if sum != k.lastSealed() {
		return fmt.Errorf("%s: %w: it changed since this process opened it: stop every process on this home and start one again",
			filepath.Join(k.dir, secretsFile), ErrDamaged)
	}
	for _, list := range []*[]oldKey{&s.OldIssuers, &s.OldLinks} {
		*list = slices.DeleteFunc(*list, func(o oldKey) bool { return o.Until <= now.Unix() })
	}
	if err := f(s); err != nil {
		return err
	}
	s.Format = rotatedFormat
	sealed, err := k.unlock.seal(s.encode(), k.uid)
	if err != nil {
		return err
	}
	if len(sealed) > maxSecretsSize {
		return errors.New("the secrets would be too long")
	}
	if err := replaceFile(k.dir, secretsFile, sealed); err != nil {
		return err
	}
	k.takeOver(s, sha256.Sum256(sealed))
	return nil
}

// ReloadCredentials takes into use the keys of credentials that another process
// has rotated since, and tells whether there were any. It is for a reader, and
// does nothing in any other keyring. If the file is not sound, the keys that
// were read last stay in use.
func (k *Keyring) ReloadCredentials() (changed bool, err error) {
	if !k.reader {
		return false, nil
	}
	k.rotating.Lock()
	defer k.rotating.Unlock()
	for range 3 { // a file that is replaced while it is read has its old bytes blanked
		if changed, err = k.reloadCredentials(); err == nil {
			return changed, nil
		}
	}
	return false, fmt.Errorf("read the keys of credentials again: %w", err)
}

func (k *Keyring) reloadCredentials() (changed bool, err error) {
	b, err := k.read(secretsFile, maxSecretsSize)
	if err != nil || sha256.Sum256(b) == k.lastSealed() {
		return false, err
	}
	s, sum, err := k.readSecrets()
	if err != nil {
		return false, err
	}
	defer s.wipe()
	if s.Realm != k.realm {
		return false, fmt.Errorf("%s: %w: it is of another keyring", filepath.Join(k.dir, secretsFile), ErrDamaged)
	}
	k.takeOver(s, sum)
	return true, nil
}

func (k *Keyring) lastSealed() [sha256.Size]byte {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.sealed
}

func (k *Keyring) takeOver(s *secrets, sealed [sha256.Size]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.useCredentials(s)
	k.sealed = sealed
}

// readSecrets reads keyring.age, and tells the hash of the file. The caller
// wipes the secrets.
func (k *Keyring) readSecrets() (s *secrets, sum [sha256.Size]byte, err error) {
	sealed, err := k.read(secretsFile, maxSecretsSize)
	if err != nil {
		return nil, sum, err
	}
	plain, err := k.unlock.open(sealed, filepath.Join(k.dir, secretsFile), k.uid)
	if err != nil {
		return nil, sum, err
	}
	defer clear(plain)
	if s, err = parseSecrets(plain); err != nil {
		return nil, sum, fmt.Errorf("%s: %w", filepath.Join(k.dir, secretsFile), err)
	}
	return s, sha256.Sum256(sealed), nil
}
