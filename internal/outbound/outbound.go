// Package outbound is how the node calls URLs that an operator wrote down or a
// stranger could influence: platforms that issue tokens or decide on requests,
// receivers of alerts, pinning services.
//
// It connects to public addresses alone, whatever a name resolves to, and to
// others only for hosts or addresses that its caller names. It speaks TLS 1.2
// or newer, follows no redirect, knows of no proxy, and ends an answer that is
// too long or takes too long.
//
// It does not know what is asked, or who asks.
package outbound

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
	"os"
	"time"
)

// ErrRefused says that a connection was not made, because of where it would
// have gone, or a redirect not followed.
var ErrRefused = errors.New("refused to connect")

const (
	maxAnswer  = 1 << 20 // bytes
	maxRoots   = 1 << 20 // bytes
	maxURL     = 1024
	maxHeaders = 64 << 10
	maxTime    = 5 * time.Second
	maxConns   = 8
)

// Options are where a client may connect to, and how long it may take. The
// zero value is a client for public hosts.
type Options struct {
	Hosts     []string       // as URLs name them, without a port: these may also be on loopback or in a private network
	Prefixes  []netip.Prefix // addresses that may be connected to although they are not public
	Plain     bool           // http is allowed, for addresses of loopback
	Redirects int            // followed to the same scheme, host and port; 0: none
	Conns     int            // to one host at once; 0: 8
	Limit     time.Duration  // for a whole call; 0: 5 seconds
	Roots     *x509.CertPool // nil: the system's
	Resolver  *net.Resolver  // nil: the system's
}

// New makes a client. A call that ends with ErrRefused has connected to nothing
// that it should not have. Bodies of answers end with an error after 1 MiB.
func New(o Options) *http.Client {
	if o.Limit <= 0 {
		o.Limit = maxTime
	}
	if o.Conns <= 0 {
		o.Conns = maxConns
	}
	return &http.Client{
		Timeout: o.Limit,
		Transport: &bounded{o.Plain, &http.Transport{
			Proxy:                  nil,
			DialContext:            dialer(o).DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots},
			TLSHandshakeTimeout:    o.Limit,
			ResponseHeaderTimeout:  o.Limit,
			MaxResponseHeaderBytes: maxHeaders,
			MaxConnsPerHost:        o.Conns,
			MaxIdleConnsPerHost:    (o.Conns + 1) / 2,
			IdleConnTimeout:        time.Minute,
			ForceAttemptHTTP2:      true,
		}},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			from := via[0].URL
			if len(via) > o.Redirects || r.URL.Scheme != from.Scheme || r.URL.Host != from.Host {
				return fmt.Errorf("%w: redirected elsewhere", ErrRefused)
			}
			return nil
		},
	}
}

// bounded refuses schemes that do not protect a call, and ends answers that
// are too long.
type bounded struct {
	plain bool
	*http.Transport
}

// RoundTrip is the one of the transport.
func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	if !protects(r.URL, b.plain) {
		if r.Body != nil {
			r.Body.Close() // as every RoundTripper does
		}
		return nil, fmt.Errorf("%w over %.20q: it is not https", ErrRefused, r.URL.Scheme)
	}
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

// protects reports whether nobody on the way can read or change what goes to u.
func protects(u *url.URL, plain bool) bool {
	if u.Scheme == "https" {
		return true
	}
	a, err := netip.ParseAddr(u.Hostname())
	return plain && u.Scheme == "http" && err == nil && a.Unmap().IsLoopback()
}

// CheckURL reports what is wrong with a URL that is to be called. It says
// nothing about where its name leads: that is seen, each time anew, when a
// connection is made. Errors do not repeat the URL, which may hold a password.
// With plain, http is allowed for addresses of loopback.
func CheckURL(raw string, plain bool) error {
	u, err := url.Parse(raw)
	switch {
	case len(raw) > maxURL, err != nil:
		return errors.New("not a URL")
	case u.User != nil, u.Fragment != "", u.Opaque != "":
		return errors.New("must be https://host/path, without user and fragment")
	case u.Hostname() == "":
		return errors.New("names no host")
	case !protects(u, plain):
		return errors.New("must be https")
	}
	return nil
}

// Roots reads the certificates of a PEM file, for servers whose certificates
// are vouched for by nobody else.
func Roots(path string) (*x509.CertPool, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRoots+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(b) > maxRoots {
		return nil, fmt.Errorf("read %s: more than 1 MiB", path)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("read %s: no certificate in it", path)
	}
	return pool, nil
}
