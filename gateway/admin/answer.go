package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"syscall"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/problem"
	"github.com/musenai/musen/policy"
)

// A refusal is an answer of this API that package problem has no code for.
type refusal struct {
	status       int
	code         problem.Code // stable
	detail, help string
}

// Error names the code and what was wrong.
func (r refusal) Error() string { return string(r.code) + ": " + r.detail }

// with returns r with other words for what is wrong. They are shown as they
// are: what the caller sent is quoted.
func (r refusal) with(format string, args ...any) refusal {
	r.detail = fmt.Sprintf(format, args...)
	return r
}

// The refusals of this API.
var (
	errHost = refusal{403, "host_refused", "The Host header names none of this node's own names.",
		"Use the loopback address, or allow the name in the configuration."}
	errCrossOrigin = refusal{403, "cross_origin", "The request comes from a page of another site.",
		"Call this API from a program, or from a page that the node serves."}
	errQuery            = refusal{400, "bad_query", "The query of the address is not well formed.", "Escape it."}
	errUnknownParameter = refusal{400, "unknown_parameter", "", "Leave it out, or see openapi.yaml for those that are known."}
	errParameter        = refusal{400, "bad_parameter", "", "Correct it and send it again."}
	errCID              = refusal{400, "cid_malformed", "That is not the CID of a segment.",
		"Copy the CID whole, as the node prints it."}

	errBodyType     = refusal{415, "unsupported_media_type", "The type of the body is not accepted here.", "Send Content-Type: application/json."}
	errBodyEncoding = refusal{415, "content_encoding", "Compressed bodies are not accepted.", "Send the body as it is, without Content-Encoding."}
	errNoBody       = refusal{400, "unexpected_body", "This route takes no body.", "Send the request without one."}
	errJSON         = refusal{400, "json_malformed", "", "Send one JSON object, in UTF-8."}
	errDuplicate    = refusal{400, "json_duplicate_name", "", "Send every field once."}
	errDepth        = refusal{400, "json_too_deep", "The JSON is nested too deep.", "See openapi.yaml for the shape of the body."}
	errUnknownField = refusal{400, "json_unknown_field", "", "Leave it out, or see openapi.yaml for the fields that are known."}
	errFieldType    = refusal{400, "json_type", "", "See openapi.yaml for the type of each field."}
	errField        = refusal{422, "invalid", "", "Correct it and send it again."}

	// errAbsent is what not_found says to the operator.
	errAbsent = refusal{404, "not_found", "", "Check how it is spelled, and that it was not removed."}

	errNotEmpty = refusal{409, "station_not_empty", "The station has live segments.",
		"Remove them first, or send force=true to remove them with it."}
	errNoDownloads = refusal{409, "downloads_off", "The station does not allow its segments to be saved.",
		"Switch downloads on for the station, or ask for a link to listen."}
	errGrant = refusal{403, "grant_exceeded", "", "Ask for no more than your own token allows."}

	errKey           = refusal{400, "idempotency_key_malformed", "The Idempotency-Key is not 1 to 255 visible ASCII characters.", "Send a UUID, once."}
	errKeyReused     = refusal{422, "idempotency_key_reused", "The Idempotency-Key was used for another request.", "Use a new key for each upload, and the same one only to repeat it."}
	errKeyBusy       = refusal{409, "idempotency_in_progress", "An upload with this Idempotency-Key is under way.", "Wait until it ends, then repeat the request."}
	errAudioType     = refusal{415, "unsupported_media_type", "The body is not declared as audio.", "Send Content-Type: audio/* or application/octet-stream."}
	errNotAudio      = refusal{415, "not_audio", "The body is none of the audio formats that the node knows.", "Send MP3, AAC, M4A, Ogg, FLAC, WAV or MPEG-TS."}
	errUploadTooLong = refusal{413, "too_large", "", "Send shorter segments, or raise the limit in the configuration."}
	errStalled       = refusal{408, "upload_stalled", "The upload stopped arriving; nothing of it was kept.", "Send it again, steadily."}
	errCut           = refusal{400, "upload_cut", "The upload ended before it was whole; nothing of it was kept.", "Send it again."}
)

func badParameter(name, what string) error {
	return errParameter.with("The parameter %.80q %s.", name, what)
}

