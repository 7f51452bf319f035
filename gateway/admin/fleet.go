package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire"
)

// Fleet is the gateways that share a catalogue.
type Fleet interface {
	Gateways(ctx context.Context) ([]musen.Gateway, error)
	// Settle waits until all that was changed through this node is in force at
	// every gateway, or the gateway refuses whoever needs a credential.
	Settle(ctx context.Context) (musen.Reach, error)
}

// getFleet answers with the gateways that share the catalogue: none where a
// node has one of its own.
func (s *Server) getFleet(c *gin.Context, _ call) error {
	list := wire.Fleet{Gateways: []wire.Gateway{}}
	if s.Fleet != nil {
		all, err := s.Fleet.Gateways(c.Request.Context())
		if err != nil {
			return err
		}
		for _, g := range all {
			list.Gateways = append(list.Gateways, wire.FromGateway(g))
		}
	}
	return s.answer(c, http.StatusOK, list)
}

// settle waits until what a handler changed is in force everywhere, and tells
// how far that is and how long it took, also in a header of the answer; nil where
// there is no fleet. What was changed stays so, whether this is known or not.
func (s *Server) settle(c *gin.Context) *wire.Reach {
	if s.Fleet == nil {
		return nil
	}
	ctx, began := c.Request.Context(), s.Now()
	r, err := s.Fleet.Settle(ctx)
	if err != nil {
		s.Log.WarnContext(ctx, "it is not known how far a change has come", "err", err)
		return nil
	}
	reach := &wire.Reach{Gateways: r.Gateways, InForce: r.InForce, Silent: r.Silent, Took: s.Now().Sub(began).Round(10 * time.Microsecond).Seconds()}
	c.Header(wire.ReachHeader, reach.String())
	return reach
}

// reach is settle for a change that began to be made at that time, and tells of
// this node alone where there is no fleet.
func (s *Server) reach(c *gin.Context, began time.Time) *wire.Reach {
	r := s.settle(c)
	if s.Fleet == nil {
		r = &wire.Reach{Gateways: 1, InForce: 1}
	}
	if r != nil {
		r.Took = s.Now().Sub(began).Round(10 * time.Microsecond).Seconds()
	}
	return r
}
