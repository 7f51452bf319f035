package gateway

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/musenai/musen"
)

// A part is a range of a body, with what comes before it on the wire.
type part struct {
	byteRange
	head string
}

// multipartOf lays ranges of a segment out as multipart/byteranges. The last
// part is empty and closes the body.
func multipartOf(s musen.Segment, ranges []byteRange, rand io.Reader) ([]part, string, int64, error) {
	var random [16]byte
	if _, err := io.ReadFull(rand, random[:]); err != nil {
		return nil, "", 0, fmt.Errorf("make a boundary: %w", err)
	}
	boundary := hex.EncodeToString(random[:])
	parts := make([]part, 0, len(ranges)+1)
	length, gap := int64(0), ""
	for _, r := range ranges {
		head := gap + "--" + boundary + "\r\nContent-Type: " + s.MediaType +
			"\r\nContent-Range: " + r.contentRange(s.Size) + "\r\n\r\n"
		parts = append(parts, part{r, head})
		length += int64(len(head)) + r.n
		gap = "\r\n"
	}
	tail := gap + "--" + boundary + "--\r\n"
	parts = append(parts, part{head: tail})
	return parts, "multipart/byteranges; boundary=" + boundary, length + int64(len(tail)), nil
}

// A body is where a stream writes to. The headers go out with its first byte,
// so that a stream that fails before it can still be answered with a problem.
// Every write has its own deadline, so a client that stops reading is dropped,
// and a slow one is not.
type body struct {
	p       *playback
	control *http.ResponseController
	commit  func() // sends the headers
	head    string // to be written before the next chunk
	begun   bool
	gone    bool // the client took no more
	revoked bool
	checked time.Time // when the grant was last known to be live
}

func (p *playback) newBody() *body {
	return &body{p: p, control: http.NewResponseController(p.c.Writer), checked: p.server.o.Now()}
}

// Write sends a chunk, unless the grant was revoked.
func (b *body) Write(chunk []byte) (int, error) {
	if err := b.recheck(); err != nil {
		return 0, err
	}
	b.begin()
	// The deadline is the operating system's, so the clock is too. A writer
	// without deadlines is one in memory.
	_ = b.control.SetWriteDeadline(time.Now().Add(b.p.server.o.Limits.WriteTimeout))
	if err := b.flushHead(); err != nil {
		return 0, err
	}
	n, err := b.p.c.Writer.Write(chunk)
	b.p.sent += int64(n)
	b.gone = b.gone || err != nil
	return n, err
}

func (b *body) begin() {
	if !b.begun {
		b.begun = true
		b.commit()
	}
}

func (b *body) flushHead() error {
	if b.head == "" {
		return nil
	}
	_, err := io.WriteString(b.p.c.Writer, b.head)
	b.head = ""
	b.gone = b.gone || err != nil
	return err
}

func (b *body) recheck() error {
	now := b.p.server.o.Now()
	if now.Sub(b.checked) < b.p.server.o.Limits.Recheck {
		return nil
	}
	b.checked = now
	err := b.p.server.o.Verifier.Live(b.p.grant, b.p.segment.Station)
	if err == nil {
		err = b.p.stream.Recheck(b.p.c.Request.Context())
	}
	b.revoked = err != nil
	return err
}

// play writes parts to b. It returns only when the client was sent all of them
// or a problem; anything else cuts the connection, so that no client takes a
// part for the whole.
func (p *playback) play(b *body, parts []part, commit func()) {
	b.commit = commit
	if p.c.Request.Method == http.MethodHead {
		b.begin()
		return
	}
	for _, part := range parts {
		b.head += part.head
		if part.n == 0 {
			continue
		}
		n, err := p.stream.WriteRange(p.c.Request.Context(), b, part.off, part.n)
		if err == nil && n != part.n {
			err = io.ErrShortWrite
		}
		if err != nil {
			p.fail(b, err)
			return
		}
	}
	b.begin()
	if b.flushHead() != nil {
		panic(http.ErrAbortHandler)
	}
}

// fail answers with a problem if nothing was sent yet; otherwise it cuts.
func (p *playback) fail(b *body, err error) {
	if !b.begun && !b.gone {
		if !b.revoked {
			err = errors.Join(musen.ErrUnavailable, err)
		}
		p.server.refuse(p.c, err)
		return
	}
	if b.revoked || errors.Is(err, musen.ErrTakenDown) {
		p.dropUnsent()
	} else if !b.gone && p.c.Request.Context().Err() == nil {
		p.server.o.Log.Error("stream cut", "request", requestID(p.c), "error", withoutAddresses(err))
	}
	panic(http.ErrAbortHandler) // net/http cuts the connection or resets the stream
}

// dropUnsent makes the cut of an HTTP/1 connection drop what the system holds
// for a slow client: a revoked grant is not to be heard for minutes more.
// HTTP/2 resets the stream before what waits for it.
func (p *playback) dropUnsent() {
	if p.c.Request.ProtoMajor != 1 {
		return
	}
	if drop, ok := p.c.Request.Context().Value(dropKey{}).(func()); ok {
		drop()
	}
}
