package front

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/exchange/offline"
	boxo "github.com/ipfs/boxo/gateway"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/musenai/musen/internal/deny"
)

// errDenied ends a body whose root was denied since it began.
var errDenied = errors.New("denied")

// Trustless gives blocks by CID over HTTP, as an IPFS trustless gateway does:
// raw blocks and CARs, nothing deserialised.
type Trustless struct {
	blocks  blockservice.BlockService
	denied  deny.Denier
	ipfs    http.Handler // boxo's gateway
	exposed string
}

// NewTrustless makes a Trustless over blocks, which must be offline: nothing is
// ever fetched for a stranger. What is denied is refused, and is in no CAR. The
// headers exposed are told to pages of other origins besides those that an
// answer has by itself.
func NewTrustless(blocks blockservice.BlockService, denied deny.Denier, exposed ...string) (*Trustless, error) {
	if denied == nil {
		denied = &deny.Sources{}
	}
	shown := deny.Hide(blocks.Blockstore(), denied)
	blocks = blockservice.New(shown, offline.Exchange(shown))
	backend, err := boxo.NewBlocksBackend(blocks)
	if err != nil {
		return nil, fmt.Errorf("make the IPFS gateway: %w", err)
	}
	all := append([]string{"Accept-Ranges", "Content-Length", "Content-Range", "ETag"}, exposed...)
	slices.Sort(all)
	return &Trustless{blocks: blocks, denied: denied, exposed: strings.Join(all, ", "), ipfs: boxo.NewHandler(boxo.Config{
		NoDNSLink:         true,
		DisableHTMLErrors: true,
		MetricsRegistry:   prometheus.NewRegistry(),
	}, backend)}, nil
}

// Serve answers a GET or HEAD of the block id, or of the DAG below it, on w. The
// body goes through send; after an error of it no more comes. ranged is the
// value of a Range header of one range within the block, or "": boxo answers a
// suffix longer than the block with a 500, and of several ranges sends one.
//
// The result is 0, or the status of a refusal that the caller has to answer
// with: then nothing was sent. For a block that is denied it is 451, whatever
// the method and the conditions. A body that cannot be sent whole, or that is
// denied by now, cuts the connection: Serve panics with http.ErrAbortHandler.
func (t *Trustless) Serve(w http.ResponseWriter, r *http.Request, id cid.Cid, ranged string, send func([]byte) (int, error)) (refused int) {
	if t.denied.Denied(id.Hash()) {
		return http.StatusUnavailableForLegalReasons
	}
	a := &answer{t: t, w: w, r: r, id: id, send: send, header: make(http.Header)}
	t.ipfs.ServeHTTP(a, question(r, id, ranged))
	a.finish()
	return a.refused
}

// question is what boxo gets to see of a request: the CID, the format and the
// conditions. Nothing else that a stranger sends reaches it, such as a
// forwarded host, a protocol to be redirected or a file name.
func question(r *http.Request, id cid.Cid, ranged string) *http.Request {
	asked := r.URL.Query()
	query := make(url.Values)
	for _, name := range []string{"format", "dag-scope", "entity-bytes", "car-version", "car-order", "car-dups"} {
		if v, ok := asked[name]; ok {
			query[name] = v[:1]
		}
	}
	out := r.Clone(r.Context())
	out.URL = &url.URL{Path: "/ipfs/" + id.String(), RawQuery: query.Encode()}
	out.RequestURI = out.URL.RequestURI()
	out.Host = ""
	out.Header = make(http.Header)
	for _, name := range []string{"Accept", "If-None-Match", "If-Match", "If-Range"} {
		if v := r.Header[name]; len(v) > 0 {
			out.Header[name] = v
		}
	}
	if ranged != "" && r.Method == http.MethodGet {
		out.Header.Set("Range", ranged)
	}
	return out
}

// answer passes boxo's successes on, with the headers that are wanted and
// nothing else, and keeps the status of its errors.
type answer struct {
	t       *Trustless
	w       http.ResponseWriter
	r       *http.Request
	id      cid.Cid
	send    func([]byte) (int, error)
	header  http.Header // what boxo sets
	status  int
	refused int
	broken  bool // send failed
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status != 0 {
		return
	}
	a.status = status
	switch {
	case status >= http.StatusBadRequest:
		a.refused = status
	case a.noDAG():
		a.refused = http.StatusNotFound
	}
	if a.refused != 0 {
		return
	}
	h := a.w.Header()
	for _, name := range []string{"Content-Type", "Content-Length", "Content-Range", "Content-Disposition",
		"Accept-Ranges", "Cache-Control", "Etag"} {
		if v := a.header[name]; len(v) > 0 {
			h[name] = v
		}
	}
	h.Set("Vary", "Accept")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	// Ciphertext is public: pages of any origin may fetch and verify it.
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", a.t.exposed)
	a.w.WriteHeader(status)
}

// noDAG reports a CAR of a block that its CID takes for a node of a DAG and that
// is none: a raw block has other CIDs of the same hash. boxo would notice in the
// middle of the body.
func (a *answer) noDAG() bool {
	isCAR := strings.HasPrefix(a.header.Get("Content-Type"), "application/vnd.ipld.car")
	if !isCAR || a.id.Type() != cid.DagProtobuf {
		return false
	}
	b, err := a.t.blocks.Blockstore().Get(a.r.Context(), a.id)
	if err == nil {
		_, err = merkledag.DecodeProtobuf(b.RawData())
	}
	return err != nil
}

// Write implements io.Writer.
func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	switch {
	case a.refused != 0:
		return len(p), nil // the words of boxo's error
	case a.r.Method == http.MethodHead:
		return 0, http.ErrBodyNotAllowed // stops the walk of a CAR
	case a.t.denied.Denied(a.id.Hash()):
		a.broken = true
		return 0, errDenied
	}
	n, err := a.send(p)
	a.broken = a.broken || err != nil
	return n, err
}

// finish cuts the connection if the body is not whole: boxo says so in a header
// that comes too late, and would let the body end as if it were.
func (a *answer) finish() {
	partial := a.broken || a.header.Get("X-Stream-Error") != ""
	if partial && a.refused == 0 && a.r.Method != http.MethodHead {
		if a.status != 0 {
			panic(http.ErrAbortHandler)
		}
		a.refused, a.status = http.StatusServiceUnavailable, http.StatusServiceUnavailable
	}
	a.WriteHeader(http.StatusOK)
}
