package host

import (
	"slices"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/musenai/musen/pin"
	"github.com/musenai/musen/pin/contract"
	"github.com/musenai/musen/pin/member"
)

// A protocol that a storage peer speaks is either for everybody on the roster,
// by the list below, or kept from all but trusted peers.
func TestEveryProtocolIsForAllOrForTrustedPeers(t *testing.T) {
	o := newOrigin(t)
	g := o.join(member.Storage, "store", contract.Contract{})
	g.ready()
	begins := func(prefixes []protocol.ID, p protocol.ID) bool {
		return slices.ContainsFunc(prefixes, func(x protocol.ID) bool { return strings.HasPrefix(string(p), string(x)) })
	}
	forAll := []protocol.ID{"/ipfs/bitswap", "/ipfs/id/", "/ipfs/ping/", "/libp2p/circuit/relay/", "/libp2p/dcutr", "/musen/audit/", "/x/"}
	kept := 0
	for _, p := range g.node.Host().Mux().Protocols() {
		switch forAll, trusted := begins(forAll, p), begins(pin.Protocols(), p); {
		case trusted:
			kept++
		case !forAll:
			t.Errorf("%s is for nobody", p)
		}
	}
	if kept < 3 {
		t.Errorf("%d protocols are kept for trusted peers", kept)
	}
}
