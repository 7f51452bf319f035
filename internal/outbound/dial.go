package outbound

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
)

// special are the addresses that are unicast and look public, and are not.
func special() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),       // this network
		netip.MustParsePrefix("100.64.0.0/10"),   // carriers' own
		netip.MustParsePrefix("192.0.0.0/24"),    // protocols
		netip.MustParsePrefix("192.0.2.0/24"),    // examples
		netip.MustParsePrefix("192.88.99.0/24"),  // 6to4 relays
		netip.MustParsePrefix("198.18.0.0/15"),   // benchmarks
		netip.MustParsePrefix("198.51.100.0/24"), // examples
		netip.MustParsePrefix("203.0.113.0/24"),  // examples
		netip.MustParsePrefix("240.0.0.0/4"),     // reserved
		netip.MustParsePrefix("::/96"),           // IPv4 in IPv6, of old
		netip.MustParsePrefix("64:ff9b::/96"),    // IPv4 behind a translator
		netip.MustParsePrefix("64:ff9b:1::/48"),  // the same, locally
		netip.MustParsePrefix("100::/64"),        // discarded
		netip.MustParsePrefix("2001::/23"),       // protocols, Teredo among them
		netip.MustParsePrefix("2001:db8::/32"),   // examples
		netip.MustParsePrefix("2002::/16"),       // 6to4
		netip.MustParsePrefix("3fff::/20"),       // examples
		netip.MustParsePrefix("fec0::/10"),       // site-local, of old
	}
}

// Public reports whether an address belongs to somebody on the internet.
func Public(a netip.Addr) bool {
	if !a.IsValid() || !a.IsGlobalUnicast() || a.IsPrivate() || a.Zone() != "" {
		return false
	}
	for _, p := range special() {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// near reports whether an address is on this machine or in its own network.
// Link-local addresses are not: there clouds tell their machines secrets.
func near(a netip.Addr) bool {
	return a.Zone() == "" && (a.IsLoopback() || a.IsPrivate())
}

// guard lets a dialer connect to addresses that ok says yes to. It is asked
// with the address that a name resolved to, right before the connection is
// made, so a name that resolves to something else the next time gains nothing.
func guard(ok func(netip.Addr) bool) func(network, address string, _ syscall.RawConn) error {
	return func(network, address string, _ syscall.RawConn) error {
		if network != "tcp4" && network != "tcp6" {
			return fmt.Errorf("%w over %.20q", ErrRefused, network)
		}
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%w: not an address: %.60q", ErrRefused, address)
		}
		if a := ap.Addr().Unmap(); !ok(a) {
			return fmt.Errorf("%w to %s: not a public address", ErrRefused, a)
		}
		return nil
	}
}

// dialing connects by one rule to named hosts, and by another to all others.
type dialing struct {
	hosts         []string
	named, others net.Dialer
}

func dialer(o Options) *dialing {
	ok := func(a netip.Addr) bool {
		return Public(a) || slices.ContainsFunc(o.Prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	d := &dialing{
		named:  net.Dialer{Timeout: o.Limit, Resolver: o.Resolver, Control: guard(func(a netip.Addr) bool { return near(a) || ok(a) })},
		others: net.Dialer{Timeout: o.Limit, Resolver: o.Resolver, Control: guard(ok)},
	}
	for _, h := range o.Hosts {
		d.hosts = append(d.hosts, plainHost(h))
	}
	return d
}

// DialContext is the one of the dialer whose rule holds for the host.
func (d *dialing) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err == nil && slices.Contains(d.hosts, plainHost(host)) {
		return d.named.DialContext(ctx, network, address)
	}
	return d.others.DialContext(ctx, network, address)
}

// plainHost is a host in the one spelling by which hosts are compared.
func plainHost(h string) string {
	return strings.ToLower(strings.TrimSuffix(strings.Trim(h, "[]"), "."))
}
