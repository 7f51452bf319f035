package trustless

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

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
	off, n, ok := parseRange(r.Header.Get("Range"), int64(size))
	ranged := ""
	switch {
	case ok && n == 0:
		w.Header().Set("Content-Range", "bytes */"+strconv.Itoa(size))
		return refusalOf(http.StatusRequestedRangeNotSatisfiable)
	case ok:
		ranged = fmt.Sprintf("bytes=%d-%d", off, off+n-1)
	}
	out := &sender{s: s, w: w, r: r, id: id, control: http.NewResponseController(w)}
	if refused := s.ipfs.Serve(w, r, id, ranged, out.send); refused != 0 {
		return refusalOf(refused)
	}
	return nil
}

// refusalOf is the refusal for a status.
func refusalOf(status int) error {
	switch status {
	case http.StatusNotFound, http.StatusGone:
		return notFound()
	case http.StatusUnavailableForLegalReasons:
		return gone()
	case http.StatusBadRequest:
		return refusal{status: status, code: "bad_request", detail: "The request cannot be understood."}
	case http.StatusNotAcceptable:
		return refusal{status: status, code: "not_acceptable", detail: "Only raw blocks and CARs are served: ask with ?format=raw or ?format=car."}
	case http.StatusPreconditionFailed:
		return refusal{status: status, code: "precondition_failed", detail: "A condition of the request does not hold."}
	case http.StatusRequestedRangeNotSatisfiable:
		return refusal{status: status, code: "range_not_satisfiable", detail: "No byte of the range that was asked for exists."}
	}
	return busy("This cannot be had now.", 5*time.Second)
}

// sender sends a body under the cap, as long as the terms let it.
type sender struct {
	s       *Server
	w       http.ResponseWriter
	r       *http.Request
	id      cid.Cid
	control *http.ResponseController
}

func (o *sender) send(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		m := min(len(p), piece)
		if err = o.pass(p[:m]); err == nil {
			n += m
		}
		p = p[m:]
	}
	return n, err
}

// pass sends one piece. The time that it waits for the cap is not the client's.
func (o *sender) pass(p []byte) error {
	// A writer without deadlines is one in memory.
	_ = o.control.SetWriteDeadline(time.Time{})
	if err := o.s.o.Terms.WaitN(o.r.Context(), len(p)); err != nil {
		return err
	}
	if _, closed := o.s.o.Terms.Closed(); closed || o.s.o.Terms.Denied(o.id.Hash()) {
		return refusal{code: "closed"}
	}
	_ = o.control.SetWriteDeadline(time.Now().Add(o.s.o.Limits.WriteTimeout))
	_, err := o.w.Write(p)
	return err
}
