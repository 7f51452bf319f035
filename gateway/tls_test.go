package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
)

// writeCertificate writes a new certificate for 127.0.0.1 and its key to dir.
func writeCertificate(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	check(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	check(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	return certFile, keyFile
}

// serveTLS starts a Server with a certificate; its client speaks HTTP/2.
func (r *realm) serveTLS(dir string) *site {
	cert, key := writeCertificate(r.t.(*testing.T), dir, "first")
	s := r.serve(func(o *Options) { o.CertFile, o.KeyFile = cert, key })
	s.useTLS()
	return s
}

// useTLS has the client speak HTTP/2 over TLS.
func (s *site) useTLS() {
	s.url = "https://" + s.addr
	transport := s.client.Transport.(*http.Transport)
	transport.ForceAttemptHTTP2 = true
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // the certificate changes in the test
}

// H43, P3, P4
func TestTLS(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(300_000))
	s := r.serveTLS(t.TempDir())
	a := s.ask("GET", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+r.token())
	if a.StatusCode != 200 || len(a.body) != 300_000 || a.ProtoMajor != 2 || a.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("status %d over %s, %d bytes, %v", a.StatusCode, a.Proto, len(a.body), a.Header)
	}
	for version, want := range map[uint16]bool{
		tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true,
	} {
		c, err := tls.Dial("tcp", s.addr, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
		if (err == nil) != want {
			t.Errorf("TLS %x: %v", version, err)
		}
		if err == nil {
			c.Close()
		}
	}
	cbc := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}
	if c, err := tls.Dial("tcp", s.addr, cbc); err == nil {
		c.Close()
		t.Error("a CBC suite is accepted")
	}
	if got := s.raw("GET /listen/" + seg.CID.String() + " HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.0 400") {
		t.Errorf("plain HTTP: %.60q", got)
	}
}

// H17 over HTTP/2: the stream is reset, and the connection lives on.
func TestBrokenBlocksOverHTTP2(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(600_000))
	s := r.serveTLS(t.TempDir())
	r.hook(func(c cid.Cid, _ int64) error {
		if c.Equals(seg.Leaves[1]) {
			return io.ErrUnexpectedEOF
		}
		return nil
	})
	a := s.ask("GET", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+r.token())
	if a.err == nil || !strings.Contains(a.err.Error(), "stream error") {
		t.Errorf("%d bytes, %v", len(a.body), a.err)
	}
	a = s.ask("GET", "/listen/"+seg.CID.String(), "Authorization", "Bearer "+r.token(), "Range", "bytes=500000-")
	if a.StatusCode != 503 {
		t.Errorf("first chunk: status %d", a.StatusCode)
	}
}

// H43: a certificate is replaced without a restart, and a broken one is not
// taken.
func TestCertificateReload(t *testing.T) {
	dir := t.TempDir()
	r := newRealm(t)
	s := r.serveTLS(dir)
	shown := func() string {
		t.Helper()
		c, err := tls.Dial("tcp", s.addr, &tls.Config{InsecureSkipVerify: true})
		check(t, err)
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := shown(); got != "first" {
		t.Fatalf("shows %q", got)
	}
	certFile, _ := writeCertificate(t, dir, "second")
	check(t, s.server.ReloadCertificate())
	if got := shown(); got != "second" {
		t.Errorf("after a reload: shows %q", got)
	}
	check(t, os.WriteFile(certFile, []byte("broken"), 0o600))
	if s.server.ReloadCertificate() == nil {
		t.Error("a broken certificate was taken")
	}
	r.clock.Add(time.Minute)
	if got := shown(); got != "second" {
		t.Errorf("after a broken one: shows %q", got)
	}
	writeCertificate(t, dir, "third, and longer")
	r.clock.Add(time.Minute)
	if got := shown(); got != "third, and longer" {
		t.Errorf("by itself: shows %q", got)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	r := newRealm(t)
	if _, err := New(Options{}); err == nil {
		t.Error("no options are enough")
	}
	for _, o := range []Options{{CertFile: "x"}, {KeyFile: "x"}, {CertFile: "/nothing", KeyFile: "/nothing"}} {
		full := r.options()
		full.Log = discard()
		full.CertFile, full.KeyFile = o.CertFile, o.KeyFile
		if _, err := New(full); err == nil {
			t.Errorf("%q, %q: accepted", o.CertFile, o.KeyFile)
		}
	}
}

// H47, H44: over HTTP/2 too, what is too large is refused, and no page is told
// that it may send somebody's credentials.
func TestHostileRequestsOverHTTP2(t *testing.T) {
	r := newRealm(t)
	seg := r.add(musen.Segment{}, audioOf(100))
	s := r.serveTLS(t.TempDir())
	path, bearer := "/listen/"+seg.CID.String(), "Bearer "+r.token()
	many := []string{"Authorization", bearer}
	for range 150 {
		many = append(many, "X-A", "b")
	}
	crumbs := []string{"Authorization", bearer}
	for range 150 { // HTTP/2 may send a cookie in pieces
		crumbs = append(crumbs, "Cookie", "a=b")
	}
	for name, c := range map[string]struct {
		method, path string
		headers      []string
		status       int
	}{
		"as it should be":  {"GET", path, []string{"Authorization", bearer}, 200},
		"URL of 5 KiB":     {"GET", path + "?" + strings.Repeat("a", 5<<10), []string{"Authorization", bearer}, 414},
		"150 headers":      {"GET", path, many, 431},
		"pieces of cookie": {"GET", path, crumbs, 200},
		"two credentials":  {"GET", path, []string{"Authorization", bearer, "Authorization", bearer}, 401},
		"method":           {"PROPFIND", path, []string{"Authorization", bearer}, 405},
		"TRACE":            {"TRACE", path, []string{"Authorization", bearer}, 405},
		"preflight":        {"OPTIONS", path, []string{"Origin", "https://evil.example", "Access-Control-Request-Method", "GET"}, 405},
		"origin null":      {"GET", path, []string{"Origin", "null", "Authorization", bearer}, 200},
		"override":         {"POST", path, []string{"X-Http-Method-Override", "GET", "Authorization", bearer}, 405},
	} {
		a := s.ask(c.method, c.path, c.headers...)
		if a.err != nil || a.StatusCode != c.status || a.ProtoMajor != 2 {
			t.Errorf("%s: status %d over %s, want %d: %v", name, a.StatusCode, a.Proto, c.status, a.err)
		}
		if v := a.Header.Get("Access-Control-Allow-Origin") + a.Header.Get("Access-Control-Allow-Credentials"); v != "" {
			t.Errorf("%s: pages are allowed %q", name, v)
		}
	}
}
