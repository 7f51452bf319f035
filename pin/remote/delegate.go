package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/musenai/musen/internal/outbound"
)

// Bounds of what a service says of its nodes.
const (
	maxNamed    = 64  // delegates that are read of one answer
	maxAddress  = 512 // bytes of one
	maxAddrs    = 8   // of one node
	maxLookups  = 32  // of names, for one answer
	maxPointers = 3   // from one dnsaddr to the next
)

// delegate is one node as a service names it.
type delegate struct {
	id   peer.ID
	host ma.Multiaddr // one part: an address or a name; nil: it is not to be dialled
	rest ma.Multiaddr // the parts behind it
}

// parseDelegate reads one delegate. It takes a peer ID alone, and a peer ID
// behind TCP or QUIC at an address or a name: nothing that leads over others.
func parseDelegate(text string) (delegate, error) {
	m, err := ma.NewMultiaddr(text)
	if err != nil {
		return delegate{}, errors.New("it is no multiaddr")
	}
	at, id := peer.SplitAddr(m)
	if id == "" {
		return delegate{}, errors.New("it names no peer ID")
	}
	if len(at) == 0 {
		return delegate{id: id}, nil
	}
	d := delegate{id: id, host: at[:1], rest: at[1:]}
	if !isHost(at[0].Protocol().Code) || !isTransport(d.rest, at[0].Protocol().Code) {
		return delegate{}, errors.New("it is neither TCP nor QUIC at an address or a name")
	}
	return d, nil
}

func isHost(code int) bool {
	return slices.Contains([]int{ma.P_IP4, ma.P_IP6, ma.P_DNS, ma.P_DNS4, ma.P_DNS6, ma.P_DNSADDR}, code)
}

// isTransport reports whether the parts behind a host are those of one
// connection to it.
func isTransport(rest ma.Multiaddr, host int) bool {
	if host == ma.P_DNSADDR {
		return len(rest) == 0
	}
	var codes []int
	for _, c := range rest {
		codes = append(codes, c.Protocol().Code)
	}
	known := slices.Equal(codes, []int{ma.P_TCP}) || slices.Equal(codes, []int{ma.P_UDP, ma.P_QUIC_V1})
	return known && rest[0].Value() != "0"
}

// allowed says which addresses the nodes of a service may have: public ones,
// and those of the kind that the operator wrote into its endpoint. A service on
// the internet so never has this node dial its own network.
func allowed(endpoint string) func(netip.Addr) bool {
	var own netip.Addr
	if u, err := url.Parse(endpoint); err == nil {
		if a, err := netip.ParseAddr(u.Hostname()); err == nil {
			own = a.Unmap()
		}
	}
	return func(a netip.Addr) bool {
		a = a.Unmap()
		return outbound.Public(a) || a.Zone() == "" && (own.IsLoopback() && a.IsLoopback() || own.IsPrivate() && a.IsPrivate())
	}
}

// resolving is the reading of one answer.
type resolving struct {
	names   *net.Resolver
	allowed func(netip.Addr) bool
	left    int // lookups
}

// nodes are the nodes that an answer names, at most maxNodes, at addresses that
// may be dialled: names are looked up here and nowhere else, so that one that
// leads elsewhere the next time gains nothing. The error is about one of those
// that were refused.
func (r *resolving) nodes(ctx context.Context, named []string) (out []peer.AddrInfo, err error) {
	at := map[peer.ID]int{}
	for _, text := range named {
		d, bad := parseDelegate(text)
		var addrs []ma.Multiaddr
		if bad == nil {
			addrs, bad = r.addrs(ctx, d, maxPointers)
		}
		if bad != nil {
			err = fmt.Errorf("%w: a node at %.80q: %w", ErrRefused, text, bad)
			continue
		}
		i, known := at[d.id]
		if !known {
			if len(out) == maxNodes {
				continue
			}
			i, at[d.id] = len(out), len(out)
			out = append(out, peer.AddrInfo{ID: d.id})
		}
		for _, a := range addrs {
			if len(out[i].Addrs) < maxAddrs && !slices.ContainsFunc(out[i].Addrs, a.Equal) {
				out[i].Addrs = append(out[i].Addrs, a)
			}
		}
	}
	return out, err
}

// addrs is where one node may be dialled, none if it gave no address.
func (r *resolving) addrs(ctx context.Context, d delegate, pointers int) ([]ma.Multiaddr, error) {
	if len(d.host) == 0 {
		return nil, nil
	}
	value, code := d.host[0].Value(), d.host[0].Protocol().Code
	var found []netip.Addr
	switch code {
	case ma.P_IP4, ma.P_IP6:
		a, err := netip.ParseAddr(value)
		if err != nil {
			return nil, errors.New("its address cannot be read")
		}
		found = []netip.Addr{a}
	case ma.P_DNSADDR:
		return r.pointed(ctx, d, pointers)
	default:
		var err error
		if found, err = r.lookup(ctx, code, value); err != nil {
			return nil, err
		}
	}
	var out []ma.Multiaddr
	for _, a := range found {
		if a = a.Unmap(); !r.allowed(a) || len(out) == maxAddrs {
			continue
		}
		host := "/ip6/"
		if a.Is4() {
			host = "/ip4/"
		}
		m, err := ma.NewMultiaddr(host + a.String())
		if err == nil {
			out = append(out, slices.Concat(m, d.rest))
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no address of it may be dialled")
	}
	return out, nil
}

func (r *resolving) spend() error {
	if r.left--; r.left < 0 {
		return errors.New("too many names to look up")
	}
	return nil
}

func (r *resolving) lookup(ctx context.Context, code int, name string) ([]netip.Addr, error) {
	if err := r.spend(); err != nil {
		return nil, err
	}
	network := map[int]string{ma.P_DNS4: "ip4", ma.P_DNS6: "ip6", ma.P_DNS: "ip"}[code]
	found, err := r.names.LookupNetIP(ctx, network, name)
	if err != nil {
		return nil, errors.New("its name leads nowhere")
	}
	return found, nil
}

// pointed is where the records of a dnsaddr say that the node is.
func (r *resolving) pointed(ctx context.Context, d delegate, pointers int) (out []ma.Multiaddr, err error) {
	if err := r.spend(); err != nil {
		return nil, err
	}
	records, err := r.names.LookupTXT(ctx, "_dnsaddr."+d.host[0].Value())
	if err != nil || pointers == 0 {
		return nil, errors.New("its name leads nowhere")
	}
	err = errors.New("no address of it may be dialled")
	for _, record := range records[:min(len(records), maxNamed)] {
		text, ok := strings.CutPrefix(record, "dnsaddr=")
		if !ok || len(text) > maxAddress {
			continue
		}
		next, bad := parseDelegate(text)
		if bad != nil || next.id != d.id {
			continue
		}
		if addrs, bad := r.addrs(ctx, next, pointers-1); bad == nil && len(out) < maxAddrs {
			out, err = append(out, addrs...), nil
		}
	}
	return out, err
}
