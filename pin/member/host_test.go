package member

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	ma "github.com/multiformats/go-multiaddr"
)

// A gater is how a node asks a Gate.
type gater struct{ *Gate }

var _ connmgr.ConnectionGater = gater{}

func (g gater) InterceptPeerDial(p peer.ID) bool                 { return g.Admits(p) }
func (g gater) InterceptAddrDial(p peer.ID, _ ma.Multiaddr) bool { return g.Admits(p) }
func (g gater) InterceptAccept(network.ConnMultiaddrs) bool      { return true }
func (g gater) InterceptSecured(_ network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	return g.Admits(p)
}
func (g gater) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

// both are what hosts listen on in these tests.
func both() []string { return []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"} }

// newHost makes a host on loopback.
func newHost(t testing.TB, key crypto.PrivKey, listen []string, more ...libp2p.Option) host.Host {
	t.Helper()
	opts := append([]libp2p.Option{libp2p.Identity(key), libp2p.DisableRelay(), libp2p.DisableMetrics(), libp2p.ListenAddrStrings(listen...)}, more...)
	h, err := libp2p.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// gated makes the host of a peer whose connections its gate decides about, and
// what is spoken on them, with a protocol that echoes.
func gated(t testing.TB, key crypto.PrivKey, g *Gate, listen ...string) host.Host {
	t.Helper()
	rm, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(rcmgr.DefaultLimits.AutoScale()), rcmgr.WithMetricsDisabled())
	if err != nil {
		t.Fatal(err)
	}
	if listen == nil {
		listen = both()
	}
	h := newHost(t, key, listen, libp2p.ConnectionGater(gater{g}), libp2p.ResourceManager(g.Restrict(rm, "/trusted/")))
	for _, p := range []protocol.ID{echo, trustedEcho} {
		h.SetStreamHandler(p, func(s network.Stream) {
			_, _ = s.Write([]byte("hello"))
			_ = s.Close()
		})
	}
	return h
}

const (
	echo        protocol.ID = "/echo/1"
	trustedEcho protocol.ID = "/trusted/echo/1"
)

// origin makes an origin that lets peers in.
func origin(t testing.TB, o LedgerOptions) (*Ledger, host.Host) {
	t.Helper()
	l := open(t, o)
	h := gated(t, o.Key, l.Gate())
	stops := []func(){l.ServeEnrol(h), l.Gate().Guard(h)}
	t.Cleanup(func() {
		for _, stop := range stops {
			stop()
		}
	})
	return l, h
}

// addrsOf are those of a host, as text.
func addrsOf(h host.Host) []string {
	var out []string
	for _, a := range h.Addrs() {
		out = append(out, a.String())
	}
	return out
}

func infoOf(h host.Host) peer.AddrInfo { return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()} }

// hear connects, opens a stream and reads what the other side says.
func hear(t testing.TB, from, to host.Host, p protocol.ID) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := from.Connect(ctx, infoOf(to)); err != nil {
		return "", err
	}
	s, err := from.NewStream(ctx, to.ID(), p)
	if err != nil {
		return "", err
	}
	defer s.Reset()
	_ = s.SetDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 5)
	n, err := s.Read(b)
	if n > 0 {
		err = nil
	}
	return string(b[:n]), err
}

// deaf fails unless nothing can be heard, and not because of a time that passed.
func deaf(t testing.TB, what string, from, to host.Host, p protocol.ID) {
	t.Helper()
	got, err := hear(t, from, to, p)
	var late interface{ Timeout() bool }
	if err == nil || got != "" || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &late) && late.Timeout() {
		t.Errorf("%s: heard %q on %s, %v", what, got, p, err)
	}
}

// hears fails unless the other side is heard.
func hears(t testing.TB, what string, from, to host.Host, p protocol.ID) {
	t.Helper()
	if got, err := hear(t, from, to, p); err != nil || got != "hello" {
		t.Errorf("%s: heard %q on %s, %v", what, got, p, err)
	}
}

// gone waits until a host has no connection with p.
func gone(t testing.TB, h host.Host, p peer.ID) {
	t.Helper()
	left := make(chan struct{}, 1)
	b := &network.NotifyBundle{DisconnectedF: func(network.Network, network.Conn) {
		select {
		case left <- struct{}{}:
		default:
		}
	}}
	h.Network().Notify(b)
	defer h.Network().StopNotify(b)
	for h.Network().Connectedness(p) == network.Connected {
		select {
		case <-left:
		case <-time.After(20 * time.Second):
			t.Fatalf("peer %s is still connected", p)
		}
	}
}
