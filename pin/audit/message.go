package audit

import (
	"fmt"
	"io"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen/pin/wire"
)

const (
	maxRequest = 16 << 10 // bytes of a frame with MaxBatch challenges
	maxReply   = 128      // bytes of a frame with one answer
	maxCID     = 128      // bytes of a root
)

// request is what an auditor sends: one frame, then it closes its side.
type request struct {
	Challenges []question `cbor:"1,keyasint"`
}

type question struct {
	Root  []byte `cbor:"1,keyasint"` // binary CID
	Nonce []byte `cbor:"2,keyasint"` // 16 bytes
}

// reply is what a prover sends for each challenge, in their order.
type reply struct {
	Index   uint64 `cbor:"1,keyasint"`           // of the challenge, from 0
	Answer  []byte `cbor:"2,keyasint,omitempty"` // 32 bytes
	Missing bool   `cbor:"3,keyasint,omitempty"` // instead of an answer
}

func writeRequest(w io.Writer, chs []Challenge) error {
	q := request{Challenges: make([]question, len(chs))}
	for i, ch := range chs {
		q.Challenges[i] = question{Root: ch.Root.Bytes(), Nonce: ch.Nonce[:]}
	}
	return wire.Write(w, q)
}

// readRequest takes 1 to MaxBatch challenges from a stranger.
func readRequest(r io.Reader) ([]Challenge, error) {
	var q request
	if err := wire.Read(r, maxRequest, &q); err != nil {
		return nil, fmt.Errorf("read challenges: %w", err)
	}
	if len(q.Challenges) == 0 || len(q.Challenges) > MaxBatch {
		return nil, fmt.Errorf("%w: %d challenges", wire.ErrMalformed, len(q.Challenges))
	}
	out := make([]Challenge, len(q.Challenges))
	for i, c := range q.Challenges {
		if len(c.Root) > maxCID || len(c.Nonce) != len(out[i].Nonce) {
			return nil, fmt.Errorf("%w: challenge %d has a root of %d bytes and a nonce of %d", wire.ErrMalformed, i, len(c.Root), len(c.Nonce))
		}
		root, err := cid.Cast(c.Root)
		if err != nil {
			return nil, fmt.Errorf("%w: challenge %d: %w", wire.ErrMalformed, i, err)
		}
		out[i].Root = root
		copy(out[i].Nonce[:], c.Nonce)
	}
	return out, nil
}

// readReply takes the answer to one challenge.
func readReply(r io.Reader, index int) (reply, error) {
	var a reply
	if err := wire.Read(r, maxReply, &a); err != nil {
		return reply{}, err
	}
	if a.Index != uint64(index) || a.Missing == (len(a.Answer) > 0) || !a.Missing && len(a.Answer) != 32 {
		return reply{}, fmt.Errorf("%w: answer %d to challenge %d, %d bytes", wire.ErrMalformed, a.Index, index, len(a.Answer))
	}
	return a, nil
}
