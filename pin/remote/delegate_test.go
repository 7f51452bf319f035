package remote

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/musenai/musen/internal/outbound"
)

const (
	nodeA = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
	nodeB = "QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ"
)

// zone is a small DNS server. What is asked for several times gets one answer
// after the other, and then the last one for good.
type zone struct {
	a   map[string][]string // addresses, by name
	txt map[string][]string // records, by name: all of them at once

	mu    sync.Mutex
	asked map[string]int
}

func (z *zone) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			var size [2]byte
			if _, err := io.ReadFull(server, size[:]); err != nil {
				return
			}
			q := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(server, q); err != nil {
				return
			}
			a := z.answer(q)
			server.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
		}()
		return client, nil
	}}
}

func (z *zone) answer(q []byte) []byte {
	var labels []string
	for i := 12; q[i] != 0; i += int(q[i]) + 1 {
		labels = append(labels, string(q[i+1:i+1+int(q[i])]))
	}
	name, kind := strings.Join(labels, "."), q[question(q)-3]
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.asked == nil {
		z.asked = map[string]int{}
	}
	a := append([]byte(nil), q[:question(q)]...)
	copy(a[2:], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0})
	add := func(data []byte) {
		a[7]++
		a = append(a, 0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 0)
		a = append(binary.BigEndian.AppendUint16(a, uint16(len(data))), data...)
	}
	switch all := z.a[name]; {
	case kind == 1 && len(all) > 0:
		add(netip.MustParseAddr(all[min(z.asked[name], len(all)-1)]).AsSlice())
		z.asked[name]++
	case kind == 16:
		for _, text := range z.txt[name] {
			add(append([]byte{byte(len(text))}, text...))
		}
		z.asked[name]++
	}
	return a
}

func (z *zone) read(endpoint string, named ...string) ([]peer.AddrInfo, error) {
	r := resolving{names: z.resolver(), allowed: allowed(endpoint), left: maxLookups}
	return r.nodes(context.Background(), named)
}

const farAway = "https://pins.example/psa"

// A service on the internet names nodes on the internet, or none.
func TestNodesAreNotInward(t *testing.T) {
	z := &zone{a: map[string][]string{"inward.example": {"10.0.0.1"}, "here.example": {"127.0.0.1"}, "cloud.example": {"169.254.169.254"}}}
	bad := []string{
		"", "x", "/", "//", "/ip4/8.8.8.8/tcp/4001", "/p2p/x", "/ip4/8.8.8.8/tcp/4001/p2p/", "/p2p/" + nodeA + "/ip4/8.8.8.8/tcp/1",
		"/ip4/8.8.8.8/tcp/0/p2p/" + nodeA, "/ip4/8.8.8.8/tcp/70000/p2p/" + nodeA, "/ip4/8.8.8.8/p2p/" + nodeA, "/tcp/4001/p2p/" + nodeA,
		"/ip4/8.8.8.8/udp/4001/p2p/" + nodeA, "/ip4/8.8.8.8/tcp/4001/ws/p2p/" + nodeA, "/dns4/x.example/tcp/443/wss/p2p/" + nodeA,
		"/ip4/8.8.8.8/tcp/4001/p2p/" + nodeB + "/p2p-circuit/p2p/" + nodeA, "/ip4/8.8.8.8/tcp/4001/ip4/127.0.0.1/tcp/1/p2p/" + nodeA,
		"/unix/run/docker.sock/p2p/" + nodeA, "/ip6zone/eth0/ip6/fe80::1/tcp/1/p2p/" + nodeA, "/dns4/nowhere.example/tcp/1/p2p/" + nodeA,
		"/dnsaddr/nowhere.example/p2p/" + nodeA, "/dnsaddr/inward.example/tcp/1/p2p/" + nodeA, "/ip4/8.8.8.8/udp/1/quic/p2p/" + nodeA,
	}
	for _, host := range []string{
		"ip4/127.0.0.1", "ip4/10.0.0.1", "ip4/192.168.1.1", "ip4/172.16.0.1", "ip4/100.64.0.1", "ip4/169.254.169.254", "ip4/0.0.0.0",
		"ip4/224.0.0.1", "ip4/255.255.255.255", "ip4/198.18.0.1", "ip6/::1", "ip6/::", "ip6/fe80::1", "ip6/fc00::1", "ip6/::ffff:127.0.0.1",
		"ip6/::ffff:10.0.0.1", "ip6/64:ff9b::7f00:1", "ip6/2002:7f00:1::", "ip6/ff02::1", "dns4/inward.example", "dns/here.example", "dns4/cloud.example",
	} {
		bad = append(bad, "/"+host+"/tcp/4001/p2p/"+nodeA, "/"+host+"/udp/4001/quic-v1/p2p/"+nodeA)
	}
	for _, text := range bad {
		if nodes, err := z.read(farAway, text); len(nodes) != 0 || !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, %v", text, nodes, err)
		}
	}
}

