package admin

import (
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/multiformats/go-multihash"

	"github.com/musenai/musen/gateway/admin/wire"
	"github.com/musenai/musen/internal/denylist"
)

// Denylists are those that the node follows; *denylist.List is one.
type Denylists interface {
	State() []denylist.State
	// Why returns the rule that decides about a block, if there is one, and
	// whether that denies it.
	Why(mh multihash.Multihash) (r denylist.Rule, denied bool)
}

func (s *Server) listDenylists(c *gin.Context, _ call) error {
	return s.answer(c, http.StatusOK, wire.Denylists{Denylists: append([]denylist.State{}, s.Denylists.State()...)})
}

// getDenial tells whether a block is denied, be it here or not.
func (s *Server) getDenial(c *gin.Context, _ call) error {
	id, err := parseCID(c.Param("cid"))
	if err != nil {
		return err
	}
	rule, denied := s.Denylists.Why(id.Hash())
	v := wire.Denial{CID: id.String(), Denied: denied}
	if rule.File != "" {
		v.Rule = &rule
	}
	switch {
	case denied:
		v.Reason = "a denylist denies it: " + rule.String()
	case s.Denied != nil && s.Denied.Denied(id.Hash()):
		v.Denied, v.Reason = true, "it was taken down"
	case rule.File != "":
		v.Reason = "a denylist has an exception for it: " + rule.String()
	default:
		v.Reason = "nothing denies it"
	}
	return s.answer(c, http.StatusOK, v)
}
