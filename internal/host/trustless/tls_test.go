package trustless

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeCertificate writes a new certificate for 127.0.0.1 and its key to dir.
func writeCertificate(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	err = errors.Join(os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := writeCertificate(t, dir, "first")
	h := start(t, Limits{}, cert, key)
	seg := h.hold(300_000)
	a := h.ask("GET", "/ipfs/"+seg.root.String()+"?format=car")
	if a.StatusCode != 200 || len(a.body) < 300_000 || a.ProtoMajor != 2 || a.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("status %d over %s, %d bytes, %v", a.StatusCode, a.Proto, len(a.body), a.Header)
	}
	for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		c, err := tls.Dial("tcp", h.addr, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
		if (err == nil) != want {
			t.Errorf("TLS %x: %v", version, err)
		}
		if err == nil {
			c.Close()
		}
	}
	if got := h.raw("GET /ipfs/" + seg.root.String() + " HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.0 400") {
		t.Errorf("plain HTTP: %.60q", got)
	}
	if got := h.certificate(); got != "first" {
		t.Errorf("the certificate of %q", got)
	}
	writeCertificate(t, dir, "second")
	if err := h.server.ReloadCertificate(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.server.ReloadCertificate(); err == nil {
		t.Error("a broken key is read")
	}
	if got := h.certificate(); got != "second" {
		t.Errorf("the certificate of %q", got)
	}
	if _, err := New(Options{Blocks: h.blocks, Terms: h.terms, CertFile: cert, Log: h.server.o.Log, Now: time.Now}); err == nil {
		t.Error("a certificate without its key is taken")
	}
}

// certificate is the name on the certificate that the host shows.
func (h *host) certificate() string {
	h.t.Helper()
	c, err := tls.Dial("tcp", h.addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		h.t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName
}

// raw sends bytes and returns all that comes back.
func (h *host) raw(request string) string {
	h.t.Helper()
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		h.t.Fatal(err)
	}
	got, _ := io.ReadAll(c) // a reset ends it too
	return string(got)
}

// A client that is slow with its header, or sends a body, is not waited for.
func TestSlowAndTalkative(t *testing.T) {
	h := start(t, Limits{HeaderTimeout: 50 * time.Millisecond, HeaderBytes: 4096})
	seg := h.hold(1000)
	if got := h.raw("GET /ipfs/" + seg.root.String() + " HTTP/1.1\r\nHost: x\r\n"); strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("half a header: %.60q", got)
	}
	if got := h.raw("GET /ipfs/" + seg.root.String() + " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"); !strings.HasPrefix(got, "HTTP/1.1 400") || !strings.Contains(got, "Connection: close") {
		t.Errorf("a body: %.200q", got)
	}
	if got := h.raw("GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 16<<10) + "\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 431") {
		t.Errorf("a long header: %.60q", got)
	}
}

// H40: clients that ask for nothing keep out nobody who does, in plain and with
// TLS, where they do not even shake hands.
func TestManyAskForNothing(t *testing.T) {
	cert, key := writeCertificate(t, t.TempDir(), "host")
	for name, files := range map[string][]string{"plain": nil, "TLS": {cert, key}} {
		t.Run(name, func(t *testing.T) {
			h := start(t, Limits{Connections: 4, HeaderTimeout: time.Hour, IdleTimeout: time.Hour, WriteTimeout: time.Hour}, files...)
			seg := h.hold(1000)
			raw := "/ipfs/" + seg.root.String() + "?format=raw"
			h.terms.set(func() { h.terms.block = make(chan struct{}) })
			long := make(chan answer, 1)
			go func() { long <- h.ask("GET", raw) }()
			<-h.terms.waits
			first := h.idle()
			for range 9 {
				h.idle()
			}
			_, _ = io.Copy(io.Discard, first) // until it is closed
			close(h.terms.block)
			if a := <-long; a.StatusCode != 200 || a.err != nil {
				t.Errorf("an answer under way: status %d, %v", a.StatusCode, a.err)
			}
			h.client.CloseIdleConnections()
			if a := h.ask("GET", raw); a.StatusCode != 200 {
				t.Errorf("status %d", a.StatusCode)
			}
		})
	}
}

// idle connects, sends two bytes, and then nothing more.
func (h *host) idle() net.Conn {
	h.t.Helper()
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, "\x16\x03"); err != nil {
		h.t.Fatal(err)
	}
	return c
}

// A client that takes nothing is cut.
func TestStalledClient(t *testing.T) {
	h := start(t, Limits{WriteTimeout: 100 * time.Millisecond})
	seg := h.hold(24 << 20) // more than the system keeps for a client
	h.terms.block = make(chan struct{})
	close(h.terms.block)
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /ipfs/"+seg.root.String()+"?format=car HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-h.terms.waits
	if err := h.server.Shutdown(t.Context()); err != nil { // returns once no answer is under way
		t.Fatal(err)
	}
}
