// Package gateway is the public listener: it takes credentials in, has policy
// decide, and streams audio out. It is the only package that knows gin.
//
//	GET, HEAD /listen/{cid}                  audio, for a token, link or session that covers it
//	GET, HEAD /ipfs/{cid}                    sealed blocks and CARs, for anybody
//	GET, HEAD, POST /s/{share}               a share: its password, then a session
//	GET, HEAD /stations/{station}            the page that plays a station, for a session or token
//	GET, HEAD /stations/{station}/segments   what it plays, with fresh links
//	GET, HEAD, POST /reports                 anybody reports a segment, a share or a station
//	GET, HEAD /reports/{receipt}             what became of a report
//	GET, HEAD /.well-known/jwks.json         the public keys of the node's own tokens
//	GET, HEAD /healthz                       the process answers
//	GET, HEAD /readyz                        the node can serve
//
// It opens no segment itself and holds no key: an Opener gives it a Stream
// against a grant, and what the Stream writes is what the client gets. It does
// not know the admin API, how segments are stored, or who the clients are: what
// is the first to see a request puts a pseudonym in the place of the address,
// and no address, token or query of a request is kept or logged. Of what is
// forwarded only what is configured counts, the address and the region of a
// client, and that from declared proxies alone.
package gateway

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen"
	"github.com/musenai/musen/internal/front"
	"github.com/musenai/musen/internal/watch"
	"github.com/musenai/musen/policy"
)

// An Opener opens the segment that c names in any of its spellings, if the
// bearer of g may do a with it. musen.ErrNotFound stands for both unknown and
// not covered; musen.ErrGone, ErrTakenDown and ErrUnavailable are told only to
// those who may know that the segment exists.
type Opener interface {
	Open(ctx context.Context, g policy.Grant, a policy.Action, c cid.Cid) (Stream, error)
}

// A Stream is a segment that was opened for one request.
type Stream interface {
	Segment() musen.Segment
	// WriteRange writes n bytes of audio from off to w, a chunk at a time, and
	// returns an error unless all were written.
	WriteRange(ctx context.Context, w io.Writer, off, n int64) (int64, error)
	// Recheck returns an error once what the stream was opened for would be
	// refused, for another reason than that time went by.
	Recheck(ctx context.Context) error
	// MaxStreams is how many streams the subject may have at a time by the
	// policies; 0: they do not say.
	MaxStreams() int
}

// FromEdge makes an Opener of an Edge.
func FromEdge(e *musen.Edge) Opener { return edgeOpener{e} }

type edgeOpener struct{ edge *musen.Edge }

// Open implements Opener.
func (o edgeOpener) Open(ctx context.Context, g policy.Grant, a policy.Action, c cid.Cid) (Stream, error) {
	st, err := o.edge.Open(ctx, g, a, c)
	if err != nil {
		return nil, err
	}
	return st, nil
}

// A Verifier checks credentials; *policy.Verifier is one.
type Verifier interface {
	Token(raw string) (policy.Grant, error)
	Link(raw, method, path string) (policy.Grant, error)
	Session(raw string) (policy.Grant, error)
	// Known reports whether raw was verified before. It checks no signature.
	Known(raw string) bool
	// Fresh waits until what is issued to a subject is not revoked already.
	Fresh(ctx context.Context, subject string) error
	// Live reports, while a response goes on, that g was not revoked since.
	Live(g policy.Grant, station string) error
}

var _ Verifier = (*policy.Verifier)(nil)

// A BlockIndex knows which blocks belong to a live segment.
type BlockIndex interface {
	HasBlock(ctx context.Context, mh multihash.Multihash) (bool, error)
}

// Options are the parts of a Server.
type Options struct {
	Opener   Opener
	Verifier Verifier
	Subjects policy.Subjects // whose requests are limited; nil: nobody's
	Watch    *watch.Watch    // nil: nothing is watched

	// Blocks must be offline: nothing is ever fetched for a stranger. Without
	// Blocks or Index there is no /ipfs.
	Blocks blockservice.BlockService
	Index  BlockIndex

	// Denied says which blocks /ipfs and lists do not have; nil: none is denied.
	// The Opener asks by itself.
	Denied musen.Denier

	// Pages are the routes for people; nil: there are none.
	Pages *Pages

	// KeySet is the JSON Web Key Set of the node's own tokens; nil: it is not
	// published.
	KeySet func() ([]byte, error)

	// Ready says why the node cannot serve now; nil: it always can. The reason
	// is logged and not told.
	Ready func(context.Context) error

	CertFile, KeyFile string         // PEM; both or neither
	Proxies           []netip.Prefix // reverse proxies that may connect from off loopback without TLS
	ClientHeader      string         // in which they name the client's address; "": nowhere
	PseudonymLife     time.Duration  // of a key for pseudonyms of clients; 24 h
	AppealURL         string         // where a takedown can be appealed against; empty: nowhere
	RegionHeader      string         // in which they, and nobody else, tell the region of a client; empty: nobody does

	Limits Limits
	Rates  Rates
	Log    *slog.Logger
	Now    func() time.Time
	Rand   io.Reader
}

