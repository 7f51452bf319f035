package outbound

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// inward are spellings of addresses that nobody outside may have us call.
func inward() []string {
	return []string{
		"127.0.0.1", "[::1]", "0.0.0.0", "[::]", "169.254.169.254", "127.1", "2130706433", "0x7f000001", "017700000001",
		"localhost", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
		"10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "[fe80::1]", "[fe80::1%25lo]", "[fc00::1]", "224.0.0.1",
		"255.255.255.255", "[ff02::1]", "127.0.0.1.", "LOCALHOST",
	}
}

// service is an HTTPS server that counts the connections to it.
type service struct {
	*httptest.Server
	port  string
	conns atomic.Int64
}

func serve(t *testing.T, f http.HandlerFunc) *service {
	t.Helper()
	s := &service{Server: httptest.NewUnstartedServer(f)}
	s.Config.ErrorLog = nil
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			s.conns.Add(1)
		}
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	var err error
	if _, s.port, err = net.SplitHostPort(s.Listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *service) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return pool
}

// H57: however an address is spelled, no connection is made to this machine,
// its neighbours or its provider, also when another host on them is allowed.
func TestNoConnectionInward(t *testing.T) {
	trap := serve(t, func(http.ResponseWriter, *http.Request) {})
	for _, o := range []Options{
		{}, {Plain: true}, {Redirects: 3}, {Hosts: []string{"platform.example", "10.9.9.9"}},
		{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}},
	} {
		o.Limit, o.Roots = time.Second, trap.roots()
		c := New(o)
		for _, host := range inward() {
			for _, scheme := range []string{"https", "http"} {
				resp, err := c.Get(scheme + "://" + host + ":" + trap.port + "/")
				if err == nil {
					resp.Body.Close()
					t.Errorf("%s://%s answered", scheme, host)
				}
			}
		}
		for _, u := range []string{
			"file:///etc/passwd", "gopher://127.0.0.1:" + trap.port + "/", "unix:///run/x", "unix://127.0.0.1:" + trap.port,
			"ftp://127.0.0.1/", "data:,x", "", "//127.0.0.1:" + trap.port,
		} {
			if resp, err := c.Get(u); err == nil {
				resp.Body.Close()
				t.Errorf("%s answered", u)
			}
		}
		c.CloseIdleConnections()
	}
	if n := trap.conns.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// A host that is allowed is reached on this machine, by the name or address
// that was allowed and by no other; link-local addresses never are.
func TestAllowedHosts(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })
	names := always(netip.MustParseAddr("127.0.0.1"))
	c := New(Options{Hosts: []string{"Example.com"}, Roots: s.roots(), Resolver: names})
	defer c.CloseIdleConnections()
	for _, host := range []string{"example.com", "EXAMPLE.com"} {
		resp, err := c.Get("https://" + host + ":" + s.port + "/")
		if err != nil {
			t.Fatalf("%s: %v", host, err)
		}
		resp.Body.Close()
	}
	reached := s.conns.Load()
	for _, host := range []string{"www.example.com", "127.0.0.1", "example.com.evil.example", "[::1]"} {
		if _, err := c.Get("https://" + host + ":" + s.port + "/"); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", host, err)
		}
	}
	if n := s.conns.Load(); n != reached {
		t.Errorf("%d connections by other names", n-reached)
	}
	local := New(Options{Hosts: []string{"example.com", "169.254.169.254"}, Limit: time.Second, Resolver: always(netip.MustParseAddr("169.254.169.254"))})
	defer local.CloseIdleConnections()
	for _, host := range []string{"example.com", "169.254.169.254"} {
		if _, err := local.Get("https://" + host + "/latest/meta-data/"); !errors.Is(err, ErrRefused) {
			t.Errorf("%s, link-local: %v", host, err)
		}
	}
}

// http is for addresses of loopback that are allowed, and only if it is.
func TestPlain(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	for _, plain := range []bool{true, false} {
		c := New(Options{Hosts: []string{"127.0.0.1", "localhost"}, Plain: plain})
		resp, err := c.Get(s.URL)
		if err == nil {
			resp.Body.Close()
		}
		if (err == nil) != plain || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("plain %v: %v", plain, err)
		}
		if _, err := c.Get(strings.Replace(s.URL, "127.0.0.1", "localhost", 1)); !errors.Is(err, ErrRefused) {
			t.Errorf("a name: %v", err)
		}
		c.CloseIdleConnections()
	}
}