func TestNodesThatAreLetIn(t *testing.T) {
	z := &zone{
		a: map[string][]string{"node.example": {"8.8.8.8"}, "mixed.example": {"10.0.0.1"}},
		txt: map[string][]string{
			"_dnsaddr.all.example": {
				"dnsaddr=/dns4/node.example/tcp/4001/p2p/" + nodeA, "dnsaddr=/ip4/127.0.0.1/tcp/1/p2p/" + nodeA,
				"dnsaddr=/ip4/8.8.4.4/tcp/4001/p2p/" + nodeB, "v=spf1", "dnsaddr=x",
			},
			"_dnsaddr.loop.example": {"dnsaddr=/dnsaddr/loop.example/p2p/" + nodeA},
		},
	}
	for text, want := range map[string]string{
		"/p2p/" + nodeB:                                   "",
		"/ip4/8.8.8.8/tcp/4001/p2p/" + nodeA:              "/ip4/8.8.8.8/tcp/4001",
		"/ip4/8.8.8.8/udp/4001/quic-v1/p2p/" + nodeB:      "/ip4/8.8.8.8/udp/4001/quic-v1",
		"/ip6/2606:4700::1/tcp/4001/p2p/" + nodeA:         "/ip6/2606:4700::1/tcp/4001",
		"/ip6/::ffff:8.8.8.8/tcp/4001/p2p/" + nodeA:       "/ip4/8.8.8.8/tcp/4001",
		"/dns4/node.example/tcp/4001/p2p/" + nodeA:        "/ip4/8.8.8.8/tcp/4001",
		"/dns/node.example/udp/4001/quic-v1/p2p/" + nodeA: "/ip4/8.8.8.8/udp/4001/quic-v1",
		"/dnsaddr/all.example/p2p/" + nodeA:               "/ip4/8.8.8.8/tcp/4001",
		"/ip4/8.8.8.8/tcp/4001/ipfs/" + nodeB:             "/ip4/8.8.8.8/tcp/4001",
	} {
		nodes, err := z.read(farAway, text)
		if err != nil || len(nodes) != 1 || !strings.HasSuffix(text, nodes[0].ID.String()) {
			t.Errorf("%s: %v, %v", text, nodes, err)
			continue
		}
		var got []string
		for _, a := range nodes[0].Addrs {
			got = append(got, a.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: to be dialled at %q, want %q", text, got, want)
		}
	}
	if nodes, err := z.read(farAway, "/dnsaddr/loop.example/p2p/"+nodeA); len(nodes) != 0 || err == nil {
		t.Errorf("names that lead to each other: %v, %v", nodes, err)
	}
}

// What a name led to when it was checked is what is dialled.
func TestNameOfANodeThatFlips(t *testing.T) {
	z := &zone{a: map[string][]string{"flips.example": {"8.8.8.8", "127.0.0.1"}}}
	nodes, err := z.read(farAway, "/dns4/flips.example/tcp/4001/p2p/"+nodeA)
	if err != nil || len(nodes) != 1 || nodes[0].Addrs[0].String() != "/ip4/8.8.8.8/tcp/4001" {
		t.Fatalf("at first: %v, %v", nodes, err)
	}
	if nodes, err := z.read(farAway, "/dns4/flips.example/tcp/4001/p2p/"+nodeA); len(nodes) != 0 || err == nil {
		t.Errorf("then: %v, %v", nodes, err)
	}
}

// An endpoint that is written as one of this machine, or of the operator's own
// network, may have nodes there; a name that leads there may not.
func TestNodesBesideTheirService(t *testing.T) {
	z := &zone{}
	loop, home, link := "/ip4/127.0.0.1/tcp/1/p2p/"+nodeA, "/ip4/192.168.1.9/tcp/1/p2p/"+nodeA, "/ip4/169.254.169.254/tcp/1/p2p/"+nodeA
	for endpoint, may := range map[string][]string{
		"http://127.0.0.1:1/psa": {loop}, "https://[::1]/": {loop}, "https://192.168.1.2/psa": {home}, "https://10.0.0.1": {home},
		farAway: nil, "https://localhost": nil, "https://8.8.8.8": nil, "https://169.254.169.254": nil, "https://0.0.0.0": nil, "%": nil,
	} {
		for _, text := range []string{loop, home, link} {
			if nodes, _ := z.read(endpoint, text); (len(nodes) > 0) != slices.Contains(may, text) {
				t.Errorf("%s at %s: %v", text, endpoint, nodes)
			}
		}
	}
}

func TestNamedNodesAreBounded(t *testing.T) {
	z := &zone{a: map[string][]string{"node.example": {"8.8.8.8"}}}
	var many, one, names []string
	for n := range 3 * maxNodes {
		many = append(many, "/ip4/8.8.8.8/tcp/4001/p2p/"+peerID(t, n).String())
		one = append(one, "/ip4/8.8.8."+string(rune('1'+n%9))+"/tcp/4001/p2p/"+nodeA)
		names = append(names, "/dns4/node.example/tcp/4001/p2p/"+nodeA)
	}
	if nodes, err := z.read(farAway, many...); len(nodes) != maxNodes || err != nil {
		t.Errorf("%d nodes, %v", len(nodes), err)
	}
	if nodes, err := z.read(farAway, one...); len(nodes) != 1 || len(nodes[0].Addrs) != maxAddrs || err != nil {
		t.Errorf("%d nodes, %v", len(nodes), err)
	}
	if _, err := z.read(farAway, names...); err == nil || z.asked["node.example"] > maxLookups {
		t.Errorf("%d lookups, %v", z.asked["node.example"], err)
	}
}

// FuzzDelegate has a service name anything: what is let in has an ID, and what
// is dialled is a public address.
func FuzzDelegate(f *testing.F) {
	for _, text := range []string{
		"/ip4/8.8.8.8/tcp/4001/p2p/" + nodeA, "/ip6/::1/udp/1/quic-v1/p2p/" + nodeB, "/p2p/" + nodeA, "/dnsaddr/x/p2p/" + nodeA,
		"/ip4/8.8.8.8/tcp/1/p2p/" + nodeA + "/p2p-circuit/p2p/" + nodeB, "/ip6zone/x/ip6/fe80::1/tcp/1/p2p/" + nodeA, "",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "dns") {
			return
		}
		r := resolving{names: (&zone{}).resolver(), allowed: allowed(farAway), left: maxLookups}
		nodes, err := r.nodes(t.Context(), []string{text})
		if (len(nodes) == 1) == (err != nil) {
			t.Fatalf("%q: %v, %v", text, nodes, err)
		}
		for _, n := range nodes {
			for _, a := range n.Addrs {
				ip, err := netip.ParseAddr(a[0].Value())
				if n.ID == "" || err != nil || !outbound.Public(ip) || bytes.Contains(a.Bytes(), []byte("p2p-circuit")) {
					t.Fatalf("%q: %v", text, n)
				}
			}
		}
	})
}
