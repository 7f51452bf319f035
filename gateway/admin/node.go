package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/ipfs/go-cid"

	"github.com/musenai/musen"
	"github.com/musenai/musen/gateway/admin/wire"
)

func (s *Server) getOpenAPI(c *gin.Context, _ call) error {
	s.writeBytes(c, http.StatusOK, "application/yaml", openAPI)
	return nil
}

func (s *Server) getStatus(c *gin.Context, _ call) error {
	ctx := c.Request.Context()
	taken, free, limit, err := s.Node.Space(ctx)
	if err != nil {
		return err
	}
	stations, err := s.Stations.Stations(ctx)
	if err != nil {
		return err
	}
	segments, err := s.Segments.Count(ctx)
	if err != nil {
		return err
	}
	warnings, err := s.Warnings(ctx)
	if err != nil {
		return err
	}
	return s.answer(c, http.StatusOK, wire.Status{
		Version: s.Version, Realm: s.Realm, PeerID: s.Node.PeerID(),
		Addresses: append([]string{}, s.Node.Addrs()...), RepoSize: taken,
		Stations: len(stations), Segments: segments, Uptime: int64(s.Now().Sub(s.started) / time.Second), Warnings: warnings,
		PublicURL: s.PublicURL, StorageMax: limit, StorageFree: free,
	})
}

func (s *Server) collect(c *gin.Context, _ call) error {
	if err := noBody(c.Request); err != nil {
		return err
	}
	ctx := c.Request.Context()
	removed, freed, err := s.Node.GC(ctx)
	if err != nil {
		return errors.Join(s.unseen(ctx), err)
	}
	return s.answer(c, http.StatusOK, wire.Collected{Removed: removed, Freed: freed})
}

// errDamaged refuses what cannot be done while a segment is damaged.
var errDamaged = refusal{500, "damaged", "", ""}

// unseen finds the segment whose blocks cannot be followed from its root to its
// leaves: a garbage collection would take what it does not see. It returns nil
// if there is none.
func (s *Server) unseen(ctx context.Context) error {
	stations, err := s.Stations.Stations(ctx)
	if err != nil {
		return err
	}
	for _, station := range stations {
		var wrong error
		look := func(segment musen.Segment, err error) bool {
			if err == nil {
				err = s.Node.Verify(ctx, segment.CID)
			}
			if err != nil && ctx.Err() == nil {
				wrong = damage(segment.CID, err)
			}
			return err == nil
		}
		if !s.live(ctx, station, look) {
			return wrong
		}
	}
	return nil
}

func damage(root cid.Cid, err error) error {
	r := errDamaged.with("Nothing was collected, because segment %s cannot be seen whole: %v.", root, err)
	r.help = "Run musen verify --repair " + root.String() + ", then collect again. If no peer has the block, add the segment again from its source, or remove it."
	return r
}
