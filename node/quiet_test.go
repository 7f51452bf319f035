package node

import (
	"strings"
	"testing"

	manet "github.com/multiformats/go-multiaddr/net"
)

// P15: by default a node can be reached from its own machine alone, knows
// nobody, and tells nobody what it has.
func TestNothingIsAnnounced(t *testing.T) {
	n := start(t)
	add(t, n, sealedBytes(1, 3*leafSize))
	c, err := n.kubo.Repo.Config()
	if err != nil {
		t.Fatal(err)
	}
	if c.Provide.Enabled.WithDefault(true) || c.Routing.Type.WithDefault("auto") != "none" || c.Discovery.MDNS.Enabled ||
		c.Pubsub.Enabled.WithDefault(false) || c.AutoConf.Enabled.WithDefault(true) || len(c.Bootstrap)+len(c.Routing.DelegatedRouters)+len(c.Ipns.DelegatedPublishers) > 0 {
		t.Errorf("announces: %+v", c)
	}
	for _, p := range n.Host().Mux().Protocols() {
		if strings.Contains(string(p), "/kad/") || strings.Contains(string(p), "/meshsub/") {
			t.Errorf("speaks %s", p)
		}
	}
	for _, a := range n.Host().Addrs() {
		if !manet.IsIPLoopback(a) {
			t.Errorf("listens on %s", a)
		}
	}
	if peers := n.Host().Network().Peers(); len(peers) != 0 {
		t.Errorf("connected to %v", peers)
	}
}
