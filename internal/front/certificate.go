package front

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// certificateCheck is how often the files of a certificate are looked at.
const certificateCheck = 10 * time.Second

// A Certificate is a TLS certificate in two files that may be replaced while
// the node runs. It is safe for concurrent use.
type Certificate struct {
	certFile, keyFile string
	now               func() time.Time

	mu      sync.Mutex
	pair    *tls.Certificate
	stamp   [2]fileStamp // of the files that pair was read from
	checked time.Time
}

// A fileStamp tells a file from the one that replaced it.
type fileStamp struct {
	modified time.Time
	size     int64
}

// LoadCertificate reads a certificate from PEM files; both must be named.
func LoadCertificate(certFile, keyFile string, now func() time.Time) (*Certificate, error) {
	if certFile == "" || keyFile == "" {
		return nil, errors.New("load the TLS certificate: a certificate needs its key, and a key its certificate")
	}
	c := &Certificate{certFile: certFile, keyFile: keyFile, now: now}
	return c, c.Reload()
}

// Config is TLS 1.2 with authenticated encryption only, or newer.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get(), nil },
		NextProtos:     []string{"h2", "http/1.1"},
		// Audio goes out in whole chunks: records of 16 KiB from the first on.
		DynamicRecordSizingDisabled: true,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305,
		},
	}
}

// Reload reads the files, and keeps what it had when they cannot be used.
func (c *Certificate) Reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read()
}

func (c *Certificate) read() error {
	stamp := c.stamps()
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("load the TLS certificate: %w", err)
	}
	c.pair, c.stamp = &pair, stamp
	return nil
}

// get returns the certificate for a handshake, from the files as they are now
// or were a few seconds ago.
func (c *Certificate) get() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.checked) >= certificateCheck {
		c.checked = now
		if c.stamps() != c.stamp {
			// One file may be replaced before the other: the pair that
			// works stays until both are.
			_ = c.read()
		}
	}
	return c.pair
}

func (c *Certificate) stamps() (s [2]fileStamp) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			s[i] = fileStamp{info.ModTime(), info.Size()}
		}
	}
	return s
}
