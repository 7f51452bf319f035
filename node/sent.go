package node

import (
	"github.com/ipfs/boxo/bitswap/message"
	"github.com/ipfs/boxo/bitswap/tracer"
	"github.com/libp2p/go-libp2p/core/peer"
)

// sent tells of blocks when they are given to the network.
type sent func(p peer.ID, n int)

var _ tracer.Tracer = sent(nil)

// MessageReceived implements tracer.Tracer.
func (s sent) MessageReceived(peer.ID, message.BitSwapMessage) {}

// MessageSent implements tracer.Tracer. It is called before m is sent.
func (s sent) MessageSent(p peer.ID, m message.BitSwapMessage) {
	n := 0
	for _, b := range m.Blocks() {
		n += len(b.RawData())
	}
	if n > 0 {
		s(p, n)
	}
}
