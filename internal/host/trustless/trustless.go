// Package trustless is the HTTP listener of a host: it gives ciphertext by CID
// to anybody, as an IPFS trustless gateway does, and only what lies on this
// disk, while the host's contract lets it.
//
//	GET, HEAD /ipfs/{cid}   one raw block, or a CAR
//
// Nothing else is there: no listing, no folder, no page, nothing deserialised,
// nothing fetched for whoever asks. It does not know what the blocks are, what
// the terms say, or who the clients are: no address, path or query is logged.
package trustless

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/ipfs/boxo/blockservice"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen/internal/front"
)

// Terms are what may be served, and when.
type Terms interface {
	// Closed reports that nothing is served now, and after how long to ask
	// again.
	Closed() (retry time.Duration, closed bool)
	// Denied reports that the block of that hash must not be served.
	Denied(mh multihash.Multihash) bool
	// WaitN waits until n bytes may go out.
	WaitN(ctx context.Context, n int) error
}

// Options are the parts of a Server.
type Options struct {
	// Blocks must be offline: nothing is ever fetched for a stranger.
	Blocks blockservice.BlockService
	Terms  Terms

	CertFile, KeyFile string // PEM; both, or neither: plain HTTP, for this machine alone

	Limits Limits
	Log    *slog.Logger
	Now    func() time.Time
}

// Limits bound what strangers can take. A zero field has the default value.
type Limits struct {
	Answers       int           // at a time, more is 503; 128
	Connections   int           // open at a time, of which one address has a quarter, see front.Connections; 4 for each answer
	URLBytes      int           // of the request target, more is 414; 4096
	Headers       int           // header fields, more is 431; 100
	HeaderBytes   int           // of the whole header, more is 431; 32 KiB
	HeaderTimeout time.Duration // for the header to arrive; 10 s
	IdleTimeout   time.Duration // of a kept-alive connection; 75 s
	WriteTimeout  time.Duration // for a client to take 16 KiB; 30 s
}

func (l Limits) withDefaults() Limits {
	orInt := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	orTime := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	orInt(&l.Answers, 128)
	orInt(&l.Connections, 4*l.Answers)
	orInt(&l.URLBytes, 4096)
	orInt(&l.Headers, 100)
	orInt(&l.HeaderBytes, 32<<10)
	orTime(&l.HeaderTimeout, 10*time.Second)
	orTime(&l.IdleTimeout, 75*time.Second)
	orTime(&l.WriteTimeout, 30*time.Second)
	return l
}

// A Server answers on a listener.
type Server struct {
	o       Options
	ipfs    *front.Trustless
	http    *http.Server
	cert    *front.Certificate // nil: no TLS
	slots   chan struct{}      // one element for each answer under way
	conns   *front.Connections
	answers *front.Answers
}

// New makes a Server. It reads the certificate, if one is named, and listens
// to nothing yet.
func New(o Options) (*Server, error) {
	if o.Blocks == nil || o.Terms == nil || o.Log == nil || o.Now == nil {
		return nil, errors.New("make the HTTP listener: an option is missing")
	}
	o.Limits = o.Limits.withDefaults()
	s := &Server{
		o: o, slots: make(chan struct{}, o.Limits.Answers),
		conns: front.NewConnections(o.Limits.Connections, netip.Addr.IsLoopback), answers: front.NewAnswers(),
	}
	if o.CertFile != "" || o.KeyFile != "" {
		cert, err := front.LoadCertificate(o.CertFile, o.KeyFile, o.Now)
		if err != nil {
			return nil, err
		}
		s.cert = cert
	}
	ipfs, err := front.NewTrustless(o.Blocks, o.Terms)
	if err != nil {
		return nil, err
	}
	s.ipfs = ipfs
	s.http = s.newHTTP()
	return s, nil
}

// newHTTP makes the server. A long answer is bounded piece by piece, not by
// the time of the whole.
func (s *Server) newHTTP() *http.Server {
	l := s.o.Limits
	srv := &http.Server{
		Handler:                      s,
		ReadHeaderTimeout:            l.HeaderTimeout,
		IdleTimeout:                  l.IdleTimeout,
		WriteTimeout:                 l.WriteTimeout, // until the first piece moves it
		MaxHeaderBytes:               l.HeaderBytes,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     log.New(serverLog{s.o.Log}, "", 0),
		HTTP2:                        front.HTTP2(l.WriteTimeout),
		ConnState:                    s.conns.Follow,
	}
	if s.cert != nil {
		srv.TLSConfig = s.cert.Config()
	}
	return srv
}

// Serve answers on l until Shutdown, with TLS if there is a certificate, and
// closes l. It returns nil after Shutdown. Without TLS it refuses a listener
// that other machines can reach.
func (s *Server) Serve(l net.Listener) error {
	if s.cert == nil && !local(l.Addr()) {
		l.Close()
		return fmt.Errorf("serve HTTP on %s: refused: others can reach it and there is no certificate", l.Addr())
	}
	bounded := s.conns.Bound(l)
	var err error
	if s.cert != nil {
		err = s.http.ServeTLS(bounded, "", "")
	} else {
		err = s.http.Serve(bounded)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve HTTP: %w", err)
}

// local reports whether only this machine can reach a.
func local(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return a.Network() == "unix"
	}
	ip, ok := netip.AddrFromSlice(t.IP)
	return ok && ip.Unmap().IsLoopback()
}

// Shutdown stops listening and waits until the answers under way are sent.
// Those that are not when ctx ends are cut, and its error is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return fmt.Errorf("drain the HTTP listener: %w", errors.Join(err, s.http.Close()))
	}
	return nil
}

// ReloadCertificate reads the certificate files again, as it also happens by
// itself soon after they change. If they cannot be used, the certificate that
// was there stays.
func (s *Server) ReloadCertificate() error {
	if s.cert == nil {
		return nil
	}
	return s.cert.Reload()
}

// serverLog passes on what net/http says about the listener itself. Everything
// else that it logs is about one client and names its address.
type serverLog struct{ log *slog.Logger }

// Write implements io.Writer.
func (l serverLog) Write(p []byte) (int, error) {
	if strings.HasPrefix(string(p), "http: Accept error") {
		l.log.Warn("the HTTP listener cannot accept connections now")
	}
	return len(p), nil
}
