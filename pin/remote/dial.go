package remote

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	maxAnswer    = 1 << 20 // bytes
	maxRedirects = 3
	maxName      = 32
	maxURL       = 1024
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

// public reports whether an address belongs to somebody on the internet.
func public(a netip.Addr) bool {
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

// guard lets a dialer connect to public addresses and to those allowed. It is
// asked with the address that a name resolved to, right before the connection
// is made, so a name that resolves to something else the next time gains
// nothing.
func guard(allow []netip.Prefix) func(network, address string, _ syscall.RawConn) error {
	return func(network, address string, _ syscall.RawConn) error {
		if network != "tcp4" && network != "tcp6" {
			return fmt.Errorf("%w over %.20q", ErrRefused, network)
		}
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%w: not an address: %.60q", ErrRefused, address)
		}
		a := ap.Addr().Unmap()
		for _, p := range allow {
			if p.Contains(a) {
				return nil
			}
		}
		if !public(a) {
			return fmt.Errorf("%w to %s: not a public address", ErrRefused, a)
		}
		return nil
	}
}

// newClient makes a client that connects to nothing but public addresses and
// those allowed, follows no redirect to another host, and reads bounded answers
// in bounded time. It knows of no proxy: one would connect for us to wherever
// it is told.
func newClient(allow []netip.Prefix, roots *x509.CertPool, limit time.Duration) *http.Client {
	return newClientOn(&net.Dialer{Timeout: limit, Control: guard(allow)}, roots, limit)
}

func newClientOn(dialer *net.Dialer, roots *x509.CertPool, limit time.Duration) *http.Client {
	return &http.Client{
		Timeout: limit,
		Transport: bounded{&http.Transport{
			Proxy:                  nil,
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			TLSHandshakeTimeout:    limit,
			ResponseHeaderTimeout:  limit,
			MaxResponseHeaderBytes: 64 << 10,
			MaxConnsPerHost:        2 * perService,
			MaxIdleConnsPerHost:    perService,
			IdleConnTimeout:        time.Minute,
			ForceAttemptHTTP2:      true,
		}},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			from := via[0].URL
			if len(via) > maxRedirects || r.URL.Scheme != from.Scheme || r.URL.Host != from.Host {
				return fmt.Errorf("%w: redirected elsewhere", ErrRefused)
			}
			return nil
		},
	}
}

// bounded ends answers that are too long.
type bounded struct{ *http.Transport }

// RoundTrip is the one of the transport.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.Transport.RoundTrip(r)
	if err == nil {
		resp.Body = &bounding{ReadCloser: resp.Body, left: maxAnswer}
	}
	return resp, err
}

type bounding struct {
	io.ReadCloser
	left int64
}

func (b *bounding) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("answer longer than 1 MiB")
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// check reports what is wrong with a service as an operator described it.
func (s *Services) check(v Service) error {
	if !isName(v.Name) {
		return fmt.Errorf("%w: name %.40q: at most %d lower-case letters, digits, dots and dashes", ErrInvalid, v.Name, maxName)
	}
	if !filepath.IsAbs(v.TokenFile) {
		return fmt.Errorf("%w: the token file must be an absolute path", ErrInvalid)
	}
	if err := checkEndpoint(v.Endpoint); err != nil {
		return err
	}
	return s.reachable(v.Endpoint)
}

// reachable refuses an endpoint whose host is an address that is never
// connected to. Names are looked at when they are.
func (s *Services) reachable(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return fmt.Errorf("%w: the endpoint is not a URL", ErrInvalid)
	}
	a, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return nil // a name
	}
	a = a.Unmap()
	if public(a) || slices.ContainsFunc(s.o.Allow, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return nil
	}
	return fmt.Errorf("%w: the endpoint is at %s, which is not a public address", ErrInvalid, a)
}

func isName(s string) bool {
	for _, r := range s {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789.-", r) {
			return false
		}
	}
	return s != "" && len(s) <= maxName
}

// checkEndpoint says nothing about where a name leads: that is seen, each time
// anew, when a connection is made.
func checkEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	switch {
	case len(endpoint) > maxURL, err != nil:
		return fmt.Errorf("%w: the endpoint is not a URL", ErrInvalid) // which may hold a password
	case u.User != nil, u.RawQuery != "" || u.ForceQuery, u.Fragment != "", u.Opaque != "":
		return fmt.Errorf("%w: the endpoint must be https://host/path, without user, query and fragment", ErrInvalid)
	case u.Hostname() == "":
		return fmt.Errorf("%w: the endpoint names no host", ErrInvalid)
	case strings.ContainsAny(u.Path, "{}"):
		return fmt.Errorf("%w: braces in the endpoint", ErrInvalid)
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%w: the endpoint must be https", ErrInvalid)
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}
