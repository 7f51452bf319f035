package gateway

import (
	"strconv"

	"github.com/gin-gonic/gin"
)

// keySetAge is how long others may keep the node's keys, in seconds. One that
// they do not know yet is a reason to ask again.
const keySetAge = 300

// keySet answers /.well-known/jwks.json: the public keys that the node's own
// tokens are signed with, for others to verify them.
func (s *Server) keySet(c *gin.Context) {
	set, err := s.o.KeySet()
	if err != nil {
		s.refuse(c, err)
		return
	}
	h := c.Writer.Header()
	h.Set("Content-Type", "application/jwk-set+json")
	h.Set("Content-Length", strconv.Itoa(len(set)))
	h.Set("Cache-Control", "public, max-age="+strconv.Itoa(keySetAge))
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = c.Writer.Write(set) // a client that is gone needs no answer
	s.answers.Send(c.Writer)
}
