package member

import (
	"errors"
	"fmt"
	"io"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/wire"
)

// Protocol is the name of the enrolment protocol. The joiner opens a stream
// under the one-time identity of its invitation, sends one enrolRequest, and
// reads one enrolAnswer. A peer that was removed, and opens a stream under its
// own identity, is answered without a request: it is told so.
const Protocol protocol.ID = "/musen/enrol/1"

// enrolmentKind is the kind under which a joiner signs an enrolment.
const enrolmentKind = "enrolment"

// Bounds of the two frames, in bytes.
const (
	maxRequest = 64 << 10
	maxAnswer  = 16 << 20
)

// enrolRequest is an enrolment, signed with the key of Own.
type enrolRequest struct {
	Own       peer.ID       `cbor:"1,keyasint"`
	Enrolment wire.Envelope `cbor:"2,keyasint"`
}

// enrolment is who asks to be let in, by what, and what it offers. Realm,
// Origin and Invite keep it from being good anywhere else.
type enrolment struct {
	Realm    string            `cbor:"1,keyasint"`
	Origin   peer.ID           `cbor:"2,keyasint"`
	Invite   peer.ID           `cbor:"3,keyasint"`
	Own      peer.ID           `cbor:"4,keyasint"`
	Name     string            `cbor:"5,keyasint,omitempty"`
	Site     string            `cbor:"6,keyasint,omitempty"`
	Contract contract.Contract `cbor:"7,keyasint"`
	Addrs    []string          `cbor:"8,keyasint,omitempty"`
	Version  string            `cbor:"9,keyasint,omitempty"`
}

// enrolAnswer is what the origin made of it.
type enrolAnswer struct {
	Refusal refusal        `cbor:"1,keyasint,omitempty"`
	Reason  string         `cbor:"2,keyasint,omitempty"` // of the refusal, for people
	Role    Role           `cbor:"3,keyasint,omitempty"`
	Name    string         `cbor:"4,keyasint,omitempty"`
	Site    string         `cbor:"5,keyasint,omitempty"`
	Roster  *wire.Envelope `cbor:"6,keyasint,omitempty"`
}

// refusal is a word for why somebody is not let in.
type refusal string

// failed is the refusal for which nobody but the origin can do anything.
const failed refusal = "failed"

// refusals are the words for what a joiner can do something about.
func refusals() map[refusal]error {
	return map[refusal]error{"expired": ErrExpired, "used": ErrUsed, "unknown": ErrInvite, "taken": ErrTaken, "invalid": ErrInvalid, "full": ErrFull, "removed": ErrRemoved}
}

// refuse is the answer that says err.
func refuse(err error) enrolAnswer {
	for word, of := range refusals() {
		if errors.Is(err, of) {
			return enrolAnswer{Refusal: word, Reason: err.Error()}
		}
	}
	return enrolAnswer{Refusal: failed}
}

// err is what an answer says to the joiner.
func (a enrolAnswer) err() error {
	if a.Refusal == "" {
		return nil
	}
	if err := refusals()[a.Refusal]; err != nil {
		return fmt.Errorf("%w: the origin says %.200q", err, a.Reason)
	}
	return fmt.Errorf("the origin could not do it (%.40q)", a.Refusal)
}

// sealEnrolment signs e with the joiner's own key.
func sealEnrolment(own crypto.PrivKey, e enrolment) (enrolRequest, error) {
	sealed, err := wire.Seal(own, enrolmentKind, e)
	return enrolRequest{Own: e.Own, Enrolment: sealed}, err
}

// readEnrolment reads a request and checks that it is for this realm and this
// origin, by the invitation of once, and signed by the peer that it names.
func readEnrolment(r io.Reader, realm string, origin, once peer.ID) (enrolment, error) {
	var req enrolRequest
	if err := wire.Read(r, maxRequest, &req); err != nil {
		return enrolment{}, err
	}
	var e enrolment
	if err := wire.Open(req.Own, enrolmentKind, req.Enrolment, &e); err != nil {
		return enrolment{}, err
	}
	switch {
	case e.Own != req.Own:
		return enrolment{}, fmt.Errorf("%w: signed by peer %s for peer %s", ErrInvalid, req.Own, e.Own)
	case e.Invite != once:
		return enrolment{}, fmt.Errorf("%w: by another invite than that of this connection", ErrInvalid)
	case e.Realm != realm || e.Origin != origin:
		return enrolment{}, fmt.Errorf("%w: for another origin or realm than %q", ErrInvalid, realm)
	}
	return e, optional("version", e.Version)
}