// Limits bound what clients can take. A zero field has the default value.
type Limits struct {
	Streams        int           // answers of /listen at a time; 4096
	SubjectStreams int           // of them for one subject of a credential; 1024
	LimitedStreams int           // of them for a subject that is limited; 1
	Sealed         int           // answers of /ipfs at a time, which take none of Streams; a quarter of Streams
	Connections    int           // open at a time, of which one address has a quarter, see front.Connections; 4 for each of Streams, and never more than a third of the process's limit on open files
	URLBytes       int           // of the request target, more is 414; 4096
	Headers        int           // header fields, more is 431; 100
	HeaderBytes    int           // of the whole header, more is 431; 32 KiB
	HeaderTimeout  time.Duration // for the header to arrive; 10 s
	IdleTimeout    time.Duration // of a kept-alive connection; 75 s
	WriteTimeout   time.Duration // for a client to take one chunk of 64 KiB; 30 s
	Recheck        time.Duration // how soon a revocation cuts a running stream; 2 s
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
	orInt(&l.Streams, 4096)
	orInt(&l.SubjectStreams, 1024)
	orInt(&l.LimitedStreams, 1)
	orInt(&l.Sealed, max(1, l.Streams/4))
	orInt(&l.Connections, connectionsPerStream*l.Streams)
	l.Connections = boundConnections(l.Connections, openFiles())
	orInt(&l.URLBytes, 4096)
	orInt(&l.Headers, 100)
	orInt(&l.HeaderBytes, 32<<10)
	orTime(&l.HeaderTimeout, 10*time.Second)
	orTime(&l.IdleTimeout, 75*time.Second)
	orTime(&l.WriteTimeout, 30*time.Second)
	orTime(&l.Recheck, 2*time.Second)
	return l
}

// A Server answers the public routes.
type Server struct {
	o        Options
	engine   *gin.Engine
	http     *http.Server
	cert     *front.Certificate // nil: no TLS
	streams  *slots
	sealed   *slots           // of strangers, who must not keep listeners out
	ipfs     *front.Trustless // nil: no /ipfs
	pages    *pages           // nil: none
	conns    *front.Connections
	answers  *front.Answers
	clients  clients
	rates    *rates
	tally    tally
	draining atomic.Bool
}

// New makes a Server. It reads the certificate, if one is named, and listens
// to nothing yet.
func New(o Options) (*Server, error) {
	if o.Opener == nil || o.Verifier == nil || o.Log == nil || o.Now == nil || o.Rand == nil {
		return nil, errors.New("make the public listener: an option is missing")
	}
	o.Limits = o.Limits.withDefaults()
	l := o.Limits
	s := &Server{o: o, streams: newSlots(l.Streams), sealed: newSlots(l.Sealed)}
	s.clients = clients{
		proxies: o.Proxies, header: http.CanonicalHeaderKey(o.ClientHeader),
		life: cmp.Or(o.PseudonymLife, 24*time.Hour), now: o.Now, rand: o.Rand,
	}
	s.rates = newRates(o.Rates.withDefaults(), o.Now)
	s.conns, s.answers = front.NewConnections(l.Connections, s.crowd), front.NewAnswers()
	if o.CertFile != "" || o.KeyFile != "" {
		cert, err := front.LoadCertificate(o.CertFile, o.KeyFile, o.Now)
		if err != nil {
			return nil, err
		}
		s.cert = cert
	}
	if o.Blocks != nil && o.Index != nil {
		h, err := front.NewTrustless(o.Blocks, o.Denied, "X-Request-Id")
		if err != nil {
			return nil, err
		}
		s.ipfs = h
	}
	if o.Pages != nil {
		var err error
		if s.pages, err = newPages(o.Pages, o.Now); err != nil {
			return nil, err
		}
	}
	s.engine = s.routes()
	s.http = s.newHTTP()
	return s, nil
}

// newEngine is gin without anything that redirects, guesses, trusts a
// forwarded header or writes to a terminal.
func newEngine() *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	e.UseRawPath = true          // %2f is no slash
	e.UnescapePathValues = false // one spelling of a path: an escape is no CID
	e.RemoveExtraSlash = false
	e.RedirectTrailingSlash = false
	e.RedirectFixedPath = false
	e.HandleMethodNotAllowed = true
	e.ForwardedByClientIP = false
	e.RemoteIPHeaders = nil
	e.TrustedPlatform = ""
	return e
}

func (s *Server) routes() *gin.Engine {
	e := newEngine()
	e.Use(s.observe, s.admit, s.refuseOversize)
	e.NoRoute(func(c *gin.Context) { s.refuse(c, musen.ErrNotFound) })
	e.NoMethod(s.noMethod)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		e.Handle(method, "/listen/:cid", s.listen)
		if s.ipfs != nil {
			e.Handle(method, "/ipfs/:cid", s.serveIPFS)
		}
		if s.o.KeySet != nil {
			e.Handle(method, "/.well-known/jwks.json", s.keySet)
		}
		e.Handle(method, "/healthz", s.healthz)
		e.Handle(method, "/readyz", s.readyz)
	}
	if s.pages != nil {
		s.routePages(e)
	}
	return e
}