// H57: a redirect is not followed, wherever it leads.
func TestNoRedirect(t *testing.T) {
	trap := serve(t, func(http.ResponseWriter, *http.Request) {})
	var target string
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target, http.StatusFound) })
	c := New(Options{Hosts: []string{"127.0.0.1"}, Roots: s.roots()})
	defer c.CloseIdleConnections()
	for _, target = range []string{trap.URL, s.URL + "/other", "http://127.0.0.1:" + trap.port, "file:///etc/passwd", "//127.0.0.1:" + trap.port} {
		if _, err := c.Get(s.URL); !errors.Is(err, ErrRefused) {
			t.Errorf("to %s: %v", target, err)
		}
	}
	if n := trap.conns.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// An answer ends after 1 MiB and a call after its time, whatever the server
// does.
func TestAnswersAreBounded(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/silent" {
			<-r.Context().Done()
			return
		}
		for range 64 {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	o := Options{Hosts: []string{"127.0.0.1"}, Roots: s.roots(), Limit: 20 * time.Second}
	c := New(o)
	defer c.CloseIdleConnections()
	resp, err := c.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err == nil || len(b) != maxAnswer {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	o.Limit = 50 * time.Millisecond
	c = New(o)
	defer c.CloseIdleConnections()
	if resp, err := c.Get(s.URL + "/silent"); err == nil {
		resp.Body.Close()
		t.Error("a server that says nothing has answered")
	}
}

// A proxy of the environment would connect for us to wherever it is told.
func TestNoProxy(t *testing.T) {
	trap := serve(t, func(http.ResponseWriter, *http.Request) {})
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"} {
		t.Setenv(name, trap.URL)
	}
	c := New(Options{Limit: time.Second, Resolver: always(netip.MustParseAddr("10.0.0.1"))})
	defer c.CloseIdleConnections()
	if _, err := c.Get("https://platform.example/"); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
	if n := trap.conns.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// P3: TLS 1.1 and certificates that nobody vouches for are refused.
func TestTLS(t *testing.T) {
	old := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request came") }))
	old.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	old.StartTLS()
	defer old.Close()
	unknown := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a request came") })
	roots := x509.NewCertPool()
	roots.AddCert(old.Certificate())
	c := New(Options{Hosts: []string{"127.0.0.1"}, Roots: roots})
	defer c.CloseIdleConnections()
	if _, err := c.Get(old.URL); err == nil {
		t.Error("TLS 1.1 was spoken")
	}
	c = New(Options{Hosts: []string{"127.0.0.1"}, Roots: x509.NewCertPool()})
	defer c.CloseIdleConnections()
	if _, err := c.Get(unknown.URL); err == nil {
		t.Error("an unknown certificate was accepted")
	}
}

func TestRoots(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, *http.Request) {})
	path := filepath.Join(t.TempDir(), "ca.pem")
	write := func(b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	roots, err := Roots(path)
	if err != nil || !roots.Equal(s.roots()) {
		t.Errorf("%v", err)
	}
	for what, b := range map[string][]byte{"empty": nil, "no certificate": []byte("hello"), "huge": make([]byte, maxRoots+1)} {
		write(b)
		if _, err := Roots(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := Roots(path + ".none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
}

func TestCheckURL(t *testing.T) {
	for u, want := range map[string]struct{ secure, plain bool }{
		"https://platform.example/x?y=z":           {true, true},
		"https://127.0.0.1/":                       {true, true},
		"http://127.0.0.1:8080/":                   {false, true},
		"http://[::1]/":                            {false, true},
		"http://localhost/":                        {},
		"http://platform.example/":                 {},
		"https://u:p@platform.example/":            {},
		"https://platform.example/#x":              {},
		"https:platform.example":                   {},
		"https:///path":                            {},
		"https://:443/":                            {},
		"platform.example":                         {},
		"":                                         {},
		"file:///etc/passwd":                       {},
		"gopher://127.0.0.1/":                      {},
		"unix:/run/x":                              {},
		"https://platform.example/\x7f":            {},
		"https://x/" + strings.Repeat("x", maxURL): {},
	} {
		if err := CheckURL(u, false); (err == nil) != want.secure {
			t.Errorf("%.60s: %v", u, err)
		}
		if err := CheckURL(u, true); (err == nil) != want.plain {
			t.Errorf("%.60s, plain: %v", u, err)
		} else if err != nil && u != "" && strings.Contains(err.Error(), u) {
			t.Errorf("the error repeats the URL: %v", err)
		}
	}
}

func always(a netip.Addr) *net.Resolver { return flipping(a, a) }
