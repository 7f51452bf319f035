// Package wire is how peers speak the protocols of pin: frames of CBOR on a
// stream, each with a length that the reader bounds, and envelopes signed with
// a peer's own key.
//
// It does not know what the messages mean.
package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"

	"github.com/fxamacker/cbor/v2"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

var (
	// ErrTooLong says that a frame is longer than its reader accepts.
	ErrTooLong = errors.New("frame too long")
	// ErrMalformed says that a frame is not the message that was expected.
	ErrMalformed = errors.New("malformed message")
	// ErrSignature says that an envelope was not signed by whom it should be.
	ErrSignature = errors.New("wrong signature")
)

// decoding refuses what two readers might understand differently.
func decoding() cbor.DecOptions {
	return cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   8,
		MaxArrayElements:  1 << 16,
		MaxMapPairs:       1 << 10,
	}
}

// Marshal encodes a message, the same way each time.
func Marshal(v any) ([]byte, error) {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, err
	}
	return mode.Marshal(v)
}

// Unmarshal decodes the whole of b into what v points to; nothing that was
// there before stays. It returns ErrMalformed for anything that Marshal of such
// a message would not give, unknown fields and other spellings of the same
// message included, and then leaves v alone.
func Unmarshal(b []byte, v any) error {
	to := reflect.ValueOf(v)
	if to.Kind() != reflect.Pointer || to.IsNil() {
		return fmt.Errorf("decode a message into a %T: not a pointer", v)
	}
	mode, err := decoding().DecMode()
	if err != nil {
		return err
	}
	fresh := reflect.New(to.Type().Elem())
	if err := mode.Unmarshal(b, fresh.Interface()); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	again, err := Marshal(fresh.Interface())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if !bytes.Equal(again, b) {
		return fmt.Errorf("%w: not in the one spelling that it has", ErrMalformed)
	}
	to.Elem().Set(fresh.Elem())
	return nil
}

// Write sends one message, in one call of w.Write.
func Write(w io.Writer, v any) error {
	b, err := Marshal(v)
	if err != nil {
		return err
	}
	if int64(len(b)) > math.MaxUint32 {
		return fmt.Errorf("%w: %d bytes", ErrTooLong, len(b))
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b)))
	_, err = w.Write(append(frame, b...))
	return err
}

// firstRead is how much memory a frame gets before any of it has arrived.
const firstRead = 16 << 10

// Read takes one message of at most max bytes. It returns io.EOF only where a
// frame would begin. Its memory grows with what arrives, not with the length
// that the frame claims.
func Read(r io.Reader, max int, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if int64(n) > int64(max) {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLong, n, max)
	}
	b := bytes.NewBuffer(make([]byte, 0, min(int64(n)+bytes.MinRead, firstRead)))
	if _, err := io.CopyN(b, r, int64(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return Unmarshal(b.Bytes(), v)
}

// An Envelope is a message and the signature of the peer that made it.
type Envelope struct {
	Payload   []byte `cbor:"1,keyasint"`
	Signature []byte `cbor:"2,keyasint"`
}

// signed is what a signature covers: a message of one kind is never taken for
// one of another.
func signed(kind string, payload []byte) []byte {
	b := append([]byte("musen "+kind+"\x00"), payload...)
	return b
}

// Seal signs a message of a kind.
func Seal(key crypto.PrivKey, kind string, v any) (Envelope, error) {
	payload, err := Marshal(v)
	if err != nil {
		return Envelope{}, err
	}
	sig, err := key.Sign(signed(kind, payload))
	if err != nil {
		return Envelope{}, fmt.Errorf("sign a %s: %w", kind, err)
	}
	return Envelope{Payload: payload, Signature: sig}, nil
}

// Open checks that signer signed e as a message of that kind, and decodes it.
func Open(signer peer.ID, kind string, e Envelope, v any) error {
	key, err := signer.ExtractPublicKey()
	if err != nil {
		return fmt.Errorf("%w: peer %s: %w", ErrSignature, signer, err)
	}
	ok, err := key.Verify(signed(kind, e.Payload), e.Signature)
	if err != nil || !ok {
		return fmt.Errorf("%w: this %s is not of peer %s", ErrSignature, kind, signer)
	}
	return Unmarshal(e.Payload, v)
}
