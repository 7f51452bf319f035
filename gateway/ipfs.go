package gateway

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/problem"
)

// serveIPFS answers GET and HEAD /ipfs/{cid}: sealed bytes, for anybody. A
// block that belongs to no live segment, or that is not here, does not exist. One
// that is denied is a 451, be it here or not.
func (s *Server) serveIPFS(c *gin.Context) {
	id, spelled, err := parseCID(c.Param("cid"))
	if err != nil {
		s.refuse(c, err)
		return
	}
	c.Set(cidKey, spelled)
	if err := s.sealed.take("", 0); err != nil {
		s.refuse(c, err)
		return
	}
	defer s.sealed.release("")
	if s.denied(id) {
		s.refuse(c, musen.ErrTakenDown)
		return
	}
	size, err := s.blockSize(c, id)
	if err != nil {
		s.refuse(c, err)
		return
	}
	ranged, err := oneRange(c.Request, int64(size))
	if err != nil {
		c.Header("Content-Range", "bytes */"+strconv.Itoa(size))
		s.refuse(c, err)
		return
	}
	control := http.NewResponseController(c.Writer)
	refused := s.ipfs.Serve(c.Writer, c.Request, id, ranged, func(p []byte) (int, error) {
		_ = control.SetWriteDeadline(time.Now().Add(s.o.Limits.WriteTimeout))
		return c.Writer.Write(p)
	})
	if refused != 0 {
		s.refuse(c, trustlessError(refused))
	}
}

// denied reports whether a block must not be had.
func (s *Server) denied(c cid.Cid) bool { return s.o.Denied != nil && s.o.Denied.Denied(c.Hash()) }

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

// oneRange is the Range header of the one range that is asked for within size
// bytes; of several ranges none is sent, but the whole.
func oneRange(r *http.Request, size int64) (string, error) {
	ranges, err := parseRange(r.Header.Get("Range"), size)
	if err != nil || len(ranges) != 1 {
		return "", err
	}
	return fmt.Sprintf("bytes=%d-%d", ranges[0].off, ranges[0].end()-1), nil
}

// trustlessError is the problem of a status that boxo answers with. What it
// says about a block that is missing is what is said of any other.
func trustlessError(status int) error {
	switch status {
	case http.StatusNotFound, http.StatusGone:
		return musen.ErrNotFound
	case http.StatusUnavailableForLegalReasons:
		return musen.ErrTakenDown
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
