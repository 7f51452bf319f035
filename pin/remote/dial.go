package remote

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/musenai/musen/internal/outbound"
)

const (
	maxRedirects = 3
	maxName      = 32
	maxURL       = 1024
)

// newClient makes a client that connects to nothing but public addresses and
// those allowed, and follows no redirect to another host.
func newClient(o Options) *http.Client {
	return outbound.New(outbound.Options{
		Prefixes: o.Allow, Plain: true, Redirects: maxRedirects,
		Conns: 2 * perService, Limit: o.Timing.Request, Roots: o.Roots,
	})
}

// check reports what is wrong with a service as an operator described it.
func (s *Services) check(v Service) error {
	if !isName(v.Name) {
		return fmt.Errorf("%w: name %.40q: at most %d lower-case letters, digits, dots and dashes", ErrInvalid, v.Name, maxName)
	}
	if v.Name == "origin" {
		return fmt.Errorf("%w: the name %q is that of the node itself", ErrInvalid, v.Name)
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
	if outbound.Public(a) || slices.ContainsFunc(s.o.Allow, func(p netip.Prefix) bool { return p.Contains(a) }) {
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
