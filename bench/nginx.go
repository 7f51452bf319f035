package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/md5"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// linkSecret signs nginx's links. It protects nothing.
const linkSecret = "bench"

// A nginxServer serves folders to whoever has a signed, expiring link, plain
// and over TLS, and stands in front of Kubo as its TLS.
type nginxServer struct {
	proc          *process
	plain, secure string // base URLs
	kubo          string // base URL of Kubo behind TLS
}

const nginxConfig = `
user root;
daemon off;
worker_processes auto;
pid %[1]s/pid;
error_log stderr;
events { worker_connections 4096; }
http {
  access_log off;
  sendfile on;
  tcp_nodelay on;
  keepalive_requests 100000000;
  default_type audio/wav;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
  scgi_temp_path %[1]s/scgi; uwsgi_temp_path %[1]s/uwsgi;
  ssl_certificate %[2]s; ssl_certificate_key %[3]s; ssl_protocols TLSv1.3;
  upstream kubo { server %[4]s; keepalive 512; }
  server {
    listen 127.0.0.1:%[5]d backlog=4096;
    listen 127.0.0.1:%[6]d ssl backlog=4096;
    root %[8]s;
    location / {
      secure_link $arg_md5,$arg_expires;
      secure_link_md5 "$secure_link_expires$uri %[9]s";
      if ($secure_link = "") { return 403; }
      if ($secure_link = "0") { return 410; }
    }
  }
  server {
    listen 127.0.0.1:%[7]d ssl backlog=4096;
    location / {
      proxy_pass http://kubo; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host 127.0.0.1;
      proxy_buffers 8 64k; proxy_buffer_size 64k; proxy_busy_buffers_size 128k; proxy_max_temp_file_size 0;
    }
  }
}
`

// startNginx serves root. kubo is HOST:PORT of Kubo's gateway.
func (b *bench) startNginx(ctx context.Context, dir, root, kubo string) (*nginxServer, error) {
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx" // not in everybody's path
	}
	var ports [3]int
	for i := range ports {
		if ports[i], err = freePort(); err != nil {
			return nil, err
		}
	}
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(nginxConfig, dir, b.certFile(), b.keyFile(), kubo, ports[0], ports[1], ports[2], root, linkSecret)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, err
	}
	n := &nginxServer{
		plain:  fmt.Sprintf("http://127.0.0.1:%d", ports[0]),
		secure: fmt.Sprintf("https://127.0.0.1:%d", ports[1]),
		kubo:   fmt.Sprintf("https://127.0.0.1:%d", ports[2]),
	}
	if n.proc, err = start(ctx, dir, "nginx", nil, program, "-c", conf, "-e", "stderr"); err != nil {
		return nil, err
	}
	return n, n.proc.ready(ctx, func() bool {
		resp, err := http.Get(n.plain)
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
}

// freePort is a port of loopback that nobody listened on a moment ago.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// secureLink signs a path as secure_link_md5 of the configuration checks it.
func secureLink(path string) string {
	expires := time.Now().Add(24 * time.Hour).Unix()
	sum := md5.Sum(fmt.Appendf(nil, "%d%s %s", expires, path, linkSecret))
	return fmt.Sprintf("%s?md5=%s&expires=%d", path, base64.RawURLEncoding.EncodeToString(sum[:]), expires)
}

func (b *bench) certFile() string { return filepath.Join(b.mem, "cert.pem") }
func (b *bench) keyFile() string  { return filepath.Join(b.mem, "key.pem") }

// makeCert writes the self-signed certificate that all servers use.
func (b *bench) makeCert() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, 30),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(b.certFile(), certPEM, 0o644); err != nil {
		return err
	}
	return os.WriteFile(b.keyFile(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600)
}
