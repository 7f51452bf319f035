package gateway

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/ipfs/boxo/blockservice"
	boxo "github.com/ipfs/boxo/gateway"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/problem"
)

// newTrustless makes boxo's gateway over blocks: raw blocks and CARs only.
func newTrustless(blocks blockservice.BlockService) (http.Handler, error) {
	backend, err := boxo.NewBlocksBackend(blocks)
	if err != nil {
		return nil, fmt.Errorf("make the IPFS gateway: %w", err)
	}
	return boxo.NewHandler(boxo.Config{
		NoDNSLink:         true,
		DisableHTMLErrors: true,
		MetricsRegistry:   prometheus.NewRegistry(),
	}, backend), nil
}

// serveIPFS answers GET and HEAD /ipfs/{cid}: sealed bytes, for anybody. A
// block that belongs to no live segment, or that is not here, does not exist.
func (s *Server) serveIPFS(c *gin.Context) {
	id, spelled, err := parseCID(c.Param("cid"))
	if err != nil {
		s.refuse(c, err)
		return
	}
	c.Set(cidKey, spelled)
	if err := s.sealed.take(""); err != nil {
		s.refuse(c, err)
		return
	}
	defer s.sealed.release("")
	size, err := s.blockSize(c, id)
	if err != nil {
		s.refuse(c, err)
		return
	}
	r, err := trustlessRequest(c.Request, id, size)
	if err != nil {
		c.Header("Content-Range", "bytes */"+strconv.Itoa(size))
		s.refuse(c, err)
		return
	}
	w := &trustlessWriter{s: s, c: c, id: id, control: http.NewResponseController(c.Writer), header: make(http.Header)}
	s.ipfs.ServeHTTP(w, r)
	w.finish()
}

// blockSize is the size of a block that may be had, or musen.ErrNotFound.
func (s *Server) blockSize(c *gin.Context, id cid.Cid) (int, error) {
	ctx := c.Request.Context()
	known, err := s.o.Index.HasBlock(ctx, id.Hash())
	if err != nil {
		return 0, fmt.Errorf("look block %s up: %w", id, err)
	}
	if !known {
		return 0, musen.ErrNotFound
	}
	size, err := s.o.Blocks.Blockstore().GetSize(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("stat block %s: %w: %w", id, musen.ErrNotFound, err)
	}
	return size, nil
}

// trustlessRequest is what boxo gets to see of a request: the CID, the format
// and the conditions. Nothing else that a stranger sends reaches it, such as a
// forwarded host, a protocol to be redirected or a file name. A range is made
// plain, since boxo answers a suffix longer than the block with a 500; of
// several ranges it would send one, so then the whole is sent.
func trustlessRequest(r *http.Request, id cid.Cid, size int) (*http.Request, error) {
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
	ranges, err := parseRange(r.Header.Get("Range"), int64(size))
	if err != nil {
		return nil, err
	}
	if len(ranges) == 1 && r.Method == http.MethodGet {
		out.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", ranges[0].off, ranges[0].end()-1))
	}
	return out, nil
}

// trustlessWriter passes boxo's successes on, with the headers that are wanted
// and nothing else, and turns its errors into problems.
type trustlessWriter struct {
	s       *Server
	c       *gin.Context
	id      cid.Cid
	control *http.ResponseController
	header  http.Header // what boxo sets
	status  int
	failed  bool
}

// Header implements http.ResponseWriter.
func (w *trustlessWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *trustlessWriter) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	w.status = status
	err := w.noDAG()
	if status >= http.StatusBadRequest {
		err = trustlessError(status)
	}
	if err != nil {
		w.failed = true
		w.s.refuse(w.c, err)
		return
	}
	h := w.c.Writer.Header()
	for _, name := range []string{"Content-Type", "Content-Length", "Content-Range", "Content-Disposition",
		"Accept-Ranges", "Cache-Control", "Etag"} {
		if v := w.header[name]; len(v) > 0 {
			h[name] = v
		}
	}
	h.Set("Vary", "Accept")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	// Ciphertext is public: pages of any origin may fetch and verify it.
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "Accept-Ranges, Content-Length, Content-Range, ETag, X-Request-Id")
	w.c.Status(status)
	w.c.Writer.WriteHeaderNow()
}

// noDAG returns musen.ErrNotFound for a CAR of a block that its CID takes for a
// node of a DAG and that is none: a raw block has other CIDs of the same hash.
// boxo would notice in the middle of the body.
func (w *trustlessWriter) noDAG() error {
	isCAR := strings.HasPrefix(w.header.Get("Content-Type"), "application/vnd.ipld.car")
	if !isCAR || w.id.Type() != cid.DagProtobuf {
		return nil
	}
	b, err := w.s.o.Blocks.Blockstore().Get(w.c.Request.Context(), w.id)
	if err == nil {
		_, err = merkledag.DecodeProtobuf(b.RawData())
	}
	if err != nil {
		return fmt.Errorf("read DAG node %s: %w: %w", w.id, musen.ErrNotFound, err)
	}
	return nil
}

// trustlessError is the problem of a status that boxo answers with. What it
// says about a block that is missing is what is said of any other.
func trustlessError(status int) error {
	switch status {
	case http.StatusNotFound, http.StatusGone:
		return musen.ErrNotFound
	case http.StatusBadRequest:
		return problem.BadRequest
	case http.StatusNotAcceptable:
		return problem.WithDetail(problem.NotAcceptable, "Only raw blocks and CARs are served: ask with ?format=raw or ?format=car.")
	case http.StatusPreconditionFailed:
		return problem.PreconditionFailed
	case http.StatusRequestedRangeNotSatisfiable:
		return problem.BadRange
	}
	return musen.ErrUnavailable
}

// Write implements io.Writer.
func (w *trustlessWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.failed {
		return len(p), nil // the words of boxo's error
	}
	if w.c.Request.Method == http.MethodHead {
		return 0, http.ErrBodyNotAllowed // stops the walk of a CAR
	}
	_ = w.control.SetWriteDeadline(time.Now().Add(w.s.o.Limits.WriteTimeout))
	return w.c.Writer.Write(p)
}

// finish cuts the connection if boxo gave a CAR up half way: it says so in a
// header that comes too late, and would let the body end as if it were whole.
func (w *trustlessWriter) finish() {
	if w.failed || w.c.Request.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return
	}
	if w.header.Get("X-Stream-Error") == "" {
		w.WriteHeader(http.StatusOK)
		return
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	panic(http.ErrAbortHandler)
}
