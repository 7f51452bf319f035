package trustless

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
)

// piece is how much of a body goes out at a time: it waits for the cap, and has
// a deadline of its own.
const piece = 16 << 10

// send gives a block, or the DAG below it, to the client.
func (s *Server) send(w http.ResponseWriter, r *http.Request, id cid.Cid) error {
	size, err := s.size(r, id)
	if err != nil {
		return err
	}
	ask, err := inner(r, id, size)
	if err != nil {
		w.Header().Set("Content-Range", "bytes */"+strconv.Itoa(size))
		return err
	}
	out := &sender{s: s, w: w, r: r, id: id, control: http.NewResponseController(w), header: make(http.Header)}
	s.ipfs.ServeHTTP(out, ask)
	out.finish()
	return out.refused
}

// sender passes boxo's successes on, with the headers that are wanted and
// nothing else, and keeps its errors.
type sender struct {
	s       *Server
	w       http.ResponseWriter
	r       *http.Request
	id      cid.Cid
	control *http.ResponseController
	header  http.Header // what boxo sets
	status  int
	refused error
	gone    bool // the client takes no more, or the host gives no more
}

// Header implements http.ResponseWriter.
func (o *sender) Header() http.Header { return o.header }

// WriteHeader implements http.ResponseWriter.
func (o *sender) WriteHeader(status int) {
	if o.status != 0 {
		return
	}
	o.status = status
	if o.refused = refusalOf(status); o.refused == nil {
		o.refused = o.noDAG()
	}
	if o.refused != nil {
		return
	}
	h := o.w.Header()
	for _, name := range []string{"Content-Type", "Content-Length", "Content-Range", "Content-Disposition",
		"Accept-Ranges", "Cache-Control", "Etag"} {
		if v := o.header[name]; len(v) > 0 {
			h[name] = v
		}
	}
	h.Set("Vary", "Accept")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	// Ciphertext is public: pages of any origin may fetch and verify it.
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "Accept-Ranges, Content-Length, Content-Range, ETag")
	o.w.WriteHeader(status)
}

// noDAG refuses a CAR of a block that its CID takes for a node of a DAG and
// that is none: a raw block has other CIDs of the same hash. boxo would notice
// in the middle of the body.
func (o *sender) noDAG() error {
	isCAR := strings.HasPrefix(o.header.Get("Content-Type"), "application/vnd.ipld.car")
	if !isCAR || o.id.Type() != cid.DagProtobuf {
		return nil
	}
	b, err := o.s.o.Blocks.Blockstore().Get(o.r.Context(), o.id)
	if err == nil {
		_, err = merkledag.DecodeProtobuf(b.RawData())
	}
	if err != nil {
		return fmt.Errorf("%w: read DAG node %s: %w", notFound(), o.id, err)
	}
	return nil
}

// refusalOf is the refusal for a status that boxo answers with; nil for a
// success.
func refusalOf(status int) error {
	switch {
	case status < http.StatusBadRequest:
		return nil
	case status == http.StatusNotFound, status == http.StatusGone:
		return notFound()
	case status == http.StatusBadRequest:
		return refusal{status: status, code: "bad_request", detail: "The request cannot be understood."}
	case status == http.StatusNotAcceptable:
		return refusal{status: status, code: "not_acceptable", detail: "Only raw blocks and CARs are served: ask with ?format=raw or ?format=car."}
	case status == http.StatusPreconditionFailed:
		return refusal{status: status, code: "precondition_failed", detail: "A condition of the request does not hold."}
	case status == http.StatusRequestedRangeNotSatisfiable:
		return refusal{status: status, code: "range_not_satisfiable", detail: "No byte of the range that was asked for exists."}
	}
	return busy("This cannot be had now.", 5*time.Second)
}

// Write implements io.Writer: it sends p under the cap, as long as the terms
// let it.
func (o *sender) Write(p []byte) (n int, err error) {
	o.WriteHeader(http.StatusOK)
	switch {
	case o.refused != nil:
		return len(p), nil // the words of boxo's error
	case o.r.Method == http.MethodHead:
		return 0, http.ErrBodyNotAllowed // stops the walk of a CAR
	}
	for len(p) > 0 && err == nil {
		m := min(len(p), piece)
		if err = o.pass(p[:m]); err == nil {
			n += m
		}
		p = p[m:]
	}
	o.gone = o.gone || err != nil
	return n, err
}

// pass sends one piece. The time that it waits for the cap is not the client's.
func (o *sender) pass(p []byte) error {
	// A writer without deadlines is one in memory.
	_ = o.control.SetWriteDeadline(time.Time{})
	if err := o.s.o.Terms.WaitN(o.r.Context(), len(p)); err != nil {
		return err
	}
	if _, closed := o.s.o.Terms.Closed(); closed || o.s.o.Terms.Denied(o.id) {
		return refusal{code: "closed"}
	}
	_ = o.control.SetWriteDeadline(time.Now().Add(o.s.o.Limits.WriteTimeout))
	_, err := o.w.Write(p)
	return err
}

// finish cuts the connection if the body is not whole: boxo says so in a header
// that comes too late, and would let the body end as if it were.
func (o *sender) finish() {
	head := o.r.Method == http.MethodHead
	if !head && o.refused == nil && (o.gone || o.header.Get("X-Stream-Error") != "") {
		if o.status != 0 {
			panic(http.ErrAbortHandler)
		}
		o.WriteHeader(http.StatusServiceUnavailable)
	}
	o.WriteHeader(http.StatusOK)
}