// refuse answers a request with the problem that err is. It must come before
// anything else was written.
func (s *Server) refuse(c *gin.Context, err error) {
	c.Abort()
	unread := c.Request.ContentLength != 0
	if unread {
		c.Header("Connection", "close") // no wait for the whole of a body that nobody wants
		s.setReadDeadline(c, time.Second)
	}
	s.setWriteDeadline(c)
	p := s.write(c, err)
	if refused, ok := errors.AsType[*policy.CredentialError](err); ok {
		s.Log.Debug("credential refused", "request_id", p.RequestID, "code", refused.Code, "why", refused.Why())
	}
	if p.Status >= http.StatusInternalServerError {
		s.Log.LogAttrs(c.Request.Context(), slog.LevelError, "admin request failed",
			slog.String("route", c.FullPath()), slog.String("err", err.Error()), slog.String("request_id", p.RequestID))
	}
	if unread {
		linger(c)
	}
}

// linger sends the answer and takes what the client is still sending, until
// the read deadline at most. A connection that was closed at once would fail
// the client's next write, and the client might never look at the answer:
// net/http waits for that, but not after Expect: 100-continue.
func linger(c *gin.Context) {
	_ = http.NewResponseController(c.Writer).Flush() // a client that is gone needs no answer
	_, _ = io.Copy(io.Discard, c.Request.Body)
}

func noRoom(err error) bool { return errors.Is(err, syscall.ENOSPC) }

// problemOf is what err is to the caller.
func problemOf(err error) (p problem.Problem, ours bool) {
	if noRoom(err) {
		err = musen.ErrNoSpace
	}
	r, ours := errors.AsType[refusal](err)
	if !ours {
		return problem.Of(err), false
	}
	return problem.Problem{
		Type: "about:blank", Title: http.StatusText(r.status), Status: r.status, Detail: r.detail, Code: r.code, Help: r.help,
	}, true
}

// write writes err as a problem.
func (s *Server) write(c *gin.Context, err error) problem.Problem {
	p, ours := problemOf(err)
	if !ours {
		if noRoom(err) {
			err = musen.ErrNoSpace
		}
		return problem.Write(c.Writer, c.Request, err)
	}
	p.RequestID = problem.RequestID(c.Request.Context())
	s.writeJSON(c, p.Status, "application/problem+json", p)
	return p
}

// answer writes v as the answer to a request.
func (s *Server) answer(c *gin.Context, status int, v any) error {
	s.writeJSON(c, status, "application/json", v)
	return nil
}

// done answers that what was asked for is done, and there is no more to say.
func (s *Server) done(c *gin.Context) error {
	setHeader(c.Writer.Header(), "")
	s.setWriteDeadline(c)
	c.Writer.WriteHeader(http.StatusNoContent)
	c.Writer.WriteHeaderNow()
	return nil
}

func (s *Server) writeJSON(c *gin.Context, status int, mediaType string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic("unreachable: shapes of strings, numbers and times marshal: " + err.Error())
	}
	s.writeBytes(c, status, mediaType, append(b, '\n'))
}

func (s *Server) writeBytes(c *gin.Context, status int, mediaType string, b []byte) {
	setHeader(c.Writer.Header(), mediaType)
	s.setWriteDeadline(c)
	c.Writer.WriteHeader(status)
	_, _ = c.Writer.Write(b) // a client that is gone needs no answer
}

func setHeader(h http.Header, mediaType string) {
	if mediaType != "" {
		h.Set("Content-Type", mediaType)
	}
	h.Set("Cache-Control", "private, no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
}

// setReadDeadline gives the body of a request, or a part of it, that long to
// come; 0 ends the limit, which must be done once the body has come: when it
// passes, the request is taken for abandoned.
func (s *Server) setReadDeadline(c *gin.Context, d time.Duration) {
	s.deadline(c, http.NewResponseController(c.Writer).SetReadDeadline, d)
}

// setWriteDeadline gives the client writeTimeout to take what is written next.
func (s *Server) setWriteDeadline(c *gin.Context) {
	s.deadline(c, http.NewResponseController(c.Writer).SetWriteDeadline, writeTimeout)
}

// deadline sets a deadline of the connection, which has the system's clock,
// not the injected one.
func (s *Server) deadline(c *gin.Context, set func(time.Time) error, d time.Duration) {
	var at time.Time
	if d > 0 {
		at = time.Now().Add(d)
	}
	if err := set(at); err != nil {
		s.Log.DebugContext(c.Request.Context(), "admin connection takes no deadline", "err", err)
	}
}
