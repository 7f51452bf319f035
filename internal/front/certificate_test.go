package front

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write writes a new certificate and its key to dir.
func write(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
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

// shown is the name on the certificate that a client of c sees.
func shown(t *testing.T, c *Certificate) string {
	t.Helper()
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	served := make(chan error, 1)
	go func() { served <- tls.Server(there, c.Config()).Handshake() }()
	client := tls.Client(here, &tls.Config{InsecureSkipVerify: true}) // the certificate changes in the test
	check(t, client.Handshake())
	check(t, <-served)
	return client.ConnectionState().PeerCertificates[0].Subject.CommonName
}

// A certificate is replaced without a restart, and a broken one is not taken.
func TestCertificateIsReplaced(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	certFile, keyFile := write(t, dir, "first")
	c, err := LoadCertificate(certFile, keyFile, func() time.Time { return now })
	check(t, err)
	expect := func(want, when string) {
		t.Helper()
		if got := shown(t, c); got != want {
			t.Errorf("%s: shows %q", when, got)
		}
	}
	expect("first", "at the beginning")
	write(t, dir, "second")
	expect("first", "a moment later")
	check(t, c.Reload())
	expect("second", "after a reload")
	check(t, os.WriteFile(keyFile, []byte("broken"), 0o600))
	if c.Reload() == nil {
		t.Error("a broken key was taken")
	}
	now = now.Add(time.Minute)
	expect("second", "after a broken key")
	write(t, dir, "third, and longer")
	expect("second", "before it looks again")
	now = now.Add(certificateCheck)
	expect("third, and longer", "by itself")
	check(t, os.Remove(certFile))
	now = now.Add(time.Minute)
	expect("third, and longer", "after the file went")
}

func TestCertificateNeedsItsFiles(t *testing.T) {
	certFile, keyFile := write(t, t.TempDir(), "x")
	for _, files := range [][2]string{{certFile, ""}, {"", keyFile}, {keyFile, certFile}, {"/nothing", keyFile}} {
		if _, err := LoadCertificate(files[0], files[1], time.Now); err == nil {
			t.Errorf("%q is taken", files)
		}
	}
}
