package admin

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/musenai/musen"
)

const (
	maxBody  = 1 << 20 // bytes of a JSON body
	maxDepth = 8       // of its arrays and objects
)

// readJSON reads the body of a request, which must be one JSON object of the
// shape of *out and nothing else.
func (s *Server) readJSON(c *gin.Context, out any) error {
	if err := checkBodyType(c.Request, isJSON, errBodyType); err != nil {
		return err
	}
	if c.Request.ContentLength > maxBody {
		return musen.ErrTooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, maxBody))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return musen.ErrTooLarge
	}
	if err != nil {
		return cutOff(err)
	}
	s.setReadDeadline(c, 0)
	return parseJSON(body, out)
}

// checkBodyType refuses a body of a type that is not accepted, or compressed.
func checkBodyType(r *http.Request, accepted func(mediaType string) bool, refused error) error {
	if r.Header.Get("Content-Encoding") != "" {
		return errBodyEncoding
	}
	types := r.Header.Values("Content-Type")
	if len(types) != 1 {
		return refused
	}
	mediaType, _, err := mime.ParseMediaType(types[0])
	if err != nil || !accepted(mediaType) {
		return refused
	}
	return nil
}

func isJSON(mediaType string) bool { return mediaType == "application/json" }

func isAudio(mediaType string) bool {
	return strings.HasPrefix(mediaType, "audio/") || mediaType == "application/octet-stream"
}

// noBody refuses a body where none is expected.
func noBody(r *http.Request) error {
	if r.ContentLength != 0 {
		return errNoBody
	}
	return nil
}

// parseJSON decodes one JSON object into *out. It refuses names that come
// twice or are not of *out, in exactly their spelling, text that is not
// Unicode, numbers that do not fit, deep nesting, and anything after the
// object.
func parseJSON(body []byte, out any) error {
	if err := checkDepth(body); err != nil {
		return err
	}
	return jsonRefusal(json.Unmarshal(body, out, json.RejectUnknownMembers(true)))
}

// checkDepth looks at the tokens of a body before anything is made of them.
func checkDepth(body []byte) error {
	dec := jsontext.NewDecoder(bytes.NewReader(body))
	if dec.PeekKind() != '{' {
		return errJSON.with("The body is not a JSON object.")
	}
	for {
		_, err := dec.ReadToken()
		if dec.StackDepth() > maxDepth {
			return errDepth
		}
		if err == io.EOF { // as it is: the end of the last value
			return nil
		}
		if err != nil {
			return jsonRefusal(err)
		}
	}
}

// jsonRefusal says what is wrong with a JSON body, and where.
func jsonRefusal(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		if errors.Is(e.Err, jsontext.ErrDuplicateName) {
			return errDuplicate.with("The field %.80q comes twice.", e.JSONPointer)
		}
		return errJSON.with("The body is not well-formed JSON at byte %d.", e.ByteOffset)
	}
	if e, ok := errors.AsType[*json.SemanticError](err); ok {
		if errors.Is(e.Err, json.ErrUnknownName) {
			return errUnknownField.with("The field %.80q is not known here.", e.JSONPointer)
		}
		return errFieldType.with("The field %.80q has a value of another type, or out of range.", e.JSONPointer)
	}
	return errJSON.with("The body is not well-formed JSON.")
}
