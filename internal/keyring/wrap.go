package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"strconv"

	"github.com/musenai/musen"
	"github.com/musenai/musen/policy"
	"github.com/musenai/musen/seal"
)

func (k *Keyring) stationAD(station string, number uint32) []byte {
	return associated("musen station key", k.realm, station, strconv.FormatUint(uint64(number), 10))
}

func (k *Keyring) dataAD(station, segment string, number uint32) []byte {
	return associated("musen data key", k.realm, station, segment, strconv.FormatUint(uint64(number), 10))
}

// wrapNewStationKey makes a station key that nobody sees unwrapped.
func (k *Keyring) wrapNewStationKey(station string, number uint32) ([]byte, error) {
	key := make([]byte, secretSize)
	defer clear(key)
	rand.Read(key) // never fails
	wrapped, err := k.root.Encrypt(key, k.stationAD(station, number))
	if err != nil {
		return nil, fmt.Errorf("wrap a station key: %w", err)
	}
	return wrapped, nil
}

// unwrapStation opens a station key, which the caller wipes.
func (k *Keyring) unwrapStation(station string, g generation) ([]byte, error) {
	key, err := k.root.Decrypt(g.Wrapped, k.stationAD(station, g.Number))
	if err == nil && len(key) != secretSize {
		err = fmt.Errorf("it has %d bytes, not %d", len(key), secretSize)
	}
	return key, err
}

// stationAEAD is the AEAD that wraps data keys under one station key: AES-256
// in GCM with a random nonce of 12 bytes before the ciphertext.
func (k *Keyring) stationAEAD(station string, g generation) (cipher.AEAD, error) {
	key, err := k.unwrapStation(station, g)
	if err != nil {
		return nil, fmt.Errorf("%w: the key of generation %d of station %q does not open", ErrNoKey, g.Number, station)
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// NewDataKey makes a fresh data key of 32 bytes for a segment, and the form
// wrapped by the newest key of its station that may be kept. The caller wipes
// key when the segment is sealed. It returns ErrNoKey when the station has no
// key.
func (k *Keyring) NewDataKey(station, segment string) (key []byte, w musen.WrappedKey, err error) {
	key, w, err = k.newDataKey(station, segment)
	if err != nil {
		return nil, musen.WrappedKey{}, fmt.Errorf("make the key of segment %q: %w", segment, err)
	}
	return key, w, nil
}

func (k *Keyring) newDataKey(station, segment string) ([]byte, musen.WrappedKey, error) {
	if err := checkID(segment); err != nil {
		return nil, musen.WrappedKey{}, err
	}
	g, err := k.find(station, 0)
	if err != nil {
		return nil, musen.WrappedKey{}, err
	}
	a, err := k.stationAEAD(station, g)
	if err != nil {
		return nil, musen.WrappedKey{}, err
	}
	key, err := seal.NewKey(rand.Reader)
	if err != nil {
		return nil, musen.WrappedKey{}, err
	}
	wrapped := a.Seal(nil, nil, key, k.dataAD(station, segment, g.Number))
	return key, musen.WrappedKey{Generation: g.Number, Ciphertext: wrapped}, nil
}

// Release unwraps the data key of a segment for a request that policy let
// through; it is the only way to a data key. It returns ErrNoDecision unless d
// releases the key of exactly that segment of that station, musen.ErrGone when
// the wrapped key was destroyed, and ErrNoKey when w does not open as the key
// of that segment. The caller wipes the key after use.
func (k *Keyring) Release(d policy.Decision, station, segment string, w musen.WrappedKey) ([]byte, error) {
	key, err := k.release(d, station, segment, w)
	if err != nil {
		if k.log != nil {
			k.log.Warn("key refused", "station", station, "segment", segment, "action", string(d.Action()), "err", err)
		}
		return nil, fmt.Errorf("release the key of segment %q: %w", segment, err)
	}
	if k.log != nil {
		k.log.Info("key released", "station", station, "segment", segment, "action", string(d.Action()))
	}
	return key, nil
}

func (k *Keyring) release(d policy.Decision, station, segment string, w musen.WrappedKey) ([]byte, error) {
	if !d.ReleasesKey(station, segment) {
		return nil, ErrNoDecision
	}
	if len(w.Ciphertext) == 0 {
		return nil, fmt.Errorf("%w: its key was destroyed", musen.ErrGone)
	}
	if w.Generation == 0 {
		return nil, fmt.Errorf("%w: its wrapped key names no generation", ErrNoKey)
	}
	g, err := k.find(station, w.Generation)
	if err != nil {
		return nil, err
	}
	a, err := k.stationAEAD(station, g)
	if err != nil {
		return nil, err
	}
	key, err := a.Open(nil, nil, w.Ciphertext, k.dataAD(station, segment, g.Number))
	if err != nil || len(key) != seal.KeySize {
		return nil, fmt.Errorf("%w: its wrapped key is damaged or belongs to another segment", ErrNoKey)
	}
	return key, nil
}
