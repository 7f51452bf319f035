package control

import (
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/pin/wire"
)

// A false origin sends what the test wants to the peers that greet it.
func falseOrigin(t testing.TB, frames func(to peer.ID) []down) *origin {
	h := newHost(t)
	o := &origin{host: h, members: &swarm{key: keyOf(h)}}
	h.SetStreamHandler(Protocol, func(s network.Stream) {
		defer func() { _ = s.Reset() }()
		var f up
		if wire.Read(s, maxUp, &f) != nil {
			return
		}
		roster, err := o.members.RosterFor("")
		if err != nil {
			t.Error(err)
		}
		_ = wire.Write(s, down{Welcome: &welcome{Epoch: 1, Latest: 10}, Roster: &roster})
		for _, f := range frames(s.Conn().RemotePeer()) {
			_ = wire.Write(s, f)
		}
		_, _ = io.Copy(io.Discard, s)
	})
	return o
}

// P68: no order of another realm or signer, for another peer or of the past is
// carried out.
func TestFalseOrdersAreRefused(t *testing.T) {
	stranger := newHost(t)
	for name, forge := range map[string]func(own crypto.PrivKey, o *Order) (crypto.PrivKey, string){
		"signed by another": func(_ crypto.PrivKey, o *Order) (crypto.PrivKey, string) { return keyOf(stranger), testRealm },
		"another realm":     func(own crypto.PrivKey, o *Order) (crypto.PrivKey, string) { return own, "television" },
		"for another peer": func(own crypto.PrivKey, o *Order) (crypto.PrivKey, string) {
			o.Peer = stranger.ID()
			return own, testRealm
		},
		"an older number": func(own crypto.PrivKey, o *Order) (crypto.PrivKey, string) {
			o.Seq = 5
			return own, testRealm
		},
		"an unknown verb": func(own crypto.PrivKey, o *Order) (crypto.PrivKey, string) {
			o.Verb = "burn"
			return own, testRealm
		},
		"no number": func(own crypto.PrivKey, o *Order) (crypto.PrivKey, string) {
			o.Seq = 0
			return own, testRealm
		},
	} {
		t.Run(name, func(t *testing.T) {
			var o *origin
			var greetings atomic.Int64
			seal := func(key crypto.PrivKey, realm string, order Order) down {
				e, err := wire.Seal(key, kind(OrderKind, realm), []Order{order})
				if err != nil {
					t.Error(err)
				}
				return down{Orders: &e}
			}
			o = falseOrigin(t, func(to peer.ID) []down {
				good := Order{Seq: 5, Peer: to, Verb: Hold, Root: root(1), Issued: time.Unix(1e9, 0)}
				bad := good
				bad.Seq, bad.Verb = 6, Purge
				key, realm := forge(keyOf(o.host), &bad)
				if greetings.Add(1) > 1 {
					return []down{seal(key, realm, bad), {Caught: true}}
				}
				return []down{seal(keyOf(o.host), testRealm, good), seal(key, realm, bad), {Caught: true}}
			})
			h, held := newHost(t), newShelfful()
			c := startClient(t, h, o, on(newDisk(), held))
			poll(t, "the peer gave up the line and came again", func() bool { return greetings.Load() > 3 })
			held.w.until(t, "the good one is carried out", func() bool { return held.holds[root(1)] })
			c.stop()
			if len(held.carried) != 1 || c.CaughtUp() {
				t.Errorf("carried out %v", verbs(held.carried))
			}
		})
	}
}
