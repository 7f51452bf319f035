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
	"github.com/musenai/musen/gateway/problem"
	"github.com/musenai/musen/policy"
)

func (s *Server) getOpenAPI(c *gin.Context, _ call) error {
	s.writeBytes(c, http.StatusOK, "application/yaml", openAPI)
	return nil
}

func (s *Server) getStatus(c *gin.Context, _ call) error {
	ctx := c.Request.Context()
	size, err := s.Node.RepoSize(ctx)
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
	return s.answer(c, http.StatusOK, wire.Status{
		Version: s.Version, Realm: s.Realm, PeerID: s.Node.PeerID(),
		Addresses: append([]string{}, s.Node.Addrs()...), RepoSize: size,
		Stations: len(stations), Segments: segments, Uptime: int64(s.Now().Sub(s.started) / time.Second),
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

func (s *Server) getPolicy(c *gin.Context, _ call) error {
	s.writeBytes(c, http.StatusOK, "text/plain; charset=utf-8", s.Policies)
	return nil
}

// explain answers how policy would decide a request, without doing anything.
func (s *Server) explain(c *gin.Context, in call) error {
	var q wire.Question
	if err := s.readJSON(c, &q); err != nil {
		return err
	}
	action, err := readAction(q.Action)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	r, err := in.asked(ctx, q)
	if err != nil {
		return err
	}
	grant, err := in.bearer(ctx, q)
	if err != nil {
		return err
	}
	d := s.Engine.Decide(grant, action, r)
	return s.answer(c, http.StatusOK, wire.Explanation{
		Allowed: d.Allowed(), Reason: d.Reason(), Policies: append([]string{}, d.Policies()...),
	})
}

// asked is what a question is about; its asker needs leave for that too.
func (c call) asked(ctx context.Context, q wire.Question) (policy.Resource, error) {
	var station musen.Station
	var err error
	if q.Station != "" {
		if station, err = c.findStation(ctx, q.Station); err != nil {
			return policy.Resource{}, err
		}
	}
	if err := c.require(station); err != nil {
		return policy.Resource{}, err
	}
	r := resource(station)
	if q.CID == "" {
		return r, nil
	}
	if err := c.findSegment(ctx, q.CID); err != nil {
		return policy.Resource{}, err
	}
	if c.segment.Station != station.ID {
		return policy.Resource{}, c.absent(musen.ErrNotFound, "That station has no segment %.128q.", q.CID)
	}
	r.Segment, r.PublishAt, r.ExpiresAt = c.segment.ID, c.segment.PublishAt, c.segment.ExpiresAt
	return r, nil
}

// bearer is the grant that a question is about: of the token in it, or of a
// token such as the question describes, which is made for that alone.
func (c call) bearer(ctx context.Context, q wire.Question) (policy.Grant, error) {
	raw := q.Token
	if raw == "" {
		var err error
		if raw, err = c.hypothetical(ctx, q); err != nil {
			return policy.Grant{}, err
		}
	} else if q.Subject != "" || len(q.Actions)+len(q.Stations) > 0 {
		return policy.Grant{}, errField.with("Give either a token, or a subject with actions and stations.")
	}
	grant, err := c.server.Verifier.Token(raw)
	if err != nil {
		return policy.Grant{}, errField.with("The token is not valid: %s.", credentialCode(err))
	}
	return grant, nil
}

func (c call) hypothetical(ctx context.Context, q wire.Question) (string, error) {
	if q.Subject == "" || !isName(q.Subject) {
		return "", errField.with("Give a token, or a subject with actions.")
	}
	actions, err := readActions(q.Actions)
	if err != nil {
		return "", err
	}
	var ids []string // none: all
	if len(q.Stations) > 0 {
		if ids, err = c.stationsOf(ctx, q.Stations); err != nil {
			return "", err
		}
	}
	raw, _, _, err := c.server.Issuer.Token(policy.TokenRequest{Subject: q.Subject, Stations: ids, Actions: actions, TTL: time.Minute})
	return raw, notIssued(err)
}

// credentialCode is why a credential was refused, in one stable word.
func credentialCode(err error) string { return string(problem.Of(err).Code) }
